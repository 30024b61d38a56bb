// The formats of audio files, by the ends of their names. All but WAV are written as the server sends them.

import { extname } from 'node:path';

import { wav } from './wav.mjs';

const ENCODINGS = {
  '.ogg': 'ogg_opus',
  '.opus': 'ogg_opus',
  '.mp3': 'mp3',
  '.aac': 'aac',
  '.flac': 'flac',
};

// Formats that the server does not make: a WAV file of such a name would be none of them.
const OTHERS = ['.aif', '.aiff', '.amr', '.au', '.caf', '.m4a', '.mka', '.mp4', '.weba', '.webm', '.wma'];

// Why no file of that name is written; undefined for one that may be.
export function wrongName(path) {
  const end = extname(path).toLowerCase();
  if (!OTHERS.includes(end)) return undefined;
  return `--out ${path}: ${end} is another format; names may end in .wav, ${Object.keys(ENCODINGS).join(', ')}.`;
}

// The encoding to ask for. Names with other ends are WAV files, whose header is written here with its true lengths.
export const encodingOf = (path) => ENCODINGS[extname(path).toLowerCase()] ?? 'pcm';

// The content of a file with audio of that format.
export const fileOf = (audio, format) => (
  format.audioEncoding === 'AUDIO_ENCODING_PCM' ? wav(audio, format) : audio
);

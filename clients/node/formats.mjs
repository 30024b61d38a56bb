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

// How recordings begin, read as Latin-1: an ID3 tag or a frame of layer III is MP3, a frame of layer 0 AAC.
const STARTS = [
  ['OGG_OPUS', /^OggS/],
  ['MP3', /^(ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb])/],
  ['AAC', /^\xff[\xf0\xf1\xf8\xf9]/],
  ['FLAC', /^fLaC/],
];

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

// The encoding of a recording, as the API names it; WAV where its bytes are unknown, and the server then tells.
export function encodingOfRecording(bytes) {
  const start = Buffer.from(bytes.subarray(0, 4)).toString('latin1');
  const [name] = STARTS.find(([, pattern]) => pattern.test(start)) ?? ['WAV'];
  return `AUDIO_ENCODING_${name}`;
}

// The content of a file with audio of that format.
export const fileOf = (audio, format) => (
  format.audioEncoding === 'AUDIO_ENCODING_PCM' ? wav(audio, format) : audio
);

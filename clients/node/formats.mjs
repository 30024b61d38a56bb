// The formats of audio files, by the ends of their names. All but WAV are written as the server sends them.

import { extname } from 'node:path';

import { wav } from './wav.mjs';

const ENCODINGS = {
  '.ogg': 'AUDIO_ENCODING_OGG_OPUS',
  '.opus': 'AUDIO_ENCODING_OGG_OPUS',
  '.mp3': 'AUDIO_ENCODING_MP3',
  '.aac': 'AUDIO_ENCODING_AAC',
  '.flac': 'AUDIO_ENCODING_FLAC',
};
const SAMPLES = 'AUDIO_ENCODING_PCM'; // of a WAV file, whose header is written here with its true lengths

// The encoding to ask for. Names with other ends are WAV files.
export const encodingOf = (path) => ENCODINGS[extname(path).toLowerCase()] ?? SAMPLES;

// Whether audio of that encoding can be cut between two samples.
export const isDivisible = (encoding) => encoding === SAMPLES;

// The content of a file with audio of that format.
export const fileOf = (audio, format) => (format.audioEncoding === SAMPLES ? wav(audio, format) : audio);

// Recordings, and what was said as codes: the sound of a turn or of a voice's prompt.

import { bytes, objectOrNull } from '../checks.mjs';
import { encodingOfRecording } from '../formats.mjs';
import { given } from './fields.mjs';

// The options of a sound.
export const SOUND = { recording: bytes, sealedCodes: bytes, codes: objectOrNull };

// A file of WAV, Ogg Opus, MP3, AAC or FLAC.
export const recordingOf = (file) => ({ audioContent: file, audioFormat: { audioEncoding: encodingOfRecording(file) } });

// A sound is a recording, or the codes that an earlier answer's summary gave: of its two fields one is empty. undefined
// without any. where: what the options are of
export function soundOf(where, { recording, codes, sealedCodes }) {
  const sound = given({
    recording: recording && recordingOf(recording),
    sealedCodes: sealedCodes?.length ? sealedCodes : undefined,
    codes: codes ?? undefined,
  });
  if (Object.keys(sound ?? {}).length > 1) {
    throw new TypeError(`${where} has a recording and codes; give one of them.`);
  }
  return sound;
}

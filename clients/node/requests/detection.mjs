// Requests for a search for watermarks: a recording in one message, or in pieces as it is read. It knows no channel.

import { array, bytes, checkValue, iterable, string } from '../checks.mjs';
import { recordingOf } from './sounds.mjs';

const PIECE_BYTES = 64 * 1024;
const START_BYTES = 4; // of a recording, that tell its format

// Throws TypeError, which names what is wrong.
export function detectRequest(recording, keyIds) {
  checkValue('recording', recording, bytes);
  return { recording: recordingOf(recording), keyIds: checkedIds(keyIds) };
}

// The messages of a recording in pieces. Throws TypeError, and what reading them throws.
export function detectMessages(recording, keyIds) {
  checkValue('recording', recording, iterable('a Uint8Array, or an iterable of them'));
  return messages(recording instanceof Uint8Array ? [recording] : recording, checkedIds(keyIds));
}

async function* messages(pieces, keyIds) {
  let [start, isTold] = [new Uint8Array(0), false];
  const config = () => ({ config: { audioFormat: recordingOf(start).audioFormat, keyIds } });
  for await (const piece of pieces) {
    checkValue('A piece of the recording', piece, bytes);
    start = isTold ? piece : Buffer.concat([start, piece]);
    if (!isTold && start.length < START_BYTES) continue;
    if (!isTold) yield config();
    isTold = true;
    yield* cut(start);
  }
  if (isTold) return;
  yield config();
  yield* cut(start);
}

// Copies: who reads may fill the same memory again before a message is sent.
function* cut(piece) {
  for (let at = 0; at < piece.length; at += PIECE_BYTES) {
    yield { audioContent: Buffer.from(piece.subarray(at, at + PIECE_BYTES)) };
  }
}

function checkedIds(keyIds) {
  checkValue('keyIds', keyIds, array);
  keyIds.forEach((id, index) => checkValue(`keyIds[${index}]`, id, string));
  return keyIds;
}

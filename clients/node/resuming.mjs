// A stream that goes on at another gateway: the same request with the same seed gives the same samples, and those that
// have come are dropped. It knows no channel.

import { status } from '@grpc/grpc-js';

const LOST = [status.UNAVAILABLE, status.CANCELLED];
const FIRST_DELAY_MS = 100; // before a call is opened again; twice as long each time
const SAMPLE_BYTES = 2;

// What has been heard of one utterance, over all its calls.
export class Heard {
  constructor() {
    this.header = undefined;
    this.samples = 0;
    this.beginAgain();
  }

  // Another call brings the utterance from its start.
  beginAgain() {
    this.position = 0;
    this.summary = undefined;
  }

  takeHeader(header) {
    if (this.header !== undefined && soundOf(header) !== soundOf(this.header)) {
      throw new Error('The server that went on has another model or other settings: the audio is incomplete.');
    }
    this.header = header;
  }

  // The bytes of a message that have not been heard before; undefined when there are none.
  takeAudio({ audioContent, sampleOffset, sampleCount }) {
    if (sampleOffset !== this.position) {
      throw new Error(`Audio is missing: sample ${this.position} was due, ${sampleOffset} came.`);
    }
    this.position += sampleCount;
    const fresh = this.position - this.samples;
    if (fresh <= 0 && sampleCount > 0) return undefined;
    // Only audio that can be cut between samples comes twice.
    this.samples = this.position;
    return fresh >= sampleCount ? audioContent : audioContent.subarray(audioContent.length - SAMPLE_BYTES * fresh);
  }
}

const soundOf = ({ modelVersion, seed, voice, audioFormat }) => JSON.stringify([modelVersion, seed, voice, audioFormat]);

// Milliseconds until the utterance is asked for again, or undefined when `error` is its end. count: times that it was.
export function delayBeforeNextCall(error, heard, count, most, until) {
  const delay = FIRST_DELAY_MS * 2 ** count;
  const mayGoOn = LOST.includes(error.code) && count < most && Date.now() + delay < until;
  return mayGoOn && heard.header !== undefined && Number.isSafeInteger(heard.header.seed) ? delay : undefined;
}

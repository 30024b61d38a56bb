// A stream that goes on at another gateway: the same request with the same seed gives the same samples, and those that
// have come are dropped. With the checkpoints that came, what was made is not made again. It knows no channel.

import { createHash } from 'node:crypto';

import { status } from '@grpc/grpc-js';

import { details } from './errors.mjs';

const LOST = [status.UNAVAILABLE, status.CANCELLED];
const CUT_OFF = 'triggered by internal client error: Session closed with error code '; // of gRPC, for a server's end
const NEVER_REACHED = ['Last error: ', 'Name resolution failed']; // no server was there to be lost
const [FIRST_DELAY_MS, MOST_DELAY_MS] = [100, 2000]; // before a call is opened again; twice as long each time
const RECENT_MS = 60_000; // a loss so long ago, if audio came since, is none of a request that ends every server it meets
const UNCOMPRESSED = ['PCM', 'WAV', 'MULAW', 'ALAW'].map((name) => `AUDIO_ENCODING_${name}`);

// What has been heard of one utterance, over all its calls.
export class Heard {
  constructor(isText = false) {
    this.isText = isText;
    this.header = undefined;
    this.samples = 0;
    this.bytes = 0;
    this.digest = createHash('sha256'); // of these bytes
    this.checkpoints = []; // states, where each stands, and a digest of the bytes since then; of a text after sentences
    this.places = []; // the same, of a text within the next sentence
    this.sentences = []; // of a text, that have begun
    this.beginAgain();
  }

  // States with which another call can go on; none where it could not be checked that the audio is the same, as of FLAC,
  // which is compressed and goes on at the last of them.
  get states() {
    return this.statesOf(this.checkpoints);
  }

  // The same, of the sentence after those of `states`, which they need.
  get speechStates() {
    return this.states.length === this.checkpoints.length ? this.statesOf(this.places) : [];
  }

  statesOf(checkpoints) {
    const isUnchecked = checkpoints.at(-1)?.since === undefined && this.encoding === 'AUDIO_ENCODING_FLAC';
    return isUnchecked ? [] : checkpoints.map(({ state }) => state);
  }

  get encoding() {
    return this.header?.audioFormat.audioEncoding;
  }

  // Another call brings the utterance from its start or from its last checkpoint.
  beginAgain() {
    this.position = 0;
    this.bytePosition = 0;
    this.sentence = 0; // its number, of the next one that begins
    this.repeated = createHash('sha256'); // of the bytes that had come before
    this.expected = this.digest; // what it must come to
    this.summary = undefined;
  }

  takeHeader(header) {
    if (this.header !== undefined && soundOf(header) !== soundOf(this.header)) {
      throw new Error('The server that went on has another model or other settings: the audio is incomplete.');
    }
    this.header = header;
    const { resumedSentenceCount: resumed, firstSentenceIndex: first } = header;
    if (![0, this.states.length].includes(resumed) || ![0, resumed].includes(first)) {
      throw new Error('The server that went on knows other sentences: the audio is incomplete.');
    }
    const { resumedFrameCount: frames, firstSampleOffset: sample } = header;
    const [told, lastTold] = this.isText
      ? [this.speechStates, this.places.at(-1)] : [this.states, this.checkpoints.at(-1)];
    if ((frames || sample) && (told.length === 0 || ![0, lastTold.position].includes(sample))) {
      throw new Error('The server that went on knows other checkpoints: the audio is incomplete.');
    }
    if (first || sample) {
      const last = sample ? lastTold : this.checkpoints.at(-1);
      ({ position: this.position, bytePosition: this.bytePosition, since: this.expected, sentence: this.sentence } = last);
    }
    if (!frames) this.places = []; // its own take their place
    if (!resumed && !frames) this.checkpoints = [];
  }

  takeCheckpoint({ state }) {
    this.checkpoints.push(this.placeOf(state));
    this.places = [];
  }

  takeSpeechCheckpoint({ state }) {
    this.places.push(this.placeOf(state));
  }

  placeOf(state) {
    const since = this.bytePosition === this.bytes ? createHash('sha256') : undefined;
    return { state, position: this.position, bytePosition: this.bytePosition, sentence: this.sentence, since };
  }

  // One that was heard before comes again.
  takeSentence(sentence) {
    const known = this.sentences[this.sentence] ?? sentence;
    if (JSON.stringify(known) !== JSON.stringify(sentence)) {
      throw new Error('The server that went on cuts the text into other sentences: the audio is incomplete.');
    }
    this.sentences[this.sentence] = known;
    this.sentence += 1;
  }

  // The bytes of a message that have not been heard before; undefined when there are none.
  takeAudio({ audioContent, sampleOffset, sampleCount }) {
    if (sampleOffset !== this.position) {
      throw new Error(`Audio is missing: sample ${this.position} was due, ${sampleOffset} came.`);
    }
    const repeated = Math.min(audioContent.length, this.bytes - this.bytePosition);
    this.position += sampleCount;
    this.bytePosition += audioContent.length;
    if (repeated > 0) {
      this.repeated.update(audioContent.subarray(0, repeated));
      if (this.bytePosition >= this.bytes) this.checkRepeated();
      if (repeated === audioContent.length) return undefined;
    }
    const fresh = repeated > 0 ? audioContent.subarray(repeated) : audioContent;
    this.digest.update(fresh);
    this.checkpoints.at(-1)?.since?.update(fresh);
    this.places.at(-1)?.since?.update(fresh);
    this.bytes += fresh.length;
    this.samples = this.position;
    return fresh;
  }

  // Compressed audio continues bit for bit or not at all: a decoder needs what came before.
  checkRepeated() {
    if (UNCOMPRESSED.includes(this.encoding) || this.repeated.digest('hex') === this.expected.copy().digest('hex')) return;
    throw new Error('The server that went on has encoded the audio in another way: the audio is incomplete.');
  }
}

const soundOf = ({ modelVersion, seed, voice, audioFormat }) => JSON.stringify([modelVersion, seed, voice, audioFormat]);

// The losses of one utterance. It goes on after `most` of them within RECENT_MS, or without audio between them, until the
// time `until`.
export class Losses {
  #recent = []; // times
  #samples = -1; // that had been heard at the last one
  #lost; // the last loss
  #most;
  #until;

  constructor(most, until) {
    this.#most = most;
    this.#until = until;
  }

  // Milliseconds until the utterance is asked for again, or undefined when `error` is its end.
  delayAfter(error, { header, samples }) {
    const now = Date.now();
    if (samples > this.#samples) this.#recent = this.#recent.filter((lostAt) => now - lostAt < RECENT_MS);
    const count = this.#recent.length;
    const { reason, retryDelaySeconds = 0 } = details(error);
    const isCounted = count > 0 && reason === 'QUOTA_EXCEEDED'; // the lost call, for a while
    const delay = Math.min(MOST_DELAY_MS, Math.max(1000 * retryDelaySeconds, FIRST_DELAY_MS * 2 ** count));
    const isLost = isCounted || ((LOST.includes(error.code) || isCutOff(error))
      && (header === undefined ? wasNotAnswered(error) : Number.isSafeInteger(header.seed)));
    if (!isLost || count >= this.#most || now + delay >= this.#until) return undefined;
    this.#recent.push(now);
    this.#samples = samples;
    this.#lost = error;
    return delay;
  }

  // What the caller is told of an end: of the loss, and not of the wait, when no other server came.
  told(error) {
    return error.code === status.DEADLINE_EXCEEDED ? this.#lost ?? error : error;
  }
}

// Whether the server has ended the connection, and with it the call, as one does that cannot wait any longer.
const isCutOff = ({ code, details }) => code === status.INTERNAL && details.includes(CUT_OFF);

// Whether a server that was reached has neither answered nor refused.
function wasNotAnswered({ details, metadata }) {
  const isRefusal = metadata?.get('grpc-status-details-bin').length > 0;
  return !isRefusal && !NEVER_REACHED.some((words) => details.includes(words));
}

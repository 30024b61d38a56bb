// A stream that goes on at another gateway: the same request with the same seed gives the same samples, and those that
// have come are dropped. With the checkpoints that came, what was made is not made again. It knows no channel.

import { createHash } from 'node:crypto';

import { IncompleteAudioError } from '../failures.mjs';

const UNCOMPRESSED = ['PCM', 'WAV', 'MULAW', 'ALAW'].map((name) => `AUDIO_ENCODING_${name}`);

// What has been heard of one text, over all its calls.
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
    this.hasHeader = false; // of this call
    this.summary = undefined;
  }

  // The bytes of a message that have not been heard before; undefined when there are none. Throws IncompleteAudioError.
  take({ event, header, audioChunk, checkpoint, speechCheckpoint, sentence, summary }) {
    if (event === undefined) return undefined; // of a newer server
    if (this.hasHeader === (event === 'header') || this.summary !== undefined) {
      throw this.incomplete(`The server sent '${event}' out of order.`);
    }
    if (event === 'audioChunk') return this.takeAudio(audioChunk);
    if (event === 'header') this.takeHeader(header);
    if (event === 'checkpoint') this.takeCheckpoint(checkpoint);
    if (event === 'speechCheckpoint') this.takeSpeechCheckpoint(speechCheckpoint);
    if (event === 'sentence') this.takeSentence(sentence);
    if (event === 'summary') this.summary = summary;
    return undefined;
  }

  // The stream ended with OK. Throws IncompleteAudioError where it is not whole.
  end() {
    if (this.summary === undefined) throw this.incomplete('The stream ended without a summary.');
    const counted = this.summary.stats?.sampleCount;
    if (counted !== this.samples) {
      throw this.incomplete(`The server counts ${counted} samples, but ${this.samples} came.`);
    }
  }

  incomplete(why, cause) {
    return new IncompleteAudioError(`The audio is incomplete. ${why}`, this.samples, cause);
  }

  takeHeader(header) {
    this.hasHeader = true;
    if (this.header !== undefined && soundOf(header) !== soundOf(this.header)) {
      throw this.incomplete('The server that went on has another model or other settings.');
    }
    this.header = header;
    const { resumedSentenceCount: resumed, firstSentenceIndex: first } = header;
    if (![0, this.states.length].includes(resumed) || ![0, resumed].includes(first)) {
      throw this.incomplete('The server that went on knows other sentences.');
    }
    const { resumedFrameCount: frames, firstSampleOffset: sample } = header;
    const [told, lastTold] = this.isText
      ? [this.speechStates, this.places.at(-1)] : [this.states, this.checkpoints.at(-1)];
    if ((frames || sample) && (told.length === 0 || ![0, lastTold.position].includes(sample))) {
      throw this.incomplete('The server that went on knows other checkpoints.');
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
      throw this.incomplete('The server that went on cuts the text into other sentences.');
    }
    this.sentences[this.sentence] = known;
    this.sentence += 1;
  }

  // The bytes of a message that have not been heard before; undefined when there are none.
  takeAudio({ audioContent, sampleOffset, sampleCount }) {
    if (sampleOffset !== this.position) {
      throw this.incomplete(`Audio is missing: sample ${this.position} was due, ${sampleOffset} came.`);
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
    throw this.incomplete('The server that went on has encoded the audio in another way.');
  }
}

const soundOf = ({ modelVersion, seed, voice, audioFormat }) => JSON.stringify([modelVersion, seed, voice, audioFormat]);

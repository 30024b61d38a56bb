// An utterance as it is made, over all the calls that it takes. It opens none itself.

import { cancelledHere, ClientClosedError, failureOf } from '../failures.mjs';
import { Heard } from './heard.mjs';

// One utterance. Iterate over it once, for the bytes of its audio; leaving the loop cancels the call.
export class SpeechStream {
  #begin;
  #again;
  #losses;
  #running;
  #signal;
  #writer;
  #heard;
  #call;
  #hasBegun = false;
  #ended = () => {}; // what its client is told
  #left = false;
  #waiting = new AbortController(); // for another server

  // begin, again: open a call; the second one for another server. running: of the client. signal: of the caller. writer:
  // of a text
  constructor(begin, again, losses, running, signal, writer) {
    this.#begin = begin;
    this.#again = again;
    this.#losses = losses;
    this.#running = running;
    this.#signal = signal;
    this.#writer = writer;
    this.#heard = new Heard(writer !== undefined);
  }

  get header() {
    return this.#heard.header;
  }

  get summary() {
    return this.#heard.summary;
  }

  // The sentences of a text that have begun so far.
  get sentences() {
    return this.#heard.sentences;
  }

  // Seconds of audio so far.
  get seconds() {
    return this.header === undefined ? 0 : this.#heard.samples / this.header.audioFormat.sampleRateHertz;
  }

  // The whole utterance, as `synthesize` gives it.
  async readAll() {
    const chunks = [];
    for await (const chunk of this) chunks.push(chunk);
    const { requestId, audioFormat, voice, modelVersion, seed } = this.header;
    const { summary } = this;
    return { requestId, audioContent: Buffer.concat(chunks), audioFormat, summary, voice, modelVersion, seed };
  }

  // Ends the call, also while nobody reads it: no more pieces of a text are taken.
  cancel() {
    this.#left = true;
    this.#call?.cancel();
    this.#waiting.abort();
    this.#writer?.close();
    this.#ended();
  }

  async* [Symbol.asyncIterator]() {
    if (this.#hasBegun) throw new TypeError('A stream is iterated over once; another call says the text again.');
    this.#hasBegun = true;
    try {
      this.#ended = this.#running.begin(() => this.cancel(), this.#signal);
      if (this.#left) throw cancelledHere();
      this.#call = this.#begin();
      for (;;) {
        try {
          yield* this.#audio();
          return;
        } catch (error) {
          await this.#waitForAnother(failureOf(error));
        }
        this.#heard.beginAgain();
        this.#call = this.#again(this.#heard);
      }
    } finally {
      this.cancel(); // after the end of the stream this does nothing
    }
  }

  async* #audio() {
    for await (const message of this.#call) {
      const fresh = this.#heard.take(message);
      if (fresh !== undefined) yield fresh;
    }
    this.#heard.end();
  }

  // Returns when another call may go on after `error`. Throws what the caller is told where none does.
  async #waitForAnother(error) {
    this.#throwIfLeft();
    if (this.#writer?.error !== undefined) throw this.#writer.error;
    const delay = this.#losses.delayAfter(error, this.#heard);
    if (delay === undefined) throw this.#toldOf(this.#losses.told(error, this.#heard));
    if (this.#writer?.isKept === false) {
      throw this.#heard.incomplete('So long a text does not go on at another server.', error);
    }
    await this.#running.pause(delay, this.#signal, this.#waiting);
    this.#throwIfLeft();
  }

  #throwIfLeft() {
    if (this.#running.isClosed) throw new ClientClosedError();
    this.#signal?.throwIfAborted();
    if (this.#left) throw this.#toldOf(cancelledHere());
  }

  // Once audio has come, a failed call has left it incomplete.
  #toldOf(error) {
    const isWhole = this.#heard.samples === 0 || error?.code === undefined;
    return isWhole ? error : this.#heard.incomplete(error.details, error);
  }
}

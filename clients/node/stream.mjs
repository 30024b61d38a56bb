// An utterance as it is made, over all the calls that it takes. It opens none itself.

import { setTimeout as sleep } from 'node:timers/promises';

import { Heard } from './resuming.mjs';

// One utterance. Iterate over it once, for the bytes of its audio; leaving the loop cancels the call.
export class SpeechStream {
  #begin;
  #again;
  #losses;
  #call;
  #heard;
  #left = false;
  #writer;

  constructor(begin, again, losses, writer) {
    this.#begin = begin;
    this.#again = again;
    this.#losses = losses;
    this.#writer = writer; // of a text
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

  cancel() {
    this.#left = true;
    this.#call?.cancel();
  }

  async* [Symbol.asyncIterator]() {
    if (this.#call !== undefined) throw new Error('A stream is iterated over once; another call says the text again.');
    this.#call = this.#begin();
    if (this.#left) this.#call.cancel(); // `cancel` came before
    try {
      for (;;) {
        try {
          yield* this.#audio();
          return;
        } catch (error) {
          const ended = this.#left || this.#writer?.error !== undefined;
          const delay = ended ? undefined : this.#losses.delayAfter(error, this.#heard);
          if (delay === undefined) throw this.#losses.told(error);
          if (this.#writer?.isKept === false) throw tooLong(error);
          await sleep(delay);
          if (this.#left) throw error;
        }
        this.#heard.beginAgain();
        this.#call = this.#again(this.#heard);
      }
    } finally {
      this.#call.cancel(); // after the end of the stream this does nothing
      this.#writer?.close();
    }
  }

  async* #audio() {
    for await (const message of this.#call) {
      if (message.event === 'header') this.#heard.takeHeader(message.header);
      if (message.event === 'checkpoint') this.#heard.takeCheckpoint(message.checkpoint);
      if (message.event === 'speechCheckpoint') this.#heard.takeSpeechCheckpoint(message.speechCheckpoint);
      if (message.event === 'sentence') this.#heard.takeSentence(message.sentence);
      if (message.event === 'summary') this.#heard.summary = message.summary;
      if (message.event !== 'audioChunk') continue;
      const fresh = this.#heard.takeAudio(message.audioChunk);
      if (fresh !== undefined) yield fresh;
    }
    if (!this.summary) throw new Error('The stream ended without a summary: the audio is incomplete.');
    const [counted, came] = [this.summary.stats?.sampleCount, this.#heard.samples];
    if (counted !== came) {
      throw new Error(`The server counts ${counted} samples, but ${came} came: the audio is incomplete.`);
    }
  }
}

const tooLong = (error) => new Error(
  `${error.message}: the audio is incomplete. So long a text does not go on at another server.`, { cause: error });

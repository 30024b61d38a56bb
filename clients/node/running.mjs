// What runs for one client. Closing the client ends it: gRPC would let its calls go on, and end them without a word when
// the next ping is due.

import { setTimeout as sleep } from 'node:timers/promises';

import { ClientClosedError } from './failures.mjs';

export class Running {
  #ends = new Set();
  #isClosed = false;

  get isClosed() {
    return this.#isClosed;
  }

  // Something begins, which `end` would end. Gives what is to be called when it has ended. Throws ClientClosedError.
  begin(end) {
    if (this.#isClosed) throw new ClientClosedError();
    this.#ends.add(end);
    return () => this.#ends.delete(end);
  }

  // Waits for so long, or until the client is closed or `waiting` aborted.
  async pause(delayMs, waiting = new AbortController()) {
    const done = this.begin(() => waiting.abort());
    try {
      await sleep(delayMs, undefined, { signal: waiting.signal });
    } catch (error) {
      if (!waiting.signal.aborted) throw error;
    } finally {
      done();
    }
  }

  close() {
    this.#isClosed = true;
    for (const end of this.#ends) end();
  }
}

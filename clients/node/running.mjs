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

  // Something begins, which `end` would end: when the client is closed, or by the caller's signal. Gives what is to be
  // called when it has ended. Throws ClientClosedError, and the signal's reason.
  begin(end, signal) {
    if (this.#isClosed) throw new ClientClosedError();
    signal?.throwIfAborted();
    this.#ends.add(end);
    signal?.addEventListener('abort', end, { once: true });
    return () => {
      this.#ends.delete(end);
      signal?.removeEventListener('abort', end);
    };
  }

  // Waits for so long, or until the client is closed, or `waiting` or the signal aborted.
  async pause(delayMs, signal, waiting = new AbortController()) {
    const done = this.begin(() => waiting.abort(), signal);
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

// Whether a call that has lost its server is made again, and when. It knows no channel.

import { status } from '@grpc/grpc-js';

import { details } from '../errors.mjs';

const LOST = [status.UNAVAILABLE, status.CANCELLED];
const CUT_OFF = 'triggered by internal client error: Session closed with error code '; // of gRPC, for a server's end
const NEVER_REACHED = ['Last error: ', 'Name resolution failed']; // no server was there to be lost
const [FIRST_DELAY_MS, MOST_DELAY_MS] = [100, 2000]; // before a call is opened again; twice as long each time
const RECENT_MS = 60_000; // a loss so long ago, if audio came since, is none of a request that ends every server it meets

// The losses of one utterance. It goes on after `most` of them within RECENT_MS, or without audio between them, for
// `seconds`.
export class Losses {
  #recent = []; // times
  #samples = -1; // that had been heard at the last one
  #lost; // the first loss since audio came
  #most;
  #seconds;

  constructor(most, seconds) {
    this.#most = most;
    this.#seconds = seconds;
    this.isLarge = false; // a request that gRPC does not make again by itself, where a server was full
    this.begin();
  }

  // The utterance begins now.
  begin() {
    this.until = Date.now() + 1000 * this.#seconds;
  }

  // Milliseconds until the utterance is asked for again, or undefined when `error` is its end.
  delayAfter(error, { header, samples }) {
    const now = Date.now();
    const isFurther = samples > this.#samples;
    if (isFurther) this.#recent = this.#recent.filter((lostAt) => now - lostAt < RECENT_MS);
    const count = this.#recent.length;
    const { reason, retryDelaySeconds = 0 } = details(error);
    const isCounted = count > 0 && reason === 'QUOTA_EXCEEDED'; // the lost call, for a while
    const delay = Math.min(MOST_DELAY_MS, Math.max(1000 * retryDelaySeconds, FIRST_DELAY_MS * 2 ** count));
    const isLost = isCounted || ((LOST.includes(error.code) || isCutOff(error))
      && (header === undefined ? this.#mayGoThrough(error) : Number.isSafeInteger(header.seed)));
    if (!isLost || count >= this.#most || now + delay >= this.until) return undefined;
    this.#recent.push(now);
    if (isFurther) [this.#samples, this.#lost] = [samples, error];
    return delay;
  }

  // What the caller is told of an end: of the loss, and not of the wait, when no other server came.
  told(error, { samples }) {
    return error.code === status.DEADLINE_EXCEEDED && samples === this.#samples ? this.#lost : error;
  }

  // Whether a server that was reached has neither answered nor refused, or has refused what gRPC does not send it again.
  #mayGoThrough({ details: message, metadata }) {
    const isRefusal = metadata?.get('grpc-status-details-bin').length > 0;
    return (this.isLarge || !isRefusal) && !NEVER_REACHED.some((words) => message.includes(words));
  }
}

// Whether the server has ended the connection, and with it the call, as one does that cannot wait any longer.
const isCutOff = ({ code, details: message }) => code === status.INTERNAL && message.includes(CUT_OFF);

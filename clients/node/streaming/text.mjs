// Writes a text into calls of StreamSynthesizeText. What was written is kept, so that another call can say it from its
// start: the server cuts sentences by the pieces alone. It knows no channel.

import { boolean, checkOptions, checkValue, iterable, string } from '../checks.mjs';

// Of a piece that is more than its text. Whether its characters are whole is judged with those of the piece before.
const PIECE = { text: [(value) => typeof value === 'string', string[1]], flush: boolean };
const HALF = /[\ud800-\udbff]$/; // the first one of a surrogate pair
const LONGEST_PIECE = /[^]{1,1000}/gu; // characters in a message; any server takes as many
const MOST_KEPT_BYTES = 256 * 1024; // many times what a server says in one call
const PIECE_COST_BYTES = 64; // of a message in memory, beside its content

export class TextWriter {
  #pieces;
  #messages = []; // taken from the pieces; while the text is kept, all of them
  #dropped = 0;
  #keptBytes = 0;
  #taking; // the next piece, which may be due to a call that was lost meanwhile
  #ended = false;
  #isClosed = false;
  #newest;
  #half = ''; // of a character that the last piece has cut

  // pieces: an iterable or async iterable of strings, and of { text, flush }, whose flush ends a sentence. keep: the
  // messages, up to MOST_KEPT_BYTES
  constructor(pieces, keep) {
    const whole = typeof pieces === 'string' ? [pieces] : pieces;
    checkValue('pieces', whole, iterable('a string, or an iterable of pieces'));
    this.#pieces = whole[Symbol.asyncIterator]?.() ?? whole[Symbol.iterator]();
    this.isKept = keep;
    this.error = undefined; // what the pieces have thrown
  }

  // Writes the whole text, then ends the call; a newer call takes its place. What the pieces throw destroys the call.
  async writeTo(call) {
    this.#newest = call;
    try {
      for (let number = 0; ; number += 1) {
        while (call === this.#newest && number === this.#dropped + this.#messages.length && this.#hasMore) {
          this.#taking ??= this.#take();
          await this.#taking;
        }
        if (this.error !== undefined) throw this.error;
        if (call !== this.#newest || call.destroyed) return;
        if (number === this.#dropped + this.#messages.length) break;
        const hasRoom = call.write(this.#messages[number - this.#dropped]);
        if (!this.isKept) this.#dropped += this.#messages.splice(0, number + 1 - this.#dropped).length;
        if (!hasRoom) await new Promise((resolve) => call.once('drain', resolve)); // for ever, if the call has ended
      }
      call.end();
    } catch (error) {
      call.destroy(error);
    }
  }

  // No more pieces are taken. What their own clearing up throws would hide how the call has ended.
  close() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#ended = true;
    this.#newest = undefined;
    (async () => this.#pieces.return?.())().catch(() => {});
  }

  // Whether the pieces have neither ended nor thrown, as far as is known.
  get #hasMore() {
    return !this.#ended && this.error === undefined;
  }

  async #take() {
    try {
      const { value, done } = await this.#pieces.next();
      if (done && this.#half !== '') throw new TypeError('The text ends within a character.');
      if (done) this.#ended = true;
      else this.#add(value);
    } catch (error) {
      this.error = error ?? new Error('The pieces of the text threw nothing.');
    } finally {
      this.#taking = undefined;
    }
  }

  #add(piece) {
    const { text = '', flush = false } = partsOf(piece);
    const known = this.#half + text;
    const end = HALF.test(known) ? known.length - 1 : known.length;
    this.#half = known.slice(end);
    if (flush && this.#half !== '') throw new TypeError('The text is flushed within a character.');
    const whole = known.slice(0, end);
    checkValue('A piece of the text', whole, string);
    const texts = whole.match(LONGEST_PIECE) ?? (flush ? [''] : []);
    texts.forEach((part, index) => {
      this.#messages.push({ text: { text: part, flush: flush && index === texts.length - 1 } });
      this.#keptBytes += Buffer.byteLength(part) + PIECE_COST_BYTES;
    });
    if (this.#keptBytes > MOST_KEPT_BYTES) this.isKept = false;
  }
}

// Throws TypeError.
function partsOf(piece) {
  if (typeof piece === 'string') return { text: piece };
  const hasParts = typeof piece === 'object' && piece !== null && !(Symbol.iterator in piece); // as lists and buffers have
  if (!hasParts) checkValue('A piece of the text', piece, string);
  checkOptions('piece', piece, PIECE);
  return piece;
}

// Plays samples as they come: each piece is scheduled at the end of the one before it.

const LEAD_S = 0.08; // before the first piece, so that a late second one makes no gap
const LONGEST_LEAD_S = 1.3; // each gap doubles it: few long gaps are easier to listen to than many short ones
const CONTEXT_RATE_HZ = 24_000;

export class Player {
  constructor() {
    this.gaps = 0; // times that playback had to wait
    this.onEnd = () => {};
    this._context = null;
    this._sources = new Set();
    this._reset();
  }

  /**
   * Must be called in a click or a key press before the first piece: browsers let no page play unasked.
   * Resolves when pieces are heard, and never where the browser has no loudspeaker; they may be pushed before.
   */
  open() {
    this._context ??= new AudioContext({ sampleRate: CONTEXT_RATE_HZ });
    return this._context.resume();
  }

  get context() {
    return this._context;
  }

  get isPlaying() {
    return this._sources.size > 0;
  }

  /** Seconds of the sound that have been heard. */
  get position() {
    const now = this._context?.currentTime ?? 0;
    const last = this._anchors.findLast((anchor) => anchor.at <= now);
    return last ? Math.min(last.offset + now - last.at, this._length) : 0;
  }

  /** Forgets what was played; the next piece is the first. */
  start() {
    this.stop();
    this.gaps = 0;
    this._reset();
  }

  /** @param {boolean} continues false where a pause before this piece is no gap */
  push(samples, rate, continues = true) {
    if (!samples.length) return;
    const context = this._context;
    const buffer = context.createBuffer(1, samples.length, rate);
    buffer.copyToChannel(samples, 0);
    const source = new AudioBufferSourceNode(context, { buffer });
    source.connect(context.destination);
    if (this._next === null || this._next < context.currentTime) {
      if (this._next !== null && continues) {
        this.gaps += 1;
        this._lead = Math.min(2 * this._lead, LONGEST_LEAD_S);
      }
      this._next = context.currentTime + this._lead;
      this._anchors.push({ at: this._next, offset: this._length });
    }
    source.addEventListener("ended", () => {
      this._sources.delete(source);
      if (!this._sources.size) this.onEnd();
    });
    this._sources.add(source);
    source.start(this._next);
    this._next += buffer.duration;
    this._length += buffer.duration;
  }

  /** Silence at once. */
  stop() {
    for (const source of this._sources) source.stop();
    this._sources.clear();
    this._next = null;
  }

  _reset() {
    this._next = null; // when the next piece begins, in seconds of the context
    this._lead = LEAD_S;
    this._length = 0; // seconds that have been scheduled
    this._anchors = []; // where playback began or went on: time of the context, offset in the sound
  }
}

// The card with the sound: what is heard, its pictures, its figures, and what can be done with it.

import { concatenated, wavOf } from "./pcm.js";
import { Player } from "./player.js";
import { Plot } from "./plot.js";

const SILENCE_MS = 2000; // so long may a loudspeaker take to start

const element = (id) => document.getElementById(id);

export class Output {
  /** @param {(text: string) => void} say tells screen readers */
  constructor(say) {
    this.player = new Player();
    this.plot = new Plot(element("waveform"), element("spectrogram"));
    this.onFind = () => {};
    this._say = say;
    this._onStop = null;
    this._sound = null;
    this._begunAt = null; // what had the focus then
    this.player.onEnd = () => this._showButtons();
    element("stop").addEventListener("click", () => this.stop());
    element("play").addEventListener("click", () => this.replay());
    element("save").addEventListener("click", () => this._save());
    element("find").addEventListener("click", () => this.onFind(this.recording(), this._sound.name));
  }

  /**
   * A new sound begins, in a click or a key press. Returns it.
   * @param {(() => void) | null} onStop what a stop ends besides the playback
   * @param {{isPaced?: boolean}} about isPaced: it comes as somebody writes it, so that its real-time factor means nothing
   */
  begin(name, onStop = null, { isPaced = false } = {}) {
    this._begunAt = document.activeElement;
    this._openPlayer();
    return this._renew(name, onStop, isPaced);
  }

  /** Nothing waits for the loudspeaker: where there is none, Firefox never says that it has started. */
  _openPlayer() {
    clearTimeout(this._silence);
    this._silence = setTimeout(() => (element("no-sound").hidden = false), SILENCE_MS);
    const onHeard = () => {
      clearTimeout(this._silence);
      element("no-sound").hidden = true;
    };
    this.player.open().then(onHeard, () => {}); // a browser that refuses is told of as well, once the time is over
  }

  _renew(name, onStop, isPaced) {
    this.stop();
    this.player.start();
    this._onStop = onStop;
    this._sound = { name, isPaced, pieces: [], rate: 24_000, length: 0, askedMs: performance.now(), firstMs: null };
    const sound = this._sound;
    this.plot.clear(24_000);
    for (const name of ["first", "factor", "length", "gaps"]) element(`stat-${name}`).textContent = "–";
    element("outcome").textContent = "";
    this._showButtons();
    return sound;
  }

  /** The same sound goes on after it was finished. */
  goOn(onStop) {
    this._onStop = onStop;
    this._showButtons();
  }

  /** Whether this sound is the one on the card. */
  has(sound) {
    return this._sound === sound;
  }

  /** Plays and draws what has come. continues: false where a pause before it is no gap */
  write(samples, rate, continues = true) {
    const sound = this._sound;
    if (!samples.length) return;
    if (!sound.length && rate !== sound.rate) this.plot.clear(rate);
    sound.rate = rate;
    this.heard();
    sound.pieces.push(samples);
    sound.length += samples.length;
    this.player.push(samples, rate, continues);
    this.plot.push(samples);
    this._showFigures((performance.now() - sound.askedMs) / 1000);
    this._showButtons();
    this._follow();
  }

  /** The first audio is here, be it in a format that is played later. */
  heard() {
    const sound = this._sound;
    if (sound.firstMs !== null) return;
    sound.firstMs = performance.now() - sound.askedMs;
    const text = `${Math.round(sound.firstMs)} ms`;
    element("stat-first").textContent = text;
    this._say(`First audio after ${text}.`);
  }

  /**
   * The sound is whole.
   * @param {string} outcome a sentence about it
   * @param {{file?: Blob, extension?: string, seconds?: number}} made the server's own file, and how long it took
   */
  finish(outcome, made = {}) {
    Object.assign(this._sound, { file: made.file, extension: made.extension });
    this._onStop = null;
    this.plot.fit();
    if (made.seconds) this._showFigures(made.seconds);
    element("outcome").textContent = outcome;
    element("waveform").setAttribute("aria-label", `Waveform: ${this.plot.seconds.toFixed(1)} seconds. ${outcome}`);
    this._say(outcome);
    this._showButtons();
  }

  /** A sound that was not made here: a file, or a turn. play: in a click or a key press alone */
  load(samples, rate, name, { play = false } = {}) {
    this._renew(name, null, false);
    this.plot.clear(rate);
    Object.assign(this._sound, { pieces: [samples], rate, length: samples.length });
    this.plot.push(samples);
    this.plot.fit();
    element("stat-length").textContent = `${this.plot.seconds.toFixed(1)} s`;
    if (play) this.replay();
    this._showButtons();
  }

  /** Silence at once; what makes the sound is stopped as well. */
  stop() {
    const stopWork = this._onStop;
    this._onStop = null;
    const wasBusy = this.player.isPlaying || stopWork;
    this.player.stop();
    stopWork?.();
    if (wasBusy) this._say("Stopped.");
    this._showButtons();
  }

  replay() {
    this._openPlayer();
    this.player.start();
    this.player.push(this.samples, this._sound.rate);
    this._showButtons();
    this._follow();
  }

  get samples() {
    return this._sound?.length ? concatenated(this._sound.pieces) : new Float32Array();
  }

  get rate() {
    return this._sound.rate;
  }

  /** The sound as a file: the server's own, or a WAV of what has come. */
  recording() {
    return this._sound.file ?? new Blob([wavOf(this.samples, this._sound.rate)], { type: "audio/wav" });
  }

  _save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(this.recording());
    link.download = `${this._sound.name}.${this._sound.extension ?? "wav"}`;
    link.click();
    URL.revokeObjectURL(link.href);
  }

  _showFigures(makingSeconds) {
    const seconds = this._sound.length / this._sound.rate;
    if (!seconds) return;
    element("stat-length").textContent = `${seconds.toFixed(1)} s`;
    if (!this._sound.isPaced) element("stat-factor").textContent = (makingSeconds / seconds).toFixed(2);
    element("stat-gaps").textContent = String(this.player.gaps);
  }

  _showButtons() {
    const has = Boolean(this._sound?.length);
    element("play").disabled = !has || this._onStop !== null;
    element("save").disabled = element("find").disabled = !has || this._onStop !== null;
    const stop = element("stop");
    const hadFocus = document.activeElement === stop;
    stop.disabled = !this.player.isPlaying && this._onStop === null;
    if (hadFocus && stop.disabled) (has ? element("play") : this._begunAt)?.focus(); // else it would be lost
  }

  /** Moves the playhead as long as something is heard. */
  _follow() {
    if (this._following) return;
    this._following = true;
    const step = () => {
      this.plot.position = this.player.isPlaying ? this.player.position : 0;
      this._following = this.player.isPlaying;
      if (this._following) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }
}

// The waveform and the spectrogram of one sound, drawn as it comes, with the playhead and marked stretches over them.

import { Spectra } from "./spectrum.js";

const SHORTEST_SPAN_S = 4;
const PEAKS_PER_S = 100;
const BAR = 3; // in CSS pixels, and the gap between two bars
const GAP = 2;
const AXIS = 18; // height of the seconds under the waveform
const TALLEST = 0.92;

export class Plot {
  constructor(wave, spectrogram) {
    this._wave = wave;
    this._spectrogram = spectrogram;
    this._scheduled = false;
    this.clear(24_000);
    new ResizeObserver(() => this._draw()).observe(wave);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this._painted = 0;
      this._redraw();
    });
  }

  /** @param {number} rate samples per second of the next sound */
  clear(rate) {
    this._rate = rate;
    this._length = 0; // samples
    this._peaks = [];
    this._spectra = new Spectra(rate);
    this._tape = document.createElement("canvas"); // one pixel per spectrum and frequency
    this._tape.width = 256;
    this._tape.height = this._spectra.rows;
    this._painted = 0; // columns
    this._span = SHORTEST_SPAN_S;
    this._position = 0;
    this._stretches = [];
    this._redraw();
  }

  push(samples) {
    const perPeak = this._rate / PEAKS_PER_S;
    samples.forEach((sample, at) => {
      const peak = Math.floor((this._length + at) / perPeak);
      this._peaks[peak] = Math.max(this._peaks[peak] ?? 0, Math.abs(sample));
    });
    this._length += samples.length;
    this._spectra.push(samples);
    while (this.seconds > this._span) this._span *= 1.5;
    this._redraw();
  }

  get seconds() {
    return this._length / this._rate;
  }

  /** The sound is whole: it fills the width. */
  fit() {
    this._span = this._length ? this.seconds : SHORTEST_SPAN_S;
    this._redraw();
  }

  set position(seconds) {
    this._position = seconds;
    this._redraw();
  }

  /** @param {{start: number, end: number, confidence: number}[]} stretches in seconds */
  set stretches(stretches) {
    this._stretches = stretches;
    const last = Math.max(0, ...stretches.map(({ end }) => end));
    if (last > this._span) this._span = last;
    this._redraw();
  }

  _redraw() {
    if (this._scheduled) return;
    this._scheduled = true;
    requestAnimationFrame(() => {
      this._scheduled = false;
      this._draw();
    });
  }

  _draw() {
    this._colours = getComputedStyle(document.documentElement);
    this._drawWave(...prepared(this._wave));
    this._drawSpectrogram(...prepared(this._spectrogram));
  }

  _colour(name) {
    return this._colours.getPropertyValue(`--${name}`).trim();
  }

  _drawWave(pen, width, height) {
    const toX = (seconds) => (seconds / this._span) * width;
    const middle = (height - AXIS) / 2;
    for (const { start, end } of this._stretches) {
      pen.fillStyle = this._colour("mark");
      pen.globalAlpha = 0.2;
      pen.fillRect(toX(start), 0, toX(end) - toX(start), height - AXIS);
      pen.globalAlpha = 1;
      pen.fillRect(toX(start), 0, toX(end) - toX(start), 3);
    }
    const loudest = Math.max(0.1, this._peaks.reduce((most, peak) => Math.max(most, peak), 0));
    const peaksPerBar = ((BAR + GAP) / width) * this._span * PEAKS_PER_S;
    const played = this._position > 0 ? toX(this._position) : -1;
    const [heard, waiting, empty] = ["accent", "wave", "line"].map((name) => this._colour(name));
    for (let x = 0; x < width; x += BAR + GAP) {
      const first = Math.floor((x / (BAR + GAP)) * peaksPerBar);
      const peaks = this._peaks.slice(first, Math.max(first + 1, Math.floor((x / (BAR + GAP) + 1) * peaksPerBar)));
      const size = Math.max(BAR / 2, (Math.max(0, ...peaks) / loudest) * middle * TALLEST);
      pen.fillStyle = !peaks.length ? empty : x < played ? heard : waiting;
      pen.beginPath();
      pen.roundRect(x, middle - size, BAR, 2 * size, BAR / 2);
      pen.fill();
    }
    this._drawAxis(pen, width, height, toX);
    if (played >= 0 && this._position < this.seconds) this._drawHead(pen, played, height - AXIS);
  }

  _drawAxis(pen, width, height, toX) {
    const step = [0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600].find((seconds) => toX(seconds) > 56) ?? 1800;
    pen.fillStyle = this._colour("muted");
    pen.font = "11px system-ui, sans-serif";
    for (let at = 0; toX(at) < width - 24; at += step) pen.fillText(`${at} s`, toX(at) + 4, height - 5);
  }

  _drawHead(pen, x, height) {
    pen.fillStyle = this._colour("text");
    pen.fillRect(x, 0, 1.5, height);
  }

  _drawSpectrogram(pen, width, height) {
    this._paintTape();
    const columns = this._spectra.columns.length;
    const end = ((columns * this._spectra.hopSeconds) / this._span) * width;
    pen.fillStyle = this._colour("spectrum").split(",")[0];
    pen.fillRect(0, 0, width, height);
    if (columns) pen.drawImage(this._tape, 0, 0, columns, this._tape.height, 0, 0, end, height);
    pen.font = "11px system-ui, sans-serif";
    pen.fillStyle = this._colour("muted");
    pen.strokeStyle = this._colour("card");
    pen.lineWidth = 4;
    pen.lineJoin = "round";
    for (const khz of [2, 4, 6]) {
      const place = [`${khz} kHz`, width - 40, height * (1 - khz / 8) + 4];
      pen.strokeText(...place);
      pen.fillText(...place);
    }
    if (this._position > 0 && this._position < this.seconds) this._drawHead(pen, (this._position / this._span) * width, height);
  }

  /** Paints the spectra that are new, all of them after a change of colours. */
  _paintTape() {
    const { columns, rows } = this._spectra;
    if (columns.length > this._tape.width) {
      const longer = document.createElement("canvas");
      longer.width = 2 * columns.length;
      longer.height = rows;
      longer.getContext("2d").drawImage(this._tape, 0, 0);
      this._tape = longer;
    }
    const count = columns.length - this._painted;
    if (!count) return;
    const shades = shadesOf(this._colour("spectrum"));
    const image = new ImageData(count, rows);
    for (let column = 0; column < count; column++) {
      columns[this._painted + column].forEach((level, row) => {
        image.data.set(shades.subarray(4 * level, 4 * level + 4), 4 * ((rows - 1 - row) * count + column));
      });
    }
    this._tape.getContext("2d").putImageData(image, this._painted, 0);
    this._painted = columns.length;
  }
}

/** A pen in CSS pixels over an empty canvas, and its size. */
function prepared(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const scale = devicePixelRatio;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  return [pen, width, height];
}

/** 256 colours between those of a list such as "#ffffff, #000000", four bytes each. */
function shadesOf(list) {
  const pen = Object.assign(document.createElement("canvas"), { width: 256, height: 1 }).getContext("2d");
  const gradient = pen.createLinearGradient(0, 0, 256, 0);
  list.split(",").forEach((colour, at, all) => gradient.addColorStop(at / (all.length - 1), colour.trim()));
  pen.fillStyle = gradient;
  pen.fillRect(0, 0, 256, 1);
  return pen.getImageData(0, 0, 256, 1).data;
}

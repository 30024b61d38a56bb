// Short-time spectra of a sound that grows.

export const FFT_SIZE = 512;
const HOP = 256;
const HIGHEST_HZ = 8000;
const FLOOR_DB = -85;
const CEILING_DB = -18;

export class Spectra {
  constructor(rate) {
    this.rows = Math.min(FFT_SIZE / 2, Math.round(HIGHEST_HZ / (rate / FFT_SIZE)));
    this.columns = []; // Uint8Array each, row 0 is the lowest frequency; 255 is loud
    this.hopSeconds = HOP / rate;
    this._rest = new Float32Array();
    this._window = Float32Array.from({ length: FFT_SIZE }, (_, at) => 0.5 - 0.5 * Math.cos((2 * Math.PI * at) / FFT_SIZE));
  }

  push(samples) {
    const joined = new Float32Array(this._rest.length + samples.length);
    joined.set(this._rest);
    joined.set(samples, this._rest.length);
    let at = 0;
    for (; at + FFT_SIZE <= joined.length; at += HOP) this.columns.push(this._column(joined.subarray(at, at + FFT_SIZE)));
    this._rest = joined.slice(at);
  }

  _column(samples) {
    const real = Float32Array.from(samples, (sample, at) => sample * this._window[at]);
    const imaginary = new Float32Array(FFT_SIZE);
    transform(real, imaginary);
    return Uint8Array.from({ length: this.rows }, (_, row) => {
      const power = (real[row] ** 2 + imaginary[row] ** 2) / (FFT_SIZE / 4) ** 2;
      const level = 10 * Math.log10(power + 1e-12);
      return Math.max(0, Math.min(255, (255 * (level - FLOOR_DB)) / (CEILING_DB - FLOOR_DB)));
    });
  }
}

/** The discrete Fourier transform in place; a power of two long. */
export function transform(real, imaginary) {
  const size = real.length;
  for (let at = 1, mirrored = 0; at < size; at++) {
    let bit = size >> 1;
    for (; mirrored & bit; bit >>= 1) mirrored ^= bit;
    mirrored ^= bit;
    if (at < mirrored) {
      [real[at], real[mirrored]] = [real[mirrored], real[at]];
      [imaginary[at], imaginary[mirrored]] = [imaginary[mirrored], imaginary[at]];
    }
  }
  for (let half = 1; half < size; half *= 2) {
    for (let k = 0; k < half; k++) {
      const cos = Math.cos((Math.PI * k) / half);
      const sin = -Math.sin((Math.PI * k) / half);
      for (let low = k; low < size; low += 2 * half) {
        const high = low + half;
        const re = real[high] * cos - imaginary[high] * sin;
        const im = real[high] * sin + imaginary[high] * cos;
        real[high] = real[low] - re;
        imaginary[high] = imaginary[low] - im;
        real[low] += re;
        imaginary[low] += im;
      }
    }
  }
}

// Samples: from the server's bytes, to WAV files, and base64. Samples are floats from -1 to 1, one channel.

/** Formats that can be played while they come; the others are decoded by the browser once they are whole. */
export const LIVE_FORMATS = new Set(["pcm", "wav", "mulaw", "alaw"]);

/** A function from bytes, cut anywhere, to the samples that are complete. */
export function decoderOf(format) {
  if (format === "mulaw" || format === "alaw") {
    const table = companded(format);
    return (bytes) => Float32Array.from(bytes, (byte) => table[byte]);
  }
  let rest = new Uint8Array();
  let inHeader = format === "wav";
  return (bytes) => {
    let joined = concatenated([rest, bytes]);
    if (inHeader) {
      const at = dataOffset(joined);
      if (at < 0) {
        rest = joined;
        return new Float32Array();
      }
      inHeader = false;
      joined = joined.subarray(at);
    }
    const whole = joined.length & ~1;
    rest = joined.slice(whole);
    return fromInt16(joined.subarray(0, whole));
  };
}

function fromInt16(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: bytes.length / 2 }, (_, at) => view.getInt16(2 * at, true) / 32768);
}

/** Where the samples of a WAV file begin; -1 while its header is not complete. */
function dataOffset(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 12; at + 8 <= bytes.length; ) {
    if (view.getUint32(at) === 0x64617461) return at + 8; // "data"
    at += 8 + view.getUint32(at + 4, true);
  }
  return -1;
}

/** The sample of each byte, by ITU-T G.711. */
function companded(format) {
  return Float32Array.from({ length: 256 }, (_, byte) => {
    if (format === "mulaw") {
      const bits = ~byte & 0xff;
      const size = ((((bits & 15) << 3) + 132) << ((bits >> 4) & 7)) - 132;
      return (bits & 128 ? -size : size) / 32768;
    }
    const bits = byte ^ 0x55;
    const exponent = (bits >> 4) & 7;
    const mantissa = ((bits & 15) << 4) + 8;
    const size = exponent ? (mantissa + 256) << (exponent - 1) : mantissa;
    return (bits & 128 ? size : -size) / 32768;
  });
}

/** A WAV file of 16 bits. */
export function wavOf(samples, rate) {
  const file = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const ascii = (at, text) => [...text].forEach((letter, index) => file.setUint8(at + index, letter.charCodeAt(0)));
  ascii(0, "RIFF");
  file.setUint32(4, 36 + 2 * samples.length, true);
  ascii(8, "WAVEfmt ");
  file.setUint32(16, 16, true);
  file.setUint16(20, 1, true);
  file.setUint16(22, 1, true);
  file.setUint32(24, rate, true);
  file.setUint32(28, 2 * rate, true);
  file.setUint16(32, 2, true);
  file.setUint16(34, 16, true);
  ascii(36, "data");
  file.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, at) => {
    const clipped = Math.max(-1, Math.min(1, sample));
    file.setInt16(44 + 2 * at, Math.max(-32768, Math.min(32767, Math.round(clipped * 32768))), true);
  });
  return new Uint8Array(file.buffer);
}

/** One array of many of its kind. */
export function concatenated(arrays) {
  const made = new arrays[0].constructor(arrays.reduce((length, array) => length + array.length, 0));
  let at = 0;
  for (const array of arrays) {
    made.set(array, at);
    at += array.length;
  }
  return made;
}

export function fromBase64(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

export function toBase64(bytes) {
  const parts = [];
  for (let at = 0; at < bytes.length; at += 8192) parts.push(String.fromCharCode(...bytes.subarray(at, at + 8192)));
  return btoa(parts.join(""));
}

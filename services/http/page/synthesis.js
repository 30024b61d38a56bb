// One call of POST /v1/audio/speech: its events become sound in the output.

import { Problem, call, events, problemFrom } from "./api.js";
import { json } from "./fields.js";
import { LIVE_FORMATS, concatenated, decoderOf, fromBase64 } from "./pcm.js";

const REASONS = {
  end_of_speech: "",
  max_audio_seconds: " Cut at the longest length.",
  context_window: " Cut: the model's window is full.",
};
const EXTENSIONS = { opus: "ogg", pcm: "wav" };

/**
 * Speaks until the end. Resolves to the last event, with `seed` as text, or to null where the user has stopped it.
 * Throws Problem.
 */
export async function synthesize(body, output, name) {
  const format = body.response_format ?? "pcm";
  const leaving = new AbortController();
  const sound = output.begin(name, () => leaving.abort());
  const askedMs = performance.now();
  try {
    const answer = await call("v1/audio/speech", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: json({ ...body, response_format: format, stream_format: "sse" }),
      signal: leaving.signal,
    });
    const rate = Number(answer.headers.get("x-sample-rate"));
    const decode = LIVE_FORMATS.has(format) ? decoderOf(format) : null;
    const pieces = [];
    for await (const event of events(answer)) {
      if (event.type === "error") throw problemFrom(event.error);
      if (event.type === "speech.audio.delta") {
        const bytes = fromBase64(event.audio);
        pieces.push(bytes);
        output.heard();
        if (decode) output.write(decode(bytes), rate);
      } else if (event.type === "speech.audio.done") {
        const seconds = (performance.now() - askedMs) / 1000;
        const file = new Blob(pieces, { type: `audio/${format}` });
        if (!decode && pieces.length) await playWhole(file, output, format);
        output.finish(sentence(event), {
          file: format === "pcm" ? undefined : file,
          extension: EXTENSIONS[format] ?? format,
          seconds,
        });
        return { ...event, seed: answer.headers.get("x-seed") };
      }
    }
    throw new Problem("The connection broke: the audio is not complete.", { code: "incomplete_audio" });
  } catch (error) {
    if (leaving.signal.aborted) {
      if (output.has(sound)) output.finish("Stopped.");
      return null;
    }
    if (output.has(sound)) output.finish("");
    output.stop();
    throw error;
  }
}

/** Formats that the browser decodes at once. Throws Problem where it cannot. */
async function playWhole(file, output, format) {
  try {
    const decoded = await output.player.context.decodeAudioData(await file.arrayBuffer());
    output.write(concatenated([decoded.getChannelData(0)]), decoded.sampleRate);
  } catch {
    throw new Problem(`response_format: this browser cannot play ${format}. Choose another one.`, {
      param: "response_format",
    });
  }
}

function sentence({ audio_seconds: seconds, finish_reason: reason, dropped_turns: dropped, voice }) {
  const turns = dropped ? ` ${dropped} of the oldest turns had no room.` : "";
  return `${seconds.toFixed(1)} s of ${voice}.${REASONS[reason] ?? ""}${turns}`;
}

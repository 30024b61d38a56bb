// Calls the door at the URL given with the AI SDK, and prints what came as one line of JSON. With a text
// as a further argument it says this alone, and gives up after so many milliseconds as the last one tells.
import { createOpenAI } from "@ai-sdk/openai";
import { experimental_generateSpeech as generateSpeech } from "ai";

globalThis.AI_SDK_LOG_WARNINGS = false;
const openai = createOpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "sk-any" });
const speak = ({ model = "tts-1", ...options }) =>
  generateSpeech({ model: openai.speech(model), text: "Hello.", maxRetries: 0, ...options });

const failure = async (options) => {
  try {
    await speak(options);
  } catch (error) {
    const { param, code } = error.data?.error ?? {};
    return { name: error.name, status: error.statusCode, again: error.isRetryable, param, code };
  }
  return null;
};

if (process.argv.length > 3) {
  const abortSignal = AbortSignal.timeout(Number(process.argv[4]));
  console.log(JSON.stringify({ error: await failure({ text: process.argv[3], abortSignal }) }));
} else {
  const found = {};
  for (const outputFormat of ["mp3", "opus", "aac", "flac", "wav", "pcm"]) {
    const { audio } = await speak({ outputFormat });
    found[outputFormat] = { size: audio.uint8Array.length, type: audio.mediaType };
  }
  const all = await speak({ voice: "bo", speed: 1.5, instructions: "Calm.", model: "tts-1-1106" });
  console.log(
    JSON.stringify({
      found,
      headers: all.responses[0].headers,
      wrong: await failure({ text: "" }),
      unknown: await failure({ voice: "nobody" }),
      model: await failure({ model: "gpt-9" }),
    }),
  );
}

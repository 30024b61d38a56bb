// Calls the door at the URL given with OpenAI's own client, and prints what came as one line of JSON.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "sk-any", maxRetries: 0 });
const speech = { model: "tts-1", voice: "alloy", input: "Hello.", response_format: "pcm" };

const failure = async (body) => {
  try {
    await client.audio.speech.create(body);
  } catch (error) {
    return { kind: error.constructor.name, status: error.status, param: error.param, code: error.code };
  }
  return null;
};

const sizes = {};
for (const format of process.argv[3].split(",")) {
  const answer = await client.audio.speech.create({ ...speech, response_format: format });
  sizes[format] = (await answer.arrayBuffer()).byteLength;
}

let pieces = 0;
for await (const _ of (await client.audio.speech.create(speech)).body) pieces += 1;

const events = await (await client.audio.speech.create({ ...speech, stream_format: "sse" })).text();

const leaving = new AbortController();
const left = await client.audio.speech.create({ ...speech, input: "Long." }, { signal: leaving.signal });
leaving.abort();
await left.arrayBuffer().catch(() => {});

console.log(
  JSON.stringify({
    sizes,
    pieces,
    done: events.includes('"type": "speech.audio.done"'),
    wrong: await failure({ ...speech, input: "" }),
    unknown: await failure({ ...speech, voice: "nobody" }),
    models: (await client.models.list()).data.map((model) => model.id),
  }),
);

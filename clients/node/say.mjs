#!/usr/bin/env node
// Speaks a text into a WAV file. Everything comes from the raw protos; nothing is generated.
//
//   node say.mjs "Hello from the other side." --out hello.wav --speaker 1 --seed 7
//
// The file is written once the stream has ended with a summary and status OK. Otherwise the audio is
// incomplete: there is no file, and the exit status is 1.

import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

import { explain } from './errors.mjs';
import { wav } from './wav.mjs';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    target: { type: 'string', default: 'localhost:50051' },
    out: { type: 'string', default: 'speech.wav' },
    voice: { type: 'string' },
    speaker: { type: 'string' },
    seed: { type: 'string' },
    'max-seconds': { type: 'string' },
    'deadline-seconds': { type: 'string', default: '120' },
    unary: { type: 'boolean', default: false }, // one message instead of a stream
  },
});

function connect() {
  const protos = fileURLToPath(new URL('../../protos', import.meta.url));
  const definition = loadSync('csm/v1/tts.proto', {
    includeDirs: [protos],
    enums: String,
    longs: Number, // sample counts stay far below 2^53
    defaults: true, // an unset number is 0, not undefined
    oneofs: true, // message.event names the event that is set
  });
  const { TextToSpeechService } = grpc.loadPackageDefinition(definition).csm.v1;
  return new TextToSpeechService(options.target, grpc.credentials.createInsecure());
}

function request() {
  const { voice, speaker, seed, 'max-seconds': maxSeconds } = options;
  return {
    input: { text: positionals.join(' '), ...(speaker && { speaker: Number(speaker) }) },
    audioConfig: { audioEncoding: 'AUDIO_ENCODING_PCM' },
    ...(voice && { voice: { name: voice } }),
    ...(seed && { samplingParams: { seed } }),
    ...(maxSeconds && { maxAudioDuration: { seconds: Number(maxSeconds) } }),
  };
}

const deadline = () => ({ deadline: Date.now() + 1000 * Number(options['deadline-seconds']) });

async function stream(client) {
  const call = client.streamSynthesize(request(), deadline());
  process.once('SIGINT', () => call.cancel());
  try {
    return await collect(call);
  } finally {
    call.cancel(); // after the end of the stream this does nothing
  }
}

async function collect(call) {
  const chunks = [];
  let header, summary;
  let samples = 0;
  for await (const message of call) {
    if (message.event === 'header') header = message.header;
    if (message.event === 'summary') summary = message.summary;
    if (message.event !== 'audioChunk') continue;
    const { audioContent, sampleOffset, sampleCount } = message.audioChunk;
    if (sampleOffset !== samples) {
      throw new Error(`Audio is missing: sample ${samples} was due, ${sampleOffset} came.`);
    }
    chunks.push(audioContent);
    samples += sampleCount;
    const length = samples / header.audioFormat.sampleRateHertz;
    process.stderr.write(`\r${length.toFixed(2)} s of audio `);
  }
  process.stderr.write('\n');
  if (!summary) throw new Error('The stream ended without a summary: the audio is incomplete.');
  return { pcm: Buffer.concat(chunks), format: header.audioFormat, summary };
}

function unary(client) {
  return new Promise((resolve, reject) => {
    client.synthesize(request(), deadline(), (error, response) => {
      if (error) return reject(error);
      const { audioContent, audioFormat, summary } = response;
      resolve({ pcm: audioContent, format: audioFormat, summary });
    });
  });
}

const seconds = (duration) => Number(duration?.seconds ?? 0) + (duration?.nanos ?? 0) / 1e9;

const client = connect();
try {
  const { pcm, format, summary } = await (options.unary ? unary : stream)(client);
  writeFileSync(options.out, wav(pcm, format));
  const { stats, watermark } = summary;
  const length = seconds(stats?.audioDuration);
  console.log(`${options.out}: ${length.toFixed(2)} s, ${summary.finishReason}`);
  console.log(`first audio after ${(1000 * seconds(stats?.firstAudioLatency)).toFixed(0)} ms, `
    + `real-time factor ${(seconds(stats?.totalDuration) / length).toFixed(2)}, `
    + `watermark key ${watermark?.keyId}`);
} catch (error) {
  console.error([...explain(error), `${options.out} was not written.`].join('\n'));
  process.exitCode = 1;
} finally {
  client.close();
}

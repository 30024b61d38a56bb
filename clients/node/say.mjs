#!/usr/bin/env node
// Speaks a text into an audio file. Everything comes from the raw protos; nothing is generated.
//
//   node say.mjs "Hello from the other side." --out hello.wav --speaker 1 --seed 7
//   node say.mjs "Hello." --out hello.mp3
//   node say.mjs "Hello." --target speech.example.com:443 --tls --token-file token
//   some-language-model | node say.mjs - --out answer.wav
//
// The file is written once the stream has ended with a summary and status OK. Otherwise the audio is
// incomplete: there is no file, and the exit status is 1. README.md has the options.

import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

import { channelCredentials, channelOptions } from './channel.mjs';
import { explain } from './errors.mjs';
import { encodingOf, fileOf, isDivisible } from './formats.mjs';
import { readCommandLine } from './options.mjs';
import { delayBeforeNextCall, Heard } from './resuming.mjs';
import { callMetadata } from './token.mjs';

const { options, words } = readCommandLine();
const encoding = encodingOf(options.out);

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
  return new TextToSpeechService(options.target, channelCredentials(options), channelOptions(options));
}

function request(text = words.join(' '), givenSeed = undefined) {
  const { voice, speaker, speed, conversation, seed = givenSeed, 'max-seconds': maxSeconds } = options;
  return {
    input: { text, ...(speaker !== undefined && { speaker: Number(speaker) }) },
    audioConfig: { audioEncoding: encoding, ...(speed !== undefined && { speed }) },
    ...(voice && { voice: { name: voice } }),
    ...(conversation && { conversationId: conversation }),
    ...(seed !== undefined && { samplingParams: { seed: seed.toString() } }),
    ...(maxSeconds !== undefined && { maxAudioDuration: duration(maxSeconds) }),
  };
}

function duration(length) {
  const whole = Math.floor(length);
  return { seconds: whole, nanos: Math.floor(1e9 * (length - whole)) };
}

const until = Date.now() + 1000 * options['deadline-seconds']; // all calls together
const deadline = () => ({ deadline: until });

// The word `-`: the text comes from standard input, and its sentences are said while it comes.
function begin(client, metadata) {
  if (words.join(' ') !== '-') return client.streamSynthesize(request(), metadata, deadline());
  const call = client.streamSynthesizeText(metadata, deadline());
  call.write({ config: request('') });
  process.stdin.setEncoding('utf8');
  process.stdin.on('data', (text) => {
    for (const piece of text.match(/[^]{1,1000}/gu)) call.write({ text: { text: piece } });
  });
  process.stdin.on('end', () => call.end());
  return call;
}

async function stream(client, metadata) {
  let call = begin(client, metadata);
  let interrupted = false;
  process.once('SIGINT', () => {
    interrupted = true;
    call.cancel();
  });
  const heard = new Heard();
  // What was typed is gone, and compressed audio cannot go on between two samples.
  const most = words.join(' ') === '-' || !isDivisible(encoding) ? 0 : Number(options.resumes);
  try {
    for (let count = 0; ; count += 1) {
      try {
        return await collect(call, heard);
      } catch (error) {
        const delay = interrupted ? undefined : delayBeforeNextCall(error, heard, count, most, until);
        if (delay === undefined) throw error;
        await sleep(delay);
      }
      heard.beginAgain();
      const patient = metadata.clone();
      patient.setOptions({ waitForReady: true });
      call = client.streamSynthesize(request(undefined, heard.header.seed), patient, deadline());
    }
  } finally {
    call.cancel(); // after the end of the stream this does nothing
    process.stdin.destroy(); // else the program would wait for somebody to type
  }
}

async function collect(call, heard) {
  for await (const message of call) {
    if (message.event === 'header') heard.takeHeader(message.header);
    if (message.event === 'summary') heard.summary = message.summary;
    if (message.event !== 'audioChunk') continue;
    heard.takeAudio(message.audioChunk);
    const length = heard.samples / heard.header.audioFormat.sampleRateHertz;
    process.stderr.write(`\r${length.toFixed(2)} s of audio `);
  }
  process.stderr.write('\n');
  if (!heard.summary) throw new Error('The stream ended without a summary: the audio is incomplete.');
  return { audio: Buffer.concat(heard.chunks), format: heard.header.audioFormat, summary: heard.summary };
}

function unary(client, metadata) {
  return new Promise((resolve, reject) => {
    client.synthesize(request(), metadata, deadline(), (error, response) => {
      if (error) return reject(error);
      const { audioContent, audioFormat, summary } = response;
      resolve({ audio: audioContent, format: audioFormat, summary });
    });
  });
}

const seconds = (duration) => Number(duration?.seconds ?? 0) + (duration?.nanos ?? 0) / 1e9;

function report({ stats, watermark, finishReason }) {
  const length = seconds(stats?.audioDuration);
  console.log(`${options.out}: ${length.toFixed(2)} s, ${finishReason}`);
  console.log(`first audio after ${(1000 * seconds(stats?.firstAudioLatency)).toFixed(0)} ms, `
    + `real-time factor ${(seconds(stats?.totalDuration) / length).toFixed(2)}, `
    + `watermark key ${watermark?.keyId}`);
}

let client;
try {
  const metadata = callMetadata(options);
  client = connect();
  const { audio, format, summary } = await (options.unary ? unary : stream)(client, metadata);
  writeFileSync(options.out, fileOf(audio, format));
  report(summary);
} catch (error) {
  console.error([...explain(error), `${options.out} was not written.`].join('\n'));
  process.exitCode = 1;
} finally {
  client?.close();
}

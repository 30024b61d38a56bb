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

import { encodingOf, fileOf, wrongName } from './formats.mjs';
import { Client, explain } from './index.mjs';
import { readCommandLine } from './options.mjs';

const { options, words } = readCommandLine();
const text = words.join(' ');
const wrong = words.length === 0 && !options['list-voices']
  ? 'What to say is missing: a text, or - for that of standard input. --help lists the options.'
  : wrongName(options.out);
if (wrong !== undefined) {
  console.error(wrong);
  process.exit(2);
}

const connection = {
  deadlineSeconds: options['deadline-seconds'],
  resumes: Number(options.resumes),
  tls: options.tls,
  tlsCa: options['tls-ca'],
  tlsCertificate: options['tls-certificate'],
  tlsKey: options['tls-key'],
  tokenFile: options['token-file'],
  insecureToken: options['insecure-token'],
};
const speech = {
  voice: options.voice,
  speaker: options.speaker === undefined ? undefined : Number(options.speaker),
  seed: options.seed,
  speed: options.speed,
  conversationId: options.conversation,
  encoding: encodingOf(options.out),
  maxSeconds: options['max-seconds'],
};

async function stream(client) {
  // The word `-`: the text comes from standard input, and its sentences are said while it comes.
  const speaking = text === '-'
    ? client.streamText(process.stdin.setEncoding('utf8'), speech)
    : client.stream(text, speech);
  process.once('SIGINT', () => speaking.cancel());
  const chunks = [];
  try {
    for await (const chunk of speaking) {
      chunks.push(chunk);
      process.stderr.write(`\r${speaking.seconds.toFixed(2)} s of audio `);
    }
    process.stderr.write('\n');
  } finally {
    process.stdin.destroy(); // else the program would wait for somebody to type
  }
  return { audio: Buffer.concat(chunks), format: speaking.header.audioFormat, summary: speaking.summary };
}

async function unary(client) {
  const { audioContent, audioFormat, summary } = await client.synthesize(text, speech);
  return { audio: audioContent, format: audioFormat, summary };
}

// A line for each voice that the caller may use.
async function listVoices(client) {
  for (const { name, speaker, languageCodes, description, hasPrompt } of await client.listVoices()) {
    const parts = [name.padEnd(20), `speaker ${speaker}`.padEnd(12), languageCodes.join(',').padEnd(12), description];
    console.log([...parts, ...(hasPrompt ? ['[prompt]'] : [])].join(' ').trimEnd());
  }
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
  client = new Client(options.target, connection);
  if (options['list-voices']) {
    await listVoices(client);
  } else {
    const { audio, format, summary } = await (options.unary ? unary : stream)(client);
    writeFileSync(options.out, fileOf(audio, format));
    report(summary);
  }
} catch (error) {
  const unwritten = options['list-voices'] ? [] : [`${options.out} was not written.`];
  console.error([...explain(error), ...unwritten].join('\n'));
  process.exitCode = 1;
} finally {
  client?.close();
}

// The command line of say.mjs. What may stand together is judged by those who use it: channel.mjs, token.mjs.

import { parseArgs } from 'node:util';

const OPTIONS = {
  target: { type: 'string', default: 'localhost:50051', help: 'host:port, or another gRPC target' },
  out: { type: 'string', default: 'speech.wav', help: 'the file; its ending selects the format' },
  voice: { type: 'string', help: 'name of the voice' },
  speaker: { type: 'string', help: "the model's number of the speaker" },
  seed: { type: 'string', help: 'the same seed gives the same speech' },
  conversation: { type: 'string', help: 'the same id for all utterances of a conversation' },
  speed: { type: 'string', help: '0.25 to 4; the pitch stays' },
  'max-seconds': { type: 'string', help: 'longest audio' },
  'deadline-seconds': { type: 'string', default: '600', help: 'deadline of the call' },
  resumes: { type: 'string', default: '3', help: 'how often in a minute a stream that lost its server goes on at another one' },
  'list-voices': { type: 'boolean', default: false, help: 'print the voices that you may use, without speaking' },
  unary: { type: 'boolean', default: false, help: 'one message instead of a stream' },
  tls: { type: 'boolean', default: false, help: 'use TLS; trust the authorities that Node brings with it' },
  'tls-ca': { type: 'string', help: 'use TLS; trust the authorities of this PEM file' },
  'tls-certificate': { type: 'string', help: 'PEM chain, for a server that requires client certificates' },
  'tls-key': { type: 'string', help: 'its PEM key, not encrypted' },
  'token-file': { type: 'string', help: 'a file with a bearer token; without it CSM_TOKEN may hold one' },
  'insecure-token': { type: 'boolean', default: false, help: 'also send the token without TLS to other hosts' },
  help: { type: 'boolean', short: 'h', default: false, help: 'print this' },
};

const USAGE = `csm-say TEXT [options]: speaks a text into an audio file
csm-say - [options]: speaks the text of standard input while it arrives
`;

const LONGEST_S = 1e9;

// The options by name, those of numbers as such (speaker and seed as bigints), and the words that belong to none. A
// wrong command line ends the process with status 2, --help with status 0.
export function readCommandLine() {
  try {
    const { values, positionals } = parseArgs({ allowPositionals: true, options: OPTIONS });
    if (values.help) {
      console.log(help());
      process.exit(0);
    }
    return { options: withNumbers(values), words: positionals };
  } catch (error) {
    console.error(error.message);
    process.exit(2);
  }
}

function help() {
  const lines = Object.entries(OPTIONS).map(([name, { type, default: usual, help: meaning }]) => {
    const option = type === 'string' ? `--${name} ${name.toUpperCase()}` : `--${name}`;
    return `  ${option.padEnd(36)} ${meaning}${type === 'string' && usual ? ` (${usual})` : ''}`;
  });
  return [USAGE, ...lines].join('\n');
}

// The library would make 0 of what is no number, and cut off what does not fit.
function withNumbers(options) {
  return {
    ...options,
    speaker: whole('speaker', options.speaker, 32),
    seed: whole('seed', options.seed, 64),
    resumes: whole('resumes', options.resumes, 32),
    speed: positive('speed', options.speed),
    'max-seconds': positive('max-seconds', options['max-seconds']),
    'deadline-seconds': positive('deadline-seconds', options['deadline-seconds']),
  };
}

function whole(name, text, bits) {
  if (text === undefined) return undefined;
  if (!/^-?\d+$/.test(text) || BigInt.asIntN(bits, BigInt(text)) !== BigInt(text)) {
    throw new Error(`--${name} must be a whole number of ${bits} bits, not '${text}'.`);
  }
  return BigInt(text);
}

function positive(name, text) {
  if (text === undefined) return undefined;
  const value = text.trim() === '' ? NaN : Number(text);
  if (!(value > 0 && value <= LONGEST_S)) {
    throw new Error(`--${name} must be a number above 0 and at most ${LONGEST_S}, not '${text}'.`);
  }
  return value;
}

// The command line of say.mjs. What may stand together is judged by those who use it: channel.mjs, token.mjs.

import { parseArgs } from 'node:util';

const DESCRIPTION = {
  allowPositionals: true,
  options: {
    target: { type: 'string', default: 'localhost:50051' },
    out: { type: 'string', default: 'speech.wav' },
    voice: { type: 'string' },
    speaker: { type: 'string' },
    seed: { type: 'string' },
    conversation: { type: 'string' }, // the same id for all utterances of a conversation
    speed: { type: 'string' }, // 0.25 to 4
    'max-seconds': { type: 'string' },
    'deadline-seconds': { type: 'string', default: '600' },
    resumes: { type: 'string', default: '3' }, // how often in a minute a stream that lost its server goes on at another one
    'list-voices': { type: 'boolean', default: false }, // print the voices instead of saying something
    unary: { type: 'boolean', default: false }, // one message instead of a stream
    tls: { type: 'boolean', default: false }, // trust the usual authorities
    'tls-ca': { type: 'string' }, // trust those of this PEM file instead; implies --tls
    'tls-certificate': { type: 'string' }, // PEM chain, for a server that asks who calls
    'tls-key': { type: 'string' }, // its PEM key, not encrypted
    'token-file': { type: 'string' }, // holds a bearer token; without it CSM_TOKEN may
    'insecure-token': { type: 'boolean', default: false }, // send it without TLS too, to other hosts
  },
};

const LONGEST_S = 1e9;

// The options by name, those of numbers as such (speaker and seed as bigints), and the words that belong to none. A
// wrong command line ends the process with status 2.
export function readCommandLine() {
  try {
    const { values, positionals } = parseArgs(DESCRIPTION);
    return { options: withNumbers(values), words: positionals };
  } catch (error) {
    console.error(error.message);
    process.exit(2);
  }
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

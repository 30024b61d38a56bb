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
    'max-seconds': { type: 'string' },
    'deadline-seconds': { type: 'string', default: '120' },
    unary: { type: 'boolean', default: false }, // one message instead of a stream
    tls: { type: 'boolean', default: false }, // trust the usual authorities
    'tls-ca': { type: 'string' }, // trust those of this PEM file instead; implies --tls
    'tls-certificate': { type: 'string' }, // PEM chain, for a server that asks who calls
    'tls-key': { type: 'string' }, // its PEM key, not encrypted
    'token-file': { type: 'string' }, // holds a bearer token; without it CSM_TOKEN may
    'insecure-token': { type: 'boolean', default: false }, // send it without TLS too, to other hosts
  },
};

// The options by name, and the words that belong to none. A wrong command line ends the process with status 2.
export function readCommandLine() {
  try {
    const { values, positionals } = parseArgs(DESCRIPTION);
    return { options: values, words: positionals };
  } catch (error) {
    console.error(error.message);
    process.exit(2);
  }
}

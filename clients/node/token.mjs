// A bearer token for every call, and the rule that it does not go out in plaintext.
// Only its owner and the server may learn the token: no message here has it.

import { readFileSync } from 'node:fs';

import grpc from '@grpc/grpc-js';

import { isEncrypted } from './channel.mjs';
import { isLoopback } from './targets.mjs';

// What every call carries.
export function callMetadata(options) {
  const metadata = new grpc.Metadata();
  const file = options['token-file'];
  const token = options.token ?? (file === undefined ? process.env.CSM_TOKEN : loadToken(file));
  if (!token) return metadata;
  if (!/^[!-~]+$/.test(token)) {
    throw new Error('A token is one word of printable ASCII characters; this one is not.');
  }
  if (!isEncrypted(options) && !isLoopback(options.target) && !options['insecure-token']) {
    throw new Error(`The token would go to ${options.target} in plaintext, for everybody on the way to read. `
      + 'Use TLS, or allow it with --insecure-token.');
  }
  metadata.set('authorization', `Bearer ${token}`);
  return metadata;
}

// The token in a file, without the blanks and line ends round it.
function loadToken(file) {
  const content = read(file);
  if (content.some((byte) => byte > 0x7f)) {
    throw new Error(`${file} holds no token: a token is printable ASCII.`);
  }
  const token = content.toString('ascii').trim();
  if (!token) throw new Error(`${file} is empty; it must hold a token.`);
  return token;
}

function read(file) {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new Error(`${file} cannot be read: ${error.message}`);
  }
}

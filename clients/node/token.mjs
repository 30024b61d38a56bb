// What every call carries: the caller's own metadata, and a bearer token, which does not go out in plaintext.
// Only its owner and the server may learn the token: no message here has it, nor a value of the metadata.

import { readFileSync } from 'node:fs';

import grpc from '@grpc/grpc-js';

import { isEncrypted } from './channel.mjs';
import { TokenError } from './failures.mjs';
import { isLoopback } from './targets.mjs';

const NAME = /^(?!grpc-)[0-9a-z_.-]+(?<!-bin)$/i;

export function callMetadata(options) {
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries(options.metadata ?? {})) {
    if (!NAME.test(name)) {
      throw new TypeError(`connection.metadata has '${name}'; a name has letters, digits and _ . - and neither begins with `
        + 'grpc- nor ends with -bin.');
    }
    if (typeof value !== 'string' || !/^[ -~]*$/.test(value)) {
      throw new TypeError(`connection.metadata.${name} is no string of printable ASCII characters.`);
    }
    metadata.add(name, value);
  }
  const file = options['token-file'];
  const token = options.token ?? (file === undefined ? process.env.CSM_TOKEN : loadToken(file));
  if (!token) return metadata;
  if (!/^[!-~]+$/.test(token)) {
    throw new TokenError('A token is one word of printable ASCII characters; this one is not.');
  }
  if (!isEncrypted(options) && !isLoopback(options.target) && !options['insecure-token']) {
    throw new TokenError(`The token would go to ${options.target} in plaintext, for everybody on the way to read. `
      + 'Use TLS, or allow it with --insecure-token.');
  }
  metadata.set('authorization', `Bearer ${token}`);
  return metadata;
}

// The token in a file, without the blanks and line ends round it.
function loadToken(file) {
  const content = read(file);
  if (content.some((byte) => byte > 0x7f)) {
    throw new TokenError(`${file} holds no token: a token is printable ASCII.`);
  }
  const token = content.toString('ascii').trim();
  if (!token) throw new TokenError(`${file} is empty; it must hold a token.`);
  return token;
}

function read(file) {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new TokenError(`${file} cannot be read: ${error.message}`);
  }
}

// Turns the error of a call into lines for people: its code and message, then the google.rpc details
// that say more. It knows nothing of speech.

import { fileURLToPath } from 'node:url';

import { status } from '@grpc/grpc-js';
import protobuf from 'protobufjs';

const rpc = protobuf
  .loadSync(fileURLToPath(new URL('error_details.proto', import.meta.url)))
  .lookup('google.rpc');

// What the library says of a connection that TLS does not let come about, and what it means.
const UNTRUSTED = "the server's certificate is not of an authority that is trusted here";
const HANDSHAKES = [
  ['unable to verify the first certificate', UNTRUSTED],
  ['unable to get local issuer certificate', UNTRUSTED],
  ['self-signed certificate', UNTRUSTED],
  ['certificate signature failure', `${UNTRUSTED}, but of a namesake`],
  ['ERR_TLS_CERT_ALTNAME_INVALID', "the server's certificate is for another name"],
  ['wrong version number', 'the server does not speak TLS'],
  ['Failed to connect (', 'the server hung up; it may want TLS, or a client certificate that it trusts'],
];

export function explain(error) {
  if (error.code === undefined || error.metadata === undefined) return [error.message];
  return [`${status[error.code]}: ${explainHandshake(error.details)}`, ...detailsOf(error.metadata)];
}

// The server's word for programs; undefined where it gave none.
export function reasonOf({ metadata }) {
  const infos = statusDetails(metadata).filter(({ typeUrl }) => typeUrl.endsWith('/google.rpc.ErrorInfo'));
  return infos.map(({ value }) => rpc.lookupType('ErrorInfo').decode(value).reason)[0];
}

function explainHandshake(message) {
  if (!message.includes('Last error: ')) return message; // a server has answered, or was lost later
  const [, meaning] = HANDSHAKES.find(([words]) => message.includes(words)) ?? [];
  return meaning === undefined ? message : `${meaning} (${message})`;
}

const detailsOf = (metadata) => statusDetails(metadata).flatMap(describe);

function statusDetails(metadata) {
  const [encoded] = metadata?.get('grpc-status-details-bin') ?? [];
  return encoded ? rpc.lookupType('Status').decode(encoded).details : [];
}

function describe({ typeUrl, value }) {
  const type = typeUrl.split('/').pop();
  if (type === 'google.rpc.BadRequest') {
    const { fieldViolations } = rpc.lookupType('BadRequest').decode(value);
    return fieldViolations.map(({ field, description }) => `  ${field}: ${description}`);
  }
  if (type === 'google.rpc.ErrorInfo') {
    return [`  reason: ${rpc.lookupType('ErrorInfo').decode(value).reason}`];
  }
  if (type === 'google.rpc.RetryInfo') {
    const { retryDelay } = rpc.lookupType('RetryInfo').decode(value);
    return [`  call again after: ${Number(retryDelay?.seconds ?? 0) + (retryDelay?.nanos ?? 0) / 1e9} s`];
  }
  if (type === 'google.rpc.RequestInfo') {
    return [`  request id: ${rpc.lookupType('RequestInfo').decode(value).requestId}`];
  }
  return []; // the message says what ResourceInfo and QuotaFailure hold
}

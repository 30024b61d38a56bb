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
  ['certificate signature failure', `${UNTRUSTED}, though of the same name`],
  ['ERR_TLS_CERT_ALTNAME_INVALID', "the server's certificate is for another name"],
  ['wrong version number', 'the server does not speak TLS'],
  ['Failed to connect (', 'the server hung up; it may want TLS, or a client certificate that it trusts'],
];

export function explain(error) {
  if (error?.cause?.metadata !== undefined) return [error.message, ...explain(error.cause)];
  if (error?.code === undefined || error.metadata === undefined) return [error?.message ?? String(error)];
  const { reason, fieldViolations, retryDelaySeconds, requestId } = details(error);
  return [
    `${status[error.code]}: ${explainHandshake(error.details)}`,
    ...(reason ? [`  reason: ${reason}`] : []),
    ...fieldViolations.map(({ field, description }) => `  ${field}: ${description}`),
    ...(retryDelaySeconds === undefined ? [] : [`  call again after: ${retryDelaySeconds} s`]),
    ...(requestId ? [`  request id: ${requestId}`] : []),
  ];
}

// The same for programs; what the server has not told is undefined. Its message has what ResourceInfo and QuotaFailure do.
export function details(error) {
  const found = { reason: undefined, requestId: undefined, fieldViolations: [], retryDelaySeconds: undefined };
  for (const { typeUrl, value } of statusDetails(error?.metadata ?? error?.cause?.metadata)) {
    const type = typeUrl.split('/google.rpc.').pop();
    if (!['BadRequest', 'ErrorInfo', 'RetryInfo', 'RequestInfo'].includes(type)) continue;
    const message = decoded(type, value);
    if (message === undefined) continue;
    if (type === 'ErrorInfo') found.reason = message.reason;
    if (type === 'RequestInfo') found.requestId = message.requestId;
    if (type === 'RetryInfo') found.retryDelaySeconds = secondsOf(message.retryDelay);
    if (type === 'BadRequest') {
      found.fieldViolations = message.fieldViolations.map(({ field, description }) => ({ field, description }));
    }
  }
  return found;
}

const secondsOf = (duration) => Number(duration?.seconds ?? 0) + (duration?.nanos ?? 0) / 1e9;

function explainHandshake(message) {
  if (!message.includes('Last error: ')) return message; // a server has answered, or was lost later
  const [, meaning] = HANDSHAKES.find(([words]) => message.includes(words)) ?? [];
  return meaning === undefined ? message : `${meaning} (${message})`;
}

function statusDetails(metadata) {
  const [encoded] = metadata?.get?.('grpc-status-details-bin') ?? [];
  return (encoded && decoded('Status', encoded)?.details) ?? [];
}

// undefined for one that a proxy has cut
function decoded(type, bytes) {
  try {
    return rpc.lookupType(type).decode(bytes);
  } catch {
    return undefined;
  }
}

// Turns the error of a call into lines for people: its code and message, then every google.rpc detail
// that it carries. It knows nothing of speech.

import { fileURLToPath } from 'node:url';

import { status } from '@grpc/grpc-js';
import protobuf from 'protobufjs';

const rpc = protobuf
  .loadSync(fileURLToPath(new URL('error_details.proto', import.meta.url)))
  .lookup('google.rpc');

export function explain(error) {
  if (error.code === undefined || error.metadata === undefined) return [error.message];
  return [`${status[error.code]}: ${error.details}`, ...detailsOf(error.metadata)];
}

function detailsOf(metadata) {
  const [encoded] = metadata.get('grpc-status-details-bin');
  if (!encoded) return [];
  return rpc.lookupType('Status').decode(encoded).details.flatMap(describe);
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
  return [`  (${type})`];
}

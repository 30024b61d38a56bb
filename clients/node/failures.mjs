// The errors that the library throws of itself. A wrong option or value is a TypeError instead, and what the caller's own
// iterables throw is thrown as it is.

import { Metadata, status } from '@grpc/grpc-js';

import { details } from './errors.mjs';

// Root of the tree.
export class CsmClientError extends Error {
  get name() {
    return this.constructor.name;
  }
}

export class ClientClosedError extends CsmClientError {
  constructor() {
    super('The client is closed. Make a new one, or close it after its last call.');
  }
}

// A certificate or key cannot be used; the message names the file.
export class TlsFileError extends CsmClientError {}

// A token cannot be read, or must not go out in plaintext; it is never in the message.
export class TokenError extends CsmClientError {}

// What came is not the whole utterance. Where a failed call is the cause, it has its code, reason and request id.
export class IncompleteAudioError extends CsmClientError {
  constructor(message, receivedSampleCount, cause) {
    super(message, cause && { cause });
    this.receivedSampleCount = receivedSampleCount;
  }

  get code() {
    return this.cause?.code;
  }

  get reason() {
    return this.cause?.reason;
  }

  get requestId() {
    return this.cause?.requestId;
  }
}

// A status other than OK, from the server or from gRPC on its behalf.
export class ServerError extends CsmClientError {
  // failed: of gRPC, whose fields it keeps: code, details and metadata
  constructor(failed) {
    super(failed.message);
    this.code = failed.code;
    this.details = failed.details;
    Object.defineProperty(this, 'metadata', { value: failed.metadata }); // of use to programs, and not when it is printed
    const { reason, requestId, fieldViolations, retryDelaySeconds } = details(failed);
    this.reason = reason ?? status[failed.code];
    this.requestId = requestId;
    this.fieldViolations = fieldViolations;
    this.retryDelaySeconds = retryDelaySeconds;
    if (failed.stack !== undefined) this.stack = failed.stack.replace(/^Error/, this.name); // where the call was made
  }
}

export class InvalidRequestError extends ServerError {}
export class UnauthenticatedError extends ServerError {}
export class NotFoundError extends ServerError {}
export class UnavailableError extends ServerError {}
export class DeadlineExceededError extends ServerError {}
export class ResourceExhaustedError extends ServerError {}
export class InternalServerError extends ServerError {}

const BY_CODE = {
  [status.INVALID_ARGUMENT]: InvalidRequestError,
  [status.UNAUTHENTICATED]: UnauthenticatedError,
  [status.NOT_FOUND]: NotFoundError,
  [status.UNAVAILABLE]: UnavailableError,
  [status.DEADLINE_EXCEEDED]: DeadlineExceededError,
  [status.RESOURCE_EXHAUSTED]: ResourceExhaustedError,
  [status.INTERNAL]: InternalServerError,
};

// What is thrown for an error of gRPC's; any other stays what it is.
export function failureOf(error) {
  if (!(error?.metadata instanceof Metadata) || error instanceof ServerError) return error;
  return new (BY_CODE[error.code] ?? ServerError)(error);
}

// Of a call that this client has cancelled.
export function cancelledHere() {
  const told = 'The call was cancelled.';
  const failed = { code: status.CANCELLED, details: told, message: `${status.CANCELLED} CANCELLED: ${told}` };
  return new ServerError({ ...failed, metadata: new Metadata() });
}

// Types of the library's errors. A wrong option or value throws a TypeError instead. An error of your own iterables is
// thrown unchanged.

export interface ErrorDetails {
  /** Reason for programs, in UPPER_SNAKE (docs/errors.md). */
  reason: string | undefined;
  /** Id of the request in the server's log. */
  requestId: string | undefined;
  /** The wrong fields of the request. */
  fieldViolations: { field: string; description: string }[];
  /** Seconds after which another attempt may succeed. */
  retryDelaySeconds: number | undefined;
}

/** Base class of the library's errors. */
export class CsmClientError extends Error {}

/** The client was closed, before the call or while it ran. */
export class ClientClosedError extends CsmClientError {}

/** A certificate or key cannot be used; the message names the file. */
export class TlsFileError extends CsmClientError {}

/** A token cannot be read, or must not be sent in plaintext. The message never holds the token. */
export class TokenError extends CsmClientError {}

/** The stream ended before its summary, so the audio is incomplete. Code, reason and request id are those of `cause`. */
export class IncompleteAudioError extends CsmClientError {
  /** Number of samples that came. */
  readonly receivedSampleCount: number;
  /** The failed call, if one is the cause. */
  readonly cause?: ServerError;
  get code(): number | undefined;
  get reason(): string | undefined;
  get requestId(): string | undefined;
}

/** A call that ended with another status than OK. The status comes from the server, or from gRPC. */
export class ServerError extends CsmClientError {
  /** Number of the gRPC status. */
  readonly code: number;
  /** Message of the server, without the status. */
  readonly details: string;
  /** Reason for programs, in UPPER_SNAKE (docs/errors.md); the name of the status if the server sent no reason. */
  readonly reason: string;
  /** Id of the request in the server's log. */
  readonly requestId: string | undefined;
  /** The wrong fields of the request. */
  readonly fieldViolations: ErrorDetails['fieldViolations'];
  /** Seconds after which another attempt may succeed. */
  readonly retryDelaySeconds: number | undefined;
  /** gRPC's trailing metadata. */
  readonly metadata: { get(key: string): (string | Buffer)[] };
}

/** Fields of the request are wrong; `fieldViolations` lists them. */
export class InvalidRequestError extends ServerError {}
/** The server requires a token, or does not know the one that was sent. */
export class UnauthenticatedError extends ServerError {}
/** What the request names does not exist, or not for this caller. */
export class NotFoundError extends ServerError {}
/** No server can take the call now. Another attempt may succeed after `retryDelaySeconds`. */
export class UnavailableError extends ServerError {}
/** The deadline passed. */
export class DeadlineExceededError extends ServerError {}
/** A message is too large, the client reads too slowly, or the caller has reached its limit of streams or voices. */
export class ResourceExhaustedError extends ServerError {}
/** The server failed. Its log says why, under `requestId`. */
export class InternalServerError extends ServerError {}

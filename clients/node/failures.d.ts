// Types of what the library throws of itself. A wrong option or value is a TypeError instead, and what the caller's own
// iterables throw is thrown as it is.

export interface ErrorDetails {
  /** The server's word for programs, in UPPER_SNAKE. */
  reason: string | undefined;
  requestId: string | undefined;
  fieldViolations: { field: string; description: string }[];
  /** Another attempt may go through after so long. */
  retryDelaySeconds: number | undefined;
}

/** Root of the tree. */
export class CsmClientError extends Error {}

/** The client was closed, before the call or while it ran. */
export class ClientClosedError extends CsmClientError {}

/** A certificate or key cannot be used; the message names the file. */
export class TlsFileError extends CsmClientError {}

/** A token cannot be read, or must not go out in plaintext; it is never in the message. */
export class TokenError extends CsmClientError {}

/** What came is not the whole utterance. Where a failed call is the `cause`, this has its code, reason and request id. */
export class IncompleteAudioError extends CsmClientError {
  readonly receivedSampleCount: number;
  readonly cause?: ServerError;
  get code(): number | undefined;
  get reason(): string | undefined;
  get requestId(): string | undefined;
}

/** A status other than OK, from the server or from gRPC on its behalf. */
export class ServerError extends CsmClientError {
  /** gRPC's. */
  readonly code: number;
  /** The message without the status. */
  readonly details: string;
  /** The server's word for programs, in UPPER_SNAKE; the name of the status where the server gave none. */
  readonly reason: string;
  readonly requestId: string | undefined;
  readonly fieldViolations: ErrorDetails['fieldViolations'];
  readonly retryDelaySeconds: number | undefined;
  /** gRPC's trailers. */
  readonly metadata: { get(key: string): (string | Buffer)[] };
}

/** Fields of the request are wrong; `fieldViolations` has them all. */
export class InvalidRequestError extends ServerError {}
/** The server wants a token, or does not know the one that was sent. */
export class UnauthenticatedError extends ServerError {}
/** A requested name does not exist. */
export class NotFoundError extends ServerError {}
/** No server can take the call now; another attempt may go through after `retryDelaySeconds`. */
export class UnavailableError extends ServerError {}
export class DeadlineExceededError extends ServerError {}
/** A message is too large, the client reads too slowly, or its token has as many streams or voices as it may. */
export class ResourceExhaustedError extends ServerError {}
/** The server failed; its log has more under `requestId`. */
export class InternalServerError extends ServerError {}

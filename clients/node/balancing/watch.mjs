// What a server reports of its health on a connection that a channel has: grpc.health.v1.Health/Watch, as gRPC's proposal
// A17 describes it. It knows no policy of balancing. It makes its calls on a connection of the version of @grpc/grpc-js
// that package.json pins, which has no other place for them.

import { experimental, Metadata, status } from '@grpc/grpc-js';
import protobuf from 'protobufjs';

const METHOD = '/grpc.health.v1.Health/Watch';
const { root } = protobuf.parse(`
  syntax = "proto3";
  message Request { string service = 1; }
  message Response { int32 status = 1; }
`);
const [Request, Response] = ['Request', 'Response'].map((name) => root.lookupType(name));
const SERVING = 1;
const ANSWER_MS = 6_000; // later, a server counts as one that does not serve
const FRAME_BYTES = 5; // of gRPC, before each message: whether it is compressed, and its length

// Follows one service's health, again after each end, until it is closed. It holds the process, and pings the server, only
// until there is an answer.
export class HealthWatch {
  #subchannel;
  #service;
  #report;
  #call;
  #late;
  #isAnswered = false;
  #isClosed = false;
  #again = new experimental.BackoffTimeout(() => this.#begin()); // 1 s at first, 2 minutes at most

  // subchannel: which is READY now. report: called with true or false at each change; a server without the service is true
  constructor(subchannel, service, report) {
    this.#subchannel = subchannel;
    this.#service = service;
    this.#report = report;
    this.#again.unref();
    queueMicrotask(() => this.#begin()); // while it becomes READY, the subchannel has no connection yet
  }

  close() {
    this.#isClosed = true;
    this.#again.stop();
    clearTimeout(this.#late);
    this.#call?.cancelWithStatus(status.CANCELLED, 'The connection is watched no more.');
  }

  #begin() {
    if (this.#isClosed) return;
    try {
      this.#call = this.#watch();
    } catch {
      if (!this.#isClosed) this.#report(true); // if the connection was lost, the channel has closed this watch
    }
  }

  #watch() {
    const metadata = new Metadata();
    metadata.set('grpc-accept-encoding', 'identity');
    const call = this.#subchannel.getRealSubchannel().createCall(metadata, this.#subchannel.getAddress(), METHOD, {
      onReceiveMetadata() {},
      onReceiveMessage: (message) => {
        if (this.#isClosed) return;
        this.#isAnswered = true;
        this.#again.reset();
        clearTimeout(this.#late);
        call.transport.removeActiveCall(call);
        this.#report(isServing(message));
        call.startRead();
      },
      onReceiveStatus: ({ code }) => {
        if (this.#isClosed) return;
        clearTimeout(this.#late);
        if (code === status.UNIMPLEMENTED) return this.#report(true);
        if (!this.#isAnswered) this.#report(false);
        this.#isAnswered = false;
        this.#again.runOnce();
      },
    });
    call.sendMessageWithContext({}, framed(Request.encode({ service: this.#service }).finish()));
    call.halfClose();
    call.startRead();
    this.#late = setTimeout(() => {
      call.transport.removeActiveCall(call);
      this.#report(false);
    }, ANSWER_MS).unref();
    return call;
  }
}

function isServing(frame) {
  try {
    return Response.decode(frame.subarray(FRAME_BYTES)).status === SERVING;
  } catch {
    return false; // it is no such message
  }
}

function framed(message) {
  const frame = Buffer.alloc(FRAME_BYTES + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, FRAME_BYTES);
  return frame;
}

// Sends the current trace with each call, so that the server's spans become part of it. This package makes no spans and
// needs no OpenTelemetry: a trace is sent where the program has installed its API and a span is current.

import { createRequire } from 'node:module';

const api = load('@opentelemetry/api');

// Adds `traceparent` and `tracestate`, as W3C names them; nothing without a span, or beside a traceparent that is there.
export function addTrace(metadata) {
  const span = api?.trace.getSpanContext(api.context.active());
  if (span === undefined || !api.isSpanContextValid(span) || metadata.get('traceparent').length > 0) return;
  const flags = span.traceFlags.toString(16).padStart(2, '0');
  metadata.set('traceparent', `00-${span.traceId}-${span.spanId}-${flags}`);
  const state = span.traceState?.serialize();
  if (state) metadata.set('tracestate', state);
}

// undefined where it is not installed
function load(name) {
  const require = createRequire(import.meta.url);
  try {
    return require(name);
  } catch (error) {
    if (error.code !== 'MODULE_NOT_FOUND' || !error.message.includes(name)) throw error;
    return undefined;
  }
}

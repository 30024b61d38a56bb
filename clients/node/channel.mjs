// How the client reaches a server: in plaintext, or over TLS as its options ask. TLS files are read once.

import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';

import grpc from '@grpc/grpc-js';

import { servingPolicy } from './balancing/serving.mjs';
import { TlsFileError } from './failures.mjs';
import { isLoopback, listsSeveral } from './targets.mjs';

const CERTIFICATES = /-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----/gs;

export function isEncrypted(options) {
  return options.tls || options['tls-ca'] !== undefined;
}

export function channelCredentials(options) {
  const { 'tls-ca': ca, 'tls-certificate': certificate, 'tls-key': key } = options;
  if ((certificate === undefined) !== (key === undefined)) {
    throw new TlsFileError('A client certificate and its key must be given together.');
  }
  if (!isEncrypted(options)) {
    if (certificate !== undefined) {
      throw new TlsFileError('A client certificate needs TLS: set --tls or --tls-ca (options tls, tlsCa).');
    }
    return grpc.credentials.createInsecure();
  }
  const roots = ca === undefined ? null : readAuthorities(ca); // null: those that Node brings with it
  if (certificate === undefined) return grpc.credentials.createSsl(roots);
  return grpc.credentials.createSsl(roots, ...readPair(certificate, key));
}

export const LARGE_BYTES = 256 * 1024; // a server lets larger requests wait while it has too many of them

// That of the Python client: all replicas behind a name in turn, and again what a server could not take yet.
const SERVICE_CONFIG = {
  loadBalancingConfig: [{ round_robin: {} }],
  methodConfig: [{
    name: [
      { service: 'csm.v1.TextToSpeechService' },
      { service: 'csm.v1.WatermarkService' },
      { service: 'csm.v1.VoiceService', method: 'GetVoice' },
    ],
    retryPolicy: {
      maxAttempts: 3,
      initialBackoff: '0.1s',
      maxBackoff: '1s',
      backoffMultiplier: 2,
      retryableStatusCodes: ['UNAVAILABLE'],
    },
  }],
  // Retries end after five failures in a row, and go on while no more calls fail than succeed. With a ratio of 0.1, as in
  // gRPC's examples, they would end after five failures in fifty calls, and half of the calls would fail while one of two
  // gateways is not ready. From 1 on, gRPC's C core gives no token back (1.85).
  retryThrottling: { maxTokens: 10, tokenRatio: 0.9 },
};

// Servers of older versions, which do not report their health on this port, count as serving.
const OF_SEVERAL = { ...SERVICE_CONFIG, loadBalancingConfig: [servingPolicy('csm.v1.TextToSpeechService')] };

export const channelOptions = ({ target }) => ({
  'grpc.service_config': JSON.stringify(listsSeveral(target) ? OF_SEVERAL : SERVICE_CONFIG),
  'grpc.use_local_subchannel_pool': 1, // otherwise clients of one process share a connection, and the calls that it takes
  'grpc.per_rpc_retry_buffer_size': LARGE_BYTES, // what is larger is made again by this client, and not kept twice
  'grpc.keepalive_time_ms': 2_000, // otherwise a server that has gone without a word is never missed
  'grpc.keepalive_timeout_ms': 4_000,
  'grpc.enable_http_proxy': isLoopback(target) ? 0 : 1, // a proxy's loopback is another host
  'grpc.initial_reconnect_backoff_ms': 200, // by default a server that was away is tried again after up to two minutes
  'grpc.max_reconnect_backoff_ms': 2000,
  'grpc.dns_min_time_between_resolutions_ms': 1000, // by default 30 s, in which a rollout may have moved every replica
});

function readAuthorities(file) {
  try {
    const pem = readFileSync(file);
    const certificates = pem.toString('latin1').match(CERTIFICATES);
    if (certificates === null) throw new Error('it has none');
    for (const certificate of certificates) new X509Certificate(certificate);
    return pem;
  } catch (error) {
    throw new TlsFileError(`${file} must hold the PEM certificates of the server's CAs: ${error.message}`);
  }
}

function readPair(certificate, key) {
  try {
    const pair = { key: readFileSync(key), cert: readFileSync(certificate) };
    createSecureContext(pair); // an encrypted key is an error
    return [pair.key, pair.cert];
  } catch (error) {
    throw new TlsFileError(`${certificate} and ${key} must be a PEM certificate chain and its unencrypted key: `
      + error.message);
  }
}

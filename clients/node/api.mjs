// The services of csm.v1, from the raw protos, on one channel.

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

import { channelCredentials, channelOptions } from './channel.mjs';
import { limitConnecting } from './connecting.mjs';

// A package has the protos beside this file, a checkout two folders up.
const PROTOS = ['protos', '../../protos']
  .map((folder) => fileURLToPath(new URL(folder, import.meta.url)))
  .find((folder) => existsSync(folder));

const FILES = ['tts', 'voices', 'watermark'].map((name) => `csm/v1/${name}.proto`);

function loadApi() {
  const definition = loadSync(FILES, {
    includeDirs: [PROTOS],
    enums: String,
    longs: Number, // sample counts stay far below 2^53
    defaults: true, // an unset number is 0, not undefined
    oneofs: true, // message.event names the event that is set
  });
  return grpc.loadPackageDefinition(definition).csm.v1;
}

// options: target, and those of channel.mjs. `encodings`: the API's, as its enum names them
export function openApi(options) {
  const { TextToSpeechService, VoiceService, WatermarkService, AudioEncoding } = loadApi();
  const { target } = options;
  const credentials = channelCredentials(options);
  const speech = new TextToSpeechService(target, credentials, channelOptions(options));
  const shared = { channelOverride: speech.getChannel() };
  const stopConnecting = limitConnecting(speech.getChannel());
  return {
    speech,
    voices: new VoiceService(target, credentials, shared),
    watermark: new WatermarkService(target, credentials, shared),
    encodings: AudioEncoding.type.value.map(({ name }) => name),
    close: () => {
      speech.close();
      stopConnecting();
    },
  };
}

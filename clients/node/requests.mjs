// Requests from plain values. It knows no channel.

import {
  array, boolean, bytes, checkOptions, checkValue, int32, int64, number, object, objectOrNull, oneOf, string,
} from './checks.mjs';
import { encodingOfRecording } from './formats.mjs';

const TURN = { speaker: int32, text: string, recording: bytes, sealedCodes: bytes, codes: objectOrNull };

// encodings: the API's, as its enum names them
export class Requests {
  #kinds;

  constructor(encodings) {
    const names = encodings.map((name) => name.replace('AUDIO_ENCODING_', '').toLowerCase());
    this.#kinds = {
      voice: string,
      language: string,
      speaker: int32,
      seed: int64,
      temperature: number,
      topK: int32,
      speed: number,
      maxSeconds: number,
      encoding: oneOf(names.filter((name) => name !== 'unspecified')),
      sampleRateHertz: int32,
      requestId: string,
      conversationId: string,
      labels: object,
      context: array,
      returnCodes: boolean,
    };
  }

  // Throws TypeError, which names the option.
  from(text, speech) {
    checkValue('text', text, string);
    checkOptions('speech', speech, this.#kinds);
    const { voice: name, language: languageCode, speaker, seed, temperature, topK, speed, maxSeconds, context } = speech;
    const { encoding = 'pcm', sampleRateHertz, requestId, conversationId, labels, returnCodes } = speech;
    for (const [label, value] of Object.entries(labels ?? {})) checkValue(`speech.labels.${label}`, value, string);
    return given({
      input: given({ text, speaker }),
      voice: given({ name, languageCode }),
      audioConfig: given({ audioEncoding: `AUDIO_ENCODING_${encoding.toUpperCase()}`, sampleRateHertz, speed }),
      samplingParams: given({ seed: seed?.toString(), temperature, topK }),
      maxAudioDuration: maxSeconds === undefined ? undefined : duration(maxSeconds),
      context: context === undefined ? undefined : { turns: context.map(turn) },
      requestId,
      conversationId,
      labels,
      returnCodes,
    });
  }
}

// The fields that are set; undefined where none is.
function given(fields) {
  const set = Object.entries(fields).filter(([, value]) => value !== undefined);
  return set.length === 0 ? undefined : Object.fromEntries(set);
}

// A turn's sound is a recording, or the codes that an earlier answer's summary gave: of its two fields one is empty.
function turn(options, index) {
  checkOptions(`speech.context[${index}]`, options, TURN);
  const { speaker, text, recording, codes, sealedCodes } = options;
  const audioFormat = recording && { audioEncoding: encodingOfRecording(recording) };
  const audio = given({
    recording: recording && { audioContent: recording, audioFormat },
    sealedCodes: sealedCodes?.length ? sealedCodes : undefined,
    codes: codes ?? undefined,
  });
  if (Object.keys(audio ?? {}).length > 1) {
    throw new TypeError(`speech.context[${index}] has a recording and codes; give one of them.`);
  }
  return { speaker, text, audio };
}

function duration(length) {
  const whole = Math.floor(length);
  return { seconds: whole, nanos: Math.floor(1e9 * (length - whole)) };
}

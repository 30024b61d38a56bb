// Requests for speech, from plain values. It knows no channel.

import {
  array, boolean, checkOptions, checkValue, float, int32, int64, number, object, oneOf, signal, string,
} from '../checks.mjs';
import { given } from './fields.mjs';
import { SOUND, soundOf } from './sounds.mjs';

const TURN = { speaker: int32, text: string, ...SOUND };

// encodings: the API's, as its enum names them
export class SpeechRequests {
  #kinds;

  constructor(encodings) {
    const names = encodings.map((name) => name.replace('AUDIO_ENCODING_', '').toLowerCase());
    this.#kinds = {
      voice: string,
      language: string,
      speaker: int32,
      seed: int64,
      temperature: float,
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
      asOneUtterance: boolean,
      silenceWithoutWords: boolean,
      signal, // of the caller, and no part of the request
    };
  }

  // What a stream may be asked for: `chunkSeconds` too. Throws TypeError, which names the option.
  streamed(text, speech) {
    checkOptions('speech', speech, { ...this.#kinds, chunkSeconds: number });
    const { chunkSeconds, ...others } = speech;
    const streamConfig = chunkSeconds === undefined ? undefined : { chunkDuration: duration(chunkSeconds) };
    return { ...this.from(text, others), streamConfig };
  }

  // Throws TypeError, which names the option.
  from(text, speech) {
    checkValue('text', text, string);
    checkOptions('speech', speech, this.#kinds);
    const { voice: name, language: languageCode, speaker, seed, temperature, topK, speed, maxSeconds, context } = speech;
    const { encoding = 'pcm', sampleRateHertz, requestId, conversationId, labels, returnCodes } = speech;
    const { asOneUtterance, silenceWithoutWords } = speech;
    for (const [label, value] of Object.entries(labels ?? {})) checkValue(`speech.labels.${label}`, value, string);
    return given({
      input: given({ text, speaker, asOneUtterance, silenceWithoutWords }),
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

function turn(options, index) {
  const where = `speech.context[${index}]`;
  checkOptions(where, options, TURN);
  return { speaker: options.speaker, text: options.text, audio: soundOf(where, options) };
}

function duration(length) {
  const whole = Math.floor(length);
  return { seconds: whole, nanos: Math.floor(1e9 * (length - whole)) };
}

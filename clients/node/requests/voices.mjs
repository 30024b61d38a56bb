// Requests for kept voices, from plain values. It knows no channel.

import { array, boolean, checkOptions, checkValue, int32, int64, object, string } from '../checks.mjs';
import { given } from './fields.mjs';
import { SOUND, soundOf } from './sounds.mjs';

const CONSENT = { id: string, text: string };
const VOICE = {
  text: string,
  ...SOUND,
  consent: object,
  speaker: int32,
  languages: array,
  description: string,
  seed: int64,
  callers: array,
  everyone: boolean,
};

// Throws TypeError, which names the option.
export function voiceRequest(name, voice) {
  checkValue('name', name, string);
  checkOptions('voice', voice, VOICE);
  const { text, consent, speaker, languages = [], description, seed, callers = [], everyone = false } = voice;
  if (consent !== undefined) checkOptions('voice.consent', consent, CONSENT);
  for (const [option, values] of Object.entries({ languages, callers })) {
    values.forEach((value, index) => checkValue(`voice.${option}[${index}]`, value, string));
  }
  if (callers.length > 0 && everyone) throw new TypeError('A voice is for some callers or for everyone, not both.');
  return {
    name,
    speaker,
    languageCodes: languages,
    description,
    prompt: given({ text, audio: soundOf('voice', voice) }),
    consent,
    audience: audienceOf(callers, everyone),
    callers,
    seed: seed?.toString(),
  };
}

function audienceOf(callers, everyone) {
  if (callers.length > 0) return 'VOICE_AUDIENCE_CALLERS';
  return everyone ? 'VOICE_AUDIENCE_EVERYONE' : 'VOICE_AUDIENCE_UNSPECIFIED'; // the owner
}

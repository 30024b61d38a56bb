// Messages of csm/v1, as proto-loader gives them: names in camelCase, enum values as their names, 64-bit numbers as
// numbers.

export interface Duration {
  seconds: number;
  nanos: number;
}

export interface AudioFormat {
  audioEncoding: string;
  sampleRateHertz: number;
  channelCount: number;
}

export interface SynthesisHeader {
  requestId: string;
  audioFormat: AudioFormat;
  voice: string;
  modelVersion: string;
  seed: number;
}

export interface SynthesisStats {
  frameCount: number;
  sampleCount: number;
  audioDuration: Duration | null;
  queueDuration: Duration | null;
  firstAudioLatency: Duration | null;
  totalDuration: Duration | null;
  inputTokenCount: number;
  contextTokenCount: number;
  droppedTurnCount: number;
}

export interface WatermarkInfo {
  scheme: string;
  keyId: string;
  coverage: string;
}

export interface SynthesisSummary {
  finishReason: string;
  stats: SynthesisStats | null;
  watermark: WatermarkInfo | null;
  codes: object | null;
  sealedCodes: Uint8Array;
}

export interface SynthesizeResponse {
  requestId: string;
  audioContent: Buffer;
  audioFormat: AudioFormat;
  summary: SynthesisSummary;
  voice: string;
  modelVersion: string;
  seed: number;
}

export interface Voice {
  name: string;
  speaker: number;
  languageCodes: string[];
  description: string;
  naturalSampleRateHertz: number;
  /** Of requests that set none; missing where it is drawn for each, rounded beyond 2^53. */
  seed?: number;
  /** Whether a recording and its text go before every context. */
  hasPrompt: boolean;
  /** Name of the caller that keeps the voice; empty for voices of the model and of the operator. */
  owner: string;
}

/** A voice and what is kept with it. */
export interface KeptVoice {
  voice: Voice | null;
  /** Name of the caller that made it; empty for voices of the model and of the operator, and where callers have no names. */
  owner: string;
  /** A name of the API's VoiceAudience. */
  audience: string;
  /** For the owner alone, as `consent`, `promptText` and `promptLevelDb`. */
  callers: string[];
  consent: { id: string; text: string } | null;
  promptText: string;
  /** Since 1970. */
  createTime: Duration | null;
  /** That the server had then. */
  modelVersion: string;
  /** Loudness of what is not silent in the prompt's recording, in dB of full scale; missing for a prompt of codes. */
  promptLevelDb?: number;
  promptDuration: Duration | null;
}

export interface SamplingParams {
  temperature?: number;
  topK?: number;
  seed?: number;
}

/** What a request may ask for. */
export interface SynthesisLimits {
  /** In characters. */
  maxTextLength: number;
  maxTurnCount: number;
  maxContextAudioDuration: Duration | null;
  maxStreamAudioDuration: Duration | null;
  maxUnaryAudioDuration: Duration | null;
  maxUtteranceAudioDuration: Duration | null;
}

export interface ServerInfo {
  modelVersion: string;
  /** A note for people, such as that the model is untrained. */
  modelNotice: string;
  defaultVoice: string;
  naturalSampleRateHertz: number;
  audioEncodings: string[];
  watermark: WatermarkInfo | null;
  limits: SynthesisLimits | null;
  sampleRatesHertz: number[];
  defaultSamplingParams: SamplingParams | null;
}

/** A part of a recording that carries the mark of one key. */
export interface WatermarkedStretch {
  /** From the recording's first sample on. */
  startOffset: Duration | null;
  endOffset: Duration | null;
  keyId: string;
  /** 0 to 1. */
  confidence: number;
}

export interface WatermarkSearch {
  /** Whether the mark of a known key was found in the loudest six seconds. */
  detected: boolean;
  /** Share of the message's symbols that agree with the best key, 0 to 1. */
  confidence: number;
  /** Of the key found; empty when none was. */
  keyId: string;
  /** Marked stretches, in the order of their beginnings. There may be some when the loudest six seconds are not marked. */
  stretches: WatermarkedStretch[];
}

/** A sentence of a text. */
export interface Sentence {
  text: string;
  /** Where it begins in the audio. */
  sampleOffset: number;
}

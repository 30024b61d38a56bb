// Messages of csm/v1 as proto-loader gives them: field names in camelCase, enum values by name, 64-bit integers as numbers.
// The protos describe the fields.

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
  /** Seed of requests that set none; missing when the server draws one. Values beyond 2^53 are rounded. */
  seed?: number;
  /** Whether the voice has a prompt, which precedes the context of every request. */
  hasPrompt: boolean;
  /** Name of the caller that owns the voice; empty for voices of the model and of the operator. */
  owner: string;
}

/** A voice, and what the server keeps with it. */
export interface KeptVoice {
  voice: Voice | null;
  /** Name of the caller that made the voice; empty for voices of the model and of the operator, and without tokens. */
  owner: string;
  /** A name of the API's VoiceAudience. */
  audience: string;
  /** Callers that may use the voice besides the owner. Only the owner sees it. */
  callers: string[];
  /** The speaker's consent. Only the owner sees it. */
  consent: { id: string; text: string } | null;
  /** What is said in the prompt. Only the owner sees it. */
  promptText: string;
  /** When the voice was made, since 1970. */
  createTime: Duration | null;
  /** Name and version of the server's model when the voice was made. */
  modelVersion: string;
  /**
   * Loudness of the prompt's recording without its silent parts, in dB of full scale; missing for a prompt of codes. Only
   * the owner sees it.
   */
  promptLevelDb?: number;
  /** Length of the prompt. */
  promptDuration: Duration | null;
}

export interface SamplingParams {
  temperature?: number;
  topK?: number;
  seed?: number;
}

/** Limits of a request. */
export interface SynthesisLimits {
  /** Longest text, in characters. */
  maxTextLength: number;
  maxTurnCount: number;
  maxContextAudioDuration: Duration | null;
  maxStreamAudioDuration: Duration | null;
  maxUnaryAudioDuration: Duration | null;
  maxUtteranceAudioDuration: Duration | null;
}

export interface ServerInfo {
  modelVersion: string;
  /** Warning about the model for people, such as that it is untrained; empty when there is nothing to warn of. */
  modelNotice: string;
  defaultVoice: string;
  naturalSampleRateHertz: number;
  audioEncodings: string[];
  watermark: WatermarkInfo | null;
  limits: SynthesisLimits | null;
  sampleRatesHertz: number[];
  defaultSamplingParams: SamplingParams | null;
}

/** A part of a recording that carries the watermark of one key. */
export interface WatermarkedStretch {
  /** Where the part begins, counted from the start of the recording. */
  startOffset: Duration | null;
  /** Where the part ends, counted from the start of the recording. */
  endOffset: Duration | null;
  /** Identifier of the key. */
  keyId: string;
  /** Share of the symbols of the watermark message, over this part, that agree with the key: 0 to 1. */
  confidence: number;
}

export interface WatermarkSearch {
  /** Whether the loudest six seconds carry the watermark of one of the keys. `stretches` may have others. */
  detected: boolean;
  /** Share of the symbols of the watermark message, in these six seconds, that agree with the best key: 0 to 1. */
  confidence: number;
  /** Identifier of the key found; empty when `detected` is false. */
  keyId: string;
  /** Parts that carry a watermark, ordered by `startOffset`. */
  stretches: WatermarkedStretch[];
}

/** A sentence of a text. */
export interface Sentence {
  text: string;
  /** Position of its first sample in the audio. */
  sampleOffset: number;
}

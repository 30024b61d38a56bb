// Types of index.mjs. The types of responses are in messages.d.ts, those of errors in failures.d.ts.

import type { ErrorDetails } from './failures.js';
import type {
  AudioFormat, KeptVoice, Sentence, ServerInfo, SynthesisHeader, SynthesisSummary, SynthesizeResponse, Voice,
  WatermarkSearch,
} from './messages.js';

export * from './failures.js';
export * from './messages.js';

export interface ConnectionOptions {
  /** Deadline of each call, in seconds; 600 when unset, at most 1e9. That of a stream begins with its iteration. */
  deadlineSeconds?: number;
  /** How often within a minute a call that lost its server continues at another one; 3 when unset, 0 is never. */
  resumes?: number;
  /** Use TLS; trust the CAs that Node brings with it. */
  tls?: boolean;
  /** PEM file of the CAs to trust instead; implies `tls`. */
  tlsCa?: string;
  /** PEM file of your certificate chain, for a server that wants one; needs `tlsKey`. */
  tlsCertificate?: string;
  /** PEM file of the key of `tlsCertificate`, not encrypted. */
  tlsKey?: string;
  /** The bearer token. When unset, the token in `tokenFile`, or else in the variable CSM_TOKEN. */
  token?: string;
  /** File with the bearer token. */
  tokenFile?: string;
  /** Send the token even without TLS to another host, where others can read it. */
  insecureToken?: boolean;
  /** gRPC metadata of every call, such as the `traceparent` of the request that causes it. */
  metadata?: Record<string, string>;
}

/** Options of `stream` and `streamText`. */
export interface StreamOptions extends SpeechOptions {
  /** Seconds of audio in a message, rounded up to whole codec frames. When unset, the first message is short. */
  chunkSeconds?: number;
}

/** One turn of a conversation. Its audio is either `recording`, or `sealedCodes` and `codes` of an earlier summary. */
export interface Turn {
  /** Speaker number of the model. */
  speaker: number;
  /** What was said. */
  text: string;
  /** A WAV, Ogg Opus, MP3, AAC or FLAC file. */
  recording?: Uint8Array;
  /** `summary.sealedCodes` of an earlier response. It is empty where `codes` is set. */
  sealedCodes?: Uint8Array;
  /** `summary.codes` of an earlier response. It is null where `sealedCodes` is set. */
  codes?: object | null;
}

/** Options of `synthesize`, `stream` and `streamText`. */
export interface SpeechOptions {
  /** Name of the voice; the server's default voice when unset. */
  voice?: string;
  /** Language of the text, as a BCP-47 tag. */
  language?: string;
  /** Speaker number; the voice's when unset. */
  speaker?: number;
  /** Seed of the sampling, at least 0. The same request with the same seed gives the same speech. Drawn when unset. */
  seed?: number | bigint;
  /** Sampling temperature, 0 to 2; 0 is greedy. */
  temperature?: number;
  /** Number of most likely candidates kept for each code, 1 to 2048. */
  topK?: number;
  /** Speed of the speech, 0.25 to 4; the pitch does not change. 1 when unset. */
  speed?: number;
  /** Most audio to make, in seconds; the server's limit when unset. */
  maxSeconds?: number;
  /**
   * Id of the conversation, at most 128 characters. Calls with the same id go to the same engine, which can reuse what it
   * computed for earlier turns.
   */
  conversationId?: string;
  /** Encoding of the audio; "pcm" when unset. The names are those of the API's AudioEncoding, in lower case. */
  encoding?: 'pcm' | 'wav' | 'ogg_opus' | 'mulaw' | 'alaw' | 'mp3' | 'aac' | 'flac';
  /** Sample rate of the audio; the model's own when unset. */
  sampleRateHertz?: number;
  /** Id of the request, a UUID; it is in the response, logs and traces. The server makes one when unset. */
  requestId?: string;
  /** Labels for your accounting, at most 8 of at most 64 characters. The server only logs them. */
  labels?: Record<string, string>;
  /** The conversation so far, oldest turn first. */
  context?: Turn[];
  /** Return the codes of the audio in the summary, for a turn of a later context. */
  returnCodes?: boolean;
  /** Say the text as one utterance, even if it has several sentences. Refused by `streamText`. */
  asOneUtterance?: boolean;
  /** Answer a text that has nothing to say, such as an emoji alone, with a short silence instead of an error. */
  silenceWithoutWords?: boolean;
  /** Cancels the call when it is aborted; the call, or the iteration, then throws the signal's reason. */
  signal?: AbortSignal;
}

/** Options of `createVoice`. A voice needs a prompt (`text`, `consent`, and a recording or codes), a seed, or both. */
export interface VoiceOptions {
  /** What is said in the recording, word for word. */
  text?: string;
  /** Recording of the speaker: a WAV, Ogg Opus, MP3, AAC or FLAC file. */
  recording?: Uint8Array;
  /** Instead of a recording, if the server allows it: `sealedCodes` and `codes` of an earlier summary. One is empty. */
  sealedCodes?: Uint8Array;
  codes?: object | null;
  /** The speaker's consent. `id`: where it is kept; `text`: what the speaker agreed to. */
  consent?: { id: string; text: string };
  /** Speaker number of the voice; 0 when unset. */
  speaker?: number;
  /** Languages that the voice speaks, as BCP-47 tags; at most 16. */
  languages?: string[];
  /** Description for people, at most 1000 characters. */
  description?: string;
  /** Seed of requests that set none, at least 0. */
  seed?: number | bigint;
  /** Names of the callers that may use the voice besides its owner, at most 100. */
  callers?: string[];
  /** Let every caller use the voice. */
  everyone?: boolean;
}

/** A piece of a text that may end a sentence. */
export interface TextPiece {
  /** The next part of the text, with its spaces. */
  text?: string;
  /** End the sentence after this piece, even without a full stop. */
  flush?: boolean;
}

/**
 * Speech while it is made. Iterate over it once, for the bytes of its audio. When the loop ends without an exception, the
 * audio is complete. Leaving the loop earlier cancels the call.
 */
export interface SpeechStream extends AsyncIterable<Buffer> {
  /** Format, voice and seed of the audio; undefined before the first audio. */
  readonly header: SynthesisHeader | undefined;
  /** Finish reason, statistics, watermark and codes; undefined until the iteration has ended. */
  readonly summary: SynthesisSummary | undefined;
  /** Sentences that have begun so far; only of `streamText`. */
  readonly sentences: readonly Sentence[];
  /** Length of the audio so far, in seconds. */
  readonly seconds: number;
  /** Reads the whole audio, of any length, and returns it as `synthesize` does. Use it instead of the iteration. */
  readAll(): Promise<SynthesizeResponse>;
  /** Cancels the call at any time; a running iteration throws. */
  cancel(): void;
}

/** A client of one server, or of all replicas behind a name. A wrong option or value throws a TypeError. */
export class Client {
  /** target: "host:port", or another gRPC target */
  constructor(target: string, options?: ConnectionOptions);
  /** Synthesizes the text and returns the audio in one message: by default at most 80 s of PCM at 24 kHz. */
  synthesize(text: string, speech?: SpeechOptions): Promise<SynthesizeResponse>;
  /** Synthesizes the text and gives the audio while it is made. */
  stream(text: string, speech?: StreamOptions): SpeechStream;
  /** Synthesizes a text that is still being written. The pieces may be cut anywhere. */
  streamText(
    pieces: string | Iterable<string | TextPiece> | AsyncIterable<string | TextPiece>, speech?: StreamOptions,
  ): SpeechStream;
  /** Lists the voices that you may use. language: only voices that speak it, a BCP-47 tag */
  listVoices(language?: string): Promise<Voice[]>;
  /** Keeps a voice that belongs to you. name: 1 to 64 letters, digits or . _ - */
  createVoice(name: string, voice: VoiceOptions): Promise<KeptVoice>;
  /** Returns a voice; NotFoundError when there is none that you may use. */
  getVoice(name: string): Promise<KeptVoice>;
  /** Deletes a voice of yours. Running streams with it go on. */
  deleteVoice(name: string): Promise<void>;
  /**
   * Searches a recording for this server's watermark. The recording is sent in one message, by default of at most 16 MiB.
   * keyIds: keys to look for; all keys when empty
   */
  detectWatermark(recording: Uint8Array, keyIds?: string[]): Promise<WatermarkSearch>;
  /**
   * Searches a recording of up to an hour for this server's watermark. The recording is sent while it is read, for example
   * from `createReadStream`. keyIds: keys to look for; all keys when empty
   */
  findWatermarks(
    recording: Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>, keyIds?: string[],
  ): Promise<WatermarkSearch>;
  /** Returns the server's model, encodings, watermark and limits. */
  serverInfo(): Promise<ServerInfo>;
  /** Ends running calls. They throw ClientClosedError, and so do later calls. */
  close(): void;
}

/** The details that the server sent with a failed call. */
export function details(error: unknown): ErrorDetails;

/** Describes a failed call in lines for people: code, message, wrong fields, reason. */
export function explain(error: unknown): string[];

/** Makes a WAV file of 16-bit samples. */
export function wav(pcm: Uint8Array, format: Pick<AudioFormat, 'sampleRateHertz' | 'channelCount'>): Buffer;

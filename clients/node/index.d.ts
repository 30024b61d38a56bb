// Types of index.mjs. messages.d.ts has those of answers, failures.d.ts those of errors.

import type { ErrorDetails } from './failures.js';
import type {
  AudioFormat, KeptVoice, Sentence, ServerInfo, SynthesisHeader, SynthesisSummary, SynthesizeResponse, Voice,
  WatermarkSearch,
} from './messages.js';

export * from './failures.js';
export * from './messages.js';

export interface ConnectionOptions {
  /** Seconds until a call is given up, of a stream from the begin of its iteration on; 600 when unset, at most 1e9. */
  deadlineSeconds?: number;
  /** How often within a minute what has lost its server goes on at another one; 3 when unset, 0 is never. */
  resumes?: number;
  /** Speak TLS; trust the authorities that Node brings with it. */
  tls?: boolean;
  /** PEM file of the authorities to trust instead; implies `tls`. */
  tlsCa?: string;
  /** PEM chain and its key, not encrypted, for a server that asks who calls. */
  tlsCertificate?: string;
  tlsKey?: string;
  /** A bearer token; without it that of `tokenFile`, or of CSM_TOKEN. */
  token?: string;
  tokenFile?: string;
  /** Send the token without TLS too, to other hosts than this one. */
  insecureToken?: boolean;
  /** Sent with every call, such as the `traceparent` of a request that is passed on. */
  metadata?: Record<string, string>;
}

/** What a stream may be asked for. */
export interface StreamOptions extends SpeechOptions {
  /** Of audio in a message, rounded up to whole frames; when unset the first messages are short. */
  chunkSeconds?: number;
}

export interface Turn {
  speaker: number;
  text: string;
  /**
   * How it was said: a file of WAV, Ogg Opus, MP3, AAC or FLAC, or the codes of an earlier answer's summary, of whose two
   * fields one is empty.
   */
  recording?: Uint8Array;
  sealedCodes?: Uint8Array;
  codes?: object | null;
}

export interface SpeechOptions {
  voice?: string;
  /** BCP-47 tag. */
  language?: string;
  speaker?: number;
  /** The same request with the same seed gives the same speech. */
  seed?: number | bigint;
  /** 0 to 2; 0 is greedy. */
  temperature?: number;
  /** Candidates kept per code, 1 to 2048. */
  topK?: number;
  /** How fast the speech is, 0.25 to 4, its pitch kept; 1 when unset. */
  speed?: number;
  maxSeconds?: number;
  /** The same id for all utterances of a conversation, at most 128 characters: its turns find the same engine. */
  conversationId?: string;
  /** A name of the API's AudioEncoding, in lower case; "pcm" when unset. */
  encoding?: 'pcm' | 'wav' | 'ogg_opus' | 'mulaw' | 'alaw' | 'mp3' | 'aac' | 'flac';
  /** Of the audio; the model's own when unset. */
  sampleRateHertz?: number;
  /** A UUID, which the answer, logs and traces have. */
  requestId?: string;
  /** For accounting: they are logged. */
  labels?: Record<string, string>;
  /** The conversation so far, oldest turn first. */
  context?: Turn[];
  returnCodes?: boolean;
  /** Say the text at once, whatever sentences it has; not of a text in pieces. */
  asOneUtterance?: boolean;
  /** A short silence where the text has nothing to say, as emoji alone, and no error. */
  silenceWithoutWords?: boolean;
  /** Ends the call when it is aborted; the call, or the iteration, throws its reason. */
  signal?: AbortSignal;
}

/** What a kept voice may have. It needs a prompt (`text`, a recording or codes, and `consent`), a seed, or both. */
export interface VoiceOptions {
  /** What is said in the recording. */
  text?: string;
  /** A file of WAV, Ogg Opus, MP3, AAC or FLAC. */
  recording?: Uint8Array;
  /** In place of the recording: of an earlier answer's summary, where the server allows it. One of the two is empty. */
  sealedCodes?: Uint8Array;
  codes?: object | null;
  /** That the person whose voice it is agrees: where the consent is kept, and what the person agreed to. */
  consent?: { id: string; text: string };
  speaker?: number;
  /** BCP-47 tags. */
  languages?: string[];
  description?: string;
  /** Of requests that set none. */
  seed?: number | bigint;
  /** That may use it, by the names of their tokens, besides its owner. */
  callers?: string[];
  /** Every caller may use it. */
  everyone?: boolean;
}

/** A piece of a text with an order beside it. */
export interface TextPiece {
  text?: string;
  /** Ends the sentence, even without a full stop: the next piece begins another one. */
  flush?: boolean;
}

/** One utterance. Iterate over it once, for the bytes of its audio; leaving the loop cancels the call. */
export interface SpeechStream extends AsyncIterable<Buffer> {
  /** Known from the first audio on. */
  readonly header: SynthesisHeader | undefined;
  /** Known when the iteration has ended. */
  readonly summary: SynthesisSummary | undefined;
  /** The sentences of a text that have begun so far. */
  readonly sentences: readonly Sentence[];
  /** Length of the audio so far. */
  readonly seconds: number;
  /** The whole utterance, of any length, as `synthesize` gives it. In place of the iteration. */
  readAll(): Promise<SynthesizeResponse>;
  /** Ends the call, also while nobody iterates; an iteration throws. */
  cancel(): void;
}

export class Client {
  /** target: "host:port", or another gRPC target */
  constructor(target: string, options?: ConnectionOptions);
  /** The whole utterance in one message: at most 80 s of PCM at 24 kHz. */
  synthesize(text: string, speech?: SpeechOptions): Promise<SynthesizeResponse>;
  /** Audio as it is made. */
  stream(text: string, speech?: StreamOptions): SpeechStream;
  /** Audio of a text that is still being written; its pieces are cut anywhere. */
  streamText(
    pieces: string | Iterable<string | TextPiece> | AsyncIterable<string | TextPiece>, speech?: StreamOptions,
  ): SpeechStream;
  /** Every voice, or those of a language (BCP-47). */
  listVoices(language?: string): Promise<Voice[]>;
  /** Keeps a voice; its owner is the caller. Its name: 1 to 64 letters, digits or . _ - */
  createVoice(name: string, voice: VoiceOptions): Promise<KeptVoice>;
  getVoice(name: string): Promise<KeptVoice>;
  /** Deletes a voice of the caller's. Running streams go on. */
  deleteVoice(name: string): Promise<void>;
  /** Whether this server made a recording, of at most 16 MiB unless it is set otherwise. keyIds: all keys when empty */
  detectWatermark(recording: Uint8Array, keyIds?: string[]): Promise<WatermarkSearch>;
  /** The marked stretches of a recording of up to an hour, which is sent as it is read, such as by `createReadStream`. */
  findWatermarks(
    recording: Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>, keyIds?: string[],
  ): Promise<WatermarkSearch>;
  /** What the server runs and accepts. */
  serverInfo(): Promise<ServerInfo>;
  /** Ends what runs: it throws ClientClosedError, and so do later calls. */
  close(): void;
}

/** What the server has told of a failed call. */
export function details(error: unknown): ErrorDetails;

/** A failed call in lines for people: code, message, wrong fields, reason. */
export function explain(error: unknown): string[];

/** A WAV file of 16-bit samples. */
export function wav(pcm: Uint8Array, format: Pick<AudioFormat, 'sampleRateHertz' | 'channelCount'>): Buffer;

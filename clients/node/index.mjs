// The library: a client of csm.v1.TextToSpeechService, from the raw protos. Nothing is generated.

import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

import { channelCredentials, channelOptions } from './channel.mjs';
import { boolean, checkOptions, checkValue, number, string } from './checks.mjs';
import { Requests } from './requests.mjs';
import { Heard, Losses } from './resuming.mjs';
import { TextWriter } from './text.mjs';
import { callMetadata } from './token.mjs';

export { details, explain } from './errors.mjs';
export { wav } from './wav.mjs';

// A package has the protos beside this file, a checkout two folders up.
const PROTOS = ['protos', '../../protos']
  .map((folder) => fileURLToPath(new URL(folder, import.meta.url)))
  .find((folder) => existsSync(folder));

const LARGE_BYTES = 256 * 1024; // a server lets larger requests wait while it has too many of them

function loadApi() {
  const definition = loadSync('csm/v1/tts.proto', {
    includeDirs: [PROTOS],
    enums: String,
    longs: Number, // sample counts stay far below 2^53
    defaults: true, // an unset number is 0, not undefined
    oneofs: true, // message.event names the event that is set
  });
  return grpc.loadPackageDefinition(definition).csm.v1;
}

// With a later deadline a call of gRPC's stands still, or ends at once.
const LONGEST_SECONDS = 1e9;

const CONNECTION = {
  deadlineSeconds: [(value) => number[0](value) && value <= LONGEST_SECONDS, `a number of at most ${LONGEST_SECONDS}`],
  resumes: [(value) => typeof value === 'number' && !Number.isNaN(value), 'a number'],
  tls: boolean,
  tlsCa: string,
  tlsCertificate: string,
  tlsKey: string,
  token: string,
  tokenFile: string,
  insecureToken: boolean,
};

// One server, or all replicas behind a name. Every call has a deadline. index.d.ts says what the options are.
export class Client {
  #stub;
  #metadata;
  #deadlineSeconds;
  #resumes;
  #requests;

  // Throws TypeError for an option that there is not, and for a wrong value.
  constructor(target, connection = {}) {
    checkValue('target', target, string);
    checkOptions('connection', connection, CONNECTION);
    const { deadlineSeconds = 120, resumes = 3 } = connection;
    const { TextToSpeechService, AudioEncoding } = loadApi();
    const options = {
      target,
      tls: connection.tls ?? false,
      'tls-ca': connection.tlsCa,
      'tls-certificate': connection.tlsCertificate,
      'tls-key': connection.tlsKey,
      token: connection.token,
      'token-file': connection.tokenFile,
      'insecure-token': connection.insecureToken ?? false,
    };
    this.#metadata = callMetadata(options);
    this.#stub = new TextToSpeechService(target, channelCredentials(options), channelOptions(options));
    this.#deadlineSeconds = deadlineSeconds;
    this.#resumes = resumes;
    this.#requests = new Requests(AudioEncoding.type.value.map(({ name }) => name));
  }

  // The whole utterance in one message.
  async synthesize(text, speech = {}) {
    const [message, nothing, deadline] = [this.#requests.from(text, speech), new Heard(), this.#until()];
    const losses = new Losses(this.#resumes, deadline);
    for (;;) {
      try {
        return await new Promise((resolve, reject) => {
          const done = (error, response) => (error ? reject(error) : resolve(response));
          this.#stub.synthesize(message, this.#announcing('synthesize', message), { deadline }, done);
        });
      } catch (error) {
        const delay = losses.delayAfter(error, nothing);
        if (delay === undefined) throw error;
        await sleep(delay);
      }
    }
  }

  // Audio as it is made. The call begins when the stream is iterated over.
  stream(text, speech = {}) {
    return this.#open('streamSynthesize', this.#requests.from(text, speech));
  }

  // Audio of a text that is still being written. pieces: an iterable or async iterable of strings, cut anywhere. What
  // it throws ends the call, and the stream throws it.
  streamText(pieces, speech = {}) {
    return this.#open('streamSynthesizeText', this.#requests.from('', speech), new TextWriter(pieces, this.#resumes > 0));
  }

  // The voices that the caller may use, or those of a language (BCP-47).
  async listVoices(languageCode = '') {
    checkValue('language', languageCode, string);
    const [voices, deadline] = [[], this.#until()];
    for (let pageToken; pageToken !== '';) {
      const page = await new Promise((resolve, reject) => {
        const done = (error, response) => (error ? reject(error) : resolve(response));
        this.#stub.listVoices({ languageCode, pageToken }, this.#metadata, { deadline }, done);
      });
      voices.push(...page.voices);
      pageToken = page.nextPageToken;
    }
    return voices;
  }

  close() {
    this.#stub.close();
  }

  // The metadata of a call. It announces a large request: the server then lets it wait, where it would be refused.
  #announcing(method, message) {
    const size = this.#stub[method].requestSerialize(message).length;
    const metadata = this.#metadata.clone();
    if (size > LARGE_BYTES) metadata.set('csm-request-bytes', String(size));
    return metadata;
  }

  // method: of the stub; request: that of the first call, of a text its configuration
  #open(method, request, writer) {
    const until = this.#until();
    const call = (message, waitForReady) => {
      const first = writer === undefined ? message : { config: message };
      const metadata = this.#announcing(method, first);
      metadata.setOptions({ waitForReady });
      const options = [metadata, { deadline: until }];
      if (writer === undefined) return this.#stub[method](first, ...options);
      const opened = this.#stub[method](...options);
      opened.write(first);
      writer.writeTo(opened);
      return opened;
    };
    const asked = { sendCheckpoints: this.#resumes > 0 };
    const again = ({ header, samples, states, speechStates }) => {
      const samplingParams = { ...request.samplingParams, ...(header && { seed: header.seed.toString() }) };
      const kept = { heardSampleCount: samples, checkpoints: states, speechCheckpoints: speechStates };
      return call({ ...request, samplingParams, streamConfig: { ...asked, ...kept } }, true);
    };
    const begin = () => call({ ...request, streamConfig: asked }, false);
    return new SpeechStream(begin, again, new Losses(this.#resumes, until), writer);
  }

  #until() {
    return Date.now() + 1000 * this.#deadlineSeconds;
  }
}

// One utterance. Iterate over it once, for the bytes of its audio; leaving the loop cancels the call.
class SpeechStream {
  #begin;
  #again;
  #losses;
  #call;
  #heard;
  #left = false;
  #writer;

  constructor(begin, again, losses, writer) {
    this.#begin = begin;
    this.#again = again;
    this.#losses = losses;
    this.#writer = writer; // of a text
    this.#heard = new Heard(writer !== undefined);
  }

  get header() {
    return this.#heard.header;
  }

  get summary() {
    return this.#heard.summary;
  }

  // The sentences of a text that have begun so far.
  get sentences() {
    return this.#heard.sentences;
  }

  // Seconds of audio so far.
  get seconds() {
    return this.header === undefined ? 0 : this.#heard.samples / this.header.audioFormat.sampleRateHertz;
  }

  cancel() {
    this.#left = true;
    this.#call?.cancel();
  }

  async* [Symbol.asyncIterator]() {
    if (this.#call !== undefined) throw new Error('A stream is iterated over once; another call says the text again.');
    this.#call = this.#begin();
    if (this.#left) this.#call.cancel(); // `cancel` came before
    let lost;
    try {
      for (;;) {
        try {
          yield* this.#audio();
          return;
        } catch (error) {
          const ended = this.#left || this.#writer?.error !== undefined;
          const delay = ended ? undefined : this.#losses.delayAfter(error, this.#heard);
          if (delay === undefined) throw error.code === grpc.status.DEADLINE_EXCEEDED ? lost ?? error : error;
          if (this.#writer?.isKept === false) throw tooLong(error);
          lost = error; // when no other server comes, the caller is told of the loss and not of the wait
          await sleep(delay);
          if (this.#left) throw error;
        }
        this.#heard.beginAgain();
        this.#call = this.#again(this.#heard);
      }
    } finally {
      this.#call.cancel(); // after the end of the stream this does nothing
      this.#writer?.close();
    }
  }

  async* #audio() {
    for await (const message of this.#call) {
      if (message.event === 'header') this.#heard.takeHeader(message.header);
      if (message.event === 'checkpoint') this.#heard.takeCheckpoint(message.checkpoint);
      if (message.event === 'speechCheckpoint') this.#heard.takeSpeechCheckpoint(message.speechCheckpoint);
      if (message.event === 'sentence') this.#heard.takeSentence(message.sentence);
      if (message.event === 'summary') this.#heard.summary = message.summary;
      if (message.event !== 'audioChunk') continue;
      const fresh = this.#heard.takeAudio(message.audioChunk);
      if (fresh !== undefined) yield fresh;
    }
    if (!this.summary) throw new Error('The stream ended without a summary: the audio is incomplete.');
    const [counted, came] = [this.summary.stats?.sampleCount, this.#heard.samples];
    if (counted !== came) {
      throw new Error(`The server counts ${counted} samples, but ${came} came: the audio is incomplete.`);
    }
  }
}

const tooLong = (error) => new Error(
  `${error.message}: the audio is incomplete. So long a text does not go on at another server.`, { cause: error });

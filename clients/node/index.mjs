// The library: a client of csm.v1, from the raw protos. Nothing is generated.

import { openApi } from './api.mjs';
import { boolean, checkOptions, checkValue, number, object, string } from './checks.mjs';
import { LARGE_BYTES } from './channel.mjs';
import { ClientClosedError, failureOf } from './failures.mjs';
import { detectMessages, detectRequest } from './requests/detection.mjs';
import { SpeechRequests } from './requests/speech.mjs';
import { voiceRequest } from './requests/voices.mjs';
import { Running } from './running.mjs';
import { Heard } from './streaming/heard.mjs';
import { Losses } from './streaming/losses.mjs';
import { SpeechStream } from './streaming/stream.mjs';
import { TextWriter } from './streaming/text.mjs';
import { callMetadata } from './token.mjs';
import { addTrace } from './tracing.mjs';

export { details, explain } from './errors.mjs';
export {
  ClientClosedError, CsmClientError, DeadlineExceededError, IncompleteAudioError, InternalServerError, InvalidRequestError,
  NotFoundError, ResourceExhaustedError, ServerError, TlsFileError, TokenError, UnauthenticatedError, UnavailableError,
} from './failures.mjs';
export { wav } from './wav.mjs';

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
  metadata: object,
};

// One server, or all replicas behind a name. Every call has a deadline. index.d.ts says what the options are.
export class Client {
  #api;
  #metadata;
  #deadlineSeconds;
  #resumes;
  #requests;
  #running = new Running();

  // Throws TypeError for an option that there is not, and for a wrong value; TlsFileError and TokenError.
  constructor(target, connection = {}) {
    checkValue('target', target, [(value) => string[0](value) && value !== '', 'the address of a server']);
    checkOptions('connection', connection, CONNECTION);
    const { deadlineSeconds = 600, resumes = 3 } = connection;
    const options = {
      target,
      tls: connection.tls ?? false,
      'tls-ca': connection.tlsCa,
      'tls-certificate': connection.tlsCertificate,
      'tls-key': connection.tlsKey,
      token: connection.token,
      'token-file': connection.tokenFile,
      'insecure-token': connection.insecureToken ?? false,
      metadata: connection.metadata,
    };
    this.#metadata = callMetadata(options);
    this.#api = openApi(options);
    this.#deadlineSeconds = deadlineSeconds;
    this.#resumes = resumes;
    this.#requests = new SpeechRequests(this.#api.encodings);
  }

  // The whole utterance in one message.
  async synthesize(text, speech = {}) {
    return this.#askUntilAnswered(this.#api.speech, 'synthesize', this.#requests.from(text, speech), speech.signal);
  }

  // Audio as it is made. The call begins when the stream is iterated over.
  stream(text, speech = {}) {
    return this.#open('streamSynthesize', this.#requests.streamed(text, speech), speech.signal);
  }

  // Audio of a text that is still being written. pieces: an iterable or async iterable of strings, cut anywhere, and of
  // { text, flush }, whose flush ends a sentence. What it throws ends the call, and the stream throws it.
  streamText(pieces, speech = {}) {
    const request = this.#requests.streamed('', speech);
    return this.#open('streamSynthesizeText', request, speech.signal, new TextWriter(pieces, this.#resumes > 0));
  }

  // The voices that the caller may use, or those of a language (BCP-47).
  async listVoices(languageCode = '') {
    checkValue('language', languageCode, string);
    const [voices, deadline] = [[], this.#until()];
    for (let pageToken; pageToken !== '';) {
      const page = await this.#ask(this.#api.speech, 'listVoices', { languageCode, pageToken }, { deadline });
      voices.push(...page.voices);
      pageToken = page.nextPageToken;
    }
    return voices;
  }

  // Keeps a voice under a name; its owner is the caller. It needs a prompt, a seed, or both.
  async createVoice(name, voice = {}) {
    return (await this.#ask(this.#api.voices, 'createVoice', voiceRequest(name, voice))).voice;
  }

  // One voice; its consent and its prompt's text are there for its owner alone.
  async getVoice(name) {
    checkValue('name', name, string);
    return (await this.#ask(this.#api.voices, 'getVoice', { name })).voice;
  }

  // Deletes a voice of the caller's. Running streams go on.
  async deleteVoice(name) {
    checkValue('name', name, string);
    await this.#ask(this.#api.voices, 'deleteVoice', { name });
  }

  // Whether a recording was made by this server. keyIds: all keys when empty
  async detectWatermark(recording, keyIds = []) {
    return this.#askUntilAnswered(this.#api.watermark, 'detectWatermark', detectRequest(recording, keyIds));
  }

  // The marked stretches of a recording of up to an hour, which is sent as it is read. What reading throws is thrown.
  async findWatermarks(recording, keyIds = []) {
    return this.#tell(this.#api.watermark, 'streamDetectWatermark', detectMessages(recording, keyIds));
  }

  // What the server runs and accepts.
  async serverInfo() {
    return this.#ask(this.#api.speech, 'getServerInfo', {});
  }

  // Ends what runs: calls and streams throw ClientClosedError.
  close() {
    this.#running.close();
    this.#api.close();
  }

  // The answer to one message. waitForReady: for a server to come, where there is none
  #ask(service, method, message, { deadline = this.#until(), waitForReady = false, losses, signal } = {}) {
    const metadata = announcing(this.#traced(), service[method], message, losses);
    metadata.setOptions({ waitForReady });
    return this.#answerOf((done) => service[method](message, metadata, { deadline }, done), { signal });
  }

  // The answer to many messages, which are taken as the server takes them. What making them throws ends the call.
  async #tell(service, method, messages) {
    const write = async (call) => {
      for await (const message of messages) {
        // For ever, if the call has ended.
        if (!call.write(message)) await new Promise((resolve) => call.once('drain', resolve));
      }
      call.end();
    };
    try {
      return await this.#answerOf(
        (done) => service[method](this.#traced(), { deadline: this.#until() }, done), { write },
      );
    } finally {
      messages.return().catch(() => {});
    }
  }

  // begin: makes a call that gives its one answer to the function. write: its messages, if they are many. signal: of the
  // caller
  async #answerOf(begin, { write = async () => {}, signal }) {
    let call;
    const done = this.#running.begin(() => call?.cancel(), signal);
    try {
      return await new Promise((resolve, reject) => {
        call = begin((error, answer) => (error ? reject(failureOf(error)) : resolve(answer)));
        write(call).catch(reject);
      });
    } catch (error) {
      if (this.#running.isClosed) throw new ClientClosedError();
      signal?.throwIfAborted();
      throw error;
    } finally {
      done();
      call?.cancel(); // after its end this does nothing
    }
  }

  // Makes the call again when its server is lost. gRPC does so for small messages, up to a limit.
  async #askUntilAnswered(service, method, message, signal) {
    const [nothing, losses] = [new Heard(), new Losses(this.#resumes, this.#deadlineSeconds)];
    for (let waitForReady = false; ; waitForReady = true) {
      try {
        return await this.#ask(service, method, message, { deadline: losses.until, waitForReady, losses, signal });
      } catch (error) {
        signal?.throwIfAborted();
        const delay = losses.delayAfter(error, nothing);
        if (delay === undefined) throw losses.told(error, nothing);
        await this.#running.pause(delay, signal);
      }
    }
  }

  // method: of the speech service; request: that of the first call, of a text its configuration; signal: of the caller
  #open(method, request, signal, writer) {
    const [service, losses] = [this.#api.speech, new Losses(this.#resumes, this.#deadlineSeconds)];
    const traced = this.#traced();
    const call = (message, waitForReady) => {
      const first = writer === undefined ? message : { config: message };
      const metadata = announcing(traced.clone(), service[method], first, losses);
      metadata.setOptions({ waitForReady });
      const options = [metadata, { deadline: losses.until }];
      if (writer === undefined) return service[method](first, ...options);
      const opened = service[method](...options);
      opened.write(first);
      writer.writeTo(opened);
      return opened;
    };
    const asked = { ...request.streamConfig, sendCheckpoints: this.#resumes > 0 };
    const begin = () => {
      losses.begin();
      return call({ ...request, streamConfig: asked }, false);
    };
    const again = ({ header, samples, states, speechStates }) => {
      const samplingParams = { ...request.samplingParams, ...(header && { seed: header.seed.toString() }) };
      const kept = { heardSampleCount: samples, checkpoints: states, speechCheckpoints: speechStates };
      return call({ ...request, samplingParams, streamConfig: { ...asked, ...kept } }, true);
    };
    return new SpeechStream(begin, again, losses, this.#running, signal, writer);
  }

  // The metadata of a call that begins now.
  #traced() {
    const metadata = this.#metadata.clone();
    addTrace(metadata);
    return metadata;
  }

  #until() {
    return Date.now() + 1000 * this.#deadlineSeconds;
  }
}

// The metadata with which a large request is announced: the server then lets it wait, where it would be refused.
function announcing(metadata, { requestSerialize }, message, losses) {
  const size = requestSerialize(message).length;
  if (size <= LARGE_BYTES) return metadata;
  metadata.set('csm-request-bytes', String(size));
  if (losses !== undefined) losses.isLarge = true;
  return metadata;
}

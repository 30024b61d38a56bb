// Speech while one writes, over WS /v1/audio/stream: a sentence is sent when it ends, and spoken at once.

import { Problem, address, problemFrom, token } from "./api.js";
import { clearProblems, json, readSettings } from "./fields.js";
import { decoderOf } from "./pcm.js";

const SENTENCES = /^[^]*[.!?…]["'”’)\]]*\s/; // up to the last end of a sentence that is followed by a space
const PAUSE_MS = 1200; // without a key, after which the text has ended
const LONGEST_UTTERANCE_MS = 45_000; // the server bounds a call; the next text is a call of its own

const element = (id) => document.getElementById(id);

export class Typing {
  constructor(output, say, onError) {
    this._output = output;
    this._say = say;
    this._onError = onError;
    this._socket = null;
    this._lines = []; // items that wait or are spoken
    this._ended = 0; // utterances that were ended here; sent lines have the number of theirs
    this._done = 0; // utterances that the server has spoken to their end
    this._stops = 0; // so many times
    this._field = element("typing-text");
    this._field.addEventListener("input", () => this._typed());
    this._field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this._send(this._field.value, true);
      }
    });
    element("typing").addEventListener("submit", (event) => event.preventDefault());
    element("typing-stop").addEventListener("click", () => this.stop());
  }

  /** Stops at once, and drops what has not been spoken. */
  stop() {
    if (this._isCancelling) return;
    this._stops += 1;
    this._isCancelling = this._isOpen; // audio that is under way is not played
    this._tell({ type: "input.cancel" });
    this._output.stop();
    for (const line of this._lines) line.dataset.state = "dropped";
    this._forget();
    this._showBusy(false);
  }

  /** No line waits any more, and no utterance is open. */
  _forget() {
    this._lines = [];
    this._endUtterance();
    this._done = this._ended;
  }

  get _isOpen() {
    return this._socket?.readyState === WebSocket.OPEN;
  }

  _typed() {
    clearTimeout(this._pause);
    const ended = SENTENCES.exec(this._field.value);
    if (ended) this._send(ended[0], false);
    this._pause = setTimeout(() => {
      const isSentence = /[.!?…]["'”’)\]]*\s*$/.test(this._field.value);
      if (isSentence || (!this._field.value.trim() && this._utteranceSinceMs)) this._send(this._field.value, true);
    }, PAUSE_MS);
  }

  /** Sends the first part of the field. isEnd: nothing belongs to it any more */
  async _send(text, isEnd) {
    this._field.value = this._field.value.slice(text.length);
    const written = text.trim();
    const wasIdle = !this._lines.length && !this._utteranceSinceMs && !this._output.player.isPlaying;
    const stops = this._stops;
    const line = written ? this._addLine(written) : null;
    if (!line && !this._utteranceSinceMs) return;
    try {
      if (wasIdle) this._begin();
      else this._output.goOn(() => this.stop());
      this._showBusy(true);
      this._utteranceSinceMs ??= performance.now();
      await this._connect();
      if (stops !== this._stops) return;
      if (line) {
        line.utterance = this._ended;
        this._tell({ type: "input.text", text: `${written} ` });
      }
      if (isEnd || performance.now() - this._utteranceSinceMs > LONGEST_UTTERANCE_MS) {
        this._tell({ type: "input.done" });
        this._endUtterance();
      }
    } catch (error) {
      this._fail(error);
    }
  }

  _begin() {
    clearProblems();
    this._output.begin("typed", () => this.stop(), { isPaced: true });
  }

  _addLine(text) {
    const line = Object.assign(document.createElement("li"), { textContent: text });
    line.dataset.state = "waiting";
    this._lines.push(line);
    element("said").append(line);
    element("said").scrollTop = element("said").scrollHeight;
    return line;
  }

  _endUtterance() {
    this._ended += 1;
    this._utteranceSinceMs = null;
  }

  /** A session with the settings of now: they hold for the utterances that begin later. */
  async _connect() {
    const config = { ...readSettings(), type: "session.config", response_format: "pcm", token: token.get() || null };
    if (config.token === null) delete config.token;
    const text = json(config);
    if (this._connecting) await this._connecting;
    if (this._isOpen) {
      if (text !== this._config) this._socket.send(text);
      this._config = text;
      return;
    }
    this._config = text;
    this._connecting = this._open(text).finally(() => (this._connecting = null));
    await this._connecting;
  }

  _open(config) {
    return new Promise((resolve, reject) => {
      const url = address("v1/audio/stream");
      url.protocol = url.protocol.replace("http", "ws");
      const socket = new WebSocket(url);
      socket.binaryType = "arraybuffer";
      this._socket = socket;
      this._decode = decoderOf("pcm");
      this._isCancelling = false;
      socket.addEventListener("open", () => socket.send(config));
      socket.addEventListener("message", ({ data }) => {
        if (data instanceof ArrayBuffer) return this._play(new Uint8Array(data));
        const message = JSON.parse(data);
        if (message.type === "session.created") resolve();
        if (message.type === "error") {
          const problem = problemFrom(message.error);
          reject(problem);
          this._fail(problem);
        }
        this._handle(message);
      });
      socket.addEventListener("close", () => {
        reject(new Problem("The server cannot be reached. Is it still running?", { code: "unreachable" }));
        if (this._socket === socket && this._lines.length) {
          this._fail(new Problem("The connection broke: not all was spoken.", { code: "incomplete_audio" }));
        }
      });
    });
  }

  _handle(message) {
    switch (message.type) {
      case "session.created":
        this._rate = message.sample_rate;
        break;
      case "audio.start":
        if (this._isCancelling) break;
        this._rate = message.sample_rate;
        this._isNewSentence = true;
        this._mark(message.sentence_text);
        break;
      case "audio.cancelled":
        this._isCancelling = false;
        this._decode = decoderOf("pcm");
        if (!this._utteranceSinceMs) this._output.finish("Stopped.");
        break;
      case "session.done":
        if (this._isCancelling) break;
        this._utteranceIsDone(message);
        if (!this._lines.length && !this._utteranceSinceMs) {
          this._output.finish("All is said.");
          this._showBusy(false);
        }
    }
  }

  /** Nothing more comes of the utterance: its lines were spoken, had no words, or were cut off by the longest audio. */
  _utteranceIsDone({ total_sentences: count, finish_reason: reason }) {
    if (this._done === this._ended) {
      if (!count) return; // it answers an end that was on its way when the server ended the utterance itself
      this._endUtterance();
    }
    this._done += 1;
    for (const line of this._lines.filter((line) => line.utterance < this._done)) {
      const isCut = reason === "max_audio_seconds" && line.dataset.state === "waiting";
      this._end(line, isCut ? "dropped" : "said");
    }
  }

  /** The line that holds a sentence is spoken, and those before it have been. */
  _mark(sentence) {
    const at = this._lines.findIndex((line) => line.textContent.includes(sentence.trim()));
    if (at < 0) return;
    for (const line of this._lines.slice(0, at)) this._end(line);
    this._lines[0].dataset.state = "speaking";
  }

  _end(line, state = "said") {
    line.dataset.state = state;
    this._lines.splice(this._lines.indexOf(line), 1);
  }

  _play(bytes) {
    if (this._isCancelling) return;
    this._output.write(this._decode(bytes), this._rate, !this._isNewSentence);
    this._isNewSentence = false;
  }

  _tell(message) {
    if (this._isOpen) this._socket.send(JSON.stringify(message));
  }

  _fail(error) {
    if (this._failed === error) return;
    this._failed = error;
    for (const line of this._lines) line.dataset.state = "dropped";
    this._forget();
    this._socket?.close();
    this._output.stop();
    this._showBusy(false);
    this._onError(error, (param) => element(param === "text" || param === "input" ? "typing-text" : param));
  }

  _showBusy(isBusy) {
    const hadFocus = document.activeElement === element("typing-stop");
    element("typing-stop").disabled = !isBusy;
    if (hadFocus && !isBusy) this._field.focus(); // else it would be lost
  }
}

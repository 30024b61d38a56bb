// Two speakers. Each new turn is spoken with all turns above it as context.

import { Problem } from "./api.js";
import { clearProblems, enable, readSettings } from "./fields.js";
import { toBase64 } from "./pcm.js";
import { Recorder, decodeFile, takeFiles, wavBytes } from "./recorder.js";
import { synthesize } from "./synthesis.js";

const element = (id) => document.getElementById(id);

export class Conversation {
  /** @param {(name: string) => {speaker: number}} voiceOf what is known of a voice */
  constructor(output, voiceOf, onError) {
    this._output = output;
    this._voiceOf = voiceOf;
    this._onError = onError;
    this._turns = []; // {side, text, speaker, sound: {samples, rate}, codes}
    this._takesCodes = true; // until the server says that it returns none
    element("conversation").addEventListener("submit", (event) => {
      event.preventDefault();
      this._speak();
    });
    element("turns-clear").addEventListener("click", () => {
      this._turns = [];
      this._show();
    });
    const onProblem = (error) => onError(error, () => null);
    new Recorder(element("turn-record"), { onRecorded: (sound) => this._addRecording(sound), onProblem });
    takeFiles(element("conversation"), element("turn-file"), (file) => this.addFile(file));
  }

  async addFile(file) {
    try {
      this._addRecording(await decodeFile(file));
    } catch (error) {
      this._onError(error, () => null);
    }
  }

  get _side() {
    return Number(document.querySelector("input[name=side]:checked").value);
  }

  /** A recording of what is written in the field. */
  _addRecording(sound) {
    clearProblems();
    const text = element("turn-text").value.trim();
    this._turns.push({ side: this._side, text, speaker: this._speaker(this._side), sound, codes: null });
    this._turnIsDone();
    if (!text) this._field(this._turns.length - 1)?.focus();
  }

  _speaker(side) {
    return this._voiceOf(element(`voice-${side}`).value)?.speaker ?? side;
  }

  async _speak() {
    if (element("turn-go").disabled) return; // it speaks already
    clearProblems();
    const side = this._side;
    const text = element("turn-text").value.trim();
    const button = element("turn-go");
    const context = this._turns.map(({ speaker, text, sound, codes }) => ({
      speaker,
      text,
      ...(codes ? { codes } : { audio: toBase64(wavBytes(sound)) }),
    }));
    enable(button, false);
    try {
      const missing = this._turns.findIndex((turn) => !turn.text);
      if (missing >= 0) throw new Problem("Write what is said in this recording.", { param: `context[${missing}]` });
      const voice = element(`voice-${side}`).value;
      const speaker = this._speaker(side);
      const body = { ...readSettings(), voice, speaker, input: text, context };
      const done = await this._synthesize(body, `turn-${this._turns.length + 1}`);
      if (done === null) return;
      const sound = { samples: this._output.samples, rate: this._output.rate };
      this._turns.push({ side, text, speaker, sound, codes: done.codes ?? null });
      this._turnIsDone();
    } catch (error) {
      this._onError(error, (param) => this._find(param, error.param));
    } finally {
      enable(button, true);
    }
  }

  async _synthesize(body, name) {
    try {
      return await synthesize({ ...body, return_codes: this._takesCodes }, this._output, name);
    } catch (error) {
      if (error.param !== "return_codes") throw error;
      this._takesCodes = false; // recordings of the turns are sent in place of their codes
      return synthesize(body, this._output, name);
    }
  }

  _find(name, param) {
    if (name === "input") return element("turn-text");
    if (name === "voice") return element(`voice-${this._side}`);
    const turn = /^context\[(\d+)\]/.exec(param ?? "");
    return turn ? this._field(Number(turn[1])) : element(name);
  }

  /** The other one speaks next. */
  _turnIsDone() {
    document.querySelector(`input[name=side][value="${1 - this._side}"]`).checked = true;
    element("turn-text").value = "";
    this._show();
    element("turn-text").focus();
  }

  _field(index) {
    return element("turns").children[index]?.querySelector("input, .said-text");
  }

  _show() {
    element("turns-empty").hidden = this._turns.length > 0;
    element("turns").replaceChildren(...this._turns.map((turn, index) => this._item(turn, index)));
    element("turns").scrollTop = element("turns").scrollHeight;
  }

  _item(turn, index) {
    const item = document.createElement("li");
    item.className = turn.side ? "two" : "one";
    const who = document.createElement("div");
    who.className = "who";
    who.append(turn.side ? "Second" : "First", ...(turn.codes ? [] : [" · recording"]));
    who.append(
      quietButton("Play", `Play turn ${index + 1}`, () =>
        this._output.load(turn.sound.samples, turn.sound.rate, `turn-${index + 1}`, { play: true }),
      ),
      quietButton("Remove", `Remove turn ${index + 1}`, () => {
        this._turns.splice(index, 1);
        this._show();
        element("turn-text").focus();
      }),
    );
    item.append(who, turn.codes ? said(turn.text) : this._textField(turn, index));
    return item;
  }

  /** Of a recording: its words may be written and mended. */
  _textField(turn, index) {
    const field = document.createElement("input");
    field.id = `turn-${index}-text`;
    field.value = turn.text;
    field.placeholder = "What is said in it?";
    field.setAttribute("aria-label", `Words of turn ${index + 1}`);
    field.addEventListener("input", () => (turn.text = field.value.trim()));
    return field;
  }
}

function said(text) {
  return Object.assign(document.createElement("p"), { className: "said-text", textContent: text, tabIndex: -1 });
}

function quietButton(text, label, onClick) {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "quiet", textContent: text });
  button.setAttribute("aria-label", label);
  button.addEventListener("click", onClick);
  return button;
}

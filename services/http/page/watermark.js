// Looks for the watermark in a recording, and draws the marked stretches over its waveform.

import { call } from "./api.js";
import { clearProblems } from "./fields.js";
import { decodeFile, takeFiles } from "./recorder.js";

const element = (id) => document.getElementById(id);
const seconds = (value) => `${value.toFixed(2)} s`;

export class Watermark {
  constructor(output, say, onError) {
    this._output = output;
    this._say = say;
    this._onError = onError;
    takeFiles(element("watermark-drop"), element("watermark-file"), (file) => this.look(file, file.name));
    element("watermark").addEventListener("submit", (event) => event.preventDefault());
  }

  /** @param {Blob} file a recording of any format that the server reads */
  async look(file, name) {
    clearProblems();
    this._show(`Looking at ${name} …`, []);
    try {
      const sound = await decodeFile(file).catch(() => null); // the server may read what the browser cannot
      if (sound) this._output.load(sound.samples, sound.rate, name.replace(/\.\w+$/, ""));
      const answer = await call("v1/audio/watermark", {
        method: "POST",
        headers: { "content-type": "application/octet-stream" },
        body: file,
      });
      const { detected, stretches, confidence, key_id: key } = await answer.json();
      this._output.plot.stretches = stretches;
      const marked = stretches.reduce((sum, { start, end }) => sum + end - start, 0);
      const found = detected
        ? `${marked ? `${seconds(marked)} of ${name} were` : `${name} was`} made on this server${key ? `: key ${key}` : ""}, confidence ${percent(confidence)}.`
        : `No mark of this server was found in ${name}.`;
      this._show(found, stretches);
    } catch (error) {
      this._show("", []);
      this._onError(error, () => element("watermark-file"));
    }
  }

  _show(text, stretches) {
    element("watermark-answer").textContent = text;
    const rows = stretches.map(({ start, end, key_id: key, confidence }) => {
      const row = document.createElement("tr");
      for (const value of [seconds(start), seconds(end), key, percent(confidence)]) {
        row.append(Object.assign(document.createElement("td"), { textContent: value }));
      }
      return row;
    });
    element("stretches").querySelector("tbody").replaceChildren(...rows);
    element("stretches").hidden = !rows.length;
    if (text) element("waveform").setAttribute("aria-label", `Waveform. ${text}`);
  }
}

function percent(share) {
  return `${Math.round(100 * share)} %`;
}

// Recordings from the microphone and from files: decoded by the browser, one channel.

import { Problem } from "./api.js";
import { wavOf } from "./pcm.js";

const RATE_HZ = 24_000;
const LONGEST_MS = 60_000;

export class Recorder {
  /** @param {HTMLButtonElement} button starts and stops it; onRecorded: gets {samples, rate}; onProblem: a Problem */
  constructor(button, { onRecorded, onProblem }) {
    this._button = button;
    this._label = button.querySelector(".label");
    this._idleText = this._label.textContent;
    this._onRecorded = onRecorded;
    this._onProblem = onProblem;
    this._recorder = null;
    button.addEventListener("click", () => (this._recorder ? this._recorder.stop() : this._start()));
  }

  async _start() {
    try {
      if (!navigator.mediaDevices) throw new Problem("Browsers give the microphone to pages over HTTPS or localhost alone.");
      const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } }).catch((error) => {
        const why = error.name === "NotFoundError" ? "There is no microphone." : "The microphone is not allowed.";
        throw new Problem(why);
      });
      const parts = [];
      const recorder = new MediaRecorder(stream);
      recorder.addEventListener("dataavailable", ({ data }) => parts.push(data));
      recorder.addEventListener("stop", () => this._end(stream, new Blob(parts)));
      recorder.start();
      setTimeout(() => recorder.state === "recording" && recorder.stop(), LONGEST_MS);
      this._recorder = recorder;
      this._show(true);
    } catch (error) {
      this._onProblem(error);
    }
  }

  async _end(stream, file) {
    for (const track of stream.getTracks()) track.stop();
    this._recorder = null;
    this._show(false);
    try {
      this._onRecorded(await decodeFile(file));
    } catch (error) {
      this._onProblem(error);
    }
  }

  _show(isRecording) {
    this._button.setAttribute("aria-pressed", String(isRecording));
    this._label.textContent = isRecording ? "Stop recording" : this._idleText;
  }
}

/** The sound of a file, one channel at 24 kHz. Throws Problem. */
export async function decodeFile(file) {
  const context = new OfflineAudioContext(1, 1, RATE_HZ);
  let decoded;
  try {
    decoded = await context.decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Problem(`This browser cannot read ${file.name ?? "the recording"} as sound.`, { param: "file" });
  }
  const samples = new Float32Array(decoded.length);
  for (let channel = 0; channel < decoded.numberOfChannels; channel++) {
    decoded.getChannelData(channel).forEach((sample, at) => (samples[at] += sample / decoded.numberOfChannels));
  }
  return { samples, rate: decoded.sampleRate };
}

export function wavBytes({ samples, rate }) {
  return wavOf(samples, rate);
}

/** Files that are dropped on an element, or chosen in an input. */
export function takeFiles(zone, input, onFile) {
  input.addEventListener("change", () => {
    if (input.files.length) onFile(input.files[0]);
    input.value = "";
  });
  const mark = (isOver) => zone.classList.toggle("dragged", isOver);
  zone.addEventListener("dragover", (event) => {
    event.preventDefault();
    mark(true);
  });
  zone.addEventListener("dragleave", () => mark(false));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    mark(false);
    if (event.dataTransfer.files.length) onFile(event.dataTransfer.files[0]);
  });
}

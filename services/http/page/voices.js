// Voices that the caller keeps: a recording, its words, and the speaker's consent, under a name.

import { Problem, call, getJson } from "./api.js";
import { clearProblems } from "./fields.js";
import { toBase64 } from "./pcm.js";
import { Recorder, decodeFile, takeFiles, wavBytes } from "./recorder.js";

const FIELDS = {
  name: "voice-name",
  audio: "voice-audio",
  text: "voice-text",
  consent: "voice-consent-id",
  "consent.id": "voice-consent-id",
  "consent.text": "voice-consent-text",
};

const element = (id) => document.getElementById(id);

export class KeptVoices {
  /** @param {(chosenVoice?: string) => Promise<void>} reload lists the voices again */
  constructor(voiceOf, reload, onError) {
    this._voiceOf = voiceOf;
    this._reload = reload;
    this._onError = (error) => onError(error, (param) => element(FIELDS[param] ?? "") ?? element("voice-keep"));
    this._sound = null;
    const dialog = element("voice-dialog");
    element("voice-new").addEventListener("click", () => {
      clearProblems();
      dialog.showModal();
    });
    element("voice-cancel").addEventListener("click", () => dialog.close());
    element("voice-delete").addEventListener("click", () => this._delete(element("voice").value));
    element("voice-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this._keep();
    });
    const onRecorded = (sound) => this._take(sound);
    new Recorder(element("voice-record"), { onRecorded, onProblem: this._onError });
    takeFiles(dialog, element("voice-file"), (file) => decodeFile(file).then(onRecorded, this._onError));
  }

  /** Whether the chosen voice may be deleted: those of the model and the operator were never made by a call. */
  async show(voice) {
    element("voice-delete").hidden = true;
    if (!voice || (!voice.has_prompt && voice.seed === null)) return;
    const kept = await getJson(`v1/audio/voices/${encodeURIComponent(voice.name)}`).catch(() => ({}));
    if (element("voice").value === voice.name) element("voice-delete").hidden = kept.created === undefined;
  }

  _take(sound) {
    this._sound = sound;
    element("voice-recording").textContent = `${(sound.samples.length / sound.rate).toFixed(1)} s of sound`;
  }

  async _keep() {
    clearProblems();
    const name = element("voice-name").value.trim();
    element("voice-keep").disabled = true;
    try {
      if (!this._sound) throw new Problem("Record the speaker, or choose a file.", { param: "audio" });
      await call("v1/audio/voices", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({
          name,
          text: element("voice-text").value.trim(),
          audio: toBase64(wavBytes(this._sound)),
          consent: { id: element("voice-consent-id").value.trim(), text: element("voice-consent-text").value.trim() },
          speaker: this._voiceOf(element("voice").value)?.speaker ?? 0,
          everyone: element("voice-everyone").checked,
        }),
      });
      element("voice-dialog").close();
      element("voice-form").reset();
      element("voice-recording").textContent = "or drop one here";
      this._sound = null;
      await this._reload(name);
    } catch (error) {
      this._onError(error);
    } finally {
      element("voice-keep").disabled = false;
    }
  }

  async _delete(name) {
    if (!confirm(`Delete the voice ${name}? This cannot be undone.`)) return;
    clearProblems();
    try {
      await call(`v1/audio/voices/${encodeURIComponent(name)}`, { method: "DELETE" });
      await this._reload();
    } catch (error) {
      this._onError(error);
    }
  }
}

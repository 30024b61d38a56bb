// Puts the page together: tabs, voices, the token, keys, and who speaks.

import { call, getJson, token } from "./api.js";
import { Conversation } from "./conversation.js";
import { clearProblems, enable, readSettings, showProblem, speed } from "./fields.js";
import { Output } from "./output.js";
import { LIVE_FORMATS } from "./pcm.js";
import { synthesize } from "./synthesis.js";
import { Typing } from "./typing.js";
import { KeptVoices } from "./voices.js";
import { Watermark } from "./watermark.js";

const element = (id) => document.getElementById(id);
const tabs = [...document.querySelectorAll("[role=tab]")];
let voices = [];
let lastSeed = null;

function say(text) {
  element("live").textContent = text;
}

function onError(error, find) {
  if (error.status === 401 || error.code === "credential_invalid" || error.code === "credential_missing") {
    showTokenForm(true);
    showProblem(Object.assign(error, { param: "token" }));
    return;
  }
  showProblem(error, find);
}

const voiceOf = (name) => voices.find((voice) => voice.name === name);
const output = new Output(say);
const conversation = new Conversation(output, voiceOf, onError);
const typing = new Typing(output, say, onError);
const watermark = new Watermark(output, say, onError);
const keptVoices = new KeptVoices(voiceOf, connect, onError);
output.onFind = (recording, name) => {
  openTab("watermark");
  watermark.look(recording, name);
};

// Speak

async function speak() {
  if (element("speak-go").disabled) return; // it speaks already
  clearProblems();
  enable(element("speak-go"), false);
  try {
    const body = { ...readSettings(), input: element("text").value };
    const done = await synthesize(body, output, "speech");
    if (done) keepSeed(done.seed);
  } catch (error) {
    onError(error, (param) => element(param === "input" ? "text" : param));
  } finally {
    enable(element("speak-go"), true);
  }
}

element("speak").addEventListener("submit", (event) => {
  event.preventDefault();
  speak();
});

function keepSeed(seed) {
  lastSeed = seed;
  element("seed-keep").disabled = false;
  element("seed-keep").title = `The last seed was ${seed}`;
}

element("seed-keep").addEventListener("click", () => (element("seed").value = lastSeed));

// Tabs

function openTab(id, { focus = false } = {}) {
  for (const tab of tabs) {
    const isOpen = tab.getAttribute("aria-controls") === id;
    tab.setAttribute("aria-selected", String(isOpen));
    tab.tabIndex = isOpen ? 0 : -1;
    element(tab.getAttribute("aria-controls")).hidden = !isOpen;
    if (isOpen && focus) tab.focus();
  }
}

tabs.forEach((tab, at) => {
  tab.addEventListener("click", () => openTab(tab.getAttribute("aria-controls")));
  tab.addEventListener("keydown", (event) => {
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1 + tabs.length, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    openTab(tabs[to % tabs.length].getAttribute("aria-controls"), { focus: true });
  });
});

// Keys, and files that are dropped beside a field

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") output.stop();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.target.form?.requestSubmit();
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  if (event.defaultPrevented) return;
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (!file) return;
  if (element("conversation").hidden) {
    openTab("watermark");
    watermark.look(file, file.name);
  } else conversation.addFile(file);
});

// Settings

element("speed").addEventListener("input", () => {
  element("speed-shown").textContent = `${speed()}×`;
  element("speed").setAttribute("aria-valuetext", `${speed()} times`);
});
element("response_format").addEventListener("change", () => {
  const isLive = LIVE_FORMATS.has(element("response_format").value);
  element("format-hint").textContent = isLive ? "Plays while it is made." : "Plays once it is whole, and is saved as it is.";
});
element("voice").addEventListener("change", describeVoice);

function describeVoice() {
  const voice = voiceOf(element("voice").value);
  const parts = [voice?.description.replace(/\.$/, ""), voice?.languages.join(", ")];
  element("voice-about").textContent = parts.filter(Boolean).join(" · ");
  keptVoices.show(voice);
}

// The server: its voices and its model, and the token that it may want

async function connect(chosenVoice = null) {
  const server = element("server");
  try {
    voices = (await getJson("v1/audio/voices")).data;
    for (const [id, chosen] of [["voice", 0], ["voice-0", 0], ["voice-1", 1]]) {
      const options = voices.map(({ name }) => new Option(name, name));
      element(id).replaceChildren(...options);
      element(id).selectedIndex = Math.min(chosen, voices.length - 1);
    }
    if (chosenVoice !== null) element("voice").value = chosenVoice;
    describeVoice();
    element("server-text").textContent = (await getJson("v1/models")).data[0].id;
    await call("readyz");
    server.className = "server ready";
  } catch (error) {
    server.className = "server away";
    element("server-text").textContent = error.status === 401 ? "asks for a token" : "not ready";
    onError(error, () => null);
  }
}

function showTokenForm(isOpen) {
  element("token-form").hidden = !isOpen;
  element("token-open").setAttribute("aria-expanded", String(isOpen));
}

element("token-open").addEventListener("click", () => {
  showTokenForm(element("token-form").hidden);
  if (!element("token-form").hidden) element("token").focus();
});
element("token-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  clearProblems();
  token.set(element("token").value.trim());
  showTokenForm(false);
  await connect();
});

connect();

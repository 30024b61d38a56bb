// Fields of forms: what they hold, and errors that are shown beside them.

import { Problem } from "./api.js";

const SETTINGS = ["voice", "response_format", "temperature", "top_k", "seed", "max_audio_seconds"];
const INTEGERS = new Set(["top_k", "seed"]);
const INTEGER = /^-?\d{1,19}$/;
const NUMBER = /^-?\d+([.,]\d+)?$/;

const element = (id) => document.getElementById(id);

/** The settings as fields of a request; those that are empty are left out. Throws Problem. */
export function readSettings() {
  const found = speed() === 1 ? {} : { speed: speed() };
  for (const name of SETTINGS) {
    const text = element(name).value.trim();
    if (!text) continue;
    if (name === "voice" || name === "response_format") found[name] = text;
    else if (!(INTEGERS.has(name) ? INTEGER : NUMBER).test(text)) {
      const wanted = INTEGERS.has(name) ? "a whole number" : "a number";
      throw new Problem(`${name}: is '${text}'; it must be ${wanted}.`, { param: name });
    } else found[name] = name === "seed" ? BigInt(text) : Number(text.replace(",", "."));
  }
  return found;
}

/** The speed that the slider shows; its steps are steps of the ratio. */
export function speed() {
  return Math.round(100 * 2 ** Number(element("speed").value)) / 100;
}

/** JSON in which a BigInt is a number: seeds have 64 bits, and JavaScript's numbers 53. */
export function json(value) {
  const large = [];
  const text = JSON.stringify(value, (_, part) => (typeof part === "bigint" ? `\u0000${large.push(part) - 1}` : part));
  return text.replace(/"\\u0000(\d+)"/g, (_, at) => String(large[at]));
}

/**
 * Shows a Problem at its field, and in the banner where it has none on this page.
 * @param {(param: string) => HTMLElement | null} find the field of a name
 */
export function showProblem(error, find = (param) => element(param)) {
  clearProblems();
  const field = error.param ? find(error.param.replace(/\[.*/, "")) : null;
  if (!field || !field.offsetParent) {
    element("alert").textContent = error.message;
    element("alert").hidden = false;
    return;
  }
  const note = Object.assign(document.createElement("p"), {
    className: "wrong",
    id: `${field.id}-wrong`,
    textContent: plain(error),
  });
  note.setAttribute("role", "alert");
  field.closest(".field, .speaker, li, form, .row").append(note);
  field.setAttribute("aria-invalid", "true");
  field.dataset.described = field.getAttribute("aria-describedby") ?? "";
  field.setAttribute("aria-describedby", `${note.id} ${field.dataset.described}`.trim());
  field.focus();
}

/** The message without the field's name, which stands above it. */
function plain({ message, param }) {
  const text = message.startsWith(`${param}: `) ? message.slice(param.length + 2) : message;
  return text.replace(/^(is|must|needs|has)\b/, "It $1").replace(/^./, (first) => first.toUpperCase());
}

export function clearProblems() {
  element("alert").hidden = true;
  for (const note of document.querySelectorAll(".wrong")) note.remove();
  for (const field of document.querySelectorAll("[aria-invalid]")) {
    field.removeAttribute("aria-invalid");
    if (field.dataset.described) field.setAttribute("aria-describedby", field.dataset.described);
    else field.removeAttribute("aria-describedby");
  }
}

let waiting = null; // the button that had the focus when it was disabled

/** Browsers take the focus from a button that is disabled; here it gets it back, unless something else has it by then. */
export function enable(button, isEnabled) {
  if (!isEnabled && document.activeElement === button) waiting = button;
  button.disabled = !isEnabled;
  if (!isEnabled || waiting !== button) return;
  waiting = null;
  if ([document.body, button].includes(document.activeElement)) button.focus({ preventScroll: true });
}

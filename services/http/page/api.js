// Calls of the server and its errors in plain words. The token stays in this tab's sessionStorage.

const TOKEN_KEY = "csm-token";

/** What went wrong, with the field's name where the server gave one. */
export class Problem extends Error {
  /** @param {{param?: string | null, code?: string | null, status?: number}} about */
  constructor(message, { param = null, code = null, status = 0 } = {}) {
    super(message);
    this.param = param;
    this.code = code;
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN_KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(TOKEN_KEY, value) : sessionStorage.removeItem(TOKEN_KEY)),
};

/** The address of a path of this server, also behind a proxy that has it under a path of its own. */
export function address(path) {
  return new URL(path, document.baseURI);
}

/** An answer that is a success. Throws Problem; an abort throws its AbortError. */
export async function call(path, options = {}) {
  const headers = new Headers(options.headers);
  if (token.get()) headers.set("authorization", `Bearer ${token.get()}`);
  let answer;
  try {
    answer = await fetch(address(path), { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server cannot be reached. Is it still running?", { code: "unreachable" });
  }
  if (!answer.ok) throw await problemOf(answer);
  return answer;
}

export async function getJson(path) {
  return (await call(path)).json();
}

/** The objects of a stream of server-sent events, as they come. Throws Problem when the connection breaks. */
export async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let piece;
    try {
      piece = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem("The connection broke: the audio is not complete.", { code: "incomplete_audio" });
    }
    if (piece.done) return;
    const found = (rest + piece.value).split("\n\n");
    rest = found.pop();
    for (const event of found) {
      if (event.startsWith("data: ")) yield JSON.parse(event.slice(6));
    }
  }
}

/** A Problem of an `error` object as the server writes it. */
export function problemFrom({ message, param, code }, status = 0) {
  return new Problem(message, { param, code, status });
}

async function problemOf(answer) {
  try {
    return problemFrom((await answer.json()).error, answer.status);
  } catch {
    return new Problem(`The server answered with status ${answer.status}.`, { status: answer.status });
  }
}

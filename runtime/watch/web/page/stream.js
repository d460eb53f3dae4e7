// Keep one stream of messages open, whatever happens to the program, the network or the tab.

const SILENT = 5000; // ms without a message, where one comes each second
const SOON = 500, LATE = 5000, FULL = 10000; // ms until the next try

/** Yield the messages of a response: `{document, picture}`. */
async function* messages(response, onBytes) {
  const reader = response.body.getReader(), text = new TextDecoder();
  let rest = new Uint8Array(0);
  for (;;) {
    while (rest.length >= 8) {
      const lengths = new DataView(rest.buffer, rest.byteOffset);
      const middle = 8 + lengths.getUint32(0, true), end = middle + lengths.getUint32(4, true);
      if (rest.length < end) break;
      const document = JSON.parse(text.decode(rest.subarray(8, middle)));
      yield { document, picture: rest.subarray(middle, end) };
      rest = rest.subarray(end);
    }
    const { value, done } = await reader.read();
    if (done) return;
    onBytes();
    const joined = new Uint8Array(rest.length + value.length);
    joined.set(rest);
    joined.set(value, rest.length);
    rest = joined;
  }
}

/** A stream that is opened again until it is stopped. */
export class Stream {
  #tries = 0; #timer; #abort; #wanted = false; #heard = 0;

  /**
   * @param path Function that returns the address.
   * @param onMessage Called with each message; the next one waits for it, so that pictures that
   *   cannot be shown in time are never sent.
   * @param onStatus Called with `live`, `lost`, `full`, `token` or `stopped`, and a text.
   */
  constructor(path, onMessage, onStatus) {
    this.path = path; this.onMessage = onMessage; this.onStatus = onStatus;
    addEventListener("online", () => this.#again());
    addEventListener("pageshow", (event) => event.persisted && this.#again());
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.#cut(); // a tab that nobody sees costs the device nothing
      else this.#again();
    });
    setInterval(() => {
      if (this.#abort && performance.now() - this.#heard > SILENT) this.#abort.abort();
    }, 1000);
  }

  start() { this.#wanted = true; this.#again(); }

  stop() { this.#wanted = false; this.#cut(); this.onStatus("stopped", ""); }

  #cut() {
    clearTimeout(this.#timer);
    this.#abort?.abort();
    this.#abort = undefined;
  }

  #again() {
    if (!this.#wanted || document.hidden) return;
    this.#cut();
    this.#tries = 0;
    this.#open();
  }

  async #open() {
    const abort = this.#abort = new AbortController();
    this.#heard = performance.now();
    let status = "lost", text = "";
    try {
      const response = await fetch(this.path(), { signal: abort.signal, cache: "no-store" });
      if (response.ok) {
        const heard = () => { this.#heard = performance.now(); };
        for await (const message of messages(response, heard)) {
          if (abort !== this.#abort) return;
          await this.onMessage(message);
          if (this.#tries >= 0) { this.#tries = -1; this.onStatus("live", ""); }
        }
        this.#tries = 0;
      } else {
        status = { 401: "token", 503: "full" }[response.status] ?? "lost";
        text = (await response.json().catch(() => ({}))).error ?? `HTTP ${response.status}`;
      }
    } catch (error) {
      if (error.name !== "AbortError" && !(error instanceof TypeError)) console.error(error);
      this.#tries = Math.max(this.#tries, 0);
    }
    if (abort !== this.#abort) return; // another one has been opened, or none is wanted
    abort.abort();
    this.#abort = undefined;
    this.onStatus(status, text);
    if (status === "token") { this.#wanted = false; return; }
    const wait = status === "full" ? FULL : Math.min(LATE, SOON * 2 ** this.#tries++);
    this.#timer = setTimeout(() => this.#open(), wait);
  }
}

/** Post JSON, and return what is wrong, or "". */
export async function post(path, body) {
  try {
    const response = await fetch(path, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
    if (response.ok) return "";
    return (await response.json().catch(() => ({}))).error ?? `HTTP ${response.status}`;
  } catch {
    return "the program does not answer";
  }
}

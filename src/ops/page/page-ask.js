// Asking the bridge that the page came from, and nobody else.

import { visible } from "./page-show.js";

export const rest = (ms) => new Promise((rested) => setTimeout(rested, ms));

/** A client's token, which stays in this tab. */
const TOKEN = "rtm-bridge-token";
export let token = sessionStorage.getItem(TOKEN);
export function keepToken(value) {
  token = value;
  if (value) sessionStorage.setItem(TOKEN, value);
  else sessionStorage.removeItem(TOKEN);
}

/** Called when the bridge wants another token. */
let refused = () => {};
export const whenRefused = (then) => (refused = then);

/** What the bridge answered other than with a 2xx: a `problem+json`, in words. */
class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(visible(body?.detail ?? `the bridge answered ${status}`));
    Object.assign(this, { status, code: body?.code, retryAfter });
  }
}

/** Asks the bridge. Credentials are ours alone: the browser must neither send its own nor ask for some. */
export async function ask(path, { method = "GET", headers = {}, signal = AbortSignal.timeout(20_000) } = {}) {
  const mine = token;
  if (mine && path !== "counts") headers.authorization = `Bearer ${mine}`;
  const response = await fetch(path, { method, headers, signal, credentials: "omit", cache: "no-store", redirect: "error" });
  // An answer to another client than the present one is nobody's any more.
  if (mine !== token && path !== "counts") throw new Error("the token was changed");
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const problem = new Problem(response.status, body, Number(response.headers.get("retry-after")) || 0);
  if (problem.status === 401) refused();
  throw problem;
}
export const json = async (path) => (await ask(path)).json();

/** An error in words. The browser's own say no more than that there was no answer. */
export const words = (error) => (error instanceof Problem ? error.message : "the bridge does not answer");

/** One thing that is asked for again and again: never twice at once, and only while the tab is seen and it may. */
export class Watch {
  constructor(every, ask, { problem, may = () => true }) {
    Object.assign(this, { every, ask, problem, may, failures: 0, askedAt: 0 });
  }
  async now() {
    clearTimeout(this.timer);
    if (document.hidden || !this.may()) return;
    if (this.busy) return void (this.again = true);
    this.busy = true;
    let wait;
    try {
      this.askedAt = Date.now();
      await this.ask();
      [this.failures, wait] = [0, this.every()];
      this.problem(null);
    } catch (error) {
      this.failures += 1;
      const backoff = Math.min(30_000, 2_000 * 2 ** Math.min(this.failures - 1, 4));
      wait = Math.max(backoff, 1000 * (error.retryAfter ?? 0));
      if (error.status !== 401 && !this.again) this.problem(error);
    }
    this.busy = false;
    if (this.again) return void ((this.again = false), this.now());
    this.timer = setTimeout(() => this.now(), wait);
  }
  /** Asks sooner, `after` milliseconds after the last time. What fails keeps its distance. */
  soon(after) {
    if (this.failures) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.now(), Math.max(0, this.askedAt + after - Date.now()));
  }
}

// How things are shown: as text, never as markup; written only where they changed.

export const $ = (selector, within = document) => within.querySelector(selector);

/** An element with these properties; children are elements or texts. */
export function el(name, properties = {}, ...children) {
  const { role, ...rest } = properties;
  const element = Object.assign(document.createElement(name), rest);
  if (role) element.setAttribute("role", role);
  element.append(...children);
  return element;
}

/** Control characters, and those that hide or turn the writing direction around, as the bridge's own tools show them. */
export const visible = (text) => escaped(text, /[\p{Cc}\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu);
/** The same for texts of several lines. */
export const visibleLines = (text) => escaped(text, /(?![\n\t])[\p{Cc}\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu);
const SHORT = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };
const escaped = (text, what) => String(text ?? "").replace(what, (c) => SHORT[c] ?? `\\u{${c.codePointAt(0).toString(16)}}`);

/** Writes a text where it changed: what is selected, focused or read out stays as it is. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function show(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}

const NUMBERS = new Intl.NumberFormat("en");
export const count = (number) => NUMBERS.format(number ?? 0);
export const counted = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** How far the bridge's clock is ahead of ours: spans of time are measured on the bridge's. */
let skew = 0;
export function setClock(now) {
  skew = Date.parse(now) - Date.now();
}
export const span = (since) => {
  const seconds = Math.max(0, (Date.now() + skew - Date.parse(since)) / 1000);
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 2 * 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
};
const MOMENT = new Intl.DateTimeFormat("sv", { dateStyle: "short", timeStyle: "medium" });
export const CLOCK = new Intl.DateTimeFormat("sv", { timeStyle: "medium" });
export const moment = (time) => MOMENT.format(new Date(time));

/** Makes a `time` say how long ago that was, from now on. */
export function writeSpan(element, since) {
  if (element.dateTime !== since) Object.assign(element, { className: "span", dateTime: since, title: moment(since) });
  write(element, span(since));
}
export const showSpans = () => document.querySelectorAll("time.span").forEach((time) => write(time, span(time.dateTime)));

/** A state in a word, with a colour that says the same. */
export const STATES = {
  __proto__: null,
  connected: ["Connected", "good"],
  connecting: ["Connecting", "busy"],
  backing_off: ["Backing off", "warn"],
  unauthorized: ["Unauthorized", "bad"],
  ok: ["OK", "good"],
  failing: ["Failing", "warn"],
  disabled: ["Disabled", "bad"],
  queued: ["Queued", "busy"],
  sent: ["Sent", "good"],
  acked: ["Acked", "good"],
  rejected: ["Rejected", "bad"],
  expired: ["Expired", "warn"],
};
export function writeState(element, state) {
  const [word, tone] = STATES[state] ?? [visible(state), "off"];
  write(element, word);
  element.className = `state ${tone}`;
}

/**
 * Makes `parent` hold one child an item, in their order. A child stays what and where it is while its key is there:
 * one that is taken out and put back loses the focus, and a click on it.
 */
export function fill(parent, items, key, make) {
  const keys = new Set(items.map(key));
  [...parent.children].filter((child) => !keys.has(child.key)).forEach((child) => child.remove());
  const there = new Map([...parent.children].map((child) => [child.key, child]));
  items.forEach((item, place) => {
    const id = key(item);
    const child = there.get(id) ?? Object.assign(make(item), { key: id });
    child.update?.(item);
    if (parent.children[place] !== child) parent.insertBefore(child, parent.children[place] ?? null);
  });
}

/** A table's row of cells by class; `update` writes an item into them. */
export function row(classes, update) {
  const cells = Object.fromEntries(classes.map((name) => [name, el("td", { className: name, role: "cell" })]));
  const element = el("tr", { role: "row" }, ...Object.values(cells));
  element.update = (item) => update(cells, item, element);
  return element;
}

/** JSON with line breaks and indents, every token as it came: parsing would round large numbers. */
export function indented(json) {
  let [shown, depth] = ["", 0];
  const line = () => `\n${"  ".repeat(depth)}`;
  for (const [token] of json.matchAll(/"(?:[^"\\]|\\.)*"|[[{]\s*[\]}]|[[\]{},:]|[^\s[\]{},:"]+/g)) {
    if (token === "{" || token === "[") shown += token + (depth++, line());
    else if (token === "}" || token === "]") shown += (depth--, line()) + token;
    else if (token === ",") shown += token + line();
    else shown += token === ":" ? ": " : token;
  }
  return shown;
}

/** Draws once for all that comes in a moment. */
export const soon = (draw) => {
  let timer = 0;
  return () => (timer ||= setTimeout(() => ((timer = 0), draw()), 100));
};

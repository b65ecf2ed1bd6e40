// The status page. It asks the bridge it came from, and nobody else: `counts`, which needs no token, and the
// routes of the API under `v1`, as any other client. What comes back is shown as text, never as markup.
"use strict";

// --- Showing ---

const $ = (selector, within = document) => within.querySelector(selector);

/** An element with these properties; children are elements or texts. */
function el(name, properties = {}, ...children) {
  const { role, ...rest } = properties;
  const element = Object.assign(document.createElement(name), rest);
  if (role) element.setAttribute("role", role);
  element.append(...children);
  return element;
}

/** Control characters, and those that hide or turn the writing direction around, as the bridge's own tools show them. */
const visible = (text) => escaped(text, /[\p{Cc}\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu);
/** The same for texts of several lines. */
const visibleLines = (text) => escaped(text, /(?![\n\t])[\p{Cc}\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu);
const SHORT = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };
const escaped = (text, what) => String(text ?? "").replace(what, (c) => SHORT[c] ?? `\\u{${c.codePointAt(0).toString(16)}}`);

/** Writes a text where it changed: what is selected, focused or read out stays as it is. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function show(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}

const NUMBERS = new Intl.NumberFormat("en");
const count = (number) => NUMBERS.format(number ?? 0);
const counted = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** How far the bridge's clock is ahead of ours: spans of time are measured on the bridge's. */
let skew = 0;
const span = (since) => {
  const seconds = Math.max(0, (Date.now() + skew - Date.parse(since)) / 1000);
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 2 * 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
};
const MOMENT = new Intl.DateTimeFormat("sv", { dateStyle: "short", timeStyle: "medium" });
const CLOCK = new Intl.DateTimeFormat("sv", { timeStyle: "medium" });
const moment = (time) => MOMENT.format(new Date(time));

/** Makes a `time` say how long ago that was, from now on. */
function writeSpan(element, since) {
  if (element.dateTime !== since) Object.assign(element, { className: "span", dateTime: since, title: moment(since) });
  write(element, span(since));
}
const showSpans = () => document.querySelectorAll("time.span").forEach((time) => write(time, span(time.dateTime)));

/** A state in a word, with a colour that says the same. */
const STATES = {
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
function writeState(element, state) {
  const [word, tone] = STATES[state] ?? [visible(state), "off"];
  write(element, word);
  element.className = `state ${tone}`;
}

/**
 * Makes `parent` hold one child an item, in their order. A child stays what and where it is while its key is there:
 * one that is taken out and put back loses the focus, and a click on it.
 */
function fill(parent, items, key, make) {
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
function row(classes, update) {
  const cells = Object.fromEntries(classes.map((name) => [name, el("td", { className: name, role: "cell" })]));
  const element = el("tr", { role: "row" }, ...Object.values(cells));
  element.update = (item) => update(cells, item, element);
  return element;
}

/** JSON with line breaks and indents, every token as it came: parsing would round large numbers. */
function indented(json) {
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

// --- Asking ---

const TOKEN = "rtm-bridge-token";
let token = sessionStorage.getItem(TOKEN);

/** What the bridge answered other than with a 2xx: a `problem+json`, in words. */
class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(visible(body?.detail ?? `the bridge answered ${status}`));
    Object.assign(this, { status, code: body?.code, retryAfter });
  }
}

/** Asks the bridge. Credentials are ours alone: the browser must neither send its own nor ask for some. */
async function ask(path, { method = "GET", headers = {}, signal = AbortSignal.timeout(20_000) } = {}) {
  const mine = path === "counts" ? null : token;
  if (mine) headers.authorization = `Bearer ${mine}`;
  const response = await fetch(path, { method, headers, signal, credentials: "omit", cache: "no-store", redirect: "error" });
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const problem = new Problem(response.status, body, Number(response.headers.get("retry-after")) || 0);
  if (problem.status === 401 && mine === token) refuseToken();
  throw problem;
}
const json = async (path) => (await ask(path)).json();

/** An error in words. The browser's own say no more than that there was no answer. */
const words = (error) => (error instanceof Problem ? error.message : "the bridge does not answer");

// --- Asking again and again ---

/** One thing that is asked for again and again: never twice at once, and not while the tab is hidden. */
class Watch {
  constructor(every, ask, { problem, open = false }) {
    Object.assign(this, { every, ask, problem, open, failures: 0, askedAt: 0 });
  }
  async now() {
    clearTimeout(this.timer);
    if (document.hidden || !(this.open || isLetIn())) return;
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
  /** Asks sooner, if the last time is so long ago. */
  soon(after) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.now(), Math.max(0, this.askedAt + after - Date.now()));
  }
}

/** Where a section tells that it could not be asked for. */
const problemIn = (section) => (error) => {
  const place = $(`${section} > .problem`);
  write(place, error ? `Not up to date: ${words(error)}.` : "");
  show(place, Boolean(error));
};

let counts = null;
let lostAt = null;
const watches = {
  counts: new Watch(() => 2_000, askCounts, { open: true, problem: tellLost }),
  webhooks: new Watch(() => 4_000, askWebhooks, { problem: problemIn("#webhooks") }),
  letters: new Watch(() => (letters.some((letter) => letter.replayingSince) ? 1_000 : 20_000), askLetters, {
    problem: problemIn("#letters"),
  }),
  // The live events tell of changes; the whole list is asked for the more seldom the longer it is.
  users: new Watch(() => Math.min(60_000, Math.max(5_000, 6 * users.size)), askUsers, { problem: problemIn("#users") }),
};
const isLetIn = () => Boolean(counts) && (!counts.tokenRequired || Boolean(token));

function tellLost(error) {
  if (error) lostAt ??= new Date();
  else lostAt = null;
  const since = lostAt && CLOCK.format(lostAt);
  write($("#trouble"), lostAt ? `Since ${since}, ${words(error)}. What is shown is from then; asking again.` : "");
  document.body.classList.toggle("stale", Boolean(lostAt));
  if (lostAt) writeStanding("No answer", "bad");
}

// --- Counts ---

async function askCounts() {
  const before = counts;
  counts = await json("counts");
  skew = Date.parse(counts.now) - Date.now();
  if (before && before.version !== counts.version) location.reload();
  showCounts();
  showSpans();
  showAccess();
  const changed = (key) => before && JSON.stringify(before[key]) !== JSON.stringify(counts[key]);
  if (changed("deadLetters")) watches.letters.soon(1_000);
  if (changed("users")) watches.users.soon(2 * users.size);
  if (changed("webhooks")) watches.webhooks.soon(0);
}

function writeStanding(text, tone) {
  write($("#standing"), text);
  $("#standing").className = `state ${tone}`;
}

const STORES = { full: "Store full", unavailable: "Store can't be written" };
function showCounts() {
  const { users, webhooks, messages, backlog, deadLetters } = counts;
  if (counts.ready && counts.progress === "moving") writeStanding("Ready", "good");
  else if (counts.progress !== "moving") writeStanding("Stalled", "bad");
  else if (counts.stage !== "serving") writeStanding(counts.stage === "draining" ? "Shutting down" : "Starting", "warn");
  else writeStanding(STORES[counts.store] ?? visible(counts.store), "bad");
  write($("#uptime"), `${visible(counts.version)}, up ${span(counts.startedAt)}`);

  const all = users.connected + users.connecting + users.backingOff + users.unauthorized;
  tile("users", users.connected, `of ${count(all)} connected`, [
    [users.unauthorized, "unauthorized", "bad"],
    [users.backingOff, "backing off", "warn"],
    [users.connecting, "connecting", "busy"],
    [all === 0 ? 0 : users.connected === all, "everybody is connected", "good"],
  ]);
  const hooks = webhooks.ok + webhooks.failing + webhooks.disabled;
  tile("webhooks", backlog, backlog === 1 ? "event waits" : "events wait", [
    [webhooks.disabled, webhooks.disabled === 1 ? "webhook disabled" : "webhooks disabled", "bad"],
    [webhooks.failing, webhooks.failing === 1 ? "webhook failing" : "webhooks failing", "warn"],
    [webhooks.ok, webhooks.ok === 1 ? "webhook OK" : "webhooks OK", "good"],
    [hooks === 0, "no webhooks", "off"],
  ]);
  tile("letters", deadLetters, deadLetters === 1 ? "event given up" : "events given up", [
    [deadLetters > 0, "replay or purge them", "warn"],
    [deadLetters === 0, "nothing is left behind", "good"],
  ]);
  tile("messages", messages.queued, "queued; since the start:", [
    [messages.acked, "acked", "good", true],
    [messages.sent, "sent", "good", messages.sent > 0],
    [messages.rejected, "rejected", messages.rejected ? "bad" : "off", true],
    [messages.expired, "expired", messages.expired ? "warn" : "off", true],
  ]);
}

/** Lines are shown that have a number (or are true), and those that are always. */
function tile(name, figure, caption, lines) {
  const place = $(`#tile-${name}`);
  write($("b", place), count(figure));
  write($(".figure span", place), caption);
  const shown = lines.filter(([number, , , always]) => always || number);
  fill($("ul", place), shown, ([, label]) => label, () => Object.assign(el("li"), {
    update([number, label, tone]) {
      write(this, number === true ? label : `${count(number)} ${label}`);
      this.className = `state ${tone}`;
    },
  }));
}

// --- The token ---

let wasLetIn = false;
function showAccess() {
  show($("#entry"), counts.tokenRequired && !token);
  show($("#forget"), Boolean(counts.tokenRequired && token));
  show($("#details"), isLetIn());
  if (isLetIn() && !wasLetIn) {
    [watches.webhooks, watches.letters, watches.users].forEach((watch) => watch.now());
    follow();
  }
  wasLetIn = isLetIn();
}

function setToken(value, why = "") {
  token = value;
  value ? sessionStorage.setItem(TOKEN, value) : sessionStorage.removeItem(TOKEN);
  wasLetIn = false;
  stopFollowing();
  write($("#token-problem"), why);
  // What one client may see is not another's.
  [users, webhooks, letters] = [new Map(), [], []];
  live.clear();
  [$("#sheet"), $("#confirm")].forEach((dialog) => dialog.close());
  showUsers();
  showWebhooks();
  showLetters();
  showAccess();
  if (!value && counts.tokenRequired) $("#token").focus();
}

function refuseToken() {
  if (token) setToken(null, "The bridge does not know this token. Enter one of [clients] in its bridge.toml.");
  else watches.counts.now();
}

$("#token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const value = $("#token").value.trim();
  $("#token").value = "";
  if (/^[\x21-\x7e]+$/.test(value)) setToken(value);
  else write($("#token-problem"), "A token has letters, digits and punctuation only, and no spaces.");
});
$("#forget").addEventListener("click", () => setToken(null));

// --- Webhooks ---

let webhooks = [];

async function askWebhooks() {
  ({ webhooks } = await json("v1/webhooks"));
  showWebhooks();
}

function showWebhooks() {
  fill($("#webhooks tbody"), webhooks, (webhook) => webhook.name, webhookRow);
  show($("#webhooks table"), webhooks.length > 0);
  show($("#webhooks .empty"), watches.webhooks.askedAt > 0 && webhooks.length === 0);
  const names = ["", ...webhooks.map((webhook) => webhook.name)];
  fill($("#letters-webhook"), names, (name) => name, (name) => el("option", { value: name }, name || "All webhooks"));
}

function webhookRow() {
  const state = el("span");
  const [summary, at] = [el("bdi", { className: "clip" }), el("time")];
  const enable = el("button", { type: "button" }, "Enable …");
  const made = row(["name", "status", "number wait", "number dead", "wide", "since", "do"], (cells, webhook, element) => {
    element.item = webhook;
    write(cells.name, webhook.name);
    writeState(state, webhook.state);
    write(cells["number wait"], count(webhook.backlog));
    write(cells["number dead"], count(webhook.deadLetters));
    const outcome = webhook.lastOutcome;
    write(summary, outcome ? visible(outcome.summary) : "No attempt since the start");
    summary.title = summary.textContent;
    if (outcome) writeSpan(at, outcome.at);
    show(cells.since, Boolean(outcome));
    show(enable, webhook.state !== "ok");
  });
  const [, status, wait, dead, wide, since, action] = made.children;
  status.append(state);
  wait.dataset.label = "waiting";
  dead.dataset.label = "dead";
  wide.append(summary);
  since.append(at);
  since.dataset.label = "ago";
  action.append(enable);
  enable.addEventListener("click", () => {
    const { name } = made.item;
    confirmed({
      title: `Enable ${name}?`,
      text: `What waits for it is posted at once, in order: a 410 and a hold (Retry-After) end.`,
      yes: "Enable",
      path: `v1/webhooks/${encodeURIComponent(name)}/enable`,
      done: () => (watches.webhooks.now(), `${name} gets what waits for it.`),
    });
  });
  return made;
}

// --- Dead letters ---

const LETTERS_A_PAGE = 10;
let letters = [];
/** The cursors that led here, and the one that leads on. */
const letterPages = { back: [], here: null, on: null };

function letterFilter() {
  const webhook = $("#letters-webhook").value;
  return webhook ? `webhook=${encodeURIComponent(webhook)}` : "";
}

async function askLetters() {
  const here = letterPages.here;
  const query = [`limit=${LETTERS_A_PAGE}`, letterFilter(), here && `cursor=${here}`].filter(Boolean).join("&");
  const page = await json(`v1/dead-letters?${query}`);
  if (here !== letterPages.here) return;
  [letters, letterPages.on] = [page.deadLetters, page.nextCursor];
  // What was on this page is gone: the one before has the rest.
  if (letters.length === 0 && here) return turnLetters(letterPages.back.pop() ?? null);
  showLetters();
}

function turnLetters(cursor) {
  letterPages.here = cursor;
  watches.letters.now();
}

function showLetters() {
  fill($("#letters tbody"), letters, (letter) => letter.id, letterRow);
  show($("#letters table"), letters.length > 0);
  show($("#letters .empty"), watches.letters.askedAt > 0 && letters.length === 0);
  [$("#replay-all"), $("#purge-all")].forEach((button) => (button.disabled = letters.length === 0));
  const { back, here, on } = letterPages;
  const first = back.length * LETTERS_A_PAGE + 1;
  const place = letters.length ? `${count(first)}–${count(first + letters.length - 1)}` : "";
  pager("#letters-pager", place, Boolean(here), Boolean(on));
}

function pager(selector, place, back, on) {
  const element = $(selector);
  show(element, back || on);
  write($(".where", element), place);
  $(".back", element).disabled = !back;
  $(".on", element).disabled = !on;
}

$("#letters-pager .on").addEventListener("click", () => {
  letterPages.back.push(letterPages.here);
  turnLetters(letterPages.on);
});
$("#letters-pager .back").addEventListener("click", () => turnLetters(letterPages.back.pop() ?? null));
$("#letters-webhook").addEventListener("change", () => {
  letterPages.back = [];
  turnLetters(null);
});

function letterRow() {
  const type = el("button", { type: "button", className: "link" });
  const [reason, again, died] = [el("bdi", { className: "clip" }), el("span", { className: "state busy" }), el("time")];
  const replay = el("button", { type: "button" }, "Replay …");
  const purge = el("button", { type: "button" }, "Purge …");
  const made = row(["name", "user", "hook", "number tries", "wide", "since", "do"], (cells, letter, element) => {
    element.item = letter;
    write(type, visible(letter.type));
    write(cells.user, letter.user);
    write(cells.hook, letter.webhook);
    write(cells["number tries"], count(letter.attempts));
    cells["number tries"].dataset.label = letter.attempts === 1 ? "try" : "tries";
    write(reason, visible(letter.reason));
    reason.title = reason.textContent;
    writeSpan(died, letter.deadAt);
    show(again, Boolean(letter.replayingSince));
    show(reason, !letter.replayingSince);
    if (letter.replayingSince) write(again, `Being delivered for ${span(letter.replayingSince)}`);
    replay.disabled = Boolean(letter.replayingSince);
    replay.ariaLabel = `Replay ${letter.id} …`;
    purge.ariaLabel = `Purge ${letter.id} …`;
  });
  const [name, , , , wide, since, action] = made.children;
  name.append(type);
  since.dataset.label = "ago";
  wide.append(reason, again);
  since.append(died);
  action.append(replay, purge);
  type.addEventListener("click", () => openLetter(made.item.id));
  replay.addEventListener("click", () => replayLetter(made.item));
  purge.addEventListener("click", () => purgeLetter(made.item));
  return made;
}

const letterPath = (id) => `v1/dead-letters/${encodeURIComponent(id)}`;

function replayLetter(letter) {
  confirmed({
    title: "Replay this event?",
    text: `${visible(letter.type)} of ${letter.user} is posted to ${letter.webhook} again, with the same webhook-id and body.`,
    yes: "Replay",
    path: `${letterPath(letter.id)}/replay`,
    done: () => (awaitReplay(letter), `${letter.id} is being delivered …`),
  });
}

/** Tells what becomes of a replay, if that is soon; else the list goes on telling. */
async function awaitReplay({ id, webhook }) {
  for (let waited = 0; waited < 30 && !document.hidden; waited += 1) {
    watches.letters.now();
    await rest(waited ? 1_000 : 250);
    try {
      const { replayingSince, reason } = await json(letterPath(id));
      if (!replayingSince) return tellOutcome(`${id} is a dead letter again: ${visible(reason)}.`);
    } catch (error) {
      if (error.code === "unknown_dead_letter") return (watches.letters.now(), tellOutcome(`${id} was delivered: ${webhook} took it.`));
    }
  }
}
const rest = (ms) => new Promise((rested) => setTimeout(rested, ms));

function purgeLetter(letter) {
  confirmed({
    title: "Purge this event?",
    text: `${visible(letter.type)} of ${letter.user} is deleted for good: ${letter.webhook} never gets it.`,
    yes: "Purge",
    danger: true,
    method: "DELETE",
    path: letterPath(letter.id),
    done: () => (watches.letters.now(), `${letter.id} is deleted.`),
  });
}

/** What "all" means with the filter as it is. */
function allLetters() {
  const name = $("#letters-webhook").value;
  return { query: letterFilter() || "all=true", which: name ? `All dead letters of ${name}` : "All dead letters, of all webhooks," };
}
$("#replay-all").addEventListener("click", () => {
  const { query, which } = allLetters();
  confirmed({
    title: "Replay all?",
    text: `${which} are posted again, in each user's order, also those on other pages.`,
    yes: "Replay all",
    path: `v1/dead-letters/replay?${query}`,
    done: ({ replaying, leftAlone }) => {
      watches.letters.now();
      const left = leftAlone ? ` ${count(leftAlone)} stay: their webhook is not configured, or they are being delivered already.` : "";
      return `${counted(replaying, "event is", "events are")} being delivered.${left}`;
    },
  });
});
$("#purge-all").addEventListener("click", () => {
  const { query, which } = allLetters();
  confirmed({
    title: "Purge all?",
    text: `${which} are deleted for good, also those on other pages.`,
    yes: "Purge all",
    danger: true,
    method: "DELETE",
    path: `v1/dead-letters?${query}`,
    done: () => (watches.letters.now(), "They are deleted."),
  });
});

async function openLetter(id) {
  const letter = await opened(`Dead letter ${id}`, () => json(letterPath(id)));
  if (!letter) return;
  const attempts = letter.attemptHistory.map((attempt) =>
    el("li", {},
      el("b", {}, `${attempt.number}. `), el("time", { className: "dim" }, moment(attempt.at)), " ",
      el("span", {}, attempt.status ? `answered ${attempt.status}` : visible(attempt.detail ?? attempt.error ?? "no answer")),
      attempt.answer ? el("pre", {}, visibleLines(attempt.answer)) : ""));
  sheet(
    [
      facts([
        ["Type", visible(letter.type)], ["User", letter.user], ["Webhook", letter.webhook],
        ["webhook-id", letter.webhookId], ["Sequence", String(letter.sequence)],
        ["Received", moment(letter.createdAt)], ["Dead since", moment(letter.deadAt)],
        ["Reason", visible(letter.reason)],
      ]),
      el("h3", {}, "Attempts"),
      attempts.length ? el("ul", { className: "attempts" }, ...attempts) : el("p", { className: "dim" }, "None is remembered."),
      el("h3", {}, "Body"),
      el("pre", {}, visibleLines(letter.contentType.includes("json") ? indented(letter.body) : letter.body)),
    ],
    [["Replay …", () => replayLetter(letter), Boolean(letter.replayingSince)], ["Purge …", () => purgeLetter(letter)]],
  );
}

// --- Users ---

const USERS_A_PAGE = 25;
const SEVERITY = ["unauthorized", "backing_off", "connecting", "connected"];
let users = new Map();
const userView = { state: null, text: "", page: 0, shown: [] };

async function askUsers() {
  const list = await json("v1/users");
  users = new Map(list.users.map((user) => [user.name, user]));
  showUsers();
}

/** Where the reader is just now rows change their contents, but not their places. */
let touched = { within: null, at: 0 };
for (const kind of ["pointermove", "pointerdown", "keydown", "focusin"]) {
  document.addEventListener(kind, (event) => (touched = { within: event.target, at: Date.now() }), { passive: true });
}
const isInUse = (element) => Date.now() - touched.at < 4_000 && element.contains(touched.within);

/** The users that are meant, those in trouble first. */
function meantUsers() {
  const text = userView.text.toLowerCase();
  const matches = (user) => [user.name, user.bot, user.lastError ?? ""].some((part) => part.toLowerCase().includes(text));
  const meant = [...users.values()].filter((user) => (!userView.state || user.state === userView.state) && (!text || matches(user)));
  const rank = (user) => SEVERITY.indexOf(user.state);
  // The list came in the order of names.
  return meant.sort((a, b) => rank(a) - rank(b));
}

function showUsers({ keep = isInUse($("#users tbody")) } = {}) {
  const meant = meantUsers();
  const pages = Math.max(1, Math.ceil(meant.length / USERS_A_PAGE));
  userView.page = Math.min(userView.page, pages - 1);
  const first = userView.page * USERS_A_PAGE;
  if (keep) userView.shown = userView.shown.filter((name) => users.has(name));
  else userView.shown = meant.slice(first, first + USERS_A_PAGE).map((user) => user.name);
  fill($("#users tbody"), userView.shown.map((name) => users.get(name)), (user) => user.name, userRow);
  const last = Math.min(first + USERS_A_PAGE, meant.length);
  pager("#users-pager", `${count(first + 1)}–${count(last)} of ${count(meant.length)}`, userView.page > 0, userView.page + 1 < pages);
  show($("#users table"), userView.shown.length > 0);
  show($("#users .empty"), watches.users.askedAt > 0 && userView.shown.length === 0);
  write($("#users .empty"), users.size ? "No user is like that." : "No users are configured for you. Add one under [users.NAME] in bridge.toml, and reload.");
  showStates();
}

function showStates() {
  const tally = Object.fromEntries(SEVERITY.map((state) => [state, 0]));
  for (const user of users.values()) tally[user.state] = (tally[user.state] ?? 0) + 1;
  const chips = [[null, "All", users.size], ...SEVERITY.map((state) => [state, STATES[state][0], tally[state]])];
  fill($("#users-states"), chips, ([state]) => state, ([state, label]) => {
    const number = el("b");
    const chip = el("button", { type: "button" }, `${label} `, number);
    chip.update = ([, , size]) => {
      write(number, count(size));
      chip.ariaPressed = String(userView.state === state);
    };
    chip.addEventListener("click", () => turnUsers({ state }));
    return chip;
  });
}

function turnUsers(change) {
  Object.assign(userView, { page: 0 }, change);
  showUsers({ keep: false });
}
$("#users-pager .on").addEventListener("click", () => turnUsers({ page: userView.page + 1 }));
$("#users-pager .back").addEventListener("click", () => turnUsers({ page: userView.page - 1 }));
$("#users-filter").addEventListener("input", (event) => turnUsers({ text: event.target.value.trim() }));

function userRow() {
  const name = el("button", { type: "button", className: "link" });
  const [bot, state, agent] = [el("span", { className: "dim" }), el("span"), el("span", { className: "tag" }, "agent")];
  const [since, error] = [el("time"), el("bdi", { className: "clip" })];
  const made = row(["name", "status", "since", "number send", "number deliver", "wide"], (cells, user, element) => {
    element.item = user;
    write(name, user.name);
    write(bot, user.bot);
    writeState(state, user.state);
    show(agent, user.agentSession);
    writeSpan(since, user.since);
    write(cells["number send"], count(user.queued));
    write(cells["number deliver"], count(user.undelivered));
    write(error, visible(user.lastError ?? ""));
    error.title = error.textContent;
    // It stays until the next one: of a connected user it is history.
    error.classList.toggle("dim", user.state === "connected");
  });
  const [first, status, age, send, deliver, wide] = made.children;
  first.append(name, " ", bot, " ", agent);
  status.append(state);
  age.append(since);
  age.dataset.label = "for";
  send.dataset.label = "to send";
  deliver.dataset.label = "to deliver";
  wide.append(error);
  name.addEventListener("click", () => openUser(made.item.name));
  return made;
}

async function openUser(name) {
  const path = `v1/users/${encodeURIComponent(name)}`;
  const loaded = await opened(`User ${name}`, () => Promise.all([json(path), json(`${path}/messages?limit=20`)]));
  if (!loaded) return;
  const [user, { messages, nextCursor }] = loaded;
  const state = el("span");
  writeState(state, user.state);
  const lines = messages.map((message) => {
    const status = el("span");
    writeState(status, message.status);
    const why = message.reason ? ` ${message.reason.replaceAll("_", " ")}, delivery ${message.delivery}` : "";
    return el("li", {}, status, el("span", {}, why), " ", el("span", { className: "dim" }, `${message.clientMessageId}, ${moment(message.createdAt)}`));
  });
  sheet(
    [
      facts([
        ["State", state], ["Since", moment(user.since)], ["Bot", user.bot],
        ["Tries", `${count(user.attempts)} since the last stable connection`],
        ["To send", counted(user.queued, "message")], ["To deliver", counted(user.undelivered, "event")],
        ["Agent session", user.agentSession ? "a human answers at the moment" : "no"],
        ["Last error", user.lastError ? visible(user.lastError) : "none"],
      ]),
      el("h3", {}, "Messages, the newest first"),
      lines.length ? el("ul", { className: "attempts" }, ...lines) : el("p", { className: "dim" }, "None is kept."),
      nextCursor ? el("p", { className: "dim" }, `Older ones: ${path}/messages`) : "",
    ],
    [["Reconnect …", () => confirmed({
      title: `Reconnect ${name}?`,
      text: "Its socket, if any, is closed and a new one opened at once. Nothing is lost; messages wait meanwhile.",
      yes: "Reconnect",
      path: `${path}/reconnect`,
      done: () => (watches.users.soon(1_000), `${name} connects anew.`),
    })]],
  );
}

// --- Live events ---

/** What is kept and shown of the live events. */
const MOST_EVENTS = 200;
/** More than this in a second is not followed: the page would be in the way of those whom the events are for. */
const [MOST_PER_SECOND, MOST_BYTES_PER_SECOND] = [200, 1 << 20];

const live = {
  /** The newest first. */
  entries: [],
  unseen: 0,
  paused: false,
  clear() {
    [this.entries, this.unseen, stream.last] = [[], 0, null];
    showEvents();
  },
  add(entry) {
    this.entries.unshift({ ...entry, key: ++stream.number });
    this.entries.length = Math.min(this.entries.length, MOST_EVENTS);
    this.unseen += 1;
    showEventsSoon();
  },
};
const stream = { last: null, number: 0, abort: null, hiddenAt: 0 };

function stopFollowing() {
  stream.abort?.abort();
  stream.abort = null;
}

/** Follows the live events until it is stopped. Goes on from the last event that was seen. */
async function follow() {
  stopFollowing();
  const mine = (stream.abort = new AbortController());
  for (let failures = 0; !mine.signal.aborted; ) {
    try {
      await read(mine.signal, () => (failures = 0));
      tellStream("Connecting again …");
      await rest(500);
    } catch (error) {
      if (mine.signal.aborted) return;
      if (error instanceof TooMany) {
        stream.last = null;
        live.add({ note: "Too many events to show each: some are left out here." });
        tellStream("More events come than can be shown: what you see are samples.");
        await rest(3_000);
      } else if (error.code === "event_gone") {
        stream.last = null;
        live.add({ note: "Events that are no longer kept are left out here." });
      } else {
        failures += 1;
        tellStream(`No live events: ${words(error)}. Trying again.`);
        await rest(Math.max(Math.min(15_000, 1_000 * 2 ** Math.min(failures - 1, 4)), 1000 * (error.retryAfter ?? 0)));
      }
    }
  }
}

class TooMany extends Error {}

/** Reads one answer of `v1/events` to its end. */
async function read(stopped, onOpen) {
  const quiet = new AbortController();
  const signal = AbortSignal.any([stopped, quiet.signal]);
  // A living stream says something every 15 seconds.
  let alarm;
  const heard = () => (clearTimeout(alarm), (alarm = setTimeout(() => quiet.abort(), 45_000)));
  try {
    heard();
    const response = await ask("v1/events", { headers: stream.last ? { "last-event-id": stream.last } : {}, signal });
    onOpen();
    tellStream(null);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let [rest, since, events, bytes] = ["", Date.now(), 0, 0];
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard();
      if (Date.now() - since > 1_000) [since, events, bytes] = [Date.now(), 0, 0];
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      [events, bytes] = [events + blocks.length, bytes + value.length];
      blocks.slice(-MOST_EVENTS).forEach(take);
      if (events > MOST_PER_SECOND || bytes > MOST_BYTES_PER_SECOND) throw new TooMany();
    }
  } finally {
    clearTimeout(alarm);
    quiet.abort();
  }
}

/** One block of the stream: an event, the id to go on from, or a sign of life. */
function take(block) {
  const fields = Object.fromEntries(block.split("\n").map((line) => line.match(/^(\w+): ?(.*)$/s)?.slice(1) ?? ["", ""]));
  if (fields.id) stream.last = fields.id;
  if (!fields.data) return;
  const { type, timestamp, user, text, from, data } = JSON.parse(fields.data);
  live.add({ id: fields.id, type, timestamp, user, text: text ?? summary(type, data), from, raw: fields.data });
  // A frame of the platform that calls itself so has a type inside.
  if (type === "bridge.connection" && data.type === undefined && users.has(user)) {
    const { state, since, lastError, attempts } = data;
    Object.assign(users.get(user), { state, since, lastError, attempts });
    showUsersSoon();
  }
}

/** Draws once for all that comes in a moment. */
const drawingSoon = (draw) => {
  let timer = 0;
  return () => (timer ||= setTimeout(() => ((timer = 0), draw()), 100));
};
const showUsersSoon = drawingSoon(() => showUsers());
const showEventsSoon = drawingSoon(() => showEvents());

/** The bridge's own events have no text; this is what they say. */
function summary(type, data) {
  const word = (state) => STATES[state]?.[0] ?? state;
  switch (type) {
    case "bridge.connection":
      return word(data.state) + (data.lastError && data.state !== "connected" ? `: ${data.lastError}` : "");
    case "bridge.message":
      return `${word(data.status)}: message ${data.clientMessageId}`;
    case "bridge.gap":
      return `${counted(data.recovered, "missed event")} recovered${data.complete ? "" : `, not all: ${data.reason}`}`;
    default:
      return "";
  }
}

let streamTrouble = null;
function tellStream(trouble) {
  streamTrouble = trouble;
  showEvents();
}

function showEvents() {
  const { entries, paused, unseen } = live;
  write($("#stream"), streamTrouble ?? (paused ? `Paused. ${counted(unseen, "new event")} meanwhile.` : `Following. The latest ${MOST_EVENTS} are kept here.`));
  if (paused) return;
  live.unseen = 0;
  const text = $("#events-filter").value.trim().toLowerCase();
  const matches = (entry) => entry.note || [entry.user, entry.type, entry.text].some((part) => part?.toLowerCase().includes(text));
  const shown = text ? entries.filter(matches) : entries;
  fill($("#events ol"), shown, (entry) => entry.key, eventItem);
}

function eventItem(entry) {
  if (entry.note) return el("li", { className: "note" }, entry.note);
  const body = el("pre");
  const details = el("details", {},
    el("summary", {},
      el("time", { title: moment(entry.timestamp) }, CLOCK.format(new Date(entry.timestamp))), " ",
      el("bdi", { className: "who" }, entry.user), " ",
      el("bdi", { className: `tag ${entry.from ?? ""}` }, visible(entry.type ?? "unknown")), " ",
      el("bdi", { className: "text" }, visible(entry.text ?? ""))),
    body);
  details.addEventListener("toggle", () => write(body, details.open ? `${entry.id}\n${visibleLines(indented(entry.raw))}` : ""));
  return el("li", {}, details);
}

$("#events-filter").addEventListener("input", showEvents);
$("#pause").addEventListener("click", () => {
  live.paused = !live.paused;
  $("#pause").ariaPressed = String(live.paused);
  write($("#pause"), live.paused ? "Go on" : "Pause");
  live.unseen = 0;
  showEvents();
});

// --- Dialogs ---

/** Opens the sheet with this title, and gives what `load` brings, unless it fails or the reader left meanwhile. */
async function opened(title, load) {
  const place = $("#sheet");
  write($("#sheet-title"), title);
  $(".content", place).replaceChildren(el("p", { className: "dim" }, "Asking …"));
  $(".actions", place).replaceChildren();
  if (!place.open) place.showModal();
  try {
    const loaded = await load();
    return place.open && $("#sheet-title").textContent === title ? loaded : null;
  } catch (error) {
    $(".content", place).replaceChildren(el("p", { className: "problem" }, `It can't be shown: ${words(error)}.`));
    return null;
  }
}

function sheet(content, actions) {
  $("#sheet .content").replaceChildren(...content);
  $("#sheet .actions").replaceChildren(...actions.map(([label, act, disabled = false]) => {
    const button = el("button", { type: "button", disabled }, label);
    button.addEventListener("click", () => ($("#sheet").close(), act()));
    return button;
  }));
}
$("#sheet .close").addEventListener("click", () => $("#sheet").close());

const facts = (pairs) => el("dl", {}, ...pairs.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));

/** Asks the reader first, then the bridge. The dialog stays while there is no success to tell. */
function confirmed({ title, text, yes, danger = false, method = "POST", path, done }) {
  const place = $("#confirm");
  const [problem, button] = [$(".problem", place), $(".yes", place)];
  write($("#confirm-title"), title);
  write($("#confirm-text"), text);
  write(problem, "");
  write(button, yes);
  button.classList.toggle("danger", danger);
  button.disabled = false;
  button.onclick = async () => {
    button.disabled = true;
    write(problem, "");
    try {
      const response = await ask(path, { method });
      const answer = response.status === 204 ? {} : await response.json();
      place.close();
      tellOutcome(done(answer));
    } catch (error) {
      const hint = error.code === "scope_missing" ? " Forget this token and enter one with the scope admin." : "";
      write(problem, `Not done: ${words(error)}.${hint}`);
      button.disabled = false;
    }
  };
  place.showModal();
  $(".no", place).focus();
}
$("#confirm .no").addEventListener("click", () => $("#confirm").close());

let outcomeTimer;
function tellOutcome(text) {
  clearTimeout(outcomeTimer);
  write($("#outcome span"), text);
  show($("#outcome"), true);
  outcomeTimer = setTimeout(() => show($("#outcome"), false), 12_000);
}
$("#outcome button").addEventListener("click", () => show($("#outcome"), false));

// --- Beginning, pausing, going on ---

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    stream.hiddenAt = Date.now();
    return stopFollowing();
  }
  if (stream.last && Date.now() - stream.hiddenAt > 60_000) {
    stream.last = null;
    live.add({ note: "While this page was hidden it followed nothing: events are left out here." });
  }
  Object.values(watches).forEach((watch) => watch.now());
  if (isLetIn()) follow();
});
watches.counts.now();

// The status page. It asks the bridge it came from, and nobody else: `counts`, which needs no token, and the
// routes of the API under `v1`, as any other client. What comes back is shown as text, never as markup.

import { Watch, json, keepToken, rest, token, whenRefused, words } from "./page-ask.js";
import { closeAll, confirmed, facts, opened, sheet, tellOutcome } from "./page-dialogs.js";
import { follow, forgetEvents, goOn, hide, stopFollowing, whenConnectionChanges } from "./page-live.js";
import {
  $, CLOCK, STATES, count, counted, el, fill, indented, moment, row, setClock, show, showSpans, soon, span, visible,
  visibleLines, write, writeSpan, writeState,
} from "./page-show.js";

// --- What is asked for, and when ---

/** Where a section tells that it could not be asked for. */
const problemIn = (section) => (error) => {
  const place = $(`${section} > .problem`);
  write(place, error ? `Not up to date: ${words(error)}.` : "");
  show(place, Boolean(error));
};

/** What is shown only to those who may see it. */
const detail = (section) => ({ problem: problemIn(section), may: isLetIn });

let counts = null;
let lostAt = null;
const watches = {
  counts: new Watch(() => 2_000, askCounts, { problem: tellLost }),
  webhooks: new Watch(() => 4_000, askWebhooks, detail("#webhooks")),
  letters: new Watch(() => (letters.some((letter) => letter.replayingSince) ? 1_000 : 20_000), askLetters, detail("#letters")),
  // The live events tell of changes; the whole list is asked for the more seldom the longer it is.
  users: new Watch(() => Math.min(60_000, Math.max(5_000, 6 * users.size)), askUsers, detail("#users")),
};

/** Whether more than counts may be asked for. */
function isLetIn() {
  return Boolean(counts) && (!counts.tokenRequired || Boolean(token));
}

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
  setClock(counts.now);
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
  keepToken(value);
  wasLetIn = false;
  stopFollowing();
  write($("#token-problem"), why);
  // What one client may see is not another's.
  [users, webhooks, letters] = [new Map(), [], []];
  forgetEvents();
  closeAll();
  showUsers();
  showWebhooks();
  showLetters();
  showAccess();
  if (!value && counts.tokenRequired) $("#token").focus();
}

whenRefused(() => {
  if (token) setToken(null, "The bridge does not know this token. Enter one of [clients] in its bridge.toml.");
  else watches.counts.now();
});

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
      if (error.code !== "unknown_dead_letter") continue;
      watches.letters.now();
      return tellOutcome(`${id} was delivered: ${webhook} took it.`);
    }
  }
}

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

const showUsersSoon = soon(showUsers);
whenConnectionChanges((name, { state, since, lastError, attempts }) => {
  if (!users.has(name)) return;
  Object.assign(users.get(name), { state, since, lastError, attempts });
  showUsersSoon();
});

// --- Beginning, pausing, going on ---

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return hide();
  Object.values(watches).forEach((watch) => watch.now());
  if (isLetIn()) goOn();
});
watches.counts.now();

// Live events: the bridge's own stream, the latest of it.

import { ask, rest, words } from "./page-ask.js";
import { $, CLOCK, STATES, counted, el, fill, indented, moment, soon, visible, visibleLines, write } from "./page-show.js";

/** What is kept and shown of the live events. */
const MOST_EVENTS = 200;
/** More than this in a second is not followed: the page would be in the way of those whom the events are for. */
const [MOST_PER_SECOND, MOST_BYTES_PER_SECOND] = [200, 1 << 20];

/** Where the stream goes on from, how many entries came of it, how it is stopped, since when the page is hidden. */
const stream = { last: null, number: 0, abort: null, hiddenAt: 0 };

const live = {
  /** The newest first. */
  entries: [],
  unseen: 0,
  paused: false,
  add(entry) {
    this.entries.unshift({ ...entry, key: ++stream.number });
    this.entries.length = Math.min(this.entries.length, MOST_EVENTS);
    this.unseen += 1;
    showEventsSoon();
  },
};

/** Called with a user's name and the new status of its connection. */
let connectionChanged = () => {};
export const whenConnectionChanges = (then) => (connectionChanged = then);

/** Forgets all events: what one client may see is not another's. */
export function forgetEvents() {
  [live.entries, live.unseen, stream.last] = [[], 0, null];
  showEvents();
}

/** The page is hidden; for how long decides how it goes on. */
export function hide() {
  stream.hiddenAt = Date.now();
  stopFollowing();
}
export function goOn() {
  if (stream.last && Date.now() - stream.hiddenAt > 60_000) {
    stream.last = null;
    live.add({ note: "While this page was hidden it followed nothing: events are left out here." });
  }
  follow();
}

export function stopFollowing() {
  stream.abort?.abort();
  stream.abort = null;
}

/** Follows the live events until it is stopped. Goes on from the last event that was seen. */
export async function follow() {
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
  if (type === "bridge.connection" && data.type === undefined) connectionChanged(user, data);
}

const showEventsSoon = soon(showEvents);

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

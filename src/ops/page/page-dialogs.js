// What opens over the page: details, and the question before an action. And what came of that.

import { ask, words } from "./page-ask.js";
import { $, el, show, write } from "./page-show.js";

/** Opens the sheet with this title, and gives what `load` brings, unless it fails or the reader left meanwhile. */
export async function opened(title, load) {
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

export function sheet(content, actions) {
  $("#sheet .content").replaceChildren(...content);
  $("#sheet .actions").replaceChildren(...actions.map(([label, act, disabled = false]) => {
    const button = el("button", { type: "button", disabled }, label);
    button.addEventListener("click", () => ($("#sheet").close(), act()));
    return button;
  }));
}
$("#sheet .close").addEventListener("click", () => $("#sheet").close());

export const facts = (pairs) => el("dl", {}, ...pairs.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));

/** Asks the reader first, then the bridge. The dialog stays while there is no success to tell. */
export function confirmed({ title, text, yes, danger = false, method = "POST", path, done }) {
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
export function tellOutcome(text) {
  clearTimeout(outcomeTimer);
  write($("#outcome span"), text);
  show($("#outcome"), true);
  outcomeTimer = setTimeout(() => show($("#outcome"), false), 12_000);
}
$("#outcome button").addEventListener("click", () => show($("#outcome"), false));

export const closeAll = () => [$("#sheet"), $("#confirm")].forEach((dialog) => dialog.close());

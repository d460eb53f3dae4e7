// The live page of `uda-runtime watch`.

import { Card } from "./card.js";
import { Stream, post } from "./stream.js";
import { number, sentence } from "./words.js";

const $ = (id) => document.getElementById(id);
const cards = new Map();
const QUIET = 1500; // ms in which what happens is announced together
let version = null, opened = false, said = [], sayTimer, lastState = null;

const LINK = {
  live: "Live", lost: "Connection lost", full: "Too many viewers", token: "Token needed",
  stopped: "Paused",
};

/** Announce a text to screen readers, soon and with others. */
function say(text) {
  said = [...said.filter((each) => each !== text), text].slice(-5);
  clearTimeout(sayTimer);
  sayTimer = setTimeout(() => { $("said").textContent = said.join(". "); said = []; }, QUIET);
}

/** The camera that is shown alone, or null. */
function only() {
  const name = fragment();
  return cards.has(name) ? name : null;
}

function fragment() {
  try { return decodeURIComponent(location.hash.slice(1)); } catch { return ""; }
}

function update(state) {
  if (version !== null && version !== state.page) { location.reload(); return; }
  version = state.page;
  lastState = state;
  const names = new Set(state.cameras.map((camera) => camera.name));
  for (const [name, card] of cards) if (!names.has(name)) { card.element.remove(); cards.delete(name); }
  for (const camera of state.cameras) {
    if (!cards.has(camera.name)) {
      const card = new Card(camera.name, say);
      cards.set(camera.name, card);
      $("cameras").append(card.element);
    }
    const card = cards.get(camera.name);
    if (!opened) card.reset();
    card.update(state, camera);
  }
  opened = true;
  arrange();
  const running = state.cameras.filter((camera) => camera.state === "running").length;
  const count = state.cameras.length, drifting = [...cards.values()].filter((card) => card.drifting);
  const words = [];
  if (running < count) words.push(`${number(running)} running`);
  if (drifting.length) words.push(`${number(drifting.length)} drifting`);
  $("summary").textContent = words.join(" · ");
  document.title = `${drifting.length ? "▲ " : ""}${counted()}`;
  $("mode").textContent = state.control ? ""
    : "This page only shows. Start uda-runtime watch with --control to choose tasks here.";
}

function counted() { return cards.size === 1 ? "1 camera" : `${number(cards.size)} cameras`; }

/** Show all cameras, or one. */
function arrange() {
  const one = only();
  document.body.classList.toggle("alone", one !== null || cards.size === 1);
  for (const [name, card] of cards) card.element.hidden = one !== null && name !== one;
  document.body.classList.toggle("several", one === null && cards.size > 2);
  document.body.classList.toggle("many", one === null && cards.size > 6);
  $("home").textContent = one !== null && cards.size > 1 ? "‹ All cameras" : counted();
}

async function onMessage({ document: found, picture }) {
  if (found.kind === "state") update(found);
  else if (found.kind === "frame") await cards.get(found.source)?.show(found, picture);
}

function onStatus(status, text) {
  $("link").dataset.state = status;
  $("link-text").textContent = LINK[status];
  document.body.dataset.link = status;
  if (status !== "live") opened = false;
  const notice = { lost: "The program does not answer. Trying again.", full: sentence(text) }[status];
  if (notice && $("notice").textContent !== notice) say(notice);
  if (status === "live" && !$("notice").hidden) say("Live again");
  $("notice").hidden = !notice;
  $("notice").textContent = notice ?? "";
  $("pause").hidden = !["live", "stopped"].includes(status);
  $("enter").hidden = status !== "token";
  $("cameras").hidden = status === "token";
  if (status === "token") $("token").focus();
}

const stream = new Stream(() => {
  const one = only();
  return one === null ? "stream" : `stream?source=${encodeURIComponent(one)}`;
}, onMessage, onStatus);

$("pause").addEventListener("click", () => {
  const paused = $("pause").getAttribute("aria-pressed") !== "true";
  $("pause").setAttribute("aria-pressed", String(paused));
  if (paused) stream.stop(); else stream.start();
});

async function enter(token) {
  const wrong = await post("enter", { token });
  $("wrong").textContent = sentence(wrong);
  if (wrong) { onStatus("token", ""); return; }
  $("token").value = "";
  stream.start();
}

$("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  enter($("token").value);
});

addEventListener("hashchange", () => {
  if (lastState === null) return;
  arrange();
  scrollTo(0, 0);
  if ($("pause").getAttribute("aria-pressed") !== "true") stream.start();
});

// Behind # a token never reaches a server's log; it does not stay in the address either.
const given = /^token=(.+)$/.exec(fragment());
if (given) {
  history.replaceState(null, "", location.pathname);
  enter(given[1]);
} else stream.start();

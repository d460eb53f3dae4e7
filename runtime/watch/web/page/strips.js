// Draw what happened over the last minutes: latency, novelty, task.

import { milliseconds, number } from "./words.js";

const JOINED = 3; // points that may be missing within a line
const [NUMBER, FRAMES, MEDIAN, P99, NOVELTY, TASK] = [0, 1, 2, 3, 4, 5];

/** The points of one camera, by number. */
export class Points {
  #points = new Map();

  /** Take points; those of a number that is known replace it. */
  add(points, state) {
    this.state = state;
    for (const point of points) this.#points.set(point[NUMBER], point);
    for (const key of this.#points.keys()) {
      if (key <= state.now - state.points) this.#points.delete(key);
    }
  }

  clear() { this.#points.clear(); }

  get all() { return [...this.#points.values()].sort((a, b) => a[NUMBER] - b[NUMBER]); }

  /** The last point that is over, if it is not old, else the open one. */
  get last() {
    const recent = this.all.filter((point) => point[NUMBER] >= this.state.now - 2);
    return recent.findLast((point) => point[NUMBER] < this.state.now) ?? recent.at(-1);
  }

  /** Number of points from the left edge to the right: few at first, so that they can be seen. */
  get span() {
    const first = this.all[0]?.[NUMBER] ?? this.state.now;
    const wanted = this.state.now - first + 1;
    return [0.2, 0.5, 1].map((share) => share * this.state.points).find((s) => s >= wanted)
      ?? this.state.points;
  }

  /** Frames per second, or null. */
  get rate() {
    const over = this.all.filter((p) => p[NUMBER] < this.state.now && p[NUMBER] >= this.state.now - 2);
    if (!over.length) return null;
    return over.reduce((sum, point) => sum + point[FRAMES], 0) / over.length / this.state.seconds;
  }
}

/** Return an SVG path through some values of points, with gaps; `left` is the number at x = 0. */
function path(points, index, left, top, area = false) {
  let text = "", before = null, first = 0;
  const close = () => { if (area && before !== null) text += `L${before} 100L${first} 100Z`; };
  for (const point of points) {
    if (point[index] === null) continue;
    const x = point[NUMBER] - left;
    const y = (100 - 96 * Math.min(1.04, point[index] / top)).toFixed(2);
    const joined = before !== null && x - before <= JOINED;
    if (!joined) { close(); first = x; }
    text += joined ? `L${x} ${y}` : `M${x} ${y}h.01`;
    before = x;
  }
  close();
  return text;
}

const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];

/** Draw the strips of a camera's card. */
export function draw(card, points) {
  const state = points.state, all = points.all, last = points.last, span = points.span;
  const left = state.now - span; // number of the point at the left edge
  const [latency, novelty] = card.querySelectorAll("svg.strip");
  for (const strip of [latency, novelty]) strip.setAttribute("viewBox", `0 0 ${span} 100`);
  const usual = all.map((point) => point[P99]).sort((a, b) => a - b);
  // One slow frame, as the first, would press all others to the ground.
  const top = 1.25 * (usual[Math.floor(0.97 * (usual.length - 1))] ?? 1) || 1;
  latency.querySelector(".p99").setAttribute("d", path(all, P99, left, top));
  latency.querySelector(".line").setAttribute("d", path(all, MEDIAN, left, top));
  novelty.querySelector(".area").setAttribute("d", path(all, NOVELTY, left, 1, true));
  novelty.querySelector(".line").setAttribute("d", path(all, NOVELTY, left, 1));
  card.querySelector(".scale").textContent = all.length ? milliseconds(top / 0.96) : "";
  const over = `over the last ${number(span * state.seconds / 60)} min`;
  const known = all.map((point) => point[NOVELTY]).filter((value) => value !== null);
  describe(latency, all.length ? `Latency ${over}: p50 ${milliseconds(median(all.map((p) => p[MEDIAN])))}, ` +
    `highest p99 ${milliseconds(Math.max(...usual))}` : `No latency ${over}`);
  describe(novelty, known.length ? `Novelty ${over}: between ${Math.min(...known).toFixed(2)} and ` +
    `${Math.max(...known).toFixed(2)}, usually ${median([...known]).toFixed(2)}` : `No novelty ${over}`);
  band(card.querySelector(".band"), all, left, span, over);
  value(card.querySelector(".latency"), last && milliseconds(last[MEDIAN]),
    last && `/ ${milliseconds(last[P99])}`);
  card.querySelector(".ago").textContent = `${number(span * state.seconds / 60)} min ago`;
}

/** Show a value, and a softer addition. */
export function value(element, strong, soft) {
  const text = `${strong ?? ""}\u0000${soft ?? ""}`;
  if (element.dataset.text === text) return;
  element.dataset.text = text;
  const bold = document.createElement("b"), rest = document.createElement("span");
  bold.textContent = strong || "–";
  rest.textContent = soft ?? "";
  rest.dir = bold.dir = "auto";
  element.replaceChildren(bold, " ", rest);
}

function describe(element, text) {
  if (element.getAttribute("aria-label") !== text) element.setAttribute("aria-label", text);
}

/** Draw which task had which time, as segments. */
function band(element, points, left, span, over) {
  const parts = [];
  for (const point of points) {
    const x = point[NUMBER] - left - 1, part = parts.at(-1);
    if (part && part.task === point[TASK] && x - part.end <= JOINED) part.end = x + 1;
    else {
      if (part && x - part.end <= JOINED) part.end = x;
      parts.push({ task: point[TASK], start: x, end: x + 1 });
    }
  }
  const now = parts.at(-1)?.task;
  while (element.children.length > parts.length) element.lastChild.remove();
  parts.forEach((part, index) => {
    const shown = element.children[index] ?? element.appendChild(document.createElement("span"));
    if (shown.textContent !== part.task) shown.textContent = shown.title = part.task;
    shown.classList.toggle("now", part.task === now);
    shown.classList.toggle("narrow", element.clientWidth * (part.end - part.start) / span < 8 * part.task.length + 12);
    shown.style.left = `${100 * part.start / span}%`;
    shown.style.width = `${100 * (part.end - part.start) / span}%`;
  });
  const tasks = [...new Set(parts.map((part) => part.task))];
  describe(element, tasks.length
    ? `Tasks ${over}: ${tasks.join(", ")}; ${number(Math.max(0, parts.length - 1))} changes`
    : `No task ${over}`);
}

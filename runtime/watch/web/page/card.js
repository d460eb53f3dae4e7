// One camera: its picture, what it is taken for, and how it does.

import { Points, draw, value } from "./strips.js";
import { Choice } from "./tasks.js";
import { STATES, number, percent, placeholder, seconds, sentence } from "./words.js";

const OLD = 3; // seconds from which a picture says how old it is

export class Card {
  #points = new Points(); #drifting = ""; #state = ""; #frame = null;

  /** @param name The camera's name. @param say Announces text to screen readers. */
  constructor(name, say) {
    this.element = document.getElementById("camera").content.cloneNode(true).firstElementChild;
    this.name = name; this.say = say;
    const title = this.$(".name");
    title.textContent = name;
    title.dir = "auto";
    title.href = `#${encodeURIComponent(name)}`;
    title.id = `camera-${Math.random().toString(36).slice(2)}`;
    this.element.setAttribute("aria-labelledby", title.id);
    this.$("canvas").setAttribute("aria-label", `Picture of ${name}`);
    this.$(".view").addEventListener("click", () => { location.hash = title.hash; });
    this.context = this.$("canvas").getContext("bitmaprenderer");
    this.choice = new Choice(this.element, name, say);
  }

  $(selector) { return this.element.querySelector(selector); }

  /** Forget the last minutes, because the program was started again. */
  reset() { this.#points.clear(); this.#state = ""; }

  /** Show what the program says of all cameras, and of this one. */
  update(state, camera) {
    this.#points.add(camera.points, state);
    this.choice.update(state, camera);
    const rate = this.#points.rate;
    text(this.$(".rate"), rate === null || camera.state !== "running" ? "" : `${number(rate)} fps`);
    text(this.$(".state-text"), STATES[camera.state] ?? camera.state);
    this.$("header .state").dataset.state = camera.state;
    this.element.dataset.state = camera.state;
    this.element.classList.toggle("blank", camera.age === null);
    this.$("header .state").title = camera.where;
    text(this.$(".nothing"), placeholder(camera.state));
    const old = camera.age !== null && camera.age >= OLD && this.#frame;
    show(this.$(".old"), old ? `${seconds(camera.age)} old` : "");
    if (this.#state && this.#state !== camera.state) this.say(`${this.name}: ${camera.state}`);
    this.#state = camera.state;
    this.#trouble(camera);
    this.#drift(camera);
    draw(this.element, this.#points);
    const auto = camera.choice === "auto";
    value(this.$(".value.task"), camera.task ?? camera.choice, auto && camera.task ? "by auto" : "");
    this.#counts(camera);
  }

  /** Show a frame: the picture and the words change together. */
  async show(frame, picture) {
    const blob = new Blob([picture], { type: "image/jpeg" });
    const bitmap = await createImageBitmap(blob);
    const canvas = this.$("canvas");
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height || canvas.hidden) {
      canvas.width = bitmap.width;
      canvas.height = bitmap.height;
      canvas.hidden = false;
      this.$(".nothing").hidden = true;
      const shape = Math.min(2.4, Math.max(1, bitmap.width / bitmap.height));
      this.element.style.setProperty("--shape", shape.toFixed(4));
    }
    this.context.transferFromImageBitmap(bitmap);
    this.#frame = frame;
    canvas.dataset.number = frame.number;
    canvas.dataset.task = frame.task ?? "";
    if (frame.top) this.#answer(frame);
  }

  #answer(frame) {
    const [[label, score], ...others] = frame.top, sure = frame.confidence ?? score;
    text(this.$(".label"), label);
    this.$(".label").title = label;
    text(this.$(".share"), percent(sure));
    this.$(".share").title = frame.confidence === undefined
      ? "Softmax score, which is not a probability: the task is uncalibrated"
      : `Probability that the label is right, by ${frame.calibration}`;
    this.$(".meter span").style.inlineSize = `${100 * sure}%`;
    text(this.$(".kind"), frame.confidence === undefined ? "score, uncalibrated" : "confidence");
    const row = this.$(".others");
    const parts = others.map(([name, part]) => `${name} ${percent(part)}`);
    while (row.children.length > parts.length) row.lastChild.remove();
    parts.forEach((part, index) => {
      text(row.children[index] ?? row.appendChild(document.createElement("bdi")), part);
    });
    const smoothed = frame.smoothed;
    show(this.$(".smoothed"), smoothed
      ? `Over ${smoothed[2]} frames: ${smoothed[0]} ${percent(smoothed[1])}` : "");
    const unknown = frame.known === false;
    this.element.classList.toggle("unknown", unknown);
    this.$(".tag").hidden = !unknown;
    value(this.$(".value.novelty"), frame.novelty === undefined ? "" : frame.novelty.toFixed(2),
      frame.known === undefined ? (frame.novelty === undefined ? "not in this task" : "")
        : unknown ? "unknown" : "known");
  }

  #trouble(camera) {
    const wrong = this.choice.wrong || camera.error || this.#frame?.error || "";
    show(this.$(".trouble"), sentence(wrong));
  }

  #drift(camera) {
    const drifting = camera.drifts.filter((drift) => drift.state === "drifting").map((d) => d.task);
    const names = drifting.join(", ");
    show(this.$(".alarm"), names
      ? `Drifting: frames are farther from the images of ${names} than usual` : "");
    if (names !== this.#drifting) {
      this.say(names ? `${this.name}: drifting under ${names}` : `${this.name}: steady again`);
      this.#drifting = names;
    }
    this.drifting = names !== "";
  }

  #counts(camera) {
    const counts = camera.counts, rows = Object.entries(counts);
    const own = camera.drifts.find((drift) => drift.task === camera.task);
    if (own) rows.push(["drift", own.state], ["drift level", own.level.toFixed(2)]);
    const alarms = camera.drifts.reduce((sum, drift) => sum + drift.alarms, 0);
    if (camera.drifts.length) rows.push(["drift alarms", alarms]);
    const parts = Object.entries(camera.harvested ?? {});
    for (const [part, count] of parts) rows.push([`harvested, ${part}`, count]);
    const harvest = parts.reduce((sum, [, count]) => sum + count, 0);
    const short = [`${number(counts.predicted)} predicted`, `${number(counts.dropped)} dropped`];
    if (counts.failed) short.push(`${number(counts.failed)} failed`);
    if (camera.harvested) short.push(`${number(harvest)} harvested`);
    text(this.$("summary"), short.join(" · "));
    const list = this.$("dl");
    while (list.children.length > rows.length) list.lastChild.remove();
    rows.forEach(([name, count], index) => {
      const row = list.children[index] ?? list.appendChild(counted());
      text(row.firstChild, name);
      text(row.lastChild, typeof count === "number" ? number(count) : count);
    });
  }
}

function counted() {
  const row = document.createElement("div");
  row.append(document.createElement("dt"), document.createElement("dd"));
  return row;
}

/** Set a text if it is another, so that nothing is laid out again for nothing. */
function text(element, content) {
  if (element.textContent !== String(content)) element.textContent = content;
}

/** Show a text, or hide its element where there is none. */
function show(element, content) {
  text(element, content);
  element.hidden = !content;
}

// Choose a camera's task: a button for each, or a list to search where there are many.

import { post } from "./stream.js";

const BUTTONS = 8; // tasks that have a button of their own
const SHOWN = 300; // of a list

const $ = (id) => document.getElementById(id);
let picking = null;

/** The choice of one camera. */
export class Choice {
  /** @param card Element of the camera. @param name The camera's name. @param say Announces text. */
  constructor(card, name, say) {
    this.field = card.querySelector(".tasks");
    this.name = name; this.say = say; this.built = "";
    this.trouble = card.querySelector(".trouble");
  }

  /** Show a state of all cameras, and of this one. */
  update(state, camera) {
    this.state = state; this.camera = camera;
    this.field.hidden = !state.control;
    if (!state.control) return;
    const tasks = options(state), few = tasks.length <= BUTTONS + 1;
    const built = JSON.stringify(few ? tasks : "many");
    const row = this.field.querySelector(".choices");
    if (built !== this.built) {
      this.built = built;
      row.replaceChildren(...(few ? tasks.map((task) => this.#button(task)) : [this.#opener()]));
    }
    if (few) for (const button of row.children) mark(button, camera);
    else {
      const used = camera.choice === "auto" && camera.task ? `auto, now ${camera.task}` : camera.choice;
      row.firstChild.firstChild.textContent = used;
    }
    if (picking === this) fill();
  }

  #button(task) {
    const button = make(task);
    button.addEventListener("click", () => this.choose(task, button));
    return button;
  }

  #opener() {
    const button = make("");
    button.classList.add("opener");
    button.setAttribute("aria-haspopup", "dialog");
    button.append(document.createElement("bdi"));
    button.addEventListener("click", () => {
      picking = this;
      $("picker-title").textContent = `Task of ${this.name}`;
      $("search").value = "";
      fill();
      $("picker").showModal();
    });
    return button;
  }

  async choose(task, button) {
    button?.setAttribute("aria-busy", "true");
    const wrong = await post("choose", { source: this.name, task });
    button?.removeAttribute("aria-busy");
    this.wrong = wrong;
    this.say(wrong ? `${this.name}: ${wrong}` : `${this.name}: ${task} is chosen`);
    if (!wrong) {
      this.camera = { ...this.camera, choice: task };
      this.update(this.state, this.camera);
    }
  }
}

function options(state) { return state.auto ? ["auto", ...state.tasks] : state.tasks; }

function make(task) {
  const button = document.createElement("button"), name = document.createElement("bdi");
  button.type = "button";
  button.value = task;
  name.textContent = task;
  if (task) button.append(name);
  return button;
}

/** Mark a button as chosen, or as the task that auto uses now. */
function mark(button, camera) {
  button.setAttribute("aria-pressed", String(button.value === camera.choice));
  const used = camera.choice === "auto" && button.value === camera.task;
  if (used === button.classList.contains("used")) return;
  button.classList.toggle("used", used);
  button.querySelector(".unseen")?.remove();
  if (used) {
    const note = document.createElement("span");
    note.className = "unseen";
    note.textContent = " (in use)";
    button.append(note);
  }
}

/** Fill the list with what the search finds. */
function fill() {
  const asked = $("search").value.trim().toLowerCase(), { state, camera } = picking;
  const tasks = options(state).filter((task) => task.toLowerCase().includes(asked));
  const known = new Map([...$("choices").children].map((button) => [button.value, button]));
  const buttons = tasks.slice(0, SHOWN).map((task) => known.get(task) ?? make(task));
  const same = buttons.length === known.size && buttons.every((b, i) => b === $("choices").children[i]);
  if (!same) $("choices").replaceChildren(...buttons); // else the focus would be lost
  for (const button of buttons) mark(button, camera);
  $("found").textContent = `${tasks.length} of ${options(state).length}`;
}

$("search").addEventListener("input", fill);
$("search").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  $("choices").firstChild?.click();
});
$("choices").addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  await picking.choose(button.value, button);
  $("picker").close();
});
$("picker-close").addEventListener("click", () => $("picker").close());
$("picker").addEventListener("click", (event) => {
  if (event.target === $("picker")) $("picker").close();
});
$("picker").addEventListener("close", () => { picking = null; });

// Say numbers and states as people read them.

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export const number = (value) => grouped.format(value);
export const percent = (value) => (value === null ? "–" : `${Math.round(100 * value)}%`);

export function milliseconds(value) {
  if (value >= 1000) return `${(value / 1000).toFixed(value < 10000 ? 1 : 0)} s`;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

export function seconds(value) {
  if (value < 90) return `${Math.round(value)} s`;
  if (value < 5400) return `${Math.round(value / 60)} min`;
  return `${Math.round(value / 3600)} h`;
}

/** A message of the program as a sentence of its own. */
export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export const STATES = {
  connecting: "connecting", running: "running", stalled: "stalled",
  reconnecting: "reconnecting", ended: "ended",
};

const PLACEHOLDERS = {
  connecting: "Connecting to the camera", running: "Waiting for the first frame",
  stalled: "No frame comes", reconnecting: "Connecting to the camera again", ended: "It has ended",
};

export const placeholder = (state) => PLACEHOLDERS[state] ?? state;

// What the page knows: one object that all modules read, and who is told when a part of it changes.

export const state = {
  source: null, // data, as the server described it
  series: 0, // position of the series
  origin: null, // steps that are known
  horizon: 20,
  paths: 20,
  seed: 0,
  transform: "none",
  known: ["untouched"], // forecasters that there are
  forecasters: ["untouched"], // those that are drawn
  baselines: ["best-period"],
  future: {}, // set values: variable -> [H] of numbers or null
  begin: null, // context, truth, times and baselines of what is drawn
  results: {}, // forecaster -> what was told of it last
  events: [],
  step: 20, // of the time slider
  hovered: null, // number of a path
};

const listeners = {};

export function on(name, listener) {
  (listeners[name] ??= []).push(listener);
}

export function tell(name, detail) {
  for (const listener of listeners[name] ?? []) listener(detail);
}

export const get = (id) => document.getElementById(id);

// What a forecast is asked by.
export function question(changes = {}) {
  const { series, origin, horizon, paths, seed, transform, forecasters, future, events } = state;
  return { source: state.source.key, series, origin, horizon, paths, seed, transform, forecasters, future, events, ...changes };
}

export function problem(texts) {
  const box = get("problem");
  box.hidden = !texts;
  box.textContent = texts ? [].concat(texts).join("\n") : "";
}

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// Fills a select with names, and keeps what was chosen where it is still there.
export function fill(select, names, labels = names) {
  const before = select.value;
  select.replaceChildren(...names.map((value, index) => element("option", { value, textContent: labels[index] })));
  if (names.includes(before)) select.value = before;
}

export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  return Math.abs(value) >= 1e6 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(2) : String(+value.toPrecision(4));
}

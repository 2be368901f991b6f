// The page: what is chosen, and a forecast that follows every change of it. A change cancels what is under way.

import * as data from "./data.js";
import * as events from "./events.js";
import * as fan from "./fan.js";
import * as phase from "./phase.js";
import { aborted, ask, lines } from "./server.js";
import { element, fill, get, number, on, problem, question, state, tell } from "./state.js";
import * as take from "./take.js";
import * as text from "./text.js";
import * as theme from "./theme.js";
import * as tune from "./tune.js";

const SETTLED = 300; // milliseconds after the last change, from which on all paths are drawn
const FEW = 5; // paths while something is dragged
let running = null;
let timer = null;

// Draws a forecast anew; while something is dragged with few paths, and with all of them once it rests for a while.
function change(dragged = false) {
  if (!state.source) return;
  clearTimeout(timer);
  if (!dragged) return draw({}, true);
  draw({ paths: Math.min(FEW, state.paths), forecasters: state.forecasters.slice(0, 1), events: [] }, false);
  timer = setTimeout(() => draw({}, true), SETTLED);
}

async function draw(changes, whole) {
  running?.abort();
  const mine = (running = new AbortController());
  tell("asked");
  problem(null);
  const began = performance.now();
  try {
    await lines("/api/forecast", question(changes), mine.signal, (event) => {
      if (mine.signal.aborted) return;
      if (event.begin) {
        state.begin = event.begin;
        if (whole) state.results = Object.fromEntries(Object.entries(state.results).filter(([name]) => name === "while tuning"));
      } else if (event.key) Object.assign(state.results[event.forecaster], event);
      else if (event.forecaster) {
        state.results[event.forecaster] = event;
        if (event.steps === state.horizon || whole) status(event, began);
      }
      tell("drawn");
    });
    if (!whole) return;
    document.body.dataset.drawn = String(1 + +(document.body.dataset.drawn ?? 0));
    scores();
    get("conditional").textContent = state.results[state.forecasters[0]]?.conditional?.join(" ") ?? "";
    tell("finished");
  } catch (error) {
    if (!aborted(error)) problem(error.message);
  }
}

function status(event, began) {
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  const told = event.done ? `${event.read} steps read, ${seconds} s, ${number(event.flops)} FLOPs` : `step ${event.steps} of ${state.horizon}`;
  get("status").replaceChildren(...fan.legend(), told, ...[...(event.scales ?? []), ...(event.warnings ?? [])].map((one) => `; ${one}`));
}

function scores() {
  const rows = [];
  state.forecasters.forEach((name, position) => rows.push([name, theme.role(name, position), state.results[name]?.scores]));
  for (const [name, { scores: found }] of Object.entries(state.begin.baselines)) rows.push([name, name, found]);
  if (!rows.some(([, , found]) => found)) {
    get("scores").replaceChildren(element("p", { className: "hint", textContent: "Nothing is known of what follows; move the origin back to score." }));
    return;
  }
  const table = element("table");
  const titles = ["forecaster", "CRPS", "MAE", "in 80%"];
  table.append(element("tr", {}, ...titles.map((title) => element("th", { textContent: title, scope: "col" }))));
  for (const [name, tint, found] of rows) {
    const mark = element("i", { className: "swatch", style: `background:var(--${tint})` });
    const cells = [found?.crps, found?.mae].map((value) => element("td", { textContent: number(value) }));
    const covered = found?.covered === undefined ? "–" : `${(100 * found.covered).toFixed(0)}%`;
    table.append(element("tr", {}, element("th", { scope: "row" }, mark, name), ...cells, element("td", { textContent: covered })));
  }
  const hint = "CRPS in standard deviations of the context; of a single line it is its error. One origin says little.";
  get("scores").replaceChildren(table, element("p", { className: "hint", textContent: hint }));
}

function forecasters() {
  const box = (name, chosen, onChange) => {
    const input = element("input", { type: "checkbox", checked: chosen });
    input.addEventListener("change", () => onChange(input.checked));
    return element("label", { className: "check" }, input, name);
  };
  const kept = (list, name, chosen) => (chosen ? [...list, name] : list.filter((one) => one !== name));
  state.forecasters = state.forecasters.filter((name) => state.known.includes(name));
  get("forecasters").replaceChildren(
    ...state.known.map((name) =>
      box(name, state.forecasters.includes(name), (chosen) => {
        state.forecasters = kept(state.forecasters, name, chosen);
        if (!state.forecasters.length) state.forecasters = ["untouched"];
        forecasters();
        change();
      })));
  get("baselines").replaceChildren(
    ...["best-period", "context-mean", "last-value"].map((name) =>
      box(name, state.baselines.includes(name), (chosen) => {
        state.baselines = kept(state.baselines, name, chosen);
        tell("drawn");
      })));
  fill(get("text-forecaster"), state.known);
}

function series() {
  const { steps } = state.source.series[state.series];
  state.future = {};
  const origin = get("origin");
  origin.max = steps;
  state.origin = Math.max(4, steps - Math.min(state.horizon, Math.floor(steps / 3)));
  origin.value = state.origin;
  get("origin-out").textContent = `${state.origin} of ${steps} steps`;
  fill(get("set-variable"), state.source.targets);
  future();
  change();
}

function setOrigin(value) {
  state.origin = value;
  fan.moveOrigin(value);
  get("origin").value = value;
  get("origin-out").textContent = `${value} of ${state.source.series[state.series].steps} steps`;
  change(true);
}

function future() {
  const told = Object.entries(state.future).flatMap(([name, values]) =>
    values.flatMap((value, step) => (value === null ? [] : [`${name} = ${number(value)} at step ${step + 1}`])));
  get("set-told").textContent = told.length > 8 ? `${told.slice(0, 7).join("\n")}\nand ${told.length - 7} more` : told.join("\n");
}

function wire() {
  const numbers = { horizon: "horizon", paths: "paths", seed: "seed" };
  for (const [id, name] of Object.entries(numbers))
    get(id).addEventListener("change", ({ target }) => {
      if (!target.checkValidity() || target.value === "") return problem(`${name}: ${target.validationMessage || "give a number"}`);
      state[name] = +target.value;
      if (name === "horizon") {
        get("time").max = state.step = state.horizon;
        get("time").value = state.step;
        for (const values of Object.values(state.future)) values.length = Math.min(values.length, state.horizon);
      }
      change();
    });
  get("transform").addEventListener("change", ({ target }) => ((state.transform = target.value), change()));
  get("origin").addEventListener("input", ({ target }) => state.source && setOrigin(+target.value));
  get("time").addEventListener("input", ({ target }) => {
    state.step = +target.value;
    const when = state.begin?.future[state.step - 1];
    get("time-out").textContent = when === undefined ? "–" : `${typeof when === "number" ? number(when) : when} (step ${state.step})`;
    tell("step");
  });
  get("set").addEventListener("click", () => {
    const [from, to] = [+get("set-from").value, +get("set-to").value];
    if (!state.source || get("set-value").value === "" || !(from >= 1 && to >= from && to <= state.horizon))
      return problem(`Give a value, and steps from 1 to ${state.horizon}.`);
    const values = (state.future[get("set-variable").value] ??= Array(state.horizon).fill(null));
    for (let step = from; step <= to; step++) values[step - 1] = +get("set-value").value;
    tell("future");
  });
  get("clear").addEventListener("click", () => ((state.future = {}), tell("future")));
  for (const link of document.querySelectorAll("header nav a"))
    link.addEventListener("click", () => (get(link.hash.slice(1)).open = true));
  on("future", (dragged) => (future(), change(dragged)));
  on("origin", setOrigin);
  on("series", series);
  on("forecasters", forecasters);
  on("changed", () => (forecasters(), change()));
  on("finished", () => get("time").dispatchEvent(new Event("input")));
}

async function begin() {
  theme.begin();
  const choices = await ask("/api/choices");
  state.known = choices.forecasters;
  const { model, parameters, precision, hardware } = choices.about;
  get("about").textContent = `${model}, ${(parameters / 1e6).toFixed(1)}M parameters, ${precision}, ${hardware}`;
  wire();
  for (const part of [fan, phase, text, events, tune, take]) part.begin();
  data.begin(choices);
  forecasters();
  document.body.dataset.ready = "yes";
}

begin().catch((error) => problem(error.message));

// Data: a table that is dropped, the series that ship, and simulators with their sliders.

import { ask, send } from "./server.js";
import { element, get, number, problem, state, tell } from "./state.js";

let file = null;
let systems = [];

export function begin(choices) {
  systems = choices.simulators;
  const drop = get("drop");
  for (const name of ["dragenter", "dragover"])
    drop.addEventListener(name, (event) => (event.preventDefault(), drop.classList.add("over")));
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length) read(event.dataTransfer.files[0]);
  });
  get("file").addEventListener("change", ({ target }) => target.files.length && read(target.files[0]));
  get("reread").addEventListener("click", () => file && read(file, true));
  get("shipped").addEventListener("click", () => open(() => ask("/api/shipped", {})));
  get("system").replaceChildren(...systems.map((one) => element("option", { value: one.name, textContent: one.name })));
  get("system").addEventListener("change", sliders);
  get("simulate").addEventListener("click", simulate);
  for (const [id, out] of [["noise", "noise-out"], ["process", "process-out"]])
    get(id).addEventListener("input", () => (get(out).textContent = get(id).value));
  get("count-data").addEventListener("input", () => {
    const many = +get("count-data").value > 1; // series whose parameters the seed draws
    for (const slider of get("sliders").querySelectorAll("input")) slider.disabled = many;
  });
  get("simulator").addEventListener("change", (event) => event.target.id !== "system" && simulate());
  get("series").addEventListener("change", () => choose(+get("series").value));
  sliders();
}

async function open(work) {
  problem(null);
  try {
    const source = await work();
    state.source = source;
    get("understood").textContent = [source.understood, ...source.notices.map((one) => `Note: ${one}`)].join("\n");
    get("series").replaceChildren(
      ...source.series.map((one, index) => element("option", { value: index, textContent: `${one.id} (${one.steps} steps)` })));
    get("series-label").hidden = source.series.length < 2;
    tell("source");
    choose(0);
  } catch (error) {
    problem(error.message);
  }
}

function choose(index) {
  state.series = index;
  tell("series");
}

function read(chosen, again = false) {
  file = chosen;
  const query = new URLSearchParams({ name: chosen.name });
  if (again) for (const role of ["time", "id", "targets", "known"]) query.set(role, get(`role-${role}`).value);
  get("roles").hidden = false;
  return open(() => send(`/api/table?${query}`, chosen));
}

const chosenSystem = () => systems.find((one) => one.name === get("system").value);

function sliders() {
  const system = chosenSystem();
  get("law").textContent = `${system.description}. ${system.source}`;
  get("individuals").disabled = !system.individuals;
  get("steps-data").value = system.steps;
  const spans = { ...system.parameters, ...Object.fromEntries(Object.entries(system.initial).map(([name, span]) => [name, span])) };
  get("sliders").replaceChildren(
    ...Object.entries(spans).map(([name, [low, high]]) => {
      const middle = (low + high) / 2;
      const told = element("output", { textContent: number(middle) });
      const label = name in system.initial ? `${name} at first` : name;
      const slider = element("input", {
        type: "range", min: low - (high - low) / 2 > 0 ? low - (high - low) / 2 : low, max: high + (high - low) / 2, step: "any", value: middle,
      });
      slider.dataset.name = name;
      slider.addEventListener("input", () => (told.textContent = number(+slider.value)));
      return element("label", {}, `${label} `, told, slider);
    }));
}

function simulate() {
  const values = {};
  for (const slider of get("sliders").querySelectorAll("input")) values[slider.dataset.name] = +slider.value;
  const system = chosenSystem();
  const steps = +get("steps-data").value;
  const count = +get("count-data").value;
  return open(() =>
    ask("/api/simulate", {
      system: system.name,
      values: count > 1 ? {} : values,
      steps,
      duration: (system.duration / Math.max(1, system.steps - 1)) * (steps - 1),
      noise: +get("noise").value,
      process_noise: +get("process").value,
      individuals: get("individuals").disabled ? null : +get("individuals").value || null,
      seed: +get("seed-data").value,
      n: count,
    }));
}

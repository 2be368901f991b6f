// Tuning: a budget, the loss as it falls, a forecast that improves meanwhile, and the verdict with the baselines.

import { ask } from "./server.js";
import { element, fill, get, number, on, problem, question, state, tell } from "./state.js";
import { OPTIONS, colour, layout } from "./theme.js";

const EVERY = 400; // milliseconds between two looks
let read = 0;
let events = [];
let timer = null;
let began = 0;

export function begin() {
  get("tune").addEventListener("click", start);
  get("end").addEventListener("click", () => act("end"));
  get("pause").addEventListener("click", () => act(get("pause").textContent === "Pause" ? "pause" : "go on"));
  on("source", () => fill(get("tune-series"), state.source.series.map((_, index) => String(index)), state.source.series.map((one) => one.id)));
  on("theme", chart);
}

async function start() {
  if (!state.source) return problem("Choose data first.");
  problem(null);
  const unit = get("budget-unit").value;
  const chosen = [...get("tune-series").selectedOptions].map((one) => +one.value);
  try {
    await ask("/api/tune", question({ [unit]: +get("budget").value, rank: +get("rank").value, chosen }));
  } catch (error) {
    return problem(error.message);
  }
  read = 0;
  events = [];
  began = performance.now();
  get("verdict").replaceChildren();
  buttons(true);
  look();
}

async function act(action) {
  try {
    await ask("/api/tune", { action });
    if (action !== "end") get("pause").textContent = action === "pause" ? "Go on" : "Pause";
  } catch (error) {
    problem(error.message);
  }
}

function buttons(running) {
  get("tune").disabled = running;
  get("pause").disabled = get("end").disabled = !running;
  if (!running) get("pause").textContent = "Pause";
}

async function look() {
  clearTimeout(timer);
  const told = await ask(`/api/tune/${read}`);
  read += told.events.length;
  events.push(...told.events);
  for (const event of told.events) take(event);
  if (told.events.length) chart();
  buttons(told.running);
  if (told.running) timer = setTimeout(look, EVERY);
  else {
    state.known = told.forecasters;
    tell("forecasters");
  }
}

function take(event) {
  const box = get("tune-told");
  const seconds = ((performance.now() - began) / 1000).toFixed(0);
  if (event.event === "pace") box.textContent = `A step takes ${number(event.seconds)} s: ${event.steps} steps`;
  if (event.event === "train")
    box.textContent = `Step ${event.step} of ${event.steps}, loss ${number(event.loss)}, ${number(event.flops)} FLOPs, ${seconds} s`;
  if (event.event === "paused") box.textContent = "Paused.";
  if (event.event === "failed") problem(event.problems);
  if (event.event === "forecast") {
    state.results["while tuning"] = event;
    tell("drawn");
  }
  if (event.event === "tuned") {
    delete state.results["while tuning"];
    verdict(event);
    box.textContent = `Tuned in ${seconds} s; choose ${event.name} among the forecasters.`;
    state.known = [...new Set([...state.known, event.name])];
    state.forecasters = [...new Set([event.name, ...state.forecasters])].slice(0, 2);
    tell("changed");
  }
}

function verdict({ name, verdict: found }) {
  if (!found?.windows) return;
  const rows = [["tuned", found.tuned_crps, found.tuned_mae], ["untouched", found.untouched_crps, found.untouched_mae]];
  for (const [baseline, scores] of Object.entries(found.baselines ?? {})) rows.push([baseline, scores.crps, scores.mae]);
  const table = element("table");
  table.append(element("caption", { textContent: `${name}, on ${found.windows} held-out windows` }));
  table.append(element("tr", {}, ...["forecaster", "CRPS", "MAE"].map((text) => element("th", { textContent: text, scope: "col" }))));
  for (const [label, crps, mae] of rows)
    table.append(element("tr", {}, element("th", { textContent: label, scope: "row" }), element("td", { textContent: number(crps) }), element("td", { textContent: number(mae) })));
  const sentence = found.improved ? "Tuning helped." : `Tuning did not help; the ${found.kept} model is kept.`;
  get("verdict").replaceChildren(element("p", { className: "told", textContent: sentence }), table);
}

function chart() {
  const of = (kind) => events.filter((one) => one.event === kind && one.loss !== null);
  const [trained, validated] = [of("train"), of("validation")];
  get("loss-chart").hidden = !trained.length && !validated.length;
  if (get("loss-chart").hidden) return;
  const trace = (rows, color, mode, name) => ({
    x: rows.map((one) => one.step), y: rows.map((one) => one.loss), mode, name, line: { color, width: 2 }, hoverinfo: "x+y+name",
  });
  const traces = [trace(trained, colour("muted"), "lines", "training"), trace(validated, colour("tuned"), "lines+markers", "validation")];
  const axes = { xaxis: { title: { text: "step" } }, yaxis: { title: { text: "loss, nats" } } };
  Plotly.react(get("loss-chart"), traces, layout({ axes, margin: { l: 50, r: 12, t: 8, b: 44 } }), OPTIONS);
}

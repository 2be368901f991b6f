// The phase plane: joint paths of two variables, and where they are at the time of the slider.

import { fill, get, on, state } from "./state.js";
import { OPTIONS, colour, faded, layout, role } from "./theme.js";

let waiting = false;

export function begin() {
  for (const name of ["theme", "drawn", "hovered", "step"]) on(name, draw);
  for (const id of ["axis-x", "axis-y"]) get(id).addEventListener("change", draw);
}

function draw() {
  if (waiting || !window.Plotly) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    paint();
  });
}

// Pairs of what stands across and up: two variables or, of a single one, its value and the one before.
function pair(values, [first, second]) {
  if (first !== second) return [values[first], values[second]];
  return [values[first].slice(0, -1), values[first].slice(1)];
}

function paint() {
  const { begin, results, forecasters } = state;
  if (!begin) return;
  const names = begin.variables;
  get("axes").hidden = names.length < 3;
  fill(get("axis-x"), names);
  const fresh = get("axis-y").options.length !== names.length;
  fill(get("axis-y"), names);
  if (fresh && names.length > 1) get("axis-y").value = names[1];
  const chosen = names.length < 3 ? [names[0], names[1] ?? names[0]] : [get("axis-x").value, get("axis-y").value];
  const alone = chosen[0] === chosen[1];
  const traces = [];
  const line = ([x, y], color, more = {}) => traces.push({ x, y, mode: "lines", line: { color, width: 1.5 }, hoverinfo: "skip", ...more });
  line(pair(begin.context, chosen), faded("context", 0.55), { name: "context" });
  const found = results[forecasters[0]];
  if (found?.paths) {
    const tint = role(forecasters[0]);
    const steps = Math.min(state.step, found.paths[names[0]][0].length);
    const count = found.paths[names[0]].length;
    const last = Object.fromEntries(names.map((name) => [name, begin.context[name].at(-1)]));
    const ends = [[], []];
    const all = [[], []]; // of all paths, with gaps between them
    for (let path = 0; path < count; path++) {
      const values = Object.fromEntries(names.map((name) => [name, [last[name], ...found.paths[name][path].slice(0, steps)]]));
      const [x, y] = pair(values, chosen);
      all[0].push(...x, null);
      all[1].push(...y, null);
      ends[0].push(x.at(-1));
      ends[1].push(y.at(-1));
      if (path === state.hovered) line([x, y], colour("ink"), { line: { color: colour("ink"), width: 2.5 } });
    }
    line(all, faded(tint, 0.2), { line: { color: faded(tint, 0.2), width: 1 }, connectgaps: false });
    traces.push({
      x: ends[0], y: ends[1], mode: "markers", marker: { size: 7, color: colour(tint), opacity: 0.75 },
      text: ends[0].map((_, index) => `path ${index}`), hoverinfo: "text+x+y",
    });
  }
  const truth = Object.fromEntries(names.map((name) => [name, begin.truth[name].slice(0, state.step)]));
  if (truth[names[0]].some((value) => value !== null))
    line(pair(truth, chosen), colour("truth"), { mode: "lines+markers", line: { color: colour("truth"), width: 1, dash: "dot" }, marker: { size: 4 } });
  const axes = {
    xaxis: { title: { text: alone ? `${chosen[0]}, a step before` : chosen[0] } },
    yaxis: { title: { text: chosen[1] } },
  };
  Plotly.react(get("phase"), traces, layout({ axes, margin: { l: 50, r: 12, t: 8, b: 44 } }), OPTIONS);
}

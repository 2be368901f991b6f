// The fans: a row a variable. The origin can be dragged; values of the future can be dragged, too, where that is on.

import { element, get, on, state, tell } from "./state.js";
import { OPTIONS, colour, faded, layout, role } from "./theme.js";

const SEEN = 3; // times the horizon, of the context that is shown until somebody zooms out
const NEAR = 14; // pixels from the origin's line, within which it is taken hold of
let dragging = false; // whether values are dragged
let waiting = false;

export function begin() {
  on("theme", draw);
  on("drawn", draw);
  on("hovered", draw);
  on("step", draw);
  on("future", draw);
  const chart = get("fan");
  chart.addEventListener("pointerdown", press, true);
  get("drag").addEventListener("click", () => {
    dragging = !dragging;
    get("drag").setAttribute("aria-pressed", dragging);
    get("fan").style.cursor = dragging ? "crosshair" : "";
  });
}

// Draws once before the next frame, however often it is asked for.
export function draw() {
  if (waiting || !window.Plotly) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    paint();
  });
}

const shown = () => [...new Set([...state.forecasters, ...(state.results["while tuning"] ? ["while tuning"] : [])])];

function paint() {
  const { begin, results } = state;
  if (!begin) return;
  const traces = [];
  const first = begin.past[Math.max(0, begin.past.length - Math.max(30, SEEN * begin.future.length))];
  const axes = { xaxis: { range: [first, begin.future.at(-1)], anchor: `y${begin.variables.length > 1 ? begin.variables.length : ""}` } };
  const height = 1 / begin.variables.length;
  begin.variables.forEach((name, row) => {
    const axis = row ? `y${row + 1}` : "y";
    const line = (x, y, color, more = {}) =>
      traces.push({ x, y, yaxis: axis, mode: "lines", line: { color, width: 2 }, hoverinfo: "skip", ...more });
    const last = begin.past.length - 1;
    line(begin.past, begin.context[name], colour("context"), { hoverinfo: "x+y", name: "context" });
    shown().forEach((forecaster, position) => {
      const found = results[forecaster];
      if (!found?.levels?.[name]) return;
      const levels = found.levels[name];
      const tint = role(forecaster, position);
      const steps = levels[0].length;
      const from = begin.context[name][last];
      const x = [begin.past[last], ...begin.future.slice(0, steps)];
      const joined = (values) => [from, ...values];
      const band = (low, high, alpha) => {
        line(x, joined(levels[low]), "rgba(0,0,0,0)");
        line(x, joined(levels[high]), "rgba(0,0,0,0)", { fill: "tonexty", fillcolor: faded(tint, alpha) });
      };
      band(0, 4, 0.16);
      band(1, 3, 0.24);
      if (position === 0) {
        const paths = found.paths[name]; // as one line with gaps, which is drawn much faster than a line each
        line(paths.flatMap(() => [...x, null]), paths.flatMap((path) => [...joined(path), null]), faded(tint, 0.22), {
          line: { color: faded(tint, 0.22), width: 1 }, hoverinfo: "text", connectgaps: false,
          text: paths.flatMap((_, index) => Array(x.length + 1).fill(`path ${index}`)), meta: x.length + 1,
        });
      }
      line(x, joined(levels[2]), colour(tint), { hoverinfo: "x+y+name", name: `${forecaster}, median` });
      const hovered = position === 0 && found.paths[name][state.hovered];
      if (hovered) line(x, joined(hovered), colour("ink"), { line: { color: colour("ink"), width: 2.5 } });
    });
    for (const baseline of state.baselines)
      line(begin.future, begin.baselines[baseline].values[name], colour(baseline), {
        line: { color: colour(baseline), width: 2, dash: "dash" }, hoverinfo: "x+y+name", name: baseline,
      });
    if (begin.truth[name].some((value) => value !== null))
      line(begin.future, begin.truth[name], colour("truth"), {
        mode: "lines+markers", line: { color: colour("truth"), width: 1, dash: "dot" }, marker: { size: 5 },
        hoverinfo: "x+y+name", name: "what followed",
      });
    const set = state.future[name] ?? [];
    if (set.some((value) => value !== null))
      line(begin.future.slice(0, set.length), set, colour("warn"), {
        mode: "markers", marker: { symbol: "diamond", size: 9, color: colour("warn") }, hoverinfo: "x+y+name", name: "set",
      });
    axes[row ? `yaxis${row + 1}` : "yaxis"] = {
      domain: [1 - (row + 1) * height + (row < begin.variables.length - 1 ? 0.04 : 0), 1 - row * height],
      title: { text: name, font: { size: 12 } },
    };
  });
  const upright = (x, color, dash) => ({
    type: "line", x0: x, x1: x, y0: 0, y1: 1, yref: "paper", line: { color, width: 2, dash },
  });
  const shapes = [upright(begin.past.at(-1), colour("muted"), "solid")];
  const now = begin.future[Math.min(state.step, begin.future.length) - 1];
  if (now !== undefined) shapes.push(upright(now, colour("muted"), "dot"));
  const chart = get("fan");
  chart.style.height = `${Math.max(300, 190 * begin.variables.length)}px`;
  Plotly.react(chart, traces, layout({ axes, shapes, dragmode: false, uirevision: state.source?.key }), OPTIONS);
  if (!chart.dataset.wired) {
    chart.dataset.wired = "yes";
    chart.on("plotly_hover", ({ points }) => {
      const point = points.find((one) => one.data.meta !== undefined);
      const path = point && Math.floor(point.pointNumber / point.data.meta);
      if (path !== undefined && path !== state.hovered) tell("hovered", (state.hovered = path));
    });
    chart.on("plotly_unhover", () => tell("hovered", (state.hovered = null)));
  }
}

// Moves the line of the origin at once; the forecast from there follows.
export function moveOrigin(origin) {
  const chart = get("fan");
  if (!state.begin || !chart._fullLayout) return;
  const time = [...state.begin.past, ...state.begin.future][origin - 1];
  if (time !== undefined) Plotly.relayout(chart, { "shapes[0].x0": time, "shapes[0].x1": time });
}

// Where a time lies in the chart, in pixels.
const across = (chart, time) => chart._fullLayout.xaxis.d2p(time) + chart._fullLayout.xaxis._offset;

function nearest(chart, times, x) {
  let best = 0;
  times.forEach((time, index) => {
    if (Math.abs(across(chart, time) - x) < Math.abs(across(chart, times[best]) - x)) best = index;
  });
  return best;
}

function press(event) {
  const chart = get("fan");
  if (!state.begin || !chart._fullLayout) return;
  const at = (one) => ({ x: one.clientX - chart.getBoundingClientRect().left, y: one.clientY - chart.getBoundingClientRect().top });
  const move = dragging ? dragValue : dragOrigin;
  if (!dragging && Math.abs(at(event).x - across(chart, state.begin.past.at(-1))) > NEAR) return;
  event.preventDefault();
  event.stopPropagation();
  const moved = (one) => move(chart, at(one));
  const up = () => {
    removeEventListener("pointermove", moved);
    removeEventListener("pointerup", up);
    tell("released");
  };
  addEventListener("pointermove", moved);
  addEventListener("pointerup", up);
  if (dragging) moved(event);
}

function dragOrigin(chart, { x }) {
  const times = [...state.begin.past, ...state.begin.future].slice(0, state.begin.steps);
  const origin = Math.max(4, nearest(chart, times, x) + 1);
  if (origin !== state.origin) tell("origin", origin);
}

function dragValue(chart, { x, y }) {
  const row = state.begin.variables.findIndex((_, index) => {
    const axis = chart._fullLayout[index ? `yaxis${index + 1}` : "yaxis"];
    return y >= axis._offset && y <= axis._offset + axis._length;
  });
  if (row < 0) return;
  const axis = chart._fullLayout[row ? `yaxis${row + 1}` : "yaxis"];
  const step = nearest(chart, state.begin.future, x);
  const name = state.begin.variables[row];
  const values = (state.future[name] ??= Array(state.horizon).fill(null));
  values[step] = +axis.p2d(y - axis._offset).toPrecision(4);
  tell("future", true);
}

// What lines and colours mean, as text for the status line.
export function legend() {
  return shown().flatMap((name, position) =>
    [element("i", { className: "swatch", style: `background:var(--${role(name, position)})` }), `${name} `]).concat("· ");
}


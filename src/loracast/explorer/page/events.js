// Events: their chance with its interval, by time, and when they first happen; judged anew on the paths that are there.

import { ask } from "./server.js";
import { element, get, on, state } from "./state.js";
import { OPTIONS, colour, faded, layout, role } from "./theme.js";

let timer = null;
let judged = {};

export function begin() {
  get("event").addEventListener("input", () => {
    const text = get("event").value.trim();
    state.events = text ? [text] : [];
    clearTimeout(timer);
    timer = setTimeout(judge, 200);
  });
  on("finished", judge);
  on("theme", () => show());
}

async function judge() {
  const keys = state.forecasters.map((name) => state.results[name]?.key).filter(Boolean);
  judged = {};
  if (state.events.length && keys.length)
    try {
      judged = await ask("/api/events", { keys, events: state.events });
    } catch (error) {
      judged = { "": [{ error: error.message }] };
    }
  show();
}

function show() {
  const box = get("event-told");
  box.replaceChildren();
  const traces = [];
  Object.entries(judged).forEach(([name, [one]], position) => {
    if (one.error) {
      box.append(element("p", { className: "problem", textContent: one.error }));
      return;
    }
    const tint = role(name, position);
    const mark = element("i", { className: "swatch", style: `background:var(--${tint})` });
    box.append(element("p", { className: "told" }, mark, `${name}: ${one.sentence}`));
    if (one.low !== null) box.append(bar(one, tint));
    const x = state.begin.future.slice(0, one.by_step.length);
    traces.push({ x, y: one.first, type: "bar", marker: { color: faded(tint, 0.45) }, name: "first at", hoverinfo: "x+y+name" });
    traces.push({ x, y: one.by_step, mode: "lines", line: { color: colour(tint), width: 2, shape: "hv" }, name: "by then", hoverinfo: "x+y+name" });
  });
  const chart = get("event-chart");
  chart.hidden = !traces.length;
  const axes = { xaxis: {}, yaxis: { range: [0, 1.02], tickformat: ".0%", title: { text: "probability" } } };
  if (traces.length) Plotly.react(chart, traces, layout({ axes, bargap: 0.1, barmode: "overlay" }), OPTIONS);
}

// The probability and its interval on a line from 0 to 1.
function bar(one, tint) {
  const box = element("div", { title: `${(100 * one.low).toFixed(0)} to ${(100 * one.high).toFixed(0)}%` });
  box.style.cssText = "position:relative;height:12px;background:var(--grid);border-radius:6px;margin:.2rem 0 .5rem";
  const span = element("div");
  span.style.cssText = `position:absolute;top:0;bottom:0;left:${100 * one.low}%;width:${100 * (one.high - one.low)}%;background:${faded(tint, 0.4)};border-radius:6px`;
  const dot = element("div");
  dot.style.cssText = `position:absolute;top:0;width:12px;height:12px;border-radius:50%;left:calc(${100 * one.probability}% - 6px);background:${colour(tint)}`;
  box.append(span, dot);
  return box;
}

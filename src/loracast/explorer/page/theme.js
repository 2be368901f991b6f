// Light and dark: the system's choice unless another was made, and the colours that charts take from the style sheet.

import { get, tell } from "./state.js";

const dark = matchMedia("(prefers-color-scheme: dark)");
let chosen = null;

function apply() {
  document.documentElement.dataset.theme = chosen ?? (dark.matches ? "dark" : "light");
  tell("theme");
}

export function begin() {
  dark.addEventListener("change", apply);
  get("theme").addEventListener("click", () => {
    chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    apply();
  });
  apply();
}

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

export function faded(name, alpha) {
  const hex = colour(name);
  const [red, green, blue] = [1, 3, 5].map((place) => parseInt(hex.slice(place, place + 2), 16));
  return `rgba(${red},${green},${blue},${alpha})`;
}

// The role of a forecaster's colour.
export function role(forecaster, position = 0) {
  if (["untouched", "best-period", "context-mean", "last-value"].includes(forecaster)) return forecaster;
  return ["tuned", "other", "v0", "v2"][position % 4];
}

export function layout(changes) {
  const axis = { gridcolor: colour("grid"), linecolor: colour("line"), zeroline: false, automargin: true };
  const { axes = {}, ...rest } = changes;
  const styled = Object.fromEntries(Object.entries(axes).map(([name, one]) => [name, { ...axis, ...one }]));
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
    font: { color: colour("ink"), size: 12 }, margin: { l: 50, r: 12, t: 8, b: 34 }, ...styled, ...rest,
  };
}

export const OPTIONS = { displayModeBar: false, responsive: true };

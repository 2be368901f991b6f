"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);
const twins = JSON.parse(document.getElementById("twins").textContent);
const dark = matchMedia("screen and (prefers-color-scheme: dark)");
const touch = matchMedia("(pointer: coarse)").matches;
const hidden = new Set(); // "figure\nlabel" of the legend's entries that are switched off
const drawn = new Set();

// Figures are written in the colours on light; every colour has a twin on dark.
function coloured(value, key) {
  if (Array.isArray(value)) return value.map((item) => coloured(item, key));
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, coloured(item, name)]));
  }
  if (!dark.matches || typeof value !== "string" || !/color$/.test(key)) return value;
  return value.replace(/^rgba\((\d+,\d+,\d+),/, (whole, light) => `rgba(${twins[light] ?? light},`);
}

function draw(panel) {
  const name = panel.closest("figure").dataset.name;
  const { data, layout } = coloured(figures[name][panel.dataset.index], "");
  for (const trace of data) trace.visible = !hidden.has(name + "\n" + trace.name);
  if (touch) { // a finger that moves over a figure means to scroll the page
    layout.dragmode = false;
    layout.xaxis.fixedrange = layout.yaxis.fixedrange = true;
  }
  Plotly.react(panel, data, { ...layout, autosize: true }, { displayModeBar: false, responsive: true });
  drawn.add(panel);
}

const panels = [...document.querySelectorAll(".panel")];
const observer = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (isIntersecting) {
      observer.unobserve(target);
      draw(target);
    }
  }
}, { rootMargin: "800px" });
panels.forEach((panel) => observer.observe(panel));
dark.addEventListener("change", () => drawn.forEach(draw));
addEventListener("beforeprint", () => panels.filter((panel) => !drawn.has(panel)).forEach(draw));

document.querySelectorAll(".keys button").forEach((button) => button.addEventListener("click", () => {
  const figure = button.closest("figure");
  const key = figure.dataset.name + "\n" + button.dataset.label;
  const shown = hidden.delete(key);
  if (!shown) hidden.add(key);
  button.setAttribute("aria-pressed", String(shown));
  figure.querySelectorAll(".panel").forEach((panel) => { if (drawn.has(panel)) draw(panel); });
}));

// The text: what the model reads and, token by token as it is drawn, what it writes.

import { aborted, lines } from "./server.js";
import { element, get, on, problem, question, state } from "./state.js";

const MOST_BITS = 7; // of surprise, from which on a token has the strongest colour
let running = null;

export function begin() {
  get("write").addEventListener("click", write);
  on("asked", () => running?.abort());
}

export async function write() {
  if (!state.source) return;
  running?.abort();
  const mine = (running = new AbortController());
  const box = get("text");
  box.replaceChildren();
  let step = null;
  let place = null;
  const add = ([text, variable, at, bits, read]) => {
    if (at !== step) {
      step = at;
      place = element("span", { className: read ? "step" : "step written" });
      box.append(place);
    }
    const token = element("b", { textContent: text, title: bits === null ? "read first" : `${bits.toFixed(2)} bits` });
    token.style.color = `var(--v${variable % 6})`;
    const strength = Math.min(1, (bits ?? 0) / MOST_BITS);
    if (strength > 0.02) token.style.background = `color-mix(in srgb, var(--untouched) ${Math.round(28 * strength)}%, transparent)`;
    place.append(token);
  };
  try {
    const body = question({ forecaster: get("text-forecaster").value || "untouched", number: +get("path-number").value });
    await lines("/api/text", body, mine.signal, (event) => {
      if (event.variables)
        get("text-legend").replaceChildren(
          ...event.variables.map((name, index) => element("b", { textContent: name, style: `color:var(--v${index % 6})` })),
          "darker: more surprising; underlined: written");
      for (const token of event.tokens ?? []) add(token);
      box.scrollTop = box.scrollHeight;
    });
    box.dataset.done = "yes";
  } catch (error) {
    if (!aborted(error)) problem(error.message);
  }
}

// Take away: files, and the command line and the Python that make the same forecast.

import { ask } from "./server.js";
import { element, fill, get, on, problem, state } from "./state.js";

const FILES = ["forecast.csv", "forecast.parquet", "paths.csv", "paths.parquet", "picture.png", "context.csv"];

export function begin() {
  on("finished", show);
  get("take-forecaster").addEventListener("change", show);
  for (const button of document.querySelectorAll("button.copy"))
    button.addEventListener("click", async () => {
      const text = get(button.dataset.from).textContent;
      await navigator.clipboard.writeText(text).catch(() => problem("The browser did not let the page copy; mark the text instead."));
    });
}

async function show() {
  const drawn = state.forecasters.filter((name) => state.results[name]?.key);
  fill(get("take-forecaster"), drawn);
  const key = state.results[get("take-forecaster").value]?.key;
  if (!key) return;
  const query = new URLSearchParams(state.events.map((event) => ["event", event]));
  const files = state.events.length ? [...FILES, "events.csv"] : FILES;
  get("take-links").replaceChildren(
    ...files.map((name) => element("a", { href: `/api/take/${key}/${name}?${query}`, download: name, textContent: name })));
  try {
    const { command, python } = await ask(`/api/ways/${key}?${query}`);
    get("take-command").textContent = command;
    get("take-python").textContent = python;
  } catch (error) {
    problem(error.message);
  }
}

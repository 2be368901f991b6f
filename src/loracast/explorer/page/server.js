// Asking the program behind the page.

async function checked(answer) {
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Error((told.error ?? [`${answer.status} ${answer.statusText}`]).join("\n"));
}

const json = (body) => ({ method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

export async function ask(path, body) {
  return (await checked(await fetch(path, body === undefined ? undefined : json(body)))).json();
}

export async function send(path, file) {
  return (await checked(await fetch(path, { method: "POST", body: file }))).json();
}

// Calls `onEvent` with each line of an answer as it comes. An aborted signal ends the work behind it, too.
export async function lines(path, body, signal, onEvent) {
  const answer = await checked(await fetch(path, { ...json(body), signal }));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const whole = (rest + value).split("\n");
    rest = whole.pop();
    for (const line of whole) {
      const event = JSON.parse(line);
      if (event.error) throw new Error(event.error.join("\n"));
      onEvent(event);
    }
  }
}

export const aborted = (error) => error.name === "AbortError";

"""The service under load: clients that each wait for an answer before they ask again, on the machine that serves.

Every client asks for requests of several sizes from three adapters and the untouched base, in an order of its own.
Every answer is compared, byte for byte, with the one that the same request gets alone, from a forecaster in this
process. Then the same load is put on a service that draws one request after the other.

    python benchmarks/load.py --clients 1 8 64 256 --seconds 40
    python benchmarks/load.py --table
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np

import loracast
from loracast.serve.answers import as_json
from loracast.serve.bodies import read_ask
from loracast.serve.limits import Limits

HERE = Path(__file__).parent
NAMES = (None, "alpha", "beta", "gamma")
SIZES = ((10, 5), (10, 5), (20, 10), (20, 20))  # paths, steps
LENGTHS = (20, 40, 80)  # steps of context
PORT = 8199
MARK = "<!-- load -->"
MACHINES = {
    "load": "2 cores of an AMD EPYC (Zen 3), float32",
    "load-xeon": "2 cores of an Intel Xeon (AMX), bfloat16",
    "load-h200": "NVIDIA H200, bfloat16",
}


def make_adapters(base: loracast.Forecaster, folder: Path) -> None:
    """Three adapters of a few steps each: what they know is not the point."""
    for seed, name in enumerate(NAMES[1:]):
        settings = loracast.TuneConfig(
            steps=3, batch=4, context=30, horizon=20, validation_windows=4, validation_series=0, seed=seed
        )
        series = loracast.simulate("predator-prey", n=6, steps=60, seed=seed)
        base.fit(series, tune=settings, force=True).save(folder / str(name))


def requests() -> list[bytes]:
    """Each size, adapter and length once, of series of their own."""
    found = []
    for number, series in enumerate(loracast.simulate("predator-prey", n=len(LENGTHS) * len(NAMES), steps=80, seed=9)):
        length, adapter = LENGTHS[number % len(LENGTHS)], NAMES[number // len(LENGTHS)]
        values = {name: series.values[:length, column].tolist() for column, name in enumerate(series.names)}
        for paths, steps in dict.fromkeys(SIZES):
            one = {"series": [{"id": str(number), "values": values}], "horizon": steps, "paths": paths}
            settings = {"adapter": adapter, "output": ["quantiles", "paths"], "transform": "none"}
            found.append(json.dumps(one | settings).encode())
    return found


def alone(base: loracast.Forecaster, folder: Path, body: bytes) -> bytes:
    """What a request is answered by itself."""
    asked = read_ask(body, Limits())
    name = asked.options.adapter
    forecaster = base.with_adapter(folder / name) if name else base
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        found = forecaster.predict(asked.series, asked.options.horizon, sample=asked.options.sample())
    return as_json(found, asked.options, "bundled", [str(one.message) for one in caught])


class Server:
    """`loracast serve` as a user starts it."""

    def __init__(self, folder: Path, *options: str):
        command = [sys.executable, "-m", "loracast", "serve", str(folder), "--port", str(PORT), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.process.stdout.readline(), self.process.stdout.readline()

    def memory(self) -> float:
        """Peak memory in GB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(found[1]) / 1e6 if found else float("nan")

    def end(self) -> None:
        self.process.terminate()
        self.process.wait()


async def load(clients: int, seconds: float, bodies: list[bytes], wanted: list[bytes]) -> dict[str, Any]:
    """Puts a load on the service and tells what came back."""
    times: list[float] = []
    counts: Counter[str] = Counter()
    batches: list[int] = []
    end = time.monotonic() + seconds

    async def client(number: int, session: httpx.AsyncClient) -> None:
        order = random.Random(number)
        while time.monotonic() < end:
            size = order.choice(SIZES)
            kinds = [*dict.fromkeys(SIZES)]
            index = len(kinds) * order.randrange(len(bodies) // len(kinds)) + kinds.index(size)
            begin = time.monotonic()
            try:
                answer = await session.post(
                    "/v1/forecast", content=bodies[index], headers={"content-type": "application/json"}
                )
            except httpx.HTTPError as error:
                counts[type(error).__name__] += 1
                continue
            if answer.status_code != 200:
                counts[str(answer.status_code)] += 1
                await asyncio.sleep(float(answer.headers.get("retry-after", 1)))
                continue
            times.append(time.monotonic() - begin)
            batches.append(int(re.findall(r'desc="(\d+)"', answer.headers["server-timing"])[0]))
            counts["as alone" if answer.content == wanted[index] else "otherwise"] += 1

    begin = time.monotonic()
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{PORT}", timeout=180, limits=limits) as session:
        await asyncio.gather(*(client(number, session) for number in range(clients)))
    took = time.monotonic() - begin
    return {
        "clients": clients,
        "seconds": round(took, 1),
        "answers": len(times),
        "a second": round(len(times) / took, 2),
        "p50": round(float(np.quantile(times, 0.5)), 2),
        "p99": round(float(np.quantile(times, 0.99)), 2),
        "drawn together": round(float(np.mean(batches)), 1),
        **counts,
    }


def table() -> str:
    """What is kept in results/, as the table of docs/service.md."""
    lines = [
        "| machine | way | clients | answers a second | p50, s | p99, s | drawn together | as alone | 504 | peak GB |"
    ]
    lines += ["|---|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for name in ("load", "load-xeon", "load-h200"):
        found = json.loads((HERE / "results" / f"{name}.json").read_text())
        for row in found["rows"]:
            alone = row["as alone"] / row["answers"]
            cells = [MACHINES[name], row["way"], row["clients"], row["a second"], row["p50"], row["p99"]]
            cells += [row["drawn together"], f"{alone:.0%}", row.get("504", 0), row["memory, GB"]]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64, 256])
    parser.add_argument("--one-by-one", type=int, nargs="*", default=[64], help="clients of a service without batches")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "load.json")
    parser.add_argument("--table", action="store_true", help="only write the table of docs/service.md anew")
    arguments = parser.parse_args()
    if arguments.table:
        page = HERE.parent / "docs" / "service.md"
        head, _, _ = page.read_text().partition(MARK)
        page.write_text(f"{head}{MARK}\n\n{table()}\n")
        return
    base = loracast.Forecaster.from_pretrained("bundled")
    rows = []
    with tempfile.TemporaryDirectory() as place:
        make_adapters(base, Path(place))
        bodies = requests()
        wanted = [alone(base, Path(place), body) for body in bodies]
        for way, options, all_clients in (
            ("together", (), arguments.clients),
            ("one by one", ("--batch-paths", "1"), arguments.one_by_one),
        ):
            for clients in all_clients:
                server = Server(Path(place), *options)
                row = asyncio.run(load(clients, arguments.seconds, bodies, wanted))
                rows.append({"way": way, **row, "memory, GB": round(server.memory(), 2)})
                print(json.dumps(rows[-1]), flush=True)
                server.end()
    about = {"hardware": base.hardware, "precision": base.model.precision, "seconds": arguments.seconds}
    arguments.output.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

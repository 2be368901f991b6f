"""Series of many kinds, zero-shot: loracast beside forecasters that are fitted to each context, on the same windows.

    python benchmarks/wild.py --processes 2

The cases are those of wild_series.py: contexts of 8 to 1,000 steps, 1 to 8 variables, noise, counts, growth, decline,
trends, shifts, missing values. A window is drawn by its seed and its kind; `--first-seed 1000` draws others, to choose
by, so that those of the default are only measured by. Scores of each window are kept beside `--output`, a forecaster
at a time: the same command goes on where it was cut off, and prints the table. Missing values of a context are
interpolated for the peers, which cannot read gaps. Peers: see `classical.py`.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from crew import Do, forecasters, forecasters_parser, shared_out
from harness import keep, note, origin
from numpy.typing import NDArray
from populations import NAIVE, Origin, peer_paths
from scoringrules import crps_ensemble
from wild_series import CASES, Case

from loracast import Forecaster, SampleConfig, Series
from loracast.ranks import covered
from loracast.statistics import observed_mean

Floats = NDArray[np.float64]
OUTPUT = Path(__file__).parent / "results" / "wild.json"
OURS = "loracast, zero-shot"
PEERS = ("AR, logs", "VAR", "VAR, logs", "simplex", "S-map", "S-map, logs", "SINDy", "AutoARIMA", "AutoETS")
LEVELS = np.array([0.5, 0.8])


def score(window: Floats, context: int, paths: Floats) -> tuple[float, float, float]:
    """CRPS in standard deviations of each variable over the window, and the shares in intervals of 50 and 80%."""
    truth, size = window[context:], np.nanstd(window, 0)
    size = np.where(size > 0, size, np.nan)  # of a population that has died out before, nothing is scored
    errors = np.asarray(crps_ensemble(truth, np.moveaxis(paths, 0, -1), estimator="qd")) / size
    if len(paths) == 1:
        return float(np.nanmean(errors)), float("nan"), float("nan")
    within = observed_mean(covered(np.moveaxis(paths, 0, -1), truth, LEVELS), axis=(0, 1))
    return float(np.nanmean(errors)), *map(float, within)


def ours(forecaster: Forecaster, case: Case, windows: Sequence[Floats], samples: int, seed: int) -> Floats:
    """Zero-shot paths [N, S, H, D] of all windows of a case."""
    names = tuple(f"x{index}" for index in range(windows[0].shape[1]))
    series = [Series(one[: case.context], names, id=f"{case.kind} {number}") for number, one in enumerate(windows)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of contexts that are cut, and of many variables
        return forecaster.predict(series, case.horizon, sample=SampleConfig(samples, seed=seed)).samples


def chosen_cases(options: Any) -> list[Case]:
    return [case for case in CASES if not options.cases or case.name.startswith(tuple(options.cases))]


def worker(number: int, options: Any) -> Do:
    """What forecasts the windows of all cases by one forecaster."""
    cases = chosen_cases(options)

    def run(name: str) -> dict[str, Any]:
        found, began = {}, time.perf_counter()
        forecaster = Forecaster.from_pretrained(options.model, device=options.device) if name == OURS else None
        for case in cases:
            windows = [case.window(options.first_seed + index) for index in range(options.windows)]
            failed: list[str] = []
            if forecaster:
                made = ours(forecaster, case, windows, options.samples, options.seed)
            else:
                chosen = [Origin(case.name, "", one[: case.context], one[case.context :]) for one in windows]
                made, failed = peer_paths(name, chosen, options.samples, options.seed)
            scores = np.array([score(one, case.context, paths) for one, paths in zip(windows, made)])
            note(f"{name}, {case.name}: {scores[:, 0].mean():.4f}")
            found[case.name] = {"crps": scores[:, 0].tolist(), "covered": scores[:, 1:].tolist(), "failed": len(failed)}
        return {"cases": found, "failed": [], "seconds": round(time.perf_counter() - began, 1)}

    return run


def table(result: dict[str, Any]) -> str:
    """A row a case: loracast's CRPS and coverage, those of VAR, S-map and AR, and the best of all others.

    A peer's is followed by how much loracast's CRPS is above it, with two standard errors over the windows.
    """
    kept, lines = (
        result["forecasters"],
        ["| case | " + OURS + " | 50%, 80% | best other | above it |", "|---|---|---|---|---|"],
    )
    for name, mine in kept[OURS]["cases"].items():
        there = {
            peer: found["cases"].get(name) for peer, found in kept.items() if peer != OURS
        }  # some cases take hours
        others = {peer: np.array(case["crps"]) for peer, case in there.items() if case}
        half, most = np.nanmean(mine["covered"], 0)
        row = f"| {name} | {np.mean(mine['crps']):.4f} | {half:.0%}, {most:.0%} | "
        if others:
            best = min(others, key=lambda peer: others[peer].mean())
            apart = np.array(mine["crps"]) - others[best]
            error = 2 * apart.std(ddof=1) / np.sqrt(len(apart))
            lines.append(f"{row}{best} {others[best].mean():.4f} | {apart.mean():+.4f} ± {error:.4f} |")
        else:
            lines.append(f"{row}– | – |")
    return "\n".join(lines)


def parser() -> ArgumentParser:
    made = forecasters_parser(__doc__ or "", OUTPUT)
    made.add_argument("--model", default="bundled")
    made.add_argument("--cases", nargs="+", metavar="KIND", help="only cases whose names begin so")
    made.add_argument("--windows", type=int, default=24, help="of a case (%(default)s)")
    made.add_argument("--first-seed", type=int, default=0)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    made = parser()
    options = made.parse_args(arguments)
    names = forecasters(made, options, [NAIVE, *PEERS, OURS])
    result = json.loads(options.output.read_text(encoding="utf-8")) if options.output.is_file() else {}
    result |= {"benchmark": "wild"}
    kept = result.setdefault("forecasters", {})
    wanted = [name for name in names if name not in kept]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    broken = []
    for name, found in shared_out(worker, wanted, options.processes, options):
        if isinstance(why := found["failed"], str):
            broken.append(name)
            note(f"{name}: {why}")
            continue
        settings = {key: getattr(options, key) for key in ("windows", "first_seed", "samples", "seed")}
        kept[name] = {**found, **settings, **origin(options)}
        keep(result, options.output)
    if OURS in kept:
        print(table(result))
    if broken:
        raise SystemExit(f"{len(broken)} of {len(wanted)} forecasters failed: {', '.join(broken)}")


if __name__ == "__main__":
    main()

"""Chaotic flows, zero-shot: the systems of dysts (Gilpin 2021, arXiv:2110.05266), 512 steps read, 256 forecast.

    pip install dysts
    python benchmarks/chaos.py --data chaos.npz --processes 2

Each system is integrated from its own start, which lies on its attractor, at 100 steps a period of its largest Fourier
mode, and kept in `--data`, system by system: integrating all of them takes an hour of one core. From two origins, 256
steps are forecast. sMAPE is that of dysts: 100 times the mean over steps and variables of |x - y| / (|x| + |y|). A
valid prediction time is the time until the error, over variables in their standard deviations, exceeds 0.4, in
Lyapunov times of the system. loracast's forecast is the median of its paths; `paths` is the mean over single ones.

Published figures (sMAPE at 64, 128 and 256 steps: Panda 19.1, 24.4, 31.9; PathFM-Chaotic-125M 16.4, 21.5, 27.4) are on
480 systems that Panda's authors made of pairs of these by coupling them, and kept; they are not public as a package, so
that these figures stand beside them, not against them. `parrot` copies what followed the most similar stretch of the
context, which is hard to beat where there is a context of five periods (Zhang and Gilpin 2025, arXiv:2505.11349).
"""

from __future__ import annotations

import json
import os
import time
import warnings
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from crew import Do, shared_out
from harness import bare_parser, keep, note, origin
from numpy.typing import NDArray

from loracast import Forecaster, SampleConfig, Series
from loracast.baselines import context_mean, last_value
from loracast.files import atomic_path

Floats = NDArray[np.float64]
OUTPUT = Path(__file__).parent / "results" / "chaos.json"
CONTEXT, HORIZONS, ORIGINS = 512, (64, 128, 256), (512, 1024)
STEPS, PERIOD = ORIGINS[-1] + HORIZONS[-1], 100  # steps of a trajectory and of a period
VALID = 0.4  # standard deviations
MATCHED = 10  # steps of a stretch that is looked for in the context
OURS = "loracast, zero-shot"


# -- systems -------------------------------------------------------------------------------------------------------


def integrate(number: int, options: Any) -> Do:
    """What integrates a system by its name."""
    import dysts.flows

    def make(name: str) -> dict[str, Any]:
        system = getattr(dysts.flows, name)()
        for method in ("LSODA", "Radau"):
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                values = system.make_trajectory(STEPS, pts_per_period=PERIOD, method=method, rtol=1e-10, atol=1e-10)
            if values is not None and np.isfinite(values).all():
                lyapunov = float(system.maximum_lyapunov_estimated or np.nan)
                return {"values": values, "lyapunov": lyapunov * system.period / PERIOD, "failed": []}
        raise ValueError("its integration did not end")

    return make


def systems(options: Any) -> dict[str, tuple[Floats, float]]:
    """Values [T, D] and Lyapunov exponent a step of each system; what is not in `--data` yet is integrated first."""
    found: dict[str, Any] = dict(np.load(options.data)) if options.data.is_file() else {}
    import dysts.flows
    from dysts.systems import get_attractor_list

    names = [name for name in get_attractor_list() if hasattr(dysts.flows, name)]
    names = names[: options.systems] if options.systems else names
    for name, made in shared_out(integrate, [name for name in names if name not in found], options.processes, options):
        if isinstance(why := made["failed"], str):
            note(f"{name}: {why}")
            continue
        found |= {name: made["values"], f"{name}.lyapunov": np.array(made["lyapunov"])}
        with atomic_path(options.data) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **found)
        note(f"{name}: {made['values'].shape}")
    return {name: (found[name], float(found[f"{name}.lyapunov"])) for name in names if name in found}


# -- forecasters ---------------------------------------------------------------------------------------------------


def parrot(context: Floats, horizon: int) -> Floats:
    """What followed the stretch of the context that is nearest to its end, again and again."""
    scaled = (context - context.mean(0)) / (context.std(0) + 1e-12)
    stretches = np.lib.stride_tricks.sliding_window_view(scaled, MATCHED, 0)  # [T - M + 1, D, M]
    apart = ((stretches[:-MATCHED] - stretches[-1]) ** 2).sum((1, 2))
    follows = int(apart.argmin()) + MATCHED
    copied = context[follows:]
    return np.tile(copied, (-(-horizon // len(copied)), 1))[:horizon]


NAIVE: dict[str, Callable[[Floats, int], Floats]] = {
    "last value": last_value,
    "context mean": context_mean,
    "parrot": parrot,
}


def ours(contexts: Sequence[tuple[str, Floats]], options: Any) -> list[Floats]:
    """Paths [S, H, D] of each context, those of as many variables together."""
    forecaster = Forecaster.from_pretrained(options.model, device=options.device)
    made: dict[int, Floats] = {}
    for variables in sorted({values.shape[1] for _, values in contexts}):
        members = [number for number, (_, values) in enumerate(contexts) if values.shape[1] == variables]
        names = tuple(f"x{index}" for index in range(variables))
        series = [Series(contexts[number][1], names, contexts[number][0]) for number in members]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of contexts that are cut, and of groups of variables
            forecast = forecaster.predict(series, HORIZONS[-1], sample=SampleConfig(options.samples, seed=options.seed))
        made |= dict(zip(members, forecast.samples))
        note(f"{OURS}: {len(members)} contexts of {variables} variables")
    return [made[number] for number in range(len(contexts))]


# -- scores --------------------------------------------------------------------------------------------------------


def smape(truth: Floats, forecast: Floats) -> float:
    """In percent, from 0 to 100, over [..., H, D]."""
    return float(100 * np.mean(np.abs(truth - forecast) / (np.abs(truth) + np.abs(forecast) + 1e-10)))


def valid_time(truth: Floats, forecast: Floats, size: Floats, lyapunov: float) -> float:
    """In Lyapunov times; that of the whole horizon where the error never exceeds the threshold."""
    error = np.sqrt((((truth - forecast) / size) ** 2).mean(1))
    steps = int(np.argmax(error > VALID)) if (error > VALID).any() else len(truth)
    return steps * lyapunov


def scored(values: Floats, lyapunov: float, at: int, paths: Floats) -> dict[str, Any]:
    truth, size = values[at : at + HORIZONS[-1]], values.std(0) + 1e-12
    middle = np.median(paths, 0)
    return {
        **{f"smape_{horizon}": smape(truth[:horizon], middle[:horizon]) for horizon in HORIZONS},
        **{f"paths_{horizon}": smape(truth[:horizon], paths[:, :horizon]) for horizon in HORIZONS},
        "valid": valid_time(truth, middle, size, lyapunov),
    }


def table(result: dict[str, Any]) -> str:
    """Means over systems, with two standard errors."""
    lines = [
        "| forecaster | sMAPE at 64 | 128 | 256 | of single paths | valid prediction time |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in result["forecasters"].items():
        rows = found["systems"].values()

        def told(key: str, rows: Any = rows) -> str:
            each = np.array([np.mean([one[key] for one in row]) for row in rows])
            return f"{np.nanmean(each):.1f} ± {2 * np.nanstd(each) / np.sqrt(len(each)):.1f}"

        singles = ", ".join(told(f"paths_{horizon}") for horizon in HORIZONS)
        lines.append(
            f"| {name} | {' | '.join(told(f'smape_{one}') for one in HORIZONS)} | {singles} | {told('valid')} |"
        )
    return "\n".join(lines)


def parser() -> ArgumentParser:
    made = bare_parser(__doc__ or "")
    made.set_defaults(output=OUTPUT)
    made.add_argument("--data", type=Path, default=Path("chaos.npz"), help="trajectories (%(default)s)")
    made.add_argument("--model", default="bundled")
    made.add_argument("--systems", type=int, help="only the first ones")
    made.add_argument("--samples", type=int, default=16, help="paths a context (%(default)s)")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--processes", type=int, default=1, help="systems integrated at once (%(default)s)")
    made.add_argument("--only-integrate", action="store_true", help="end when the trajectories are there")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    there = systems(options)
    if options.only_integrate:
        return
    begun = [(name, at) for name in there for at in ORIGINS]
    contexts = [(f"{name}@{at}", there[name][0][at - CONTEXT : at]) for name, at in begun]
    result = json.loads(options.output.read_text(encoding="utf-8")) if options.output.is_file() else {}
    kept = result.setdefault("forecasters", {})
    for forecaster in (*NAIVE, OURS):
        if forecaster in kept:
            continue
        began = time.perf_counter()
        if forecaster == OURS:
            made = ours(contexts, options)
        else:
            made = [NAIVE[forecaster](values, HORIZONS[-1])[None] for _, values in contexts]
        rows: dict[str, list[Any]] = {}
        for (name, at), paths in zip(begun, made):
            rows.setdefault(name, []).append(scored(*there[name], at, paths))
        settings = {"samples": options.samples, "seed": options.seed, **origin(options)}
        kept[forecaster] = {"systems": rows, "seconds": round(time.perf_counter() - began, 1), **settings}
        keep(result, options.output)
    print(table(result))


if __name__ == "__main__":
    main()

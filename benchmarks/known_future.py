"""What a variable that is known beforehand is worth: predator and prey whose growth follows an irregular season.

    python benchmarks/known_future.py -o benchmarks/results/known_future.json

Two adapters are tuned on the same simulated series with the same FLOPs: one reads season, prey and predator and is
given the season of the steps that it forecasts; the other reads prey and predator alone, with shorter texts and so more
optimiser steps. Both forecast the same unseen series. A what-if is checked besides: values that are set come back
exactly, and the paths before them are those without, bit by bit.

Ends in one JSON line: MAE of both and their ratio, which is to be 0.6 at most.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line sets it, before torch is imported

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from harness import bare_parser, finish, keep, note, origin, rounded

from loracast import Forecaster, SampleConfig, Series, TuneConfig, backtest, simulate
from loracast.scenario import known_of
from loracast.series import windows

SYSTEM = "seasonal-predator-prey"
SEEDS = {"train": 700, "validation": 701, "test": 702}
SIZES = {"train": 150, "validation": 20, "test": 40}
TARGET = 0.6


def without_season(series: Sequence[Series]) -> list[Series]:
    return [replace(one, values=one.values[:, 1:], names=one.names[1:], known=()) for one in series]


def scores(forecaster: Forecaster, series: Sequence[Series], tune: TuneConfig, samples: int) -> dict[str, Any]:
    result = backtest({"model": forecaster}, series, tune.context, tune.horizon, sample=SampleConfig(samples))
    return {key: rounded(result.rows[0][key]) for key in ("mae", "mae_median", "crps", "coverage_80")}


def what_if(forecaster: Forecaster, series: Sequence[Series], tune: TuneConfig) -> dict[str, bool]:
    """Sets the predator at the tenth to the twelfth step."""
    cut = windows(series, tune.context, tune.horizon)
    contexts = [replace(window.context_series, id=window.id) for window in cut]
    known = np.full((len(cut), tune.horizon, series[0].variables), np.nan)
    known[..., :1] = known_of(cut)
    plain, value = forecaster.predict(contexts, tune.horizon, sample=SampleConfig(5), known=known), 0.123456789
    known[:, 9:12, 2] = value
    changed = forecaster.predict(contexts, tune.horizon, sample=SampleConfig(5), known=known)
    return {
        "set_values_come_back": bool((changed.samples[:, :, 9:12, 1] == value).all()),
        "paths_before_are_unchanged": bool(np.array_equal(changed.samples[:, :, :9], plain.samples[:, :, :9])),
        "paths_after_follow": not np.array_equal(changed.samples[:, :, 12:], plain.samples[:, :, 12:]),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = bare_parser(__doc__ or "")
    parser.add_argument("--steps", type=int, default=150, help="optimiser steps with the season (%(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="windows a step (%(default)s)")
    parser.add_argument("--samples", type=int, default=20, help="sample paths a series (%(default)s)")
    options = parser.parse_args(arguments)
    tune = TuneConfig(steps=options.steps, batch=options.batch, context=50, horizon=30, gaps=0.0, validation_series=0)
    data = {part: simulate(SYSTEM, SIZES[part], seed=SEEDS[part]) for part in SIZES}
    result: dict[str, Any] = {"benchmark": "known_future", **origin(options), "system": SYSTEM, "sizes": SIZES}
    result |= {"seeds": SEEDS, "context": tune.context, "horizon": tune.horizon, "batch": tune.batch, "forecasters": {}}
    base, flops = Forecaster.from_pretrained("bundled", device=options.device), None
    for name, change in (("with season", list), ("without", without_season)):
        began, arm = time.perf_counter(), {part: change(series) for part, series in data.items()}
        # without the season, as many steps as the FLOPs of the other arm allow
        config = tune if flops is None else replace(tune, steps=100 * tune.steps, flops=flops)
        tuned = base.fit(arm["train"], tune=config, validation=arm["validation"])
        spent = tuned.record["flops"]["executed"]
        flops = spent["total"] if flops is None else flops
        found = tuned.record["result"]
        result["forecasters"] |= {
            f"zero-shot, {name}": scores(base, arm["test"], tune, options.samples),
            f"tuned, {name}": {
                **scores(tuned, arm["test"], tune, options.samples),
                "validation_loss": rounded(found["validation_loss"]["tuned"]),
                "optimiser_steps": found["steps"],
                "flops": spent["total"],
                "seconds": rounded(time.perf_counter() - began),
            },
        }
        note(f"{name}: {result['forecasters']}")
        keep(result, options.output)
        if name == "with season":
            result["checks"] = what_if(tuned, arm["test"], tune)
    maes = [result["forecasters"][f"tuned, {name}"]["mae"] for name in ("with season", "without")]
    result |= {"ratio": rounded(maes[0] / maes[1]), "target": TARGET, "reached": bool(maes[0] <= TARGET * maes[1])}
    finish(result, options.output)


if __name__ == "__main__":
    main()

"""Long horizons: does what is asked of the far future change the near one, and how does the error grow?

    python benchmarks/horizons.py -o benchmarks/results/horizons.json

Forecasts horizons of 20 to 400 steps from 100 steps of context on simulated predator–prey series with the bundled
model, untouched. A horizon that does not fit beside the context is rolled. For comparison, the same is forecast in one
stretch from what the horizon leaves of the window: 28 steps of context for 100, 2 steps for 126.

Ends in one JSON line: MAE of the first 20 steps and of the whole, by horizon.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line sets it, before torch is imported

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from harness import bare_parser, finish, keep, note, origin, rounded

from loracast import Forecaster, SampleConfig, simulate

CONTEXT, NEAR, HORIZONS = 100, 20, (20, 100, 126, 200, 400)
SYSTEM, SEED = "predator-prey", 811
SPACING = 200 / 99  # of the system's own times


def main(arguments: Sequence[str] | None = None) -> None:
    parser = bare_parser(__doc__ or "")
    parser.add_argument("--series", type=int, default=8, help="series that are forecast (%(default)s)")
    parser.add_argument("--samples", type=int, default=6, help="sample paths a series (%(default)s)")
    options = parser.parse_args(arguments)
    forecaster = Forecaster.from_pretrained("bundled", device=options.device)
    steps = CONTEXT + max(HORIZONS)
    series = simulate(SYSTEM, options.series, seed=SEED, steps=steps, duration=(steps - 1) * SPACING)
    contexts, values = [one.slice(0, CONTEXT) for one in series], np.stack([one.values for one in series])
    result: dict[str, Any] = {"benchmark": "horizons", **origin(options), "system": SYSTEM, "seed": SEED}
    result |= {"series": options.series, "samples": options.samples, "context": CONTEXT, "forecasts": {}}
    first: np.ndarray | None = None
    window = forecaster.model.network.config.max_position_embeddings // forecaster.codec.grammar(2).step_tokens
    unrolled = [(horizon, window - horizon) for horizon in HORIZONS if CONTEXT + horizon > window > horizon]
    for horizon, context in [*((horizon, None) for horizon in HORIZONS), *unrolled]:
        began = time.perf_counter()
        forecast = forecaster.predict(contexts, horizon, sample=SampleConfig(options.samples), context=context)
        error = np.abs(forecast.median() - values[:, CONTEXT : CONTEXT + horizon])  # [N, H, D]
        first = forecast.samples[:, :, :NEAR] if first is None else first
        row = {
            "read": forecast.contexts[0].steps,
            "stretches": len(forecast.stretches[0]),
            "mae_near": rounded(error[:, :NEAR].mean()),
            "mae_near_standard_error": rounded(error[:, :NEAR].mean((1, 2)).std(ddof=1) / options.series**0.5),
            "mae": rounded(error.mean()),
            "mae_median": rounded(float(np.median(error.mean((1, 2))))),
            "same_near_paths": bool(np.array_equal(forecast.samples[:, :, :NEAR], first)),
            "flops": forecast.flops.executed,
            "seconds": rounded(time.perf_counter() - began),
        }
        note(f"{horizon}: {row}")
        result["forecasts"][f"{horizon} steps" if context is None else f"{horizon} steps in one stretch"] = row
        keep(result, options.output)
    finish(result, options.output)


if __name__ == "__main__":
    main()

"""Are the probabilities of events right? Reliability and Brier score on simulated predator and prey.

    python benchmarks/events.py -o benchmarks/results/events.json
    python benchmarks/events.py --noise 0.1 -o benchmarks/results/events-noise.json

Asks of 150 unseen series, from 50 steps each, what happens in the next 20: does the predator fall below a level, is the
prey below the predator at step 10, when does something first happen, how high does the prey get. The bundled model
answers untouched and with a small adapter tuned on other series. Levels are quantiles of a third set of series, the
reference. With --noise, all series are observed with that much multiplicative noise, and the noisy values are judged.

Beside them stand three forecasters that need no model: how often the event happens in the reference ("climatology"),
the last cycle repeated ("best period", one path), and all stretches of 20 steps in a series' own context ("own past").

The Brier score is the mean of (probability - what happened)², over events and series; its skill is 1 - score /
climatology's. The calibration error is the mean distance, over tenths of probability, between the probability that was
given and how often it happened, weighted by cases. Intervals are 90% by resampling the series.

Ends in one JSON line.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line sets it, before torch is imported

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from harness import bare_parser, finish, keep, note, origin, rounded
from numpy.typing import NDArray

from loracast import Forecaster, SampleConfig, Series, TuneConfig, simulate
from loracast.baselines import best_period
from loracast.events import FirstTime, Paths, judge, read_event

CONTEXT, HORIZON = 50, 20
SYSTEM = "predator-prey"
SEEDS = {"train": 930, "validation": 931, "test": 932, "reference": 933}
SIZES = {"train": 200, "validation": 20, "test": 150, "reference": 1000}
NAIVE = ("climatology", "best period", "own past")
BINS, RESAMPLES, TARGET = 10, 1000, 0.05

Floats = NDArray[np.float64]


def questions(future: Floats) -> tuple[list[str], list[str], list[str]]:
    """Chances, first times and extremes, with levels that are quantiles of reference series [N, H, D]."""
    prey, predator = future[..., 0], future[..., 1]  # [N, H]

    def level(values: Floats, share: float) -> str:
        return f"{np.quantile(values, share):.4g}"

    chances = [f"predator falls below {level(predator.min(1), share)} within 20 steps" for share in (0.25, 0.5, 0.75)]
    chances += [f"prey exceeds {level(prey.max(1), share)} within 20 steps" for share in (0.5, 0.75)]
    chances += [f"predator < {level(predator[:, 9], share)} at step 10" for share in (0.25, 0.5)]
    chances += [
        f"prey > {level(prey[:, 9], 0.5)} at step 10",
        "prey < predator at step 10",
        f"always prey > {level(prey.min(1), 0.5)} within 20 steps",
        f"prey < {level(prey, 0.25)} and predator < {level(predator, 0.25)} within 20 steps",
        f"(prey > {level(prey, 0.75)} within 10 steps) and (predator > {level(predator, 0.75)} within 20 steps)",
    ]
    first = [f"when predator falls below {level(predator.min(1), 0.5)}", f"when prey exceeds {level(prey.max(1), 0.5)}"]
    return chances, first, ["highest prey", "lowest predator"]


def paths_of(samples: Floats) -> Paths:
    """Sample paths [N, S, H, D] of series without times."""
    none = (None,) * len(samples)
    return Paths(samples, tuple(map(str, range(len(samples)))), none, none)


def probabilities(text: str, names: Sequence[str], paths: Paths) -> Floats:
    """The probability of an event in each series [N, 1]; of a first time, that it has come by each step [N, H]."""
    event = read_event(text, names)
    judged = judge(event, paths)
    return judged.by_step.mean(1) if isinstance(event, FirstTime) else judged.happened.mean(1)[:, None]


def ranges(text: str, names: Sequence[str], paths: Paths) -> Floats:
    """The 10, 50 and 90% quantiles of an extreme, [3, N]."""
    values = judge(read_event(text, names), paths).values
    assert values is not None
    return np.quantile(values, (0.1, 0.5, 0.9), axis=1)


def calibration_error(given: Floats, happened: Floats) -> float:
    rows = reliability(given, happened).values()
    return sum(row["cases"] * abs(row["given"] - row["happened"]) for row in rows) / given.size


def reliability(given: Floats, happened: Floats) -> dict[str, dict[str, Any]]:
    """By tenths of the probability: the cases, the mean probability, and how often it happened."""
    place = np.minimum((given * BINS).astype(int), BINS - 1)
    found = {}
    for index in range(BINS):
        inside = place == index
        if inside.any():
            found[f"{100 * index // BINS} to {100 * (index + 1) // BINS}%"] = {
                "cases": int(inside.sum()),
                "given": rounded(given[inside].mean(), 3),
                "happened": rounded(happened[inside].mean(), 3),
            }
    return found


def interval(measure: Callable[[NDArray[np.int64]], float], series: int) -> tuple[float, float]:
    """The 90% interval of a measure of the series with these rows, by resampling them."""
    random = np.random.default_rng(0)
    again = [measure(random.integers(series, size=series)) for _ in range(RESAMPLES)]
    low, high = np.quantile(again, (0.05, 0.95))
    return rounded(low), rounded(high)


def scores(given: Floats, climate: Floats, happened: Floats) -> dict[str, float]:
    """Of probabilities [N, E] of the events that happened or not [N, E], beside climatology's.

    `by_chance` is the calibration error that is left where each event happens with exactly the given probability.
    """
    errors, plain = (given - happened) ** 2, (climate - happened) ** 2
    low, high = interval(lambda rows: 1 - errors[rows].mean() / plain[rows].mean(), len(given))
    random = np.random.default_rng(0)
    ideal = [calibration_error(given, random.random(given.shape) < given) for _ in range(RESAMPLES // 10)]
    return {
        "brier": rounded(errors.mean()),
        "skill": rounded(1 - errors.mean() / plain.mean()),
        "skill_low": low,
        "skill_high": high,
        "calibration_error": rounded(calibration_error(given, happened), 3),
        "by_chance": rounded(float(np.mean(ideal)), 3),
        "share_between_5_and_95": rounded(((given > 0.05) & (given < 0.95)).mean(), 3),
    }


def naive_paths(contexts: Sequence[Series]) -> dict[str, Floats]:
    """Sample paths [N, S, H, D] of the forecasters that need no model."""
    own = [np.lib.stride_tricks.sliding_window_view(one.values, HORIZON, 0).swapaxes(1, 2) for one in contexts]
    return {
        "best period": np.stack([best_period(one.values, HORIZON)[None] for one in contexts]),
        "own past": np.stack(own),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = bare_parser(__doc__ or "")
    parser.add_argument("--noise", type=float, default=0.0, help="multiplicative noise of all series (%(default)s)")
    parser.add_argument("--samples", type=int, default=50, help="sample paths a series (%(default)s)")
    parser.add_argument("--steps", type=int, default=100, help="optimiser steps of the adapter (%(default)s)")
    parser.add_argument("--series", type=int, default=SIZES["test"], help="unseen series (%(default)s)")
    options = parser.parse_args(arguments)
    sizes = SIZES | {"test": options.series}
    data = {part: simulate(SYSTEM, sizes[part], seed=SEEDS[part], noise=options.noise) for part in SIZES}
    names = data["test"][0].names
    contexts = [one.slice(0, CONTEXT) for one in data["test"]]
    truth, reference = (
        np.stack([one.values[CONTEXT : CONTEXT + HORIZON] for one in data[part]]) for part in ("test", "reference")
    )
    result: dict[str, Any] = {"benchmark": "events", **origin(options), "system": SYSTEM, "noise": options.noise}
    tune = TuneConfig(steps=options.steps, context=CONTEXT, horizon=HORIZON, validation_series=0)
    result |= {"context": CONTEXT, "horizon": HORIZON, "samples": options.samples, "optimiser_steps": tune.steps}
    result |= {"batch": tune.batch, "seeds": SEEDS, "series": sizes, "seconds": {}}

    paths = naive_paths(contexts)
    base = Forecaster.from_pretrained("bundled", device=options.device)
    began = time.perf_counter()
    tuned = base.fit(data["train"], tune=tune, validation=data["validation"])
    result["seconds"]["tuning"] = rounded(time.perf_counter() - began)
    for name, forecaster in (("tuned", tuned), ("zero-shot", base)):
        note(f"{name}: forecasting {len(contexts)} series")
        began = time.perf_counter()
        paths[name] = forecaster.predict(contexts, HORIZON, sample=SampleConfig(options.samples)).samples
        result["seconds"][name] = rounded(time.perf_counter() - began)

    chances, first, extremes = questions(reference)
    judged = {name: paths_of(samples) for name, samples in paths.items()}
    observed, climate = paths_of(truth[:, None]), paths_of(reference[:, None])
    order = ("tuned", "zero-shot", *NAIVE)

    def asked(texts: Sequence[str], name: str) -> Floats:
        """The probabilities that a forecaster gives to all events, [N, E]."""
        if name == "climatology":
            common = [probabilities(text, names, climate).mean(0) for text in texts]
            return np.tile(np.concatenate(common), (len(contexts), 1))
        source = observed if name == "observed" else judged[name]
        return np.concatenate([probabilities(text, names, source) for text in texts], 1)

    for title, texts in (("chances", chances), ("first times", first)):
        given = {name: asked(texts, name) for name in (*order, "observed")}
        happened = given.pop("observed")
        result[title] = {name: scores(given[name], given["climatology"], happened) for name in order}
        for name in ("tuned", "zero-shot"):
            result[f"{title}, {name}: how often what was given a probability happened"] = reliability(
                given[name], happened
            )
        if title == "chances":
            result["brier score by event"] = {
                text: {"happened": rounded(happened[:, column].mean(), 3)}
                | {name: rounded(((given[name] - happened)[:, column] ** 2).mean(), 3) for name in order}
                for column, text in enumerate(texts)
            }
        keep(result, options.output)

    result["extremes: share in the 80% range, and error of the median"] = {}
    for text in extremes:
        true = ranges(text, names, observed)[1]
        spread = {name: ranges(text, names, judged[name]) for name in order if name != "climatology"}
        common = np.quantile(ranges(text, names, climate)[1], (0.1, 0.5, 0.9))
        spread["climatology"] = np.tile(common[:, None], len(contexts))
        for name in order:
            low, middle, high = spread[name]
            result["extremes: share in the 80% range, and error of the median"][f"{text}, {name}"] = {
                "inside": None if name == "best period" else rounded(((low <= true) & (true <= high)).mean(), 3),
                "error": rounded(np.abs(middle - true).mean()),
                "width": rounded((high - low).mean()),
            }
    found = result["chances"]
    best = min(found[name]["brier"] for name in NAIVE)
    result["target"] = f"tuned: Brier score below all naive ones, calibration error at most {TARGET}"
    result["reached"] = bool(found["tuned"]["brier"] < best and found["tuned"]["calibration_error"] <= TARGET)
    finish(result, options.output)


if __name__ == "__main__":
    main()

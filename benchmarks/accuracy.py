"""What the bundled model and its tuning reach: before and after LoRA, by what is tuned and how, and beyond its data.

    python benchmarks/accuracy.py --data lotka_volterra_data.h5 --split split.json --recipe recipes/bundled.yaml
    python benchmarks/accuracy.py --cells main series-70 lynx-hare --samples 10

A cell is one experiment: an adapter is tuned, and it, the untouched model and the baselines forecast the same windows.
Each cell is kept as soon as it is done, with its settings; the same command goes on where it was cut off, and leaves
out what is there with the same settings. Adapters are kept in a folder beside the result; cells that tune in the same
way share one. Without --data, simulated predator–prey series take the place of the published ones.

    main              tuned on all training series by the whole recipe, forecasts of the test series
    steps-N           tuned for so many steps
    series-N          tuned on the first N training series; `unlimited`: on new ones, one a window up to 20,000
    rank-R            tuned with adapters of such a rank
    context-C         the last 25 steps of each series forecast from the C before them
    digits-K          numbers written with K digits
    base-NAME         tuned from the other model that --base names
    simulated         the adapter of main on new series of the same equations and parameters
    growth, capacity, noise-5, noise-20, missing, lotka-volterra   and on series unlike those it knows
    lynx-hare         real pelts: tuned on the earlier years alone, forecasts of every later decade

Cells of series, rank, context, digits and base are tuned for --axis-steps steps, if the recipe has more.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from cyclopts import App, Parameter
from harness import bare_parser, keep, note, origin

from loracast import Forecaster, Series, TuneConfig, read_series, simulate
from loracast.baselines import BASELINES
from loracast.cli.config import refuse_fractions, yaml_options
from loracast.cli.finetune import CodecOptions
from loracast.codec import Codec
from loracast.errors import LoracastError, UnseenWarning
from loracast.evaluation.backtest import TUNED, ZERO_SHOT, Backtest, backtest
from loracast.evaluation.breakdown import by_step, coverage, pit
from loracast.evaluation.dynamics import describe
from loracast.files import ADAPTER_CONFIG, CHECKPOINT
from loracast.series import read_split
from loracast.series.windows import fingerprint
from loracast.settings import Device, SampleConfig
from loracast.systems import Range, get_system, lynx_hare

OUTPUT = Path(__file__).parent / "results" / "accuracy.json"
SYSTEM = "predator-prey"
SIZES = {"train": 700, "validation": 150, "test": 150}  # of what is simulated: as the published split
SEEDS = {"train": 0, "validation": 1, "test": 2, "fresh": 3}

SERIES = (7, 70, 700)
MOST_SERIES = 20_000  # of an unlimited number
STEPS = (30, 100, 300, 1000, 3000)
RANKS = (1, 2, 4, 8, 16, 32, 64)
CONTEXTS, SHORT_HORIZON = (25, 50, 75), 25  # the longest window fills a series of 100 steps
DIGITS = (2, 3, 4)

# A decade from four, in the last 36 of 91 years. The 55 years before hold no window of 50 beside a decade to validate
# by, so that tuning reads 30 years instead: 6 windows. They are learned by heart at once, hence less than half of the
# usual rate, a low rank and a few steps. The adapter is kept that has the least loss on 1890–1899, the only decade that
# is new to it: a weak guard, so that the steps, not it, must keep tuning short.
PELTS_CONTEXT, PELTS_JUDGED = 40, 0.4
PELTS_TUNE = TuneConfig(
    rank=4, steps=24, batch=4, context=30, horizon=10, learning_rate=3e-4, validate_every=3, validation_samples=20
)


@dataclass(frozen=True)
class Data:
    """The series of the main cell."""

    train: list[Series]
    validation: list[Series]
    test: list[Series]

    @functools.cached_property
    def fingerprint(self) -> str:
        return fingerprint([*self.train, *self.validation, *self.test])


@dataclass(frozen=True)
class Beyond:
    """Simulated series that differ from those of the data; the defaults are series like them."""

    system: str = SYSTEM
    ranges: Mapping[str, Range] = field(default_factory=dict)  # of parameters, in place of the system's own
    noise: float = 0.0
    every: int = 1  # of how many steps of a context one is observed; what follows it is whole

    def make(self) -> list[Series]:
        system = get_system(self.system)
        system = replace(system, parameters={**system.parameters, **self.ranges})
        return simulate(system, SIZES["test"], seed=SEEDS["test"], noise=self.noise)

    def hide(self, series: Series, context: int) -> Series:
        """A window as it is seen: not all steps of its context."""
        values = series.values.copy()
        # counted from the end, so that the last step is seen: without it, a forecast would begin a step late
        hidden = np.arange(context)[::-1] % self.every > 0
        values[:context][hidden] = np.nan
        return replace(series, values=values)


BEYOND = {
    "simulated": Beyond(),
    "growth": Beyond(ranges={"a": (0.3, 0.4)}),
    "capacity": Beyond(ranges={"K": (15.0, 25.0)}),
    "noise-5": Beyond(noise=0.05),
    "noise-20": Beyond(noise=0.2),
    "missing": Beyond(every=2),
    "lotka-volterra": Beyond("lotka-volterra"),
}


@dataclass(frozen=True)
class Cell:
    """One experiment: how an adapter is tuned, and what it, the untouched model and the baselines forecast."""

    tune: TuneConfig
    model: str
    digits: int | None = None  # as the model was made for unless given
    series: int | None = None  # how many are tuned on; all of the data's unless given
    fresh: bool = False  # they are new ones, and none of the data's
    beyond: Beyond | None = None  # what is forecast; the data's test series unless given

    @property
    def task(self) -> dict[str, int]:
        """The windows that are forecast."""
        return {"context": self.tune.context, "horizon": self.tune.horizon, "stride": self.tune.horizon}

    def training(self, data: Data) -> tuple[list[Series], list[Series] | None]:
        """The series that are tuned on, and those that validate (None: some of the former)."""
        if self.fresh:
            return simulate(SYSTEM, self.series, seed=SEEDS["fresh"]), data.validation
        return data.train[: self.series], data.validation

    def judged(self, data: Data) -> list[Series]:
        """The series that are forecast; here of one window each, up to their last step."""
        series = self.beyond.make() if self.beyond else data.test
        cut = [one.slice(one.steps - self.tune.context - self.tune.horizon, one.steps) for one in series]
        return [self.beyond.hide(one, self.tune.context) for one in cut] if self.beyond else cut

    def sources(self, data: Data) -> dict[str, Any]:
        """What identifies the series of `training` and of `judged`, before any is made."""
        count = self.series if self.fresh else len(data.train[: self.series])
        simulated = {"n": SIZES["test"], "seed": SEEDS["test"], **asdict(self.beyond)} if self.beyond else None
        return {
            "training": {"data": data.fingerprint, "series": count, "fresh": self.fresh},
            "judged": simulated or {"data": data.fingerprint},
        }


@dataclass(frozen=True)
class Pelts(Cell):
    """Hare and lynx: tuned on the earlier years alone, then forecast from every later year."""

    @property
    def task(self) -> dict[str, int]:
        return {"context": PELTS_CONTEXT, "horizon": self.tune.horizon, "stride": 1}

    @property
    def split(self) -> int:
        """The first step that is judged."""
        steps = lynx_hare().steps
        return steps - int(PELTS_JUDGED * steps)

    def training(self, data: Data) -> tuple[list[Series], list[Series] | None]:
        return [lynx_hare().slice(0, self.split)], None

    def judged(self, data: Data) -> list[Series]:
        pelts = lynx_hare()
        return [pelts.slice(self.split - PELTS_CONTEXT, pelts.steps)]

    def sources(self, data: Data) -> dict[str, Any]:
        return {"training": {"pelts_before": self.split}, "judged": {"pelts_from": self.split}}


def cells(recipe: TuneConfig, axis_steps: int, model: str, bases: Mapping[str, str]) -> dict[str, Cell]:
    """All cells by name; `bases` are directories of other models."""
    main = Cell(recipe, model)
    short = replace(recipe, steps=min(axis_steps, recipe.steps))
    along = replace(main, tune=short)
    found = {"main": main}
    found |= {f"steps-{steps}": replace(main, tune=replace(recipe, steps=steps)) for steps in STEPS}
    found |= {f"series-{count}": replace(along, series=count) for count in SERIES}
    drawn = min(short.steps * short.batch, MOST_SERIES)
    found["series-unlimited"] = replace(along, series=drawn, fresh=True)
    found |= {f"rank-{rank}": replace(along, tune=replace(short, rank=rank)) for rank in RANKS}
    for context in CONTEXTS:
        found[f"context-{context}"] = replace(along, tune=replace(short, context=context, horizon=SHORT_HORIZON))
    found |= {f"digits-{digits}": replace(along, digits=digits) for digits in DIGITS}
    found |= {f"base-{name}": replace(along, model=directory) for name, directory in bases.items()}
    found |= {name: replace(main, beyond=beyond) for name, beyond in BEYOND.items()}
    found["lynx-hare"] = Pelts(replace(PELTS_TUNE, seed=recipe.seed), model)
    return found


# -- one cell --------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)  # most cells share one model, and two large ones need not fit at once
def load(model: str, device: Device) -> Forecaster:
    return Forecaster.from_pretrained(model, device=device)


def untouched(cell: Cell, device: Device) -> Forecaster:
    base = load(cell.model, device)
    return Forecaster(base.model, replace(base.codec, digits=cell.digits or base.codec.digits))


def settings_of(cell: Cell, base: Forecaster, data: Data, sample: SampleConfig) -> dict[str, Any]:
    """All that decides a cell's result but hardware and versions, as JSON gives it back."""
    sources = cell.sources(data)
    tuning = {"base": base.model.fingerprint, "codec": base.codec.to_dict(), "on": sources["training"]}
    forecasts = {"of": sources["judged"], **cell.task, **asdict(sample)}
    return json.loads(json.dumps({"tuning": tuning | asdict(cell.tune), "forecasts": forecasts}))


def run(cell: Cell, base: Forecaster, data: Data, sample: SampleConfig, adapter: Path) -> tuple[Backtest, Forecaster]:
    """The scores of a cell and its tuned forecaster, whose adapter is kept in a folder and tuned unless it is there."""
    if (adapter / ADAPTER_CONFIG).is_file():
        tuned = base.with_adapter(adapter)
    else:
        training, validation = cell.training(data)
        resume = (adapter / CHECKPOINT).is_file()
        tuned = base.fit(training, tune=cell.tune, validation=validation, directory=adapter, resume=resume)
    forecasters = {ZERO_SHOT: base, TUNED: tuned}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnseenWarning)  # how far it carries is what is asked
        return backtest(forecasters, cell.judged(data), **cell.task, sample=sample), tuned


def tuning_of(tuned: Forecaster) -> dict[str, Any]:
    """What tuning took and gave, from an adapter's record."""
    result = tuned.record["result"]
    kept = ("steps", "best_step", "trainable_parameters", "seconds")
    return {**{name: result[name] for name in kept}, "flops": tuned.record["flops"]}


def details(result: Backtest, series: Sequence[Series]) -> dict[str, Any]:
    """Errors by step of the horizon and by kind of dynamics, and calibration; `series` are the whole ones."""
    names, truth = series[0].names, np.stack([window.future_values for window in result.windows])  # [N, H, D]
    drawn = {name: forecast.samples for name, forecast in result.forecasts.items()}
    single = {
        name: np.stack([[baseline(window.context_values, window.horizon)] for window in result.windows])
        for name, baseline in BASELINES.items()
    }  # each [N, 1, H, D]
    tables = {
        "by_step": by_step(drawn | single, truth, names),
        "coverage": coverage(drawn, truth, names),
        "pit": pit(drawn, truth, names),
    }
    kinds = describe(series).set_index("series")["kind"]
    errors = pd.DataFrame(
        {"forecaster": name, "kind": kinds[one["series"]], "mae": one["mae"]}
        for name, scores in result.scores.items()
        for one in scores.per_series()
    )
    tables["by_dynamics"] = (
        errors.groupby(["forecaster", "kind"], sort=False)["mae"].agg(series="size", mae="mean").reset_index()
    )
    return {name: table.round(6).to_dict("list") for name, table in tables.items()}


# -- the command -----------------------------------------------------------------------------------------------------


def parse(parser: ArgumentParser, arguments: Sequence[str] | None) -> Namespace:
    """Options, with series and their split among them, of which there are both or neither."""
    parser.add_argument("--data", type=Path, help="the published series; simulated ones unless given")
    parser.add_argument("--split", type=Path, help="JSON file with lists train, validation and test of positions")
    options = parser.parse_args(arguments)
    if (options.data is None) != (options.split is None):
        parser.error("--data and --split go together")
    return options


def read_data(path: Path | None, split: Path | None) -> Data:
    """The published series by their split, or simulated ones."""
    if path is None or split is None:
        return Data(**{part: simulate(SYSTEM, count, seed=SEEDS[part]) for part, count in SIZES.items()})
    series = read_series(path, names=get_system(SYSTEM).names)
    parts = asdict(read_split(split, len(series)))
    return Data(**{part: [series[position] for position in positions] for part, positions in parts.items()})


def read_recipe(path: Path | None) -> TuneConfig:
    """Settings of tuning from a YAML file, read and checked as `loracast finetune --config` does."""
    return TuneConfig() if path is None else _options(path)[0]


def recipe_codec(path: Path) -> Codec:
    """How that file says that numbers are written."""
    return _options(path)[1]


def _options(path: Path) -> tuple[TuneConfig, Codec]:
    app = App(config=(yaml_options(path), refuse_fractions), result_action="return_value")
    app.command(_recipe, name="finetune")
    return app("finetune", exit_on_error=False, print_error=False)


def _recipe(
    *,
    tune: Annotated[TuneConfig | None, Parameter(name="*")] = None,
    codec: Annotated[CodecOptions | None, Parameter(name="*")] = None,
) -> tuple[TuneConfig, Codec]:
    return tune or TuneConfig(), (codec or CodecOptions()).over(Codec())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = bare_parser(__doc__ or "")
    parser.set_defaults(output=OUTPUT)
    parser.add_argument("--cells", nargs="+", metavar="NAME", help="those to run (default: all)")
    parser.add_argument("--model", default="bundled", help="what is tuned (%(default)s)")
    parser.add_argument("--base", action="append", default=[], metavar="NAME=DIR", help="another model; repeatable")
    parser.add_argument("--recipe", type=Path, help="YAML file of options of `loracast finetune`")
    parser.add_argument("--axis-steps", type=int, default=1000, help="of cells along most axes (%(default)s)")
    parser.add_argument("--samples", type=int, default=20, help="paths a window (%(default)s)")
    parser.add_argument("--seed", type=int, help="of tuning and of paths (default: the recipe's)")
    options = parse(parser, arguments)
    if any("=" not in base for base in options.base):
        parser.error("--base takes NAME=DIR")
    try:
        recipe = read_recipe(options.recipe)
        recipe = recipe if options.seed is None else replace(recipe, seed=options.seed)
        data = read_data(options.data, options.split)
    except LoracastError as error:
        parser.error(str(error))
    known = cells(recipe, options.axis_steps, options.model, dict(base.split("=", 1) for base in options.base))
    chosen = options.cells or list(known)
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"unknown cells {', '.join(unknown)}; there are {', '.join(known)}")

    sample = SampleConfig(options.samples, seed=recipe.seed)
    kept = json.loads(options.output.read_text(encoding="utf-8"))["cells"] if options.output.is_file() else {}
    adapters = options.output.with_name(f"{options.output.stem}-adapters")
    for name in chosen:
        cell, began = known[name], time.perf_counter()
        base = untouched(cell, options.device)
        settings = settings_of(cell, base, data, sample)
        if kept.get(name, {}).get("settings") == settings:
            note(f"{name}: there already")
            continue
        digest = hashlib.sha256(json.dumps(settings["tuning"], sort_keys=True).encode()).hexdigest()[:16]
        result, tuned = run(cell, base, data, sample, adapters / digest)
        parameters = base.model.network.config.parameters()
        kept[name] = {
            "settings": settings,
            "model": {"name": Path(cell.model).name, "parameters": parameters, "precision": base.model.precision},
            "rows": result.rows,
            "tuning": tuning_of(tuned),
            **(details(result, data.test) if name == "main" else {}),
            "seconds": round(time.perf_counter() - began, 1),
            **origin(options),
        }
        keep({"benchmark": "accuracy", "cells": kept}, options.output)
        errors = ", ".join(f"{row['forecaster']} {row['mae']:.4g}" for row in result.rows)
        note(f"{name}: MAE {errors}; {kept[name]['seconds']} s")


if __name__ == "__main__":
    main()

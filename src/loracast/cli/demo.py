"""`loracast demo`: the whole path on data made on the spot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from loracast.cli.options import Model, ModelOptions
from loracast.settings import DEMO_PATHS, Optimizer, SampleConfig, TuneConfig  # noqa: F401 -- a type of TuneConfig's

if TYPE_CHECKING:
    from loracast.series import Series

WRITES = ("training.h5", "held-out.h5", "adapter", "forecasts.png", "summary.md")
WRITES += ("scores.csv", "metrics.json", "series.csv")


@dataclass(frozen=True)
class DemoTuning(TuneConfig):
    """How the demo's adapter is tuned: a few minutes on two processor cores."""

    steps: int = 60
    """Optimiser steps. With --flops, the most steps."""

    validation_windows: int = 16
    """Held-out windows in a measurement of the validation loss."""

    validation_series: int = 4
    """Held-out series that are forecast at the end, untouched and tuned, to say whether tuning helped; 0 for none."""


def demo(
    *,
    output: Annotated[Path, Parameter(alias="-o")] = Path("runs/demo"),
    series: int = 200,
    held_out: int = 20,
    samples: int = DEMO_PATHS,
    tune: Annotated[DemoTuning, Parameter(name="*")] = DemoTuning(),
    model: Model = ModelOptions(),
) -> None:
    """Show the whole path in minutes: simulate, tune, forecast, compare. Needs no network and no GPU.

    Simulates predator and prey, tunes the bundled model, or the one that --model names, on some of the series, and
    forecasts others that it has not seen, before and after, beside naive baselines. Of another model it also says what
    share of the numbers that it writes can be read where nothing keeps it to numbers.

    Parameters
    ----------
    output
        Folder for data, adapter, metrics, picture and summary. An earlier demo in it is replaced once this one has
        ended.
    series
        Simulated series to tune on.
    held_out
        Simulated series to forecast.
    samples
        Sample paths a forecast.
    """
    import time

    from loracast.cli.console import say, show_scores, shown_warnings
    from loracast.evaluation.backtest import TUNED, ZERO_SHOT, backtest
    from loracast.evaluation.figures import before_and_after
    from loracast.files import atomic_path, write_text
    from loracast.forecaster import Forecaster
    from loracast.progress import Display
    from loracast.series import write_series
    from loracast.systems import simulate

    began, source, steps = time.perf_counter(), model.model or "bundled", count(1)
    with _replacing(output) as folder:
        training = simulate("predator-prey", series, seed=tune.seed)
        unseen = simulate("predator-prey", held_out, seed=tune.seed + 1)
        unseen = [one.slice(0, tune.context + tune.horizon) for one in unseen]  # a window of each
        write_series(training, folder / "training.h5")
        write_series(unseen, folder / "held-out.h5")
        say(f"{next(steps)}. simulated {series} predator–prey series to tune on and {held_out} to forecast")

        base, sample = Forecaster.from_pretrained(source, **model.where()), SampleConfig(samples)
        size = f"{base.model.network.config.parameters():,} parameters"
        about = f"the bundled model ({size}, never shown predators or prey)"
        if source != "bundled":
            about, share = f"{source} ({size})", f"{_readable(model, unseen, tune, sample):.0%}"
            say(f"{next(steps)}. untouched and free to write anything, {source} writes numbers in {share} of all steps")
        say(f"{next(steps)}. tuning {about}")
        with shown_warnings(), Display() as display:
            tuned = base.fit(training, tune=tune, directory=folder / "adapter", progress=display)
        say(f"{next(steps)}. forecasting steps {tune.context + 1}–{tune.context + tune.horizon} of the held-out series")
        forecasters = {ZERO_SHOT: base, TUNED: tuned}
        result = backtest(forecasters, unseen, tune.context, tune.horizon, sample=sample, progress=True)
        result.save(folder)
        with atomic_path(folder / "forecasts.png") as temporary:
            before_and_after(result).savefig(temporary, dpi=130)
        seconds = time.perf_counter() - began
        errors = {row["forecaster"]: row["mae"] for row in result.rows}
        write_text(folder / "summary.md", _summary(source, errors, tuned.record, held_out, seconds))
    show_scores(result)
    say(
        f"tuned MAE is {errors[TUNED] / errors[ZERO_SHOT]:.2f} of zero-shot's and "
        f"{errors[TUNED] / errors['best-period']:.2f} of best period's · {seconds:.0f} s → {output}\n"
        f"look at {output / 'forecasts.png'}, then read {output / 'summary.md'}"
    )


def _readable(model: ModelOptions, series: list[Series], tune: DemoTuning, sample: SampleConfig) -> float:
    """The share of steps that can be read as numbers where the untouched model may write its whole vocabulary."""
    from loracast.forecaster import Forecaster

    whole = Forecaster.from_pretrained(model.model, vocabulary="full", **model.where())
    contexts = [one.slice(0, tune.context) for one in series]
    return float(whole.predict(contexts, tune.horizon, sample=sample, constrained=False).valid.mean())


@contextmanager
def _replacing(output: Path) -> Iterator[Path]:
    """A new folder beside `output`, which takes its place when the block succeeds; else `output` stays as it is."""
    import shutil
    from secrets import token_hex

    from loracast.errors import DataError, Interrupted
    from loracast.files import check_folder

    check_folder(output)
    target = output.resolve()
    check_folder(target.parent)
    if foreign := sorted(path.name for path in target.glob("*") if path.name not in WRITES):
        raise DataError(
            f"{output} holds {foreign[0]}, which no demo writes, and a demo replaces the whole folder; choose another "
            "folder with -o"
        )
    mark = token_hex(4)
    new, old = (target.parent / f".{target.name}.{mark}.{state}" for state in ("partial", "replaced"))
    try:
        new.mkdir(parents=True)
        yield new
        if target.exists():
            target.rename(old)
        new.rename(target)
    except (KeyboardInterrupt, Interrupted):
        kept = f"; the earlier demo in {output} is as it was" if target.exists() or old.exists() else ""
        raise Interrupted(
            f"the demo was stopped and nothing of it is kept{kept}. The same command starts again"
        ) from None
    finally:
        if old.exists() and not target.exists():  # stopped between the two renames
            old.rename(target)
        for folder in (new, old):
            shutil.rmtree(folder, ignore_errors=True)


def _summary(model: str, errors: dict[str, float], record: dict, held_out: int, seconds: float) -> str:
    rows = "\n".join(f"| {name} | {error:.4f} |" for name, error in errors.items())
    result, tune, made = record["result"], record["tune"], record["made"]
    flops = record["flops"]["executed"]["total"]
    with_model = "" if model == "bundled" else f" --model {model}"
    return f"""# loracast demo

Predator and prey (Rosenzweig–MacArthur): {tune["horizon"]} steps forecast from {tune["context"]}, on {held_out}
simulated series that were not tuned on. Mean absolute error, mean over series and both species:

| forecaster | MAE |
|---|---|
{rows}

The model: {model}, with LoRA of rank {tune["rank"]} on {tune["targets"]}. {result["trainable_parameters"]:,} trainable
parameters, {result["steps"]} steps of {tune["batch"]} windows, {flops:.2e} FLOPs (executed convention),
{seconds:.0f} s in all on {made["hardware"]} in {made["precision"]}, seed {tune["seed"]}.

- `adapter/`: the adapter in PEFT's format, its record and its log
- `scores.csv`, `metrics.json`, `series.csv`: all scores, and the errors of each series
- `forecasts.png`: forecasts before and after of the series that the untouched model misses as the middle one, as one at
  three quarters, and most; below them the errors of all series, step by step

Next: tune on your own series with `loracast finetune YOUR.csv{with_model} -o runs/mine`, then
`loracast forecast YOUR.csv --horizon 20 --adapter runs/mine -o forecast.parquet`.
"""

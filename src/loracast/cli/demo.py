"""`loracast demo`: the whole path on data made on the spot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from loracast.settings import TuneConfig

WRITES = ("training.h5", "held-out.h5", "adapter", "metrics.json", "series.csv", "forecasts.png", "summary.md")


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
    samples: int = 16,
    tune: Annotated[DemoTuning, Parameter(name="*")] = DemoTuning(),
) -> None:
    """Show the whole path in minutes: simulate, tune, forecast, compare. Needs no network and no GPU.

    Simulates predator and prey, tunes the bundled model on some of the series, and forecasts others that it has not
    seen, before and after, beside naive baselines.

    Parameters
    ----------
    output
        Folder for data, adapter, metrics, picture and summary; an earlier demo in it is replaced.
    series
        Simulated series to tune on.
    held_out
        Simulated series to forecast.
    samples
        Sample paths a forecast.
    """
    import shutil
    import time

    from loracast.cli.console import sampling_bar, say, show_scores, shown_warnings, training_bar
    from loracast.errors import DataError
    from loracast.evaluation.backtest import TUNED, ZERO_SHOT, backtest
    from loracast.evaluation.figures import before_and_after
    from loracast.files import atomic_path, check_folder, write_text
    from loracast.forecaster import Forecaster
    from loracast.series import write_series
    from loracast.settings import SampleConfig
    from loracast.systems import simulate

    began = time.perf_counter()
    check_folder(output)
    if foreign := sorted(path.name for path in output.glob("*") if path.name not in WRITES):
        raise DataError(f"{output} holds something else than a demo ({foreign[0]}); choose another folder with -o")
    training = simulate("predator-prey", series, seed=tune.seed)
    unseen = simulate("predator-prey", held_out, seed=tune.seed + 1)
    shutil.rmtree(output, ignore_errors=True)
    write_series(training, output / "training.h5")
    write_series(unseen, output / "held-out.h5")
    say(f"1. simulated {series} predator–prey series to tune on and {held_out} to forecast")

    base = Forecaster.from_pretrained("bundled")
    size = base.model.network.config.parameters()
    say(f"2. tuning the bundled model ({size:,} parameters, never shown predators or prey)")
    with shown_warnings(), training_bar("tune", tune.steps) as report:
        tuned = base.fit(training, tune=tune, directory=output / "adapter", report=report)
    say(f"3. forecasting steps {tune.context + 1}–{tune.context + tune.horizon} of the held-out series")
    with sampling_bar() as progress:
        forecasters = {ZERO_SHOT: base, TUNED: tuned}
        result = backtest(
            forecasters, unseen, tune.context, tune.horizon, sample=SampleConfig(samples), progress=progress
        )
    result.save(output)
    with atomic_path(output / "forecasts.png") as temporary:
        before_and_after(result).savefig(temporary, dpi=130)
    show_scores(result)
    seconds = time.perf_counter() - began
    errors = {row["forecaster"]: row["mae"] for row in result.rows}
    summary = _summary(errors, tuned.record, held_out, seconds)
    write_text(output / "summary.md", summary)
    say(
        f"tuned MAE is {errors[TUNED] / errors[ZERO_SHOT]:.2f} of zero-shot's and "
        f"{errors[TUNED] / errors['best-period']:.2f} of best period's · {seconds:.0f} s → {output}"
    )


def _summary(errors: dict[str, float], record: dict, held_out: int, seconds: float) -> str:
    rows = "\n".join(f"| {name} | {error:.4f} |" for name, error in errors.items())
    result, tune, made = record["result"], record["tune"], record["made"]
    flops = record["flops"]["hardware"]["total"]
    return f"""# loracast demo

Predator and prey (Rosenzweig–MacArthur): {tune["horizon"]} steps forecast from {tune["context"]}, on {held_out}
simulated series that were not tuned on. Mean absolute error, mean over series and both species:

| forecaster | MAE |
|---|---|
{rows}

LoRA of rank {tune["rank"]} on {tune["targets"]}: {result["trainable_parameters"]:,} trainable parameters,
{result["steps"]} steps of {tune["batch"]} windows, {flops:.2e} FLOPs (hardware convention),
{seconds:.0f} s in all on {made["hardware"]} in {made["precision"]}, seed {tune["seed"]}.

- `adapter/`: the adapter in PEFT's format, its record and its log
- `metrics.json`, `series.csv`: all scores, and the errors of each series
- `forecasts.png`: fans before and after for series of low, middle and high error

Next: tune on your own series with `loracast finetune YOUR.csv -o runs/mine`, then
`loracast forecast YOUR.csv --horizon 20 --adapter runs/mine -o forecast.parquet`.
"""

"""`loracast evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from loracast.cli.options import Data, DataOptions, Model, ModelOptions, Output, Subset
from loracast.settings import SCORE_PATHS, SampleConfig, TransformChoice  # noqa: F401 -- a type of SampleConfig's


@dataclass(frozen=True)
class EvaluationSamples(SampleConfig):
    """How sample paths are drawn; a default of its own, which options that go with it do not undo."""

    samples: int = SCORE_PATHS
    """Sample paths a window."""


def evaluate(
    data: Path,
    /,
    *,
    context: int,
    horizon: int,
    output: Output,
    adapter: str | None = None,
    split: Path | None = None,
    subset: Subset = "test",
    stride: int | None = None,
    tuned_too: bool = False,
    sample: Annotated[EvaluationSamples, Parameter(name="*")] = EvaluationSamples(),
    model: Model = ModelOptions(),
    columns: Data = DataOptions(),
) -> None:
    """Score the untouched model, an adapter and naive baselines on the same windows of known series.

    Parameters
    ----------
    data
        Known series: .csv, .tsv, .xlsx, .parquet or .h5.
    context
        Steps that are read in each window.
    horizon
        Steps that are forecast in each window.
    output
        Folder for scores.csv, metrics.json, series.csv (errors of each series) and forecasts.png.
    adapter
        A tuned adapter's folder, or a repository of the hub.
    split
        JSON file with lists train, validation and test of positions in the data.
    subset
        Which of those lists to forecast.
    stride
        Steps between two windows of a series; the horizon unless given.
    tuned_too
        Score the series that the adapter was tuned on, too; without --split they are left out where others are there.
    """
    from loracast.cli.console import note, say, show_scores, shown_warnings
    from loracast.evaluation.backtest import BACKTEST_FILES, TUNED, ZERO_SHOT, backtest
    from loracast.evaluation.figures import before_and_after
    from loracast.files import atomic_path, check_distinct, check_folder
    from loracast.flops import Flops
    from loracast.forecaster import Forecaster
    from loracast.model.checkpoint import recorded_base
    from loracast.model.locate import locate_adapter
    from loracast.series import long_enough
    from loracast.series.seen import unseen

    check_folder(output)
    picture = output / "forecasts.png"
    check_distinct([data], [*(output / name for name in BACKTEST_FILES), picture])
    series = columns.read_subset(data, split, subset)
    source = recorded_base(locate_adapter(adapter)) if adapter and not model.model else model.model
    base = Forecaster.from_pretrained(source, **model.where())
    forecasters = {ZERO_SHOT: base}
    if adapter:
        tuned = base.with_adapter(adapter)
        forecasters = {ZERO_SHOT: Forecaster(base.model, tuned.codec), TUNED: tuned}
        if split is None and not tuned_too:
            series, left_out = unseen(series, tuned.record.get("split", {}), context, horizon)
            if left_out:
                note(left_out)
    series, short = long_enough(series, context + horizon, "context and horizon")
    if short:
        note(short)
    with shown_warnings():
        result = backtest(forecasters, series, context, horizon, stride=stride, sample=sample, progress=True)
    result.save(output)
    with atomic_path(picture) as temporary:
        before_and_after(result).savefig(temporary, dpi=150)
    windows = f"{len(result.windows)} window{'s' * (len(result.windows) > 1)}"
    say(f"{len(series)} series, {windows}, {context} → {horizon} steps")
    show_scores(result)
    spent = Flops.sum(forecast.flops for forecast in result.forecasts.values())
    say(f"{spent.executed:.3e} FLOPs (executed), {spent.published:.3e} (published) → {output / 'metrics.json'}")

"""What a forecaster is tuned on and judged by, and whether tuning helped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from loracast.codec import Codec
from loracast.context import Reach
from loracast.errors import DataError
from loracast.forecast import Forecast
from loracast.ledger import Ledger
from loracast.scenario import known_of
from loracast.series import Series, Window, leave_out_short, windows
from loracast.series.checks import check_observed, same_variables
from loracast.series.windows import evenly_spaced, hold_out, scorable_windows
from loracast.settings import SampleConfig, TuneConfig


@dataclass(frozen=True)
class Material:
    """Series and windows of one tuning, and how they are written.

    Attributes:
        training: series that windows are drawn from.
        held_out: windows that are never trained on.
        measured: those of them whose loss decides which adapter is kept.
        judged: those of them that the untouched and the tuned model forecast at the end.
    """

    training: list[Series]
    held_out: list[Window]
    measured: list[Window]
    judged: list[Window]
    codec: Codec


def prepare(
    series: Sequence[Series],
    validation: Sequence[Series] | None,
    config: TuneConfig,
    codec: Codec,
    reach: Callable[[int], Reach],
) -> Material:
    """The material of a tuning on series; 15% of them are held out unless others are given to validate.

    Raises DataError for series that are too short, of different variables, or without an observed value.
    """
    if not series:
        raise DataError("the list of series to tune on is empty; give at least one")
    same_variables([*series, *(validation or ())])
    reach(series[0].variables).check(length := config.context + config.horizon)
    series = leave_out_short(series, length)
    if validation:
        training = series
        held_out = windows(leave_out_short(validation, length), config.context, config.horizon)
    else:
        training, held_out = hold_out(series, config.context, config.horizon, config.seed)
    for one in (*training, *(window.context_series for window in held_out)):
        check_observed(one)
    scorable = scorable_windows(held_out)
    apart = max(1, len(scorable) // max(1, config.validation_series))
    if codec.scale == "dataset" and codec.dataset_scale is None:
        codec = codec.with_dataset_scale([one.values for one in training])
    return Material(
        list(training),
        held_out,
        evenly_spaced(scorable, config.validation_windows),
        scorable[::apart][: config.validation_series],
        codec,
    )


def judge(
    forecasters: Sequence[Callable[..., Forecast]],
    judged: Sequence[Window],
    sample: SampleConfig,
    ledger: Ledger,
    progress: Callable[[float], None],
) -> dict[str, Any]:
    """How the untouched and the tuned forecaster compare on windows; empty where there is none.

    Args:
        forecasters: `Forecaster.predict` of both.
        progress: called with the share of the work that is done.
    """
    if not judged:
        return {}
    maes = [
        _mae(predict, judged, sample, ledger, lambda share, done=done: progress((done + share) / len(forecasters)))
        for done, predict in enumerate(forecasters)
    ]
    untouched, tuned = maes
    return {
        "windows": len(judged),
        "untouched_mae": untouched,
        "tuned_mae": tuned,
        "improved": bool(tuned < untouched),
    }


def no_help(verdict: dict[str, Any], best_step: int) -> str:
    """What to tell of a tuning that did not help, and what to do."""
    never = "" if best_step else " (no step had a lower validation loss)"
    return (
        f"TUNING DID NOT HELP{never}: on {verdict['windows']} validation windows the tuned model's MAE is "
        f"{verdict['tuned_mae']:.4g}, the untouched model's {verdict['untouched_mae']:.4g}. Try more steps, more "
        "series or another rate."
    )


def _mae(
    predict: Callable[..., Forecast],
    judged: Sequence[Window],
    sample: SampleConfig,
    ledger: Ledger,
    progress: Callable[[float], None],
) -> float:
    """Mean absolute error of the median over windows, as the tuned and the untouched forecaster are compared."""
    contexts = [replace(window.context_series, id=window.id) for window in judged]
    progress(0.0)
    forecast = predict(
        contexts,
        judged[0].horizon,
        sample=sample,
        context=judged[0].context,
        known=known_of(judged),
        ledger=ledger,
        progress=progress,
    )
    progress(1.0)  # also of series that never vary, which the model is not asked about
    truth = np.stack([window.future_values[:, window.series.target_columns] for window in judged])
    return float(np.nanmean(np.abs(forecast.median() - truth)))

"""What a forecaster is tuned on and judged by, and whether tuning helped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from loracast.baselines import BASELINES
from loracast.calibration import Widths, fit_widths
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
from loracast.statistics import centre_and_spread, window_crps
from loracast.systems.siblings import siblings

REAL = 0.25  # share of the series themselves where there are siblings


@dataclass(frozen=True)
class Material:
    """Series and windows of one tuning, and how they are written.

    Attributes:
        training: series that windows are drawn from.
        siblings: simulated series that windows are drawn from, too.
        held_out: windows that are never trained on.
        measured: those of them whose loss decides which adapter is kept.
        judged: those of them that the untouched and the tuned model forecast at the end.
    """

    training: list[Series]
    siblings: list[Series]
    held_out: list[Window]
    measured: list[Window]
    judged: list[Window]
    codec: Codec

    @property
    def drawn_from(self) -> list[Series]:
        """What windows are drawn from: with siblings, the series themselves as often as makes them a REAL share."""
        repeats = round(REAL / (1 - REAL) * len(self.siblings) / len(self.training))
        return [*self.training * max(1, repeats), *self.siblings]


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
    made = siblings(training, config.siblings, config.sibling_series, seed=config.seed) if config.siblings else []
    return Material(
        list(training),
        made,
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
    force: bool,
    progress: Callable[[float], None],
) -> tuple[dict[str, Any], Widths | None]:
    """How the untouched and the tuned forecaster compare on windows, empty where there is none; and the tuned one's
    widths, where the windows are enough to tell.

    Args:
        forecasters: `Forecaster.predict` of both.
        force: keep the tuned model also where it does not help.
        progress: called with the share of the work that is done.
    """
    if not judged:
        return {}, None
    forecasts = [
        _forecast(predict, judged, sample, ledger, lambda share, done=done: progress((done + share) / len(forecasters)))
        for done, predict in enumerate(forecasters)
    ]
    targets = judged[0].series.target_columns
    truth = np.stack([window.future_values[:, targets] for window in judged])  # [N, H, D]
    seen = np.stack([window.context_values[:, targets] for window in judged])  # [N, C, D]
    size = _size(seen)
    untouched, tuned = (window_crps(forecast.samples, truth, size) for forecast in forecasts)
    untouched_mae, tuned_mae = (float(np.nanmean(np.abs(one.median() - truth))) for one in forecasts)
    gains = untouched - tuned  # [N]
    gain, noise = float(gains.mean()), _standard_error(gains, judged)
    verdict = {
        "windows": len(judged),
        "untouched_mae": untouched_mae,
        "tuned_mae": tuned_mae,
        "untouched_crps": float(untouched.mean()),
        "tuned_crps": float(tuned.mean()),
        "noise": noise,
        "improved": gain > noise,
        "kept": "tuned" if force or gain > noise else "untouched",
        "baselines": baseline_scores(seen, truth, size),
    }
    helps = verdict["kept"] == "tuned"
    return verdict, fit_widths(forecasts[1].samples, truth, forecasts[1].lowest) if helps else None


def baseline_scores(
    seen: Annotated[NDArray[np.float64], "N C D"],
    truth: Annotated[NDArray[np.float64], "N H D"],
    size: Annotated[NDArray[np.float64], "N D"],
) -> dict[str, dict[str, float]]:
    """The MAE and, over `size`, the CRPS of each baseline from these contexts; one that has no forecast is left out."""
    found = {}
    for name, baseline in BASELINES.items():
        drawn = np.stack([baseline(one, truth.shape[1]) for one in seen])  # [N, H, D]
        scores = {
            "mae": float(np.nanmean(np.abs(drawn - truth))),
            "crps": float(np.nanmean(window_crps(drawn[:, None], truth, size))),
        }
        if np.isfinite(list(scores.values())).all():
            found[name] = scores
    return found


def no_help(verdict: dict[str, Any], best_step: int) -> str:
    """What to tell of a tuning that did not help, what became of it, and what to do."""
    count = verdict["windows"]
    never = "" if best_step else " (no step had a lower validation loss)"
    least = f"; a gain counts from {verdict['noise']:.2g} on, its standard error" if verdict["noise"] else ""
    if best_step and verdict["kept"] == "tuned":
        kept = "The tuned adapter is kept, as asked."
    elif best_step:
        kept = "The untouched model is kept, by an adapter that changes nothing; --force (force=True) keeps the other."
    else:
        kept = "The adapter that is kept changes nothing."
    return (
        f"TUNING DID NOT HELP{never}: on {count} validation window{'s' * (count > 1)} the tuned model's CRPS is "
        f"{verdict['tuned_crps']:.4g} standard deviations of the context, the untouched model's "
        f"{verdict['untouched_crps']:.4g}{least}. {kept} Try more steps, more series or another rate."
    )


def _standard_error(gains: NDArray[np.float64], judged: Sequence[Window]) -> float:
    """That of the mean of gains [N]. Windows whose futures overlap count as as many as would not."""
    if len(gains) == 1:
        return 0.0
    steps = {
        (window.series.id, window.start + window.context + step) for window in judged for step in range(window.horizon)
    }
    apart = max(1.0, min(len(gains), len(steps) / judged[0].horizon))
    return float(gains.std(ddof=1) / np.sqrt(apart))


def _forecast(
    predict: Callable[..., Forecast],
    judged: Sequence[Window],
    sample: SampleConfig,
    ledger: Ledger,
    progress: Callable[[float], None],
) -> Forecast:
    contexts = [replace(window.context_series, id=window.id) for window in judged]
    progress(0.0)
    forecast = predict(
        contexts,
        judged[0].horizon,
        sample=sample,
        context=judged[0].context,
        known=known_of(judged),
        raw=True,
        ledger=ledger,
        progress=progress,
    )
    progress(1.0)  # also of series that never vary, which the model is not asked about
    return forecast


def _size(seen: NDArray[np.float64]) -> NDArray[np.float64]:
    """The standard deviation [N, D] of contexts [N, C, D], or their mean's size, or 1, where that is zero.

    By it the CRPS is divided, so that large variables and series weigh no more than small ones.
    """
    mean, spread = centre_and_spread(seen)
    return np.where(spread > 0, spread, np.where(mean != 0, np.abs(mean), 1.0))

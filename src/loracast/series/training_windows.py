"""Windows of series for tuning: those that are drawn to train on, and those that are held out and judge.

Shapes: N windows, T steps of a window, D variables.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from loracast.errors import DataError
from loracast.series.checks import not_known
from loracast.series.split import split_series
from loracast.series.types import Series, Window, windows

Item = TypeVar("Item")


class WindowSource:
    """Windows drawn from series at random positions, all positions alike. A step's windows depend on seed and step."""

    def __init__(self, series: Sequence[Series], length: int, seed: int):
        short = [one for one in series if one.steps < length]
        if short:
            least = min(one.steps for one in short)
            raise DataError(
                f"series {short[0].id!r} has {short[0].steps} steps, but a training window needs {length} "
                f"(context + horizon); {len(short)} of {len(series)} are too short: shorten --context or --horizon"
                f"{_fitting(least // 2, least // 3)}"
            )
        self.series, self.length, self.seed, self.targets = series, length, seed, not_known(series[0])
        self.ends = np.cumsum([one.steps - length + 1 for one in series])  # of each series' share of the positions

    def draw(self, step: int, count: int) -> NDArray[np.float64]:
        """Windows [count, length, D]."""
        positions = np.random.default_rng([self.seed, step]).integers(self.ends[-1], size=count)
        owners = np.searchsorted(self.ends, positions, side="right")
        starts = self.ends[owners] - 1 - positions
        return np.stack(
            [self.series[owner].values[start : start + self.length] for owner, start in zip(owners, starts)]
        )


def hold_out(
    series: Sequence[Series], context: int, horizon: int, seed: int = 0, fraction: float = 0.15
) -> tuple[list[Series], list[Window]]:
    """Training series and validation windows: whole series where there are several, else the end of the only one.

    The future of a validation window is never trained on.
    """
    if len(series) > 1:
        split = split_series(len(series), (1 - fraction, fraction, 0.0), seed)
        chosen = [series[index] for index in split.validation]
        return [series[index] for index in split.train], windows(chosen, context, horizon)
    only = series[0]
    kept_back = max(horizon, round(fraction * only.steps))
    end = only.steps - kept_back
    if end < context + horizon:
        raise DataError(
            f"series {only.id!r} has {only.steps} steps; to train on it alone and validate on its end takes "
            f"{context + 2 * horizon} (context + twice the horizon): shorten --context or --horizon"
            f"{_fitting(only.steps // 3, only.steps // 5)}, or add series"
        )
    return [only.slice(0, end)], windows([only.slice(end - context, only.steps)], context, horizon)


def _fitting(context: int, horizon: int) -> str:
    """A context and a horizon that would fit, as advice; nothing where none would."""
    return f", as in --context {context} --horizon {horizon}" if horizon else ""


def fingerprint(series: Sequence[Series]) -> str:
    """Identifies the values of a list of series."""
    digest = hashlib.sha256()
    for one in series:
        digest.update(repr((one.id, one.names, one.values.shape)).encode() + one.values.tobytes())
    return digest.hexdigest()[:16]


def judging(held_out: Sequence[Window]) -> list[Window]:
    """The windows that can tell a good adapter from a bad one: those with an observed value after their context."""
    found = [one for one in held_out if not np.isnan(one.future_values[:, one.series.target_columns]).all()]
    if not found:
        raise DataError(
            "no validation window has an observed value after its context, so that nothing could tell which adapter is "
            "best; validate by other series or lengthen --horizon"
        )
    return found


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """At most so many of the items, evenly spaced."""
    spread = np.linspace(0, len(items) - 1, min(len(items), count)).round().astype(int)
    return [items[index] for index in spread]

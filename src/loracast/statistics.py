"""Percentiles of steps and quantiles of paths, in arrays with gaps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray

Values: TypeAlias = Annotated[NDArray[np.float64], "*B T D"]
ByVariable: TypeAlias = Annotated[NDArray[np.float64], "*B D"]


def percentile(values: Values, percent: float) -> ByVariable:
    """The percentile [..., D] over the steps of values [..., T, D], NaN left out; NaN where nothing is left.

    As numpy.nanpercentile (linear interpolation), but vectorised over rows, without overflow, and exact for a constant.
    """
    return _at(values, lambda count: percent / 100 * (count - 1))


def path_quantile(paths: Values, level: float) -> ByVariable:
    """The quantile [..., D] of a distribution that paths [..., S, D] are drawn from; NaN left out.

    It stands at the place level · (n + 1) of n paths in order, linearly interpolated (Hyndman & Fan 1996, definition
    6), and at the first or last path where that is beyond them: another path lies below it with about the probability
    `level`. By the place 1 + level · (n - 1), as `percentile` has it, 20 paths would have 72% in an interval of 80%.
    """
    return _at(paths, lambda count: level * (count + 1) - 1)


def _at(values: Values, place: Callable[[NDArray[np.int64]], NDArray[np.floating]]) -> ByVariable:
    """The value at a place, from 0, among those in order that are not NaN; NaN where there is none."""
    ordered = np.sort(values, axis=-2)  # NaN comes last
    count = (~np.isnan(values)).sum(-2)  # [..., D]
    position = np.clip(place(count), 0, np.maximum(count - 1, 0))
    below = np.floor(position).astype(np.int64)
    above = np.minimum(below + 1, np.maximum(count - 1, 0))
    fraction = position - below
    low = np.take_along_axis(ordered, below[..., None, :], -2)[..., 0, :]
    high = np.take_along_axis(ordered, above[..., None, :], -2)[..., 0, :]
    return np.clip((1 - fraction) * low + fraction * high, low, high)  # rounding must not give a constant a span

"""Percentiles of steps, quantiles and scores of paths, in arrays with gaps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray

Values: TypeAlias = Annotated[NDArray[np.float64], "*B T D"]
ByVariable: TypeAlias = Annotated[NDArray[np.float64], "*B D"]


def percentile(values: Values, percent: float) -> ByVariable:
    """The percentile [..., D] over the steps of values [..., T, D], NaN left out; NaN where nothing is left.

    As numpy.nanpercentile (linear interpolation), but vectorised over rows, without overflow, and exact for a constant.
    """
    ordered, count = _in_order(values)
    return _at(ordered, count, percent / 100 * (count - 1))


def path_quantiles(paths: Values, levels: Sequence[float]) -> Annotated[NDArray[np.float64], "Q *B D"]:
    """Quantiles [Q, ..., D] of a distribution that paths [..., S, D] are drawn from; NaN left out.

    That of a level stands at the place level · (n + 1) of n paths in order, linearly interpolated (Hyndman & Fan 1996,
    definition 6), and at the first or last path where that is beyond them: another path lies below it with about the
    probability `level`. By the place 1 + level · (n - 1), as `percentile` has it, 20 paths would have 72% in an
    interval of 80%.
    """
    ordered, count = _in_order(paths)
    found = np.empty((len(levels), *count.shape))
    for row, level in enumerate(levels):
        found[row] = _at(ordered, count, level * (count + 1) - 1)
    return found


def observed_mean(values: NDArray[np.float64], axis: int | tuple[int, ...]) -> NDArray[np.float64]:
    """The mean of what is not NaN, NaN where nothing is left: `numpy.nanmean` without its warning."""
    present = ~np.isnan(values)
    count = present.sum(axis=axis)
    total = np.where(present, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def centre_and_spread(values: Values) -> tuple[ByVariable, ByVariable]:
    """The mean and the standard deviation [..., D] over the steps of values [..., T, D]; both 0 where none is known."""
    centre = np.nan_to_num(observed_mean(values, axis=-2))
    spread = np.sqrt(np.nan_to_num(observed_mean((values - centre[..., None, :]) ** 2, axis=-2)))
    return centre, spread


def _in_order(values: Values) -> tuple[Values, NDArray[np.int64]]:
    """Ascending along the last axis but one, NaN last; and how many are not NaN [..., D]."""
    return np.sort(values, axis=-2), (~np.isnan(values)).sum(-2)


def _at(ordered: Values, count: NDArray[np.int64], place: NDArray[np.floating]) -> ByVariable:
    """The value at a place, from 0, among those in order that are not NaN; NaN where there is none."""
    position = np.clip(place, 0, np.maximum(count - 1, 0))
    below = np.floor(position).astype(np.int64)
    above = np.minimum(below + 1, np.maximum(count - 1, 0))
    fraction = position - below
    low = np.take_along_axis(ordered, below[..., None, :], -2)[..., 0, :]
    high = np.take_along_axis(ordered, above[..., None, :], -2)[..., 0, :]
    return np.clip((1 - fraction) * low + fraction * high, low, high)  # rounding must not give a constant a span


def window_crps(
    samples: Annotated[NDArray[np.float64], "N S H D"],
    truth: Annotated[NDArray[np.float64], "N H D"],
    size: Annotated[NDArray[np.float64], "N D"],
) -> Annotated[NDArray[np.float64], "N"]:
    """The mean CRPS [N] of each window's paths over `size`; NaN where nothing of the truth is known."""
    from scoringrules import crps_ensemble  # half a second

    crps = np.asarray(crps_ensemble(truth, np.moveaxis(samples, 1, -1), estimator="qd", backend="numpy"))
    return observed_mean(crps / size[:, None], axis=(1, 2))

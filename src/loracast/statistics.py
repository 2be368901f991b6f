"""Percentiles of arrays with gaps."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray

Values: TypeAlias = Annotated[NDArray[np.float64], "*B T D"]
ByVariable: TypeAlias = Annotated[NDArray[np.float64], "*B D"]


def percentile(values: Values, percent: float) -> ByVariable:
    """The percentile [..., D] over the steps of values [..., T, D], NaN left out; NaN where nothing is left.

    As numpy.nanpercentile (linear interpolation), but vectorised over rows, without overflow, and exact for a constant.
    """
    ordered = np.sort(values, axis=-2)  # NaN comes last
    count = (~np.isnan(values)).sum(-2)  # [..., D]
    position = percent / 100 * np.maximum(count - 1, 0)
    below = np.floor(position).astype(np.int64)
    above = np.minimum(below + 1, np.maximum(count - 1, 0))
    fraction = position - below
    low = np.take_along_axis(ordered, below[..., None, :], -2)[..., 0, :]
    high = np.take_along_axis(ordered, above[..., None, :], -2)[..., 0, :]
    return np.clip((1 - fraction) * low + fraction * high, low, high)  # rounding must not give a constant a span

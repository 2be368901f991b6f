"""What a forecaster asks of series before it reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loracast.errors import DataError
from loracast.series.types import Series


def same_variables(series: Sequence[Series]) -> tuple[str, ...]:
    """The names of the variables of the first series; a DataError unless all others have as many, of the same roles."""
    first = series[0]
    for one in series:
        if one.variables != first.variables:
            raise DataError(
                f"series {one.id!r} has {one.variables} variables, series {first.id!r} has {first.variables}; "
                "all series of one call must have the same"
            )
        if (one.known, one.past) != (first.known, first.past):
            raise DataError(
                f"series {one.id!r} has {one.known} known beforehand and {one.past} known in the past only, series "
                f"{first.id!r} has {first.known} and {first.past}; all series of one call must have the same"
            )
    return first.names


def not_known(series: Series) -> NDArray[np.bool_]:
    """Which variables [D] are not known beforehand, and so are written by the model."""
    return np.arange(series.variables) >= len(series.known)


def different_ids(series: Sequence[Series]) -> None:
    """A DataError unless every series has an id of its own."""
    repeated, count = Counter(one.id for one in series).most_common(1)[0]
    if count > 1:
        raise DataError(f"series id {repeated!r} is used more than once; a series' paths are drawn by its id")


def check_observed(series: Series) -> None:
    """A DataError unless every variable of a context has an observed value."""
    unseen = [name for name, values in zip(series.names, series.values.T) if np.isnan(values).all()]
    if unseen:
        raise DataError(
            f"series {series.id!r} has no observed value of {', '.join(unseen)} in its context; leave it out or give "
            "it a longer context"
        )


def constant_level(series: Series) -> NDArray[np.float64] | None:
    """The values [D] that a series has at every observed step, or None if any of its targets varies."""
    low, high = np.nanmin(series.values, 0), np.nanmax(series.values, 0)
    return low if (low == high)[series.target_columns].all() else None

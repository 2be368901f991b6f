"""Windows of series: a context and what followed it; those that are drawn to train on, and those held out to judge.

Shapes: N windows, T steps of a window, D variables.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

import numpy as np
from numpy.typing import NDArray

from loracast.errors import ConfigError, DataError
from loracast.series.checks import not_known
from loracast.series.split import split_series
from loracast.series.types import Series

Item = TypeVar("Item")

ORIGINS = 5  # in the end of an only series, at least, where it is long enough
ORIGINS_SPAN = 1.5  # horizons that are held out for them


@dataclass(frozen=True, eq=False)
class Window:
    """`context` steps of a series from `start` on, and the `horizon` steps that follow them.

    Raises:
        DataError: where the series does not have them all.

    Examples:
        >>> window = loracast.Window(loracast.lynx_hare(), start=0, context=40, horizon=10)
        >>> window.context_values.shape, window.future_values.shape
        ((40, 2), (10, 2))
    """

    series: Series
    start: int
    context: int
    horizon: int

    def __post_init__(self) -> None:
        stop = self.start + self.context + self.horizon
        if self.start < 0 or min(self.context, self.horizon) < 1 or stop > self.series.steps:
            raise DataError(
                f"series '{self.series.id}' has {self.series.steps} steps: a window from step {self.start} with "
                f"context {self.context} and horizon {self.horizon} does not fit; both take at least 1 step"
            )

    def __repr__(self) -> str:
        steps = f"steps {self.start} to {self.start + self.context + self.horizon - 1}"
        return f"Window({self.series.id!r}, {steps}: context {self.context}, horizon {self.horizon})"

    @property
    def id(self) -> str:
        """Tells the windows of many series apart."""
        return f"{self.series.id}@{self.start}"

    @property
    def values(self) -> Annotated[NDArray[np.float64], "{self.context+self.horizon} D"]:
        return self.series.values[self.start : self.start + self.context + self.horizon]

    @property
    def context_series(self) -> Series:
        return self.series.slice(self.start, self.start + self.context)

    @property
    def future_series(self) -> Series:
        middle = self.start + self.context
        return self.series.slice(middle, middle + self.horizon)

    @property
    def context_values(self) -> Annotated[NDArray[np.float64], "{self.context} D"]:
        middle = self.start + self.context
        return self.series.values[self.start : middle]

    @property
    def future_values(self) -> Annotated[NDArray[np.float64], "{self.horizon} D"]:
        middle = self.start + self.context
        return self.series.values[middle : middle + self.horizon]


def long_enough(series: Sequence[Series], steps: int, what: str) -> tuple[list[Series], str | None]:
    """The series with at least so many steps, and a sentence on those that have fewer; None where there are none.

    DataError where no series is left; `what` says what the steps are for.
    """
    short = [one for one in series if one.steps < steps]
    if not short:
        return list(series), None
    listed = ", ".join(f"'{one.id}' ({one.steps})" for one in short[:5]) + (", …" if len(short) > 5 else "")
    if len(short) == len(series):
        raise DataError(
            f"every series is shorter than the {steps} steps of {what}: {listed}; take a shorter context or horizon"
        )
    return [one for one in series if one.steps >= steps], (
        f"{len(short)} of {len(series)} series left out, with fewer than the {steps} steps of {what}: {listed}"
    )


def leave_out_short(series: Sequence[Series], steps: int) -> list[Series]:
    """The series with at least so many steps of context and horizon, with a UserWarning that names the others.

    A single series is left as it is.
    """
    if len(series) < 2:
        return list(series)
    kept, warning = long_enough(series, steps, "context and horizon")
    if warning:
        warnings.warn(warning, stacklevel=3)
    return kept


def windows(series: Sequence[Series], context: int, horizon: int, *, stride: int | None = None) -> list[Window]:
    """Every whole window of each series at starts 0, stride, 2·stride, …; `stride` is `horizon` unless given.

    Raises:
        ConfigError: for a length below 1.
        DataError: for a series that is shorter than context + horizon.

    Examples:
        >>> [window.start for window in loracast.windows([loracast.lynx_hare()], context=40, horizon=20)]
        [0, 20]
    """
    stride = horizon if stride is None else stride
    lengths = {"context": context, "horizon": horizon, "stride": stride}
    if problems := [f"{name} must be at least 1, not {length}" for name, length in lengths.items() if length < 1]:
        raise ConfigError(problems)
    length = context + horizon
    for one in series:
        if one.steps < length:
            raise DataError(
                f"series '{one.id}' has {one.steps} steps, fewer than context {context} + horizon {horizon} = "
                f"{length}; take a shorter context or horizon, or leave the series out"
            )
    return [
        Window(one, start, context, horizon) for one in series for start in range(0, one.steps - length + 1, stride)
    ]


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

    The end of an only series is forecast from several origins, since a single one tells little of what will help: one
    and a half horizons are held out, or 15% of it, but never so much that less than one window is left to train on. The
    future of a validation window is never trained on.
    """
    if len(series) > 1:
        split = split_series(len(series), (1 - fraction, fraction, 0.0), seed)
        chosen = [series[index] for index in split.validation]
        return [series[index] for index in split.train], windows(chosen, context, horizon)
    only = series[0]
    if only.steps < context + 2 * horizon:
        raise DataError(
            f"series {only.id!r} has {only.steps} steps; to train on it alone and validate on its end takes "
            f"{context + 2 * horizon} (context + twice the horizon): shorten --context or --horizon"
            f"{_fitting(only.steps // 3, only.steps // 5)}, or add series"
        )
    wanted = max(round(ORIGINS_SPAN * horizon), round(fraction * only.steps))
    kept_back = min(wanted, only.steps - context - horizon)
    end = only.steps - kept_back
    stride = max(1, min(horizon, (kept_back - horizon) // (ORIGINS - 1)))
    return [only.slice(0, end)], windows([only.slice(end - context, only.steps)], context, horizon, stride=stride)


def _fitting(context: int, horizon: int) -> str:
    """A context and a horizon that would fit, as advice; nothing where none would."""
    return f", as in --context {context} --horizon {horizon}" if horizon else ""


def fingerprint(series: Sequence[Series]) -> str:
    """Identifies the values of a list of series."""
    digest = hashlib.sha256()
    for one in series:
        digest.update(repr((one.id, one.names, one.values.shape)).encode() + one.values.tobytes())
    return digest.hexdigest()[:16]


def scorable_windows(held_out: Sequence[Window]) -> list[Window]:
    """The windows that can tell a good adapter from a bad one: those with an observed value after their context."""
    found = [one for one in held_out if not np.isnan(one.future_values[:, one.series.target_columns]).all()]
    if not found:
        raise DataError(
            "no validation window has an observed value after its context, so that nothing could tell which adapter is "
            "best; validate by other series or lengthen --horizon"
        )
    return found


def evenly_spaced(items: Sequence[Item], count: int) -> list[Item]:
    """At most so many of the items, evenly spaced."""
    spread = np.linspace(0, len(items) - 1, min(len(items), count)).round().astype(int)
    return [items[index] for index in spread]

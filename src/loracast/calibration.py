"""How wide forecasts ought to be: paths drawn nearer to their median or further from it, as held-out windows ask for.

Each path stays a path: at every step its distance from the median of all paths is multiplied by a factor that depends
on the step alone, so that what goes together in a path still does, and medians stay. The factor runs from one at the
first step to another at the last, evenly in its logarithm. The two are those whose central 50% and 80% intervals hold
nearest to 50% and 80% of the truth, in the first half of the steps and in the second, by its rank among the paths: the
one measure that an ideal forecaster's few paths meet exactly. (Fair CRPS would widen ideal paths, too: paths that are
moved about their own median are not independent any more.)

Shapes: N windows or series, S paths, H steps of the horizon, D variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from loracast.ranks import covered
from loracast.statistics import observed_mean, path_quantiles

ENOUGH = 20  # windows, below which widths are not fitted
LEVELS = np.array([0.5, 0.8])
FACTORS = tuple(2.0 ** (np.arange(-9, 13) / 6))  # from a third to four

Paths = Annotated[NDArray[np.float64], "N S H D"]
Truth = Annotated[NDArray[np.float64], "N H D"]


@dataclass(frozen=True)
class Widths:
    """What an adapter's record keeps of them.

    Attributes:
        first, last: the factors at the first and the last of `horizon` steps; later steps have the last one.
        windows: how many they were fitted on.
        raw_coverage, coverage: of the central 80% on these, without them and with them.
    """

    first: float
    last: float
    horizon: int
    windows: int
    raw_coverage: float
    coverage: float

    def factors(self, horizon: int) -> Annotated[NDArray[np.float64], "{horizon}"]:
        """The factor [H] of each step."""
        share = np.minimum(np.arange(horizon) / max(1, self.horizon - 1), 1)
        return np.exp((1 - share) * np.log(self.first) + share * np.log(self.last))

    def applied(self, samples: Paths, lowest: Annotated[NDArray[np.float64], "N D"]) -> Paths:
        """The paths with these widths; none goes below `lowest`, unless it did before."""
        middle = path_quantiles(np.moveaxis(samples, 1, 2), [0.5])[0][:, None]  # [N, 1, H, D]
        moved = middle + self.factors(samples.shape[2])[:, None] * (samples - middle)
        return np.maximum(moved, np.minimum(samples, lowest[:, None, None]))

    def sentence(self) -> str:
        """What was done, in words."""
        first, last = (
            "as drawn" if one == 1 else f"{'widened' if one > 1 else 'narrowed'} to {one:.0%}"
            for one in (self.first, self.last)
        )
        what = first if self.first == self.last else f"{first} at the first step and {last} at step {self.horizon}"
        return f"intervals are {what}, as {self.windows} held-out windows asked for"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def recorded(record: Mapping[str, Any]) -> Widths | None:
    """The widths that an adapter's record holds, if it does."""
    found = record.get("calibration")
    return Widths(**found) if found else None


def fit_widths(samples: Paths, truth: Truth, lowest: Annotated[NDArray[np.float64], "N D"]) -> Widths | None:
    """The widths that windows ask for; None where there are too few, or the intervals hold what they should.

    They do where the central 80% hold 80% of the truth but for twice the standard error over windows, in both halves.

    Args:
        lowest: below which no path goes.
    """
    count, paths, horizon, _ = samples.shape
    if count < ENOUGH or paths < 2:
        return None

    def within(first: float, last: float) -> NDArray[np.float64]:
        """What the intervals hold [N, halves, levels] in each window."""
        moved = Widths(first, last, horizon, count, 0, 0).applied(samples, lowest)
        found = covered(np.moveaxis(moved, 1, -1), truth, LEVELS)  # [N, H, D, levels]
        middle = -(-horizon // 2)
        halves = (found[:, :middle], found[:, middle:]) if horizon > 1 else (found, found)
        return np.stack([observed_mean(half, axis=(1, 2)) for half in halves], 1)

    def off(first: float, last: float) -> float:
        return float(((np.nanmean(within(first, last), 0) - LEVELS) ** 2).sum())

    raw = within(1.0, 1.0)[..., 1]  # [N, halves], of 80%
    if np.isnan(raw).all(0).any():  # nothing is known of the truth in a half
        return None
    error = np.nanstd(raw, axis=0, ddof=1) / np.sqrt(count)
    if (np.abs(np.nanmean(raw, 0) - LEVELS[1]) <= 2 * error).all():
        return None
    first = last = min(FACTORS, key=lambda one: off(one, one))
    for _ in range(2):
        first = min(FACTORS, key=lambda one, last=last: off(one, last))
        last = min(FACTORS, key=lambda one, first=first: off(first, one))
    found = within(first, last)[..., 1]
    return Widths(float(first), float(last), horizon, count, float(np.nanmean(raw)), float(np.nanmean(found)))

"""The fan of a forecast: context, median, 50% and 80% bands and the truth, one definition for every picture.

Shapes: C steps of context, H steps of horizon, T steps of what followed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loracast.charts.marks import Band, Line, Mark, numbers

LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)  # the quantiles of a fan
OUTER, INNER = 0.2, 0.35  # how dark its bands are
LABELS = ("80% of paths", "50% of paths", "median")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fan:
    """One variable of one forecast. All lines begin where the context ends.

    Attributes:
        past: [C] the times of the context, numbers or dates; before: [C] its values, NaN where missing.
        future: [1 + H] the last time of the context and those of the forecast; levels: [5, 1 + H] its quantiles.
        followed: [1 + T] the last value of the context and what really followed, at the times `after` [1 + T]; or None.
    """

    past: NDArray[Any]
    before: Floats
    future: NDArray[Any]
    levels: Floats
    after: NDArray[Any] | None = None
    followed: Floats | None = None

    @classmethod
    def of(
        cls,
        past: NDArray[Any],
        before: Floats,
        future: NDArray[Any],
        levels: Floats,
        truth: tuple[NDArray[Any], Floats] | None = None,
    ) -> Fan:
        """Of a context [C], times [H] and quantiles [5, H] of a forecast, and times and values [T] of the truth."""
        time, value = past[-1:], before[-1:]
        joined = np.concatenate([np.repeat(value[None], len(levels), 0), levels], 1)
        after = followed = None
        if truth is not None:
            after, followed = np.concatenate([time, truth[0]]), np.concatenate([value, truth[1]])
        return cls(past, before, np.concatenate([time, future]), joined, after, followed)

    def marks(self, role: str, label: str) -> tuple[Mark, ...]:
        """As marks of a figure, in the colour of a role; times must be numbers."""
        future, levels = numbers(self.future), [numbers(level) for level in self.levels]
        marks: list[Mark] = [
            Band(future, levels[0], levels[4], role, label, alpha=OUTER),
            Band(future, levels[1], levels[3], role, label, alpha=INNER),
            Line(numbers(self.past), numbers(self.before), "muted", "context", 1.3),
            Line(future, levels[2], role, label, 1.8),
        ]
        if self.after is not None and self.followed is not None:
            marks.append(Line(numbers(self.after), numbers(self.followed), "ink", "what happened", 1.4, dash="dot"))
        return tuple(marks)

    def draw(self, axis: Any, colour: str) -> None:
        """Draws into a matplotlib axis, whose times may be dates."""
        axis.axvline(self.past[-1], color="0.85", linewidth=0.8, zorder=0)
        alone = np.isnan(self.before[:-2]) & np.isnan(self.before[2:])  # a value between two gaps has no line
        marked = [index + 1 for index in np.flatnonzero(alone)]
        style = {"color": "0.35", "linewidth": 1, "marker": ".", "markersize": 3, "markevery": marked}
        axis.plot(self.past, self.before, label="context", **style)
        for low, high, alpha, label in ((0, 4, OUTER, LABELS[0]), (1, 3, INNER, LABELS[1])):
            edges = self.future, self.levels[low], self.levels[high]
            axis.fill_between(*edges, color=colour, alpha=alpha, linewidth=0, label=label)
        axis.plot(self.future, self.levels[2], color=colour, linewidth=1.4, label=LABELS[2])
        if self.after is not None:
            axis.plot(self.after, self.followed, color="black", linewidth=1, linestyle=(0, (1, 1.5)), label="truth")

"""Another way to look at a series before it is written: on a logarithmic or root scale, without its trend, or both.

A text of a few digits serves a series that stays within some range. One that grows by a rate outgrows any range, one
with a trend leaves it, and one that spans decades is written with few digits where it is small. All that is fitted is
fitted to the context alone, and all of it is undone on the paths.

Shapes: N series, T steps, D variables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from loracast.settings import TransformKind
from loracast.statistics import ByVariable

KINDS: tuple[TransformKind, ...] = get_args(TransformKind)
Values: TypeAlias = Annotated[NDArray[np.float64], "*B T D"]
LEAST = 8  # observed values, below which no trend is fitted
MOST = 10.0  # times the largest value of a context, or its line, beyond which no path on a logarithmic scale goes
EXPLAINED = 0.5  # share of the variance that a straight line must explain, or it would be what a cycle seems to do
WORDS: dict[TransformKind, str] = {
    "log": "on a logarithmic scale",
    "root": "on a square-root scale",
    "trend": "without its straight line",
    "log-trend": "on a logarithmic scale without its straight line",
}


@dataclass(frozen=True, eq=False)
class Transform:
    """value -> scale(value + shift) - (level + slope · step), by variable; steps are counted from the context's first.

    Attributes:
        kind: what was asked for; a variable that it does not suit (a logarithm of negative values) stays as it is.
        logs, roots: [D] which variables are on which scale.
        shift: [D] what is added before a logarithm is taken; half of the smallest positive value where there are zeros.
        floor: [D] half of the smallest positive value, of which a zero has the logarithm where there was none before.
        level, slope: [D] of the line that is taken away, where it explains half of the variance or more.
        lowest: [D] below which no value comes back: zero for what never was below it.
        highest: [D] beyond which none comes back from a logarithm unless its line does: ten times the largest one.
            A text's range is some times that of the context, and on a logarithmic scale that would be its power.

    Examples:
        >>> import numpy as np
        >>> growth = 3.0 * np.exp(0.1 * np.arange(10))[:, None]  # [T, D]
        >>> transform = Transform.fit("log-trend", growth)
        >>> bool(np.abs(transform.forward(growth)).max() < 1e-12)
        True
        >>> transform.inverse(np.zeros((1, 1)), start=10).round(2)
        array([[8.15]])
    """

    kind: TransformKind
    logs: Annotated[NDArray[np.bool_], "D"]
    roots: Annotated[NDArray[np.bool_], "D"]
    shift: ByVariable
    floor: ByVariable
    level: ByVariable
    slope: ByVariable
    lowest: ByVariable
    highest: ByVariable

    @classmethod
    def fit(cls, kind: TransformKind, context: Annotated[NDArray[np.float64], "T D"]) -> Transform:
        """That of a context [T, D], NaN where missing; what is on another scale has a mean of zero there."""
        seen = ~np.isnan(context)
        positive = np.where(seen & (context > 0), context, np.inf).min(0)  # [D]
        counted = ~(context < 0).any(0) & np.isfinite(positive)
        none = np.zeros(context.shape[1], bool)
        logs = counted if kind in ("log", "log-trend") else none
        roots = counted if kind == "root" else none
        shift = np.where(logs & (context == 0).any(0), positive / 2, 0.0)
        floor, zero = np.where(np.isfinite(positive), positive / 2, 1.0), np.zeros(context.shape[1])
        lowest = np.where((context < 0).any(0), -np.inf, 0.0)
        largest = np.where(seen, context, -np.inf).max(0)
        highest = np.where(logs, MOST * largest, np.inf)
        bare = cls(kind, logs, roots, shift, floor, zero, zero, lowest, highest)
        scaled, steps = bare.forward(context), np.arange(len(context), dtype=float)
        level, slope = np.zeros((2, context.shape[1]))
        for variable in range(context.shape[1]):
            there = seen[:, variable]
            if logs[variable]:
                level[variable] = scaled[there, variable].mean()
            if kind in ("trend", "log-trend") and there.sum() >= LEAST:
                line = np.polyfit(steps[there], scaled[there, variable], 1)
                left = np.var(scaled[there, variable] - np.polyval(line, steps[there]))
                if left <= (1 - EXPLAINED) * np.var(scaled[there, variable]):
                    slope[variable], level[variable] = line
        return replace(bare, level=level, slope=slope)

    @property
    def changes(self) -> bool:
        """Whether anything is other than it was."""
        return bool((self.logs | self.roots | (self.slope != 0)).any())

    def forward(self, values: Values, start: int = 0) -> Values:
        """What is written of values [..., T, D], the first of which is step `start`."""
        return np.where(np.isnan(values), np.nan, self._scaled(values) - self._line(values.shape[-2], start))

    def inverse(self, written: Values, start: int) -> Values:
        """The values [..., T, D] of which that was written."""
        line = self._line(written.shape[-2], start)
        scaled = written + line
        with np.errstate(all="ignore"):
            values = np.where(self.logs, np.exp(np.minimum(scaled, 700.0)) - self.shift, scaled)
            values = np.where(self.roots, np.maximum(scaled, 0) ** 2, values)
            grown = np.where(self.logs & (self.slope != 0), MOST * np.exp(np.minimum(line, 700.0)), self.highest)
        return np.clip(values, self.lowest, np.maximum(self.highest, grown))

    def log_slope(self, values: Values) -> Values:
        """The logarithm of how much what is written changes with a value [..., T, D]: a density's change of units."""
        with np.errstate(all="ignore"):
            positive = np.where(values + self.shift > 0, values + self.shift, self.floor)
            return np.where(self.logs, -np.log(positive), np.where(self.roots, -np.log(2 * np.sqrt(positive)), 0.0))

    def _scaled(self, values: Values) -> Values:
        with np.errstate(all="ignore"):  # both scales of all variables; what is not chosen may be NaN
            positive = np.where(values + self.shift > 0, values + self.shift, self.floor)
            scaled = np.where(self.logs, np.log(positive), values)
            return np.where(self.roots, np.sqrt(np.maximum(values, 0)), scaled)

    def _line(self, steps: int, start: int) -> Values:
        return self.level + self.slope * (start + np.arange(steps)[:, None])


def scales_told(ids: Sequence[str], names: Sequence[str], kinds: Sequence[Sequence[TransformKind]]) -> tuple[str, ...]:
    """Which of the series were written on another scale, as one sentence a scale; a single one by its variables.

    Args:
        kinds: of each series and each of the variables with these names.

    Examples:
        >>> scales_told(["a", "b"], ["x"], [("none",), ("log",)])
        ("series 'b' is written on a logarithmic scale",)
        >>> scales_told(["a"], ["x", "y"], [("none", "log")])
        ("series 'a', y: written on a logarithmic scale",)
    """
    told = []
    for kind, words in WORDS.items():
        those = [(one, mine) for one, mine in zip(ids, kinds) if kind in mine]
        if len(those) > 1:
            told.append(f"{len(those)} of {len(ids)} series are written {words.replace('its', 'their')}")
        elif those and set(those[0][1]) == {kind}:
            told.append(f"series {those[0][0]!r} is written {words}")
        elif those:
            which = ", ".join(name for name, mine in zip(names, those[0][1]) if mine == kind)
            told.append(f"series {those[0][0]!r}, {which}: written {words}")
    return tuple(told)

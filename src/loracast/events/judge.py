"""Events judged on sample paths.

Shapes: N series, S sample paths, H steps, D variables. A condition of steps is [N, S, H], one of paths [N, S].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from loracast.errors import ConfigError
from loracast.events.tree import (
    Always,
    Both,
    Chance,
    Comparison,
    Condition,
    Event,
    Extreme,
    FirstTime,
    Not,
    Number,
    Quantity,
    Span,
    Variable,
    Window,
    of_path,
)
from loracast.series.calendar import Calendar, moment_steps

COMPARE = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}
COMPUTE = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
OfPaths: TypeAlias = Annotated[Bools, "N S"]
OfSteps: TypeAlias = Annotated[Bools, "N S H"]
Inside: TypeAlias = Annotated[Bools, "N H"]


@dataclass(frozen=True, eq=False)
class Paths:
    """Sample paths [N, S, H, D], and of each series its id, its future times [H] and its calendar."""

    samples: Annotated[Floats, "N S H D"]
    ids: tuple[str, ...]
    times: tuple[NDArray[Any] | None, ...]
    calendars: tuple[Calendar | None, ...]

    @cached_property
    def whole(self) -> OfPaths:
        """Which paths [N, S] have all their values; the others count neither way."""
        return np.asarray(~np.isnan(self.samples).any(axis=(2, 3)))

    def series(self, row: int) -> Paths:
        """The paths of one series."""
        one = slice(row, row + 1)
        return Paths(self.samples[one], self.ids[one], self.times[one], self.calendars[one])


@dataclass(frozen=True, eq=False)
class Judged:
    """What an event comes to on each path.

    happened: [N, S] whether it happened.
    by_step: [N, S, H] whether it had happened by that step.
    steps: [N, S] the step, from 1, at which it first happened or an extreme was reached; infinite where it never did.
    values: [N, S] an extreme; None for other events.
    """

    happened: OfPaths
    by_step: OfSteps
    steps: Annotated[Floats, "N S"]
    values: Annotated[Floats, "N S"] | None


def judge(event: Event, paths: Paths) -> Judged:
    """An event on sample paths. ConfigError where it names steps that the forecast does not have."""
    if isinstance(event, Extreme):
        inside = steps_of(event.span, paths)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.where(inside[:, None], _quantity(event.quantity, paths), np.nan)  # [N, S, H]
        extreme = (np.fmax if event.which == "highest" else np.fmin).reduce(values, -1)  # [N, S], passing over NaN
        at = (values == extreme[..., None]).argmax(-1)
        known = ~np.isnan(extreme)  # nought divided by nought at every step has no extreme
        by_step = known[..., None] & (np.arange(values.shape[2]) >= at[..., None])
        return Judged(known, by_step, np.where(known, at + 1.0, np.inf), extreme)
    if isinstance(event, FirstTime):
        held = _by_steps(event.condition, paths) & steps_of(event.span, paths)[:, None]
    else:
        held = _by_steps(event.condition, paths)
    by_step = np.logical_or.accumulate(held, -1)
    happened = by_step[..., -1]
    steps = np.where(happened, held.argmax(-1) + 1.0, np.inf)
    return Judged(happened, by_step, steps, None)


def _by_steps(condition: Condition, paths: Paths) -> OfSteps:
    """A condition at each step [N, S, H]; one of a whole path holds from the step on at which it is decided."""
    if isinstance(condition, Comparison):
        with np.errstate(divide="ignore", invalid="ignore"):
            left, right = _quantity(condition.left, paths), _quantity(condition.right, paths)
            return np.broadcast_to(COMPARE[condition.operator](left, right), paths.samples.shape[:3])
    if isinstance(condition, Window):
        return _by_steps(condition.condition, paths) & steps_of(condition.span, paths)[:, None]
    if isinstance(condition, Always):
        inside = steps_of(condition.span, paths)[:, None]
        held = (_by_steps(condition.condition, paths) | ~inside).all(-1, keepdims=True)
        return held & _last(inside)
    if isinstance(condition, Not):
        if of_path(condition.condition):
            inside = _looked_at(condition.condition, paths)[:, None]
            return ~_by_steps(condition.condition, paths).any(-1, keepdims=True) & _last(inside)
        return ~_by_steps(condition.condition, paths)
    left, right = _by_steps(condition.left, paths), _by_steps(condition.right, paths)
    if of_path(condition.left) or of_path(condition.right):
        left, right = np.logical_or.accumulate(left, -1), np.logical_or.accumulate(right, -1)
    return left & right if condition.operator == "and" else left | right


def _last(inside: Bools) -> Bools:
    """The last step of a span [..., H]: where what is said of all of its steps is decided."""
    return inside & (np.cumsum(inside, -1) == inside.sum(-1, keepdims=True))


def _quantity(quantity: Quantity, paths: Paths) -> Annotated[Floats, "N S H"]:
    if isinstance(quantity, Number):
        return np.full(paths.samples.shape[:3], quantity.value)
    if isinstance(quantity, Variable):
        return paths.samples[..., quantity.column]
    return COMPUTE[quantity.operator](_quantity(quantity.left, paths), _quantity(quantity.right, paths))


def _looked_at(condition: Condition, paths: Paths) -> Inside:
    """The steps [N, H] that a condition looks at."""
    if isinstance(condition, Window | Always):
        return steps_of(condition.span, paths)
    if isinstance(condition, Not):
        return _looked_at(condition.condition, paths)
    if isinstance(condition, Both):
        return _looked_at(condition.left, paths) | _looked_at(condition.right, paths)
    return np.ones((len(paths.ids), paths.samples.shape[2]), bool)


def steps_of(span: Span, paths: Paths) -> Inside:
    """The steps [N, H] of a span. ConfigError where a series has none of them, or the span goes beyond its forecast."""
    horizon = paths.samples.shape[2]
    inside = np.ones((len(paths.ids), horizon), bool)
    steps = np.arange(horizon)
    for row, name, times, calendar in zip(inside, paths.ids, paths.times, paths.calendars):
        try:
            if span.first is not None:
                low, high = moment_steps(times, calendar, span.first)
                row &= steps > high if span.since else steps >= low
            if span.last is not None:
                known = times
                if times is not None and calendar is not None and span.until:  # may name the step after the last
                    known = np.append(times, calendar.after(times[-1], 1))
                low, high = moment_steps(known, calendar, span.last)
                row &= steps < low if span.until else steps <= high
                if low >= horizon + span.until:
                    raise ValueError(f"{span.last} lies beyond the end of the forecast")
        except ValueError as error:
            raise ConfigError(
                [f"series {name!r}: {error}; the forecast has {_range(times, calendar, horizon)}"]
            ) from None
        if not row.any():
            raise ConfigError(
                [f"series {name!r}: no step of the forecast lies there; it has {_range(times, calendar, horizon)}"]
            )
    return inside


def _range(times: NDArray[Any] | None, calendar: Calendar | None, horizon: int) -> str:
    if times is None or calendar is None:
        return f"steps 1 to {horizon}"
    first, last = calendar.texts(times[[0, -1]])
    return f"steps 1 to {horizon}, from {first} to {last}"


def thresholds(event: Event) -> list[tuple[int, float]]:
    """The variables, by column, that an event compares with a number, and the number."""
    found: list[tuple[int, float]] = []

    def visit(condition: Condition) -> None:
        if isinstance(condition, Comparison):
            for one, other in ((condition.left, condition.right), (condition.right, condition.left)):
                if isinstance(one, Variable) and isinstance(other, Number):
                    found.append((one.column, other.value))
        elif isinstance(condition, Both):
            visit(condition.left)
            visit(condition.right)
        else:
            visit(condition.condition)

    if isinstance(event, Chance | FirstTime):
        visit(event.condition)
    return found

"""What an event is made of: the tree that a text is read into, and that is judged on paths.

A condition is one of each step, such as a comparison, or one of a whole path, where it names a span of steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Operator = Literal["<", "<=", ">", ">=", "==", "!="]


@dataclass(frozen=True)
class Number:
    value: float


@dataclass(frozen=True)
class Variable:
    column: int
    name: str


@dataclass(frozen=True)
class Arithmetic:
    operator: Literal["+", "-", "*", "/"]
    left: Quantity
    right: Quantity


Quantity = Number | Variable | Arithmetic


@dataclass(frozen=True)
class Comparison:
    """Holds at a step if the left quantity compares so with the right one."""

    operator: Operator
    left: Quantity
    right: Quantity


@dataclass(frozen=True)
class Span:
    """Steps of a forecast, from the first to the last moment, both included; a moment is "step 5" or a time.

    `until` is whether the last moment itself is left out, and `since` whether the first one is.
    """

    first: str | None = None
    last: str | None = None
    since: bool = False
    until: bool = False


@dataclass(frozen=True)
class Window:
    """A condition at some step of a span."""

    condition: Condition
    span: Span


@dataclass(frozen=True)
class Always:
    """A condition at every step of a span."""

    condition: Condition
    span: Span = Span()


@dataclass(frozen=True)
class Not:
    condition: Condition


@dataclass(frozen=True)
class Both:
    """Two conditions at one step; or, where either is of a whole path, both of the path."""

    operator: Literal["and", "or"]
    left: Condition
    right: Condition


Condition = Comparison | Window | Always | Not | Both


@dataclass(frozen=True)
class Chance:
    """That something happens."""

    condition: Condition


@dataclass(frozen=True)
class FirstTime:
    """When something first happens."""

    condition: Condition
    span: Span


@dataclass(frozen=True)
class Extreme:
    """How high or low something gets."""

    which: Literal["highest", "lowest"]
    quantity: Quantity
    span: Span


Event = Chance | FirstTime | Extreme


def of_path(condition: Condition) -> bool:
    """Whether a condition is one of a whole path, not of each step."""
    if isinstance(condition, Not):
        return of_path(condition.condition)
    if isinstance(condition, Both):
        return of_path(condition.left) or of_path(condition.right)
    return isinstance(condition, Window | Always)

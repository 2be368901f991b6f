"""What is found of an event, as a sentence."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from loracast.events.judge import Paths, steps_of
from loracast.events.tree import (
    Always,
    Arithmetic,
    Both,
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

MOVES = {"<": ("fall", "below"), ">": ("rise", "above"), ">=": ("reach", ""), "<=": ("fall", "to"), "==": ("equal", "")}
STANDS = {"<": "below", ">": "above", ">=": "at least", "<=": "at most", "==": "equal to", "!=": "not"}
MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "==": "==", "!=": "!="}

Three = tuple[float, float, float]
Times = tuple[str | None, str | None, str | None]


@dataclass(frozen=True)
class Found:
    """What a sentence tells: paths that count, those on which it happened, the interval of its probability, and the 10,
    50 and 90% quantiles of its step, of its time (None for never) and of an extreme's value."""

    paths: int
    happened: int
    low: float
    high: float
    steps: Three | None
    times: Times | None
    values: Three | None


def sentence(event: Event, found: Found, paths: Paths) -> str:
    """What is found of an event in the one series of `paths`; who lists several gives its name."""
    if isinstance(event, Extreme):
        return _extreme(event, found, paths)
    if isinstance(event, FirstTime):
        return _first_time(event, found, paths)
    sentence = f"The chance that {_of_path(event.condition, paths)} is"
    if not found.paths:
        return f"{sentence} not known: no sample path has all its values."
    return f"{sentence} {_chance(found)}."


def _extreme(event: Extreme, found: Found, paths: Paths) -> str:
    sentence = f"The {event.which} {_quantity(event.quantity)} {_end(event.span, paths)} is"
    if found.values is None or found.steps is None:
        return f"{sentence} not known: no sample path has all its values."
    low, middle, high = (f"{value:.4g}" for value in found.values)
    when = found.times[1] if found.times else f"step {found.steps[1]:.0f}"
    return f"{sentence} {middle} (80% range {low} to {high}), reached about {when}."


def _first_time(event: FirstTime, found: Found, paths: Paths) -> str:
    condition, end = event.condition, _end(event.span, paths)
    what = _of_path(condition, paths) if of_path(condition) else _of_steps(condition)
    sentence = f"The first time that {what}"
    if not found.paths or found.steps is None:
        return f"{sentence} is not known: no sample path has all its values."
    low, middle, high = found.times or tuple(f"step {step:.0f}" if np.isfinite(step) else None for step in found.steps)
    never = _share(1 - found.happened / found.paths)
    if not found.happened:
        return f"{sentence} is not foreseen: the chance that it comes {end} is {_chance(found)}."
    if middle is None:
        early = f", and by {low} it has happened on a tenth of them" if low else ""
        chance = f"The chance that it happens is {_chance(found)}."
        return (
            f"{sentence} is more likely later, or never: it does not happen {end} on {never} of the paths{early}. "
            f"{chance}"
        )
    spread = f"{sentence} is about {middle} (80% range {low} to {high or 'later, or never'})"
    if found.happened == found.paths:
        return f"{spread}; it happens {end} on all {found.paths} paths."
    return f"{spread}; it does not happen {end} on {never} of the paths."


# -- conditions --------------------------------------------------------------------------------------------------


def _of_path(condition: Condition, paths: Paths, inner: bool = False) -> str:
    """A condition of a path, with the steps that it means; `inner` where it is part of another."""
    if isinstance(condition, Always):
        return f"{_of_steps(condition.condition, False)} at every step {_end(condition.span, paths)}"
    if of_path(condition) and isinstance(condition, Not):
        return f"it is not so that {_of_path(condition.condition, paths, True)}"
    if of_path(condition) and isinstance(condition, Both):
        parts = (_of_path(part, paths, True) for part in (condition.left, condition.right))
        return _bracketed(f" {condition.operator} ".join(parts), inner)
    steps, span = (condition.condition, condition.span) if isinstance(condition, Window) else (condition, Span())
    single = int(steps_of(span, paths).sum()) == 1
    moves = isinstance(steps, Comparison) and not single
    return f"{_of_steps(steps, moves)}{'' if single else ' at least once'} {_end(span, paths)}"


def _of_steps(condition: Condition, moves: bool = True, inner: bool = False) -> str:
    """A condition of a step; `moves` says that something may come to be so, as it cannot at a single step."""
    if isinstance(condition, Comparison):
        return _comparison(condition, moves)
    if isinstance(condition, Both):
        parts = (_of_steps(part, False, True) for part in (condition.left, condition.right))
        return _bracketed(f" {condition.operator} ".join(parts), inner)
    if isinstance(condition, Not):
        return f"it is not so that {_of_steps(condition.condition, False, True)}"
    raise TypeError(f"{condition} is not a condition on single steps")


def _bracketed(text: str, brackets: bool) -> str:
    return f"({text})" if brackets else text


def _comparison(condition: Comparison, moves: bool) -> str:
    operator, first, second = condition.operator, condition.left, condition.right
    if isinstance(first, Number):
        operator, first, second = MIRRORED[operator], second, first
    left, right = _quantity(first), _quantity(second)
    many = isinstance(first, Variable) and left.endswith("s") and not left.endswith("ss")
    if not moves or operator not in MOVES:
        return f"{left} {'are' if many else 'is'} {STANDS[operator]} {right}"
    verb, preposition = MOVES[operator]
    ending = "" if many else "es" if verb.endswith("ch") else "s"
    return " ".join(part for part in (left, verb + ending, preposition, right) if part)


def _quantity(quantity: Quantity) -> str:
    if isinstance(quantity, Number):
        return f"{quantity.value:.10g}"
    if isinstance(quantity, Variable):
        return quantity.name
    left, right = (
        _bracketed(_quantity(part), isinstance(part, Arithmetic)) for part in (quantity.left, quantity.right)
    )
    return f"{left} {quantity.operator} {right}"


# -- times and shares --------------------------------------------------------------------------------------------


def _end(span: Span, paths: Paths) -> str:
    """Which steps of the one series of `paths` a span means: by their times, unless it tells them by their number."""
    steps = np.flatnonzero(steps_of(span, paths)[0])
    first, last = int(steps[0]), int(steps[-1])
    times, calendar = paths.times[0], paths.calendars[0]
    by_number = any("step" in (moment or "").lower() for moment in (span.first, span.last))
    if times is None or calendar is None or by_number:
        if first == last:
            return f"at step {first + 1}"
        return f"within {last + 1} steps" if first == 0 else f"from step {first + 1} to step {last + 1}"
    texts = calendar.texts(times)
    if first == last:
        return f"{_preposition(texts[first])} {texts[first]}"
    return f"by {texts[last]}" if first == 0 else f"from {texts[first]} to {texts[last]}"


def _preposition(time: str) -> str:
    if re.fullmatch(r"\d{4}(-\d{2})?", time):
        return "in"
    return "on" if re.fullmatch(r"\d{4}-\d{2}-\d{2}", time) else "at"


def _chance(found: Found) -> str:
    """A probability in percent with its interval; where all paths agree, how far it may still be from certain."""
    if not found.happened:
        return f"at most {math.ceil(100 * found.high)}% (it happens on none of {found.paths} paths)"
    if found.happened == found.paths:
        return f"at least {math.floor(100 * found.low)}% (it happens on all {found.paths} paths)"
    low, high = 100 * found.low, 100 * found.high
    if round(low) == round(high):  # "less than 1% (0 to 1)"
        low, high = math.floor(low), math.ceil(high)
    return f"{_share(found.happened / found.paths)} ({low:.0f} to {high:.0f})"


def _share(share: float) -> str:
    """A share in percent that is neither 0 nor 1."""
    if share < 0.005:
        return "less than 1%"
    return "more than 99%" if share > 0.995 else f"{100 * share:.0f}%"

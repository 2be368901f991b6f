"""The language of events: what may be asked of a forecast, read into a tree. docs/events.md tells it with examples.

A condition is judged at every step of every path. Where a whole path is to be judged, it holds if the condition does at
some step of a window of steps, which is the whole forecast unless it is told.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from loracast.errors import ConfigError

Operator = Literal["<", "<=", ">", ">=", "==", "!="]

SYMBOLS: dict[str, Operator] = {
    "<=": "<=",
    ">=": ">=",
    "==": "==",
    "!=": "!=",
    "≤": "<=",
    "≥": ">=",
    "<": "<",
    ">": ">",
}
PHRASES: dict[str, Operator] = {
    r"(first\s+)?(falls?|drops?|sinks?|goes|go|is|are)\s+below": "<",
    r"(first\s+)?(rises?|climbs?|goes|go|is|are)\s+above": ">",
    r"(first\s+)?exceeds?": ">",
    r"(is|are)\s+at\s+least": ">=",
    r"(is|are)\s+at\s+most": "<=",
    r"below": "<",
    r"above": ">",
    r"equals?": "==",
}
MOMENT = r"step\s+\d+|\d{4}-\d{2}(?:-\d{2})?(?:[T ]\d{1,2}:\d{2}(?::\d{2})?)?|-?\d+(?:\.\d+)?"
NUMBER = re.compile(r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?")
FORMS = (
    "an event is a comparison such as 'predator < 0.1', maybe with 'within 20 steps', 'at step 5' or 'by 2039' after "
    "it; 'when predator < 0.1' for a first time; or 'highest prey'"
)


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


def read_event(text: str, names: Sequence[str]) -> Event:
    """The event that a text means, of variables with these names.

    A ConfigError says what was found in place of what.

    Example: ``read_event("predator < 0.1 within 20 steps", ("prey", "predator"))``
    """
    return _Reader(text, names).event()


class _Reader:
    """Reads a text from left to right; each method takes one form from where the reader stands."""

    def __init__(self, text: str, names: Sequence[str]):
        self.text, self.at = text, 0
        self.known = ", ".join(names)
        self.names = sorted(enumerate(names), key=lambda pair: -len(pair[1]))  # the longest name that fits is meant

    # -- events --------------------------------------------------------------------------------------------------

    def event(self) -> Event:
        event: Event
        if self.word(r"when(\s+(does|do|will))?|first\s+time(\s+that)?"):
            event = FirstTime(self.condition(), self.span())
        elif match := self.word("highest|maximum|max|peak|lowest|minimum|min"):
            which = "lowest" if match.lower() in ("lowest", "minimum", "min") else "highest"
            event = Extreme(which, self.quantity(), self.span())
        else:
            event = Chance(self.qualified())
        if self.rest():
            raise self.problem("nothing more, 'and', 'or', 'within … steps', 'at step …' or 'by …'")
        return event

    def qualified(self) -> Condition:
        condition = self.condition()
        return self.within(condition)

    def within(self, condition: Condition) -> Condition:
        """A condition with the span that may follow it."""
        before = self.at
        span = self.span()
        if self.at == before:
            return condition
        return Always(condition.condition, span) if isinstance(condition, Always) else Window(condition, span)

    def condition(self) -> Condition:
        left = self.conjunction()
        while self.word("or"):
            left = Both("or", left, self.conjunction())
        return left

    def conjunction(self) -> Condition:
        left = self.negation()
        while self.word("and"):
            left = Both("and", left, self.negation())
        return left

    def negation(self) -> Condition:
        if self.word("not"):
            return Not(self.negation())
        if self.word("always|at every step"):
            return Always(self.negation())
        start = self.at
        if self.take(r"\("):
            try:
                inner = self.qualified()
                if self.take(r"\)") and not self.peek(r"[-+*/<>=!≤≥]"):
                    return inner
            except ConfigError:
                pass
            self.at = start  # the bracket holds a quantity
        return self.comparison()

    def comparison(self) -> Condition:
        left = self.quantity()
        operator = self.operator()
        if operator is None:
            raise self.problem("a comparison such as '<', '>=', 'falls below' or 'exceeds'")
        right = self.quantity()
        found: Condition = Comparison(operator, left, right)
        while (again := self.operator()) is not None:  # 1 < x < 2
            left, right = right, self.quantity()
            found = Both("and", found, Comparison(again, left, right))
        return found

    def operator(self) -> Operator | None:
        for symbol, operator in SYMBOLS.items():
            if self.take(re.escape(symbol)):
                return operator
        if self.peek(r"=(?!=)"):
            raise self.problem("'==' to compare; a value is set with --set")
        for phrase, operator in PHRASES.items():
            if self.word(phrase):
                return operator
        return None

    # -- quantities ----------------------------------------------------------------------------------------------

    def quantity(self) -> Quantity:
        left = self.term()
        while match := self.take(r"[-+]"):
            left = Arithmetic("+" if match == "+" else "-", left, self.term())
        return left

    def term(self) -> Quantity:
        left = self.factor()
        while match := self.take(r"[*/]"):
            left = Arithmetic("*" if match == "*" else "/", left, self.factor())
        return left

    def factor(self) -> Quantity:
        if self.take("-"):
            inner = self.factor()
            return Number(-inner.value) if isinstance(inner, Number) else Arithmetic("-", Number(0.0), inner)
        if (variable := self.variable()) is not None:
            return variable
        self.skip()
        if match := NUMBER.match(self.text, self.at):
            self.at = match.end()
            return Number(float(match[0]))
        if self.take(r"\("):
            inner = self.quantity()
            if not self.take(r"\)"):
                raise self.problem("')'")
            return inner
        raise self.problem("a variable or a number")

    def variable(self) -> Variable | None:
        self.skip()
        for column, name in self.names:
            for written in (f'"{name}"', f"`{name}`", name):
                end = self.at + len(written)
                whole = not (written[-1:].isalnum() and self.text[end : end + 1].isalnum())
                if (
                    whole
                    and self.text[self.at : end].casefold() == written.casefold()
                    and self.text[end : end + 1] != "_"
                ):
                    self.at = end
                    return Variable(column, name)
        return None

    # -- spans ---------------------------------------------------------------------------------------------------

    def span(self) -> Span:
        """The steps that follow a condition in the text; all steps where there is nothing of the kind."""
        if self.word(r"(at some time\s+|at least once\s+)?within(\s+the)?(\s+next)?"):
            count = self.expect(r"\d+", "a number of steps")
            self.word("steps?")
            return Span(last=f"step {count}")
        if self.word("by|until"):
            return Span(last=self.moment())
        if self.word("before"):
            return Span(last=self.moment(), until=True)
        if self.word("after"):
            return Span(first=self.moment(), since=True)
        if self.word("at|in"):
            moment = self.moment()
            return Span(moment, moment)
        if self.word("from|between"):
            first = self.moment()
            return Span(first, self.moment() if self.word("to|and") else None)
        return Span()

    def moment(self) -> str:
        return self.expect(MOMENT, "a time such as 2039 or 2039-05-31, or 'step 5'")

    # -- text ----------------------------------------------------------------------------------------------------

    def skip(self) -> None:
        while self.text[self.at : self.at + 1].isspace():
            self.at += 1

    def rest(self) -> str:
        self.skip()
        return self.text[self.at :]

    def peek(self, pattern: str) -> bool:
        self.skip()
        return re.compile(pattern).match(self.text, self.at) is not None

    def take(self, pattern: str) -> str | None:
        self.skip()
        match = re.compile(pattern, re.IGNORECASE).match(self.text, self.at)
        if match:
            self.at = match.end()
        return match[0] if match else None

    def word(self, pattern: str) -> str | None:
        """A keyword, which ends where its letters do."""
        return self.take(rf"(?:{pattern})(?!\w)")

    def expect(self, pattern: str, what: str) -> str:
        found = self.take(pattern)
        if found is None:
            raise self.problem(what)
        return found

    def problem(self, wanted: str) -> ConfigError:
        rest = self.rest()
        found = f"{rest[:20]!r}" if rest else "the end"
        names = [name for _, name in self.names]
        word = re.match(r"\w+", rest)
        close = difflib.get_close_matches(word[0], names, n=1) if word else []
        advice = f" (did you mean {close[0]!r}?)" if close else ""
        return ConfigError(
            [
                f"event {self.text!r}, character {self.at + 1}: found {found}{advice} where {wanted} should be. The "
                f"variables are {self.known}; {FORMS}"
            ]
        )

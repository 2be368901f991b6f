"""The language of events: what may be asked of a forecast, read into a tree. docs/events.md tells it with examples.

A condition is judged at every step of every path. Where a whole path is to be judged, it holds if the condition does at
some step of a window of steps, which is the whole forecast unless one is given.
"""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections.abc import Sequence

from loracast.errors import ConfigError
from loracast.events.tree import (
    Always,
    Arithmetic,
    Both,
    Chance,
    Comparison,
    Condition,
    Event,
    Extreme,
    FirstTime,
    Not,
    Number,
    Operator,
    Quantity,
    Span,
    Variable,
    Window,
    of_path,
)
from loracast.series.calendar import ISO_WEEK, QUARTER, WHILE
from loracast.series.types import listed

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
    r"(first\s+)?(falls?|drops?|sinks?|goes|go|is|are)\s+(first\s+)?(below|under)": "<",
    r"(first\s+)?(rises?|climbs?|goes|go|is|are)\s+(first\s+)?(above|over)": ">",
    r"(is|are)\s+(less|lower|smaller)\s+than": "<",
    r"(is|are)\s+(more|greater|higher|larger)\s+than": ">",
    r"(first\s+)?exceeds?": ">",
    r"(first\s+)?(falls?|drops?|sinks?)\s+to": "<=",
    r"(first\s+)?reach(es)?|((is|are)\s+)?at\s+least(?!\s+once)": ">=",
    r"((is|are)\s+)?at\s+most": "<=",
    r"below|under": "<",
    r"above|over": ">",
    r"equals?|(is|are)\s+equal\s+to": "==",
}
PERIOD = rf"{QUARTER}|{ISO_WEEK}|\d{{4}}/\d{{2}}(?:\d{{2}})?(?![\d/])"
MOMENT = PERIOD + r"|step\s+\d+|\d{4}-\d{2}(?:-\d{2})?(?:[T ]\d{1,2}:\d{2}(?::\d{2})?)?|-?\d+(?:\.\d+)?"
NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?"
NEAR = 0.6  # how like a name is to what was written, from 0 to 1, for it to be proposed
FORMS = (
    "an event is a comparison such as 'predator < 0.1', maybe with 'within 20 steps', 'at step 5' or 'by 2039' after "
    "it; 'when predator < 0.1' for a first time; or 'highest prey'"
)


def read_event(text: str, names: Sequence[str]) -> Event:
    """The event that a text means, of variables with these names.

    A ConfigError says what was found in place of what.

    Example: ``read_event("predator < 0.1 within 20 steps", ("prey", "predator"))``
    """
    try:
        return _Reader(text, names).event()
    except RecursionError:
        raise ConfigError([f"event {text[:40]!r}… has brackets in too many brackets; say it with fewer"]) from None


class _Reader:
    """Reads a text from left to right; each method takes one form from where the reader stands."""

    def __init__(self, text: str, names: Sequence[str]):
        self.text, self.at = unicodedata.normalize("NFC", text), 0
        named = [(column, unicodedata.normalize("NFC", name)) for column, name in enumerate(names)]
        self.names = sorted(named, key=lambda pair: -len(pair[1]))  # the longest name that fits is meant

    # -- events --------------------------------------------------------------------------------------------------

    def event(self) -> Event:
        event: Event
        if self.keyword(r"when(\s+(does|do|will))?|first\s+time(\s+that)?"):
            condition = self.condition()
            before = self.at
            span = self.span()
            if self.at > before and of_path(condition):
                raise self.spanned_twice(before)
            event = FirstTime(condition, span)
        elif match := self.keyword("highest|maximum|max|peak|lowest|minimum|min"):
            which = "lowest" if match.lower() in ("lowest", "minimum", "min") else "highest"
            event = Extreme(which, self.quantity(), self.span())
        else:
            event = Chance(self.qualified())
        if self.peek(r"(and|or)(?!\w)"):
            raise self.problem(
                "the end (what has steps of its own stands in brackets, as in '(A within 5 steps) and (B by 2039)')"
            )
        if self.rest():
            raise self.problem("nothing more, 'and', 'or', 'within … steps', 'at step …' or 'by …'")
        return event

    def qualified(self) -> Condition:
        """A condition with the span that may follow it."""
        condition = self.condition()
        before = self.at
        span = self.span()
        return condition if self.at == before else self.within(condition, span, before)

    def within(self, condition: Condition, span: Span, place: int) -> Condition:
        """A condition of steps within a span that was read at a place in the text."""
        if isinstance(condition, Always) and condition.span == Span():
            return Always(condition.condition, span)
        if isinstance(condition, Not) and of_path(condition):
            return Not(self.within(condition.condition, span, place))
        if of_path(condition):
            raise self.spanned_twice(place)
        return Window(condition, span)

    def spanned_twice(self, place: int) -> ConfigError:
        self.at = place
        return self.problem(
            "the end (a part before it names its steps already; each part with its own stands in brackets, as in '(A "
            "within 5 steps) and (B by 2039)')"
        )

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
        if self.keyword("not"):
            return Not(self.negation())
        if self.keyword("always|at every step"):
            before = self.at
            condition = self.negation()
            if of_path(condition):
                raise self.spanned_twice(before)
            return Always(condition)
        start, failure, reached = self.at, None, -1
        if self.take(r"\("):
            try:
                inner = self.qualified()
                if not self.take(r"\)"):
                    raise self.problem("')'")
                if not self.peek(r"[-+*/<>=!≤≥]"):
                    return inner
            except ConfigError as error:
                failure, reached = error, self.at
            self.at = start  # the bracket holds a quantity
        try:
            return self.comparison()
        except ConfigError:
            if failure and reached > self.at:
                raise failure from None
            raise

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
            raise self.problem("'=='")
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
        if self.peek(NUMBER):
            written = self.take(NUMBER)
            if not math.isfinite(number := float(written or "")):
                raise ConfigError([f"event {self.text!r}: the number {written} is too large"])
            return Number(number)
        if self.take(r"\("):
            inner = self.quantity()
            if not self.take(r"\)"):
                raise self.problem("')'")
            return inner
        raise self.problem("a variable or a number", self.near())

    def variable(self) -> Variable | None:
        """The known name that stands here, the longest one; as it is written rather than in another case."""
        self.skip()
        fits: dict[tuple[int, bool], list[tuple[int, str]]] = {}  # by length and whether it is written just so
        for column, name in self.names:
            for written in (f'"{name}"', f"`{name}`", name):
                found = self.text[self.at : self.at + len(written)]
                if found.casefold() == written.casefold() and self.whole(written):
                    fits.setdefault((len(written), found == written), []).append((column, name))
        if not fits:
            return None
        best = max(fits)
        if len(fits[best]) > 1:
            raise self.problem(f"{' or '.join(repr(name) for _, name in fits[best])}, in small and capital letters,")
        self.at += best[0]
        return Variable(*fits[best][0])

    def whole(self, written: str) -> bool:
        """Whether a name that stands here ends where its letters do, and is not a number without quotes."""
        end = self.text[self.at + len(written) :][:1]
        cut = written[-1:].isalnum() and (end.isalnum() or end == "_")
        return not cut and not re.fullmatch(NUMBER, written, re.IGNORECASE)

    # -- spans ---------------------------------------------------------------------------------------------------

    def span(self) -> Span:
        """The steps that follow a condition in the text; all steps where there is nothing of the kind."""
        self.word(r"at some (time|step)|at least once")
        if self.word(r"within(\s+the)?(\s+next)?"):
            if time := self.word(WHILE):
                return Span(last=time)
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
        return self.expect(MOMENT, "a time such as 2039, 2039-05-31 or 2039Q2, or 'step 5'")

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

    def keyword(self, pattern: str) -> str | None:
        """A keyword where a variable may stand as well: a longer name wins, and a name that is used."""
        start = self.at
        variable = self.variable()
        end, used = self.at, variable and (self.peek(r"[-+*/]") or self.operator() is not None)
        self.at = start
        found = self.word(pattern)
        if found and variable and (end > self.at or used):
            self.at = start
            return None
        return found

    def expect(self, pattern: str, what: str) -> str:
        found = self.take(pattern)
        if found is None:
            raise self.problem(what)
        return found

    def near(self) -> str:
        """The known name that is most like what stands here, as advice; nothing where none is."""
        rest = self.rest().strip('"`').casefold()
        alike = [
            (difflib.SequenceMatcher(None, rest[: len(name)], name.casefold()).ratio(), name) for _, name in self.names
        ]
        share, name = max(alike)
        return f" (did you mean {name!r}?)" if share >= NEAR else ""

    def problem(self, wanted: str, advice: str = "") -> ConfigError:
        rest = self.rest()
        found = f"{rest[:20]!r}" if rest else "the end"
        known = listed([name for _, name in sorted(self.names)], 12)
        return ConfigError(
            [
                f"event {self.text!r}, character {self.at + 1}: found {found}{advice} where {wanted} should be. The "
                f"variables are {known}; {FORMS}"
            ]
        )

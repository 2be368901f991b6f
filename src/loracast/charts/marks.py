"""What a figure is, whoever draws it: panels, axes and marks of plain numbers.

All marks have numeric positions; where an axis has categories, they stand at 0, 1, 2, ... and `Axis.ticks` names them.
A value that is not finite is a gap. Lengths: N points of a mark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

Numbers = tuple[float, ...]
FACTORS = ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9), (1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,))  # of log ticks
MOST_TICKS, MOST_LETTERS = 7, 30  # of them on an axis


@dataclass(frozen=True)
class Line:
    """A line through N points; `dash` as CSS names it (solid, dash, dot)."""

    x: Numbers
    y: Numbers
    role: str
    label: str = ""
    width: float = 1.6
    dash: str = "solid"
    alpha: float = 1.0


@dataclass(frozen=True)
class Band:
    """The area between two lines over the same N places."""

    x: Numbers
    low: Numbers
    high: Numbers
    role: str
    label: str = ""
    alpha: float = 0.2


@dataclass(frozen=True)
class Dots:
    """N points; `symbol` as Plotly names it; `names` are what a pointer shows of each."""

    x: Numbers
    y: Numbers
    role: str
    label: str = ""
    symbol: str = "circle"
    size: float = 6
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bars:
    """N bars at `places` of the x axis, or of the y axis if they lie; `width` in units of that axis.

    They begin at zero, or at `starts` where bars stand on others.
    """

    places: Numbers
    lengths: Numbers
    role: str
    label: str = ""
    width: float = 0.8
    lying: bool = False
    alpha: float = 0.85
    starts: Numbers = ()


@dataclass(frozen=True)
class Box:
    """A lying box at a place of the y axis, of N values.

    It reaches from quartile to quartile, whiskers to the last values within 1.5 times its length; points lie beyond.
    """

    place: float
    values: Numbers
    role: str
    width: float = 0.6


@dataclass(frozen=True)
class Heat:
    """A grid of values, a row a place of the y axis, from `low` to `high` in colour; `texts` stand in the cells."""

    values: tuple[Numbers, ...]
    texts: tuple[tuple[str, ...], ...]
    low: float
    high: float
    log: bool
    label: str  # what the colour means


Labelled = Line | Band | Dots | Bars
Mark = Labelled | Box | Heat


@dataclass(frozen=True)
class Axis:
    """An axis. `limits` are found from the marks unless given; `ticks` name the places 0, 1, 2, ... of categories."""

    label: str = ""
    log: bool = False
    limits: tuple[float, float] | None = None
    ticks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Panel:
    title: str
    x: Axis
    y: Axis
    marks: tuple[Mark, ...]
    height: int = 260  # pixels on the page


@dataclass(frozen=True)
class Figure:
    """One figure: its file's name, its title and caption, the tables it is made of, and its panels row by row."""

    name: str
    title: str
    caption: str
    source: str
    panels: tuple[Panel, ...]
    columns: int = 2

    def keys(self) -> dict[str, tuple[Labelled, ...]]:
        """The entries of the legend: of each label the last mark of every kind that bears it.

        In order of appearance, but what others are compared with (in ink or muted) comes first.
        """
        found: dict[str, dict[type, Labelled]] = {}
        for panel in self.panels:
            for mark in panel.marks:
                if isinstance(mark, Labelled) and mark.label:
                    found.setdefault(mark.label, {})[type(mark)] = mark
        entries = {label: tuple(marks.values()) for label, marks in found.items()}
        return dict(sorted(entries.items(), key=lambda entry: entry[1][0].role not in ("ink", "muted")))


def numbers(values: Iterable[float]) -> Numbers:
    """Anything of numbers (an array, a column) as a mark holds them: six digits are more than an eye can see."""
    return tuple(float(f"{value:.6g}") for value in values)


def log_limits(panel: Panel, along: str) -> tuple[float, float]:
    """The limits of a logarithmic axis ("x" or "y"): those given, or what holds all marks with a little room."""
    axis = panel.x if along == "x" else panel.y
    if axis.limits:
        return axis.limits
    values = [value for mark in panel.marks for value in _extent(mark, along) if value > 0 and math.isfinite(value)]
    if not values:
        return 0.1, 10.0
    low, high = min(values), max(values)
    room = max((high / low) ** 0.05, 1.02)
    return low / room, high * room


def log_ticks(low: float, high: float) -> tuple[Numbers, tuple[str, ...]]:
    """Places and labels of a logarithmic axis: round numbers, as many as are readable."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    choices = [(factors, 1) for factors in FACTORS] + [((1,), step) for step in range(2, last - first + 1)]
    for factors, step in choices:
        powers = [power for power in range(first, last + 1) if power % step == 0]
        places = [factor * 10.0**power for power in powers for factor in factors]
        places = [place for place in places if low <= place <= high]
        if len(places) <= MOST_TICKS and sum(len(power_text(place)) for place in places) <= MOST_LETTERS:
            break
    if len(places) < 3 and high < 10 * low:  # so short that an even spacing looks even
        power = 10.0 ** math.floor(math.log10((high - low) / 5))
        step = next(factor * power for factor in (1, 2, 5, 10) if (high - low) / (factor * power) <= 5)
        places = [step * count for count in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return tuple(places), tuple(power_text(place) for place in places)


def power_text(value: float) -> str:
    """A number as an axis shows it: 0.02, 300, 2·10¹⁴."""
    if 1e-4 <= value < 1e5:
        return f"{value:.6g}"
    power = math.floor(math.log10(value) + 1e-9)
    factor = f"{value / 10.0**power:.3g}"
    raised = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{raised}" if factor == "1" else f"{factor}·10{raised}"


def _extent(mark: Mark, along: str) -> Iterable[float]:
    """The values of a mark that its axis must hold."""
    match mark:
        case Line() | Dots():
            return mark.x if along == "x" else mark.y
        case Band():
            return mark.x if along == "x" else (*mark.low, *mark.high)
        case Bars():
            return mark.lengths if mark.lying == (along == "x") else mark.places
        case Box():
            return mark.values if along == "x" else (mark.place,)
        case Heat():
            return ()

"""What is told of an event: its probability and interval, when it first happens, how far something goes; as sentences.

Shapes: N series, S sample paths, H steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loracast.events.judge import Judged, Paths, judge
from loracast.events.language import (
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
    read_event,
)

if TYPE_CHECKING:
    import pandas as pd

INTERVAL = 0.9  # of a probability, by the number of paths
RANGE = (0.1, 0.5, 0.9)  # quantiles of first times and extremes
MOVES = {"<": ("fall", "below"), ">": ("rise", "above"), ">=": ("reach", ""), "<=": ("fall", "to"), "==": ("equal", "")}
STANDS = {"<": "below", ">": "above", ">=": "at least", "<=": "at most", "==": "equal to", "!=": "not"}
MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "==": "==", "!=": "!="}


@dataclass(frozen=True)
class Outcome:
    """An event in one series.

    Attributes:
        id, event: the series, and the text of the event.
        kind: "chance", "first time" or "extreme".
        paths: sample paths that count, those with all their values.
        probability: the share of them on which it happens; low, high: Wilson's 90% interval of the probability, by
            their number alone. NaN where no path counts.
        never: 1 - probability for a first time; None for others.
        steps: 10, 50 and 90% quantiles of the step, from 1, of a first time or an extreme; infinite is never.
        times: the same as times, None for never and where the series has none.
        values: 10, 50 and 90% quantiles of an extreme; None for others.
        sentence: all of it in words.
        by_step: [H] the probability that it has happened by each step; not in tables.
    """

    id: str
    event: str
    kind: str
    paths: int
    probability: float
    low: float
    high: float
    never: float | None
    steps: tuple[float, float, float] | None
    times: tuple[str | None, str | None, str | None] | None
    values: tuple[float, float, float] | None
    sentence: str
    by_step: NDArray[np.float64] = field(repr=False, compare=False)


def outcomes(texts: Sequence[str], names: Sequence[str], paths: Paths) -> list[Outcome]:
    """What becomes of events in each series: one outcome an event and series, the series of an event together.

    ConfigError for a text that cannot be read, and for steps that the forecast does not have.
    """
    events = [read_event(text, names) for text in texts]
    found = []
    for text, event in zip(texts, events):
        judged = judge(event, paths)
        found += [_outcome(text, event, judged, paths, row) for row in range(len(paths.ids))]
    return found


def interval(happened: int, paths: int) -> tuple[float, float]:
    """Wilson's interval of a probability from so many paths of which so many count; (NaN, NaN) without paths."""
    if not paths:
        return float("nan"), float("nan")
    from scipy.stats import binomtest

    found = binomtest(happened, paths).proportion_ci(INTERVAL, method="wilson")
    return float(found.low), float(found.high)


def frame(found: Sequence[Outcome]) -> pd.DataFrame:
    """A row an event and series: the columns of events.csv."""
    import pandas as pd

    rows = []
    for one in found:
        row: dict[str, Any] = asdict(one)
        for name in ("steps", "times", "values"):
            parts = row.pop(name) or (None,) * len(RANGE)
            row |= {f"{name.removesuffix('s')}_q{100 * q:g}": part for q, part in zip(RANGE, parts)}
        del row["by_step"]
        row["sentence"] = row.pop("sentence")
        rows.append(row)
    return pd.DataFrame(rows)


def _outcome(text: str, event: Event, judged: Judged, paths: Paths, row: int) -> Outcome:
    counted = paths.whole[row]  # [S]
    count = int(counted.sum())
    happened = int(judged.happened[row][counted].sum())
    by_step = judged.by_step[row][counted]
    share = happened / count if count else float("nan")
    low, high = interval(happened, count)
    steps = values = times = None
    kind = "chance"
    if not isinstance(event, Extreme | FirstTime):
        pass
    elif count:
        kind = "extreme" if isinstance(event, Extreme) else "first time"
        steps = _quantiles(judged.steps[row][counted])
        times = _times(steps, paths, row)
        values = None if judged.values is None else _quantiles(judged.values[row][counted])
    end = _end(judged.inside[row], event, paths, row)
    series = f" in series {paths.ids[row]}" if len(paths.ids) > 1 else ""
    told = {"share": share, "low": low, "high": high, "steps": steps, "times": times, "values": values}
    return Outcome(
        id=paths.ids[row],
        event=text,
        kind=kind,
        paths=count,
        probability=share,
        low=low,
        high=high,
        never=(count - happened) / count if kind == "first time" else None,
        steps=steps,
        times=times,
        values=values,
        sentence=_sentence(event, end, series, **told) if count else f"No path of{series or ' the forecast'} is whole.",
        by_step=by_step.mean(0) if count else np.full(by_step.shape[1], np.nan),
    )


def _quantiles(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """10, 50 and 90% quantiles that are among the values, since a mean of a time and never is none."""
    low, middle, high = np.quantile(values, RANGE, method="inverted_cdf")
    return float(low), float(middle), float(high)


def _times(
    steps: tuple[float, float, float], paths: Paths, row: int
) -> tuple[str | None, str | None, str | None] | None:
    times, calendar = paths.times[row], paths.calendars[row]
    if times is None or calendar is None:
        return None
    texts = calendar.texts(times)
    low, middle, high = (texts[int(step) - 1] if np.isfinite(step) else None for step in steps)
    return low, middle, high


# -- words -------------------------------------------------------------------------------------------------------


def _sentence(event: Event, end: str, series: str, **told: Any) -> str:
    low, high = _percent(told["low"]), _percent(told["high"])
    between = f"({low} to {high})"
    if isinstance(event, Extreme):
        ten, middle, ninety = (f"{value:.4g}" for value in told["values"])
        when = told["times"][1] if told["times"] else f"step {told['steps'][1]:.0f}"
        return (
            f"The {event.which} {_words(event.quantity)}{series} {end} is {middle} (80% range {ten} to {ninety}), "
            f"reached about {when}."
        )
    if isinstance(event, FirstTime):
        what = f"The first time that {_condition(event.condition)}{series}"
        marks = told["times"] or [f"step {step:.0f}" if np.isfinite(step) else None for step in told["steps"]]
        never = f"on {_percent(1 - told['share'])}% of the paths it never happens {end}"
        if marks[1] is None:
            early = f", on a tenth of them by {marks[0]}" if marks[0] else ""
            chance = f"The chance that it happens is {_chance(told['share'])} {between}."
            return f"{what} is not foreseen: {never}{early}. {chance}"
        late = f"to {marks[2]}" if marks[2] else "or later"
        return f"{what} is about {marks[1]} (80% range {marks[0]} {late}); {never}."
    once = "" if _whole(event.condition) else " at least once"
    return f"The chance that {_condition(event.condition)}{once}{series} {end} is {_chance(told['share'])} {between}."


def _end(inside: NDArray[np.bool_], event: Event, paths: Paths, row: int) -> str:
    """Until when, in words."""
    steps = np.flatnonzero(inside)
    first, last = int(steps[0]), int(steps[-1])
    times, calendar = paths.times[row], paths.calendars[row]
    dated = times is not None and calendar is not None
    if dated and not _counts(event):
        texts = calendar.texts(times)  # type: ignore[union-attr]
        if first == last:
            return f"in {texts[first]}"
        return f"by {texts[last]}" if first == 0 else f"from {texts[first]} to {texts[last]}"
    if first == last:
        return f"at step {first + 1}"
    return f"within {last + 1} steps" if first == 0 else f"from step {first + 1} to step {last + 1}"


def _counts(event: Event) -> bool:
    """Whether an event tells its span in steps."""
    spans = [event.span] if isinstance(event, Extreme | FirstTime) else _spans(event.condition)
    return any("step" in (moment or "") for span in spans for moment in (span.first, span.last))


def _spans(condition: Condition) -> list[Span]:
    if isinstance(condition, Comparison):
        return []
    if isinstance(condition, Both):
        return [*_spans(condition.left), *_spans(condition.right)]
    own = [condition.span] if isinstance(condition, Window | Always) else []
    return own + _spans(condition.condition)


def _whole(condition: Condition) -> bool:
    """Whether "at least once" would be wrong: where all steps are meant, or one, or several spans."""
    if isinstance(condition, Window):
        return condition.span.first is not None and condition.span.first == condition.span.last
    if isinstance(condition, Both):
        return any(map(_spans, (condition.left, condition.right)))
    return isinstance(condition, Always) or (isinstance(condition, Not) and bool(_spans(condition)))


def _condition(condition: Condition, moves: bool = True) -> str:
    """A condition in words; `moves` says that something may come to be so, as it cannot at a single step."""
    if isinstance(condition, Comparison):
        return _comparison(condition, moves)
    if isinstance(condition, Window):
        return _condition(condition.condition, moves and not _whole(condition))
    if isinstance(condition, Always):
        return f"at every step {_condition(condition.condition, False)}"
    if isinstance(condition, Not):
        return f"it is not so that {_condition(condition.condition, False)}"
    return f"{_condition(condition.left, False)} {condition.operator} {_condition(condition.right, False)}"


def _comparison(condition: Comparison, moves: bool) -> str:
    operator, first, second = condition.operator, condition.left, condition.right
    if isinstance(first, Number):
        operator, first, second = MIRRORED[operator], second, first
    left, right = _words(first), _words(second)
    many = isinstance(first, Variable) and left.endswith("s") and not left.endswith("ss")
    if not moves or operator not in MOVES:
        return f"{left} {'are' if many else 'is'} {STANDS[operator]} {right}"
    verb, preposition = MOVES[operator]
    ending = "" if many else "es" if verb.endswith("ch") else "s"
    return " ".join(part for part in (left, verb + ending, preposition, right) if part)


def _words(quantity: Quantity) -> str:
    if isinstance(quantity, Number):
        return f"{quantity.value:.10g}"
    if isinstance(quantity, Variable):
        return quantity.name
    left, right = _words(quantity.left), _words(quantity.right)
    left = f"({left})" if isinstance(quantity.left, Arithmetic) else left
    right = f"({right})" if isinstance(quantity.right, Arithmetic) else right
    return f"{left} {quantity.operator} {right}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def _chance(share: float) -> str:
    """A probability in percent, never certain by paths alone."""
    if share < 0.005:
        return "less than 1%"
    return "more than 99%" if share > 0.995 else f"{_percent(share)}%"

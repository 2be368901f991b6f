"""What is said of an event: its probability and interval, when it first happens, how far something goes; as sentences.

Shapes: N series, S sample paths, H steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loracast.events.judge import Judged, Paths, judge
from loracast.events.language import read_event
from loracast.events.tree import Event, Extreme, FirstTime
from loracast.events.wording import Found, sentence

if TYPE_CHECKING:
    import pandas as pd

INTERVAL = 0.9  # of a probability, by the number of paths
RANGE = (0.1, 0.5, 0.9)  # quantiles of first times and extremes


@dataclass(frozen=True)
class Outcome:
    """An event in one series.

    Attributes:
        id: the series.
        event: the text of the event.
        kind: "chance", "first time" or "extreme".
        paths: sample paths that count, those with all their values.
        probability: the share of them on which it happens, or on which an extreme has a value. NaN where no path
            counts.
        low: where Wilson's 90% interval of the probability begins, by the number of paths alone.
        high: where it ends.
        never: 1 - probability for a first time; None for others.
        steps: 10, 50 and 90% quantiles of the step, from 1, of a first time or an extreme; infinite is never.
        times: the same as times, None for never and where the series has none.
        values: 10, 50 and 90% quantiles of an extreme; None for others.
        sentence: all of it in words.
        by_step: [H] the probability that it has happened by each step; not in tables.

    Examples:
        >>> forecaster = loracast.Forecaster.from_pretrained("bundled")
        >>> forecast = forecaster.predict(loracast.lynx_hare(), 3, sample=loracast.SampleConfig(5))
        >>> (outcome,) = forecast.events(["when lynx > 0"])
        >>> outcome.kind, outcome.paths, outcome.probability, outcome.times
        ('first time', 5, 1.0, ('1936', '1936', '1936'))
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


@cache  # of many series, most have the same few counts
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
    happened = judged.happened[row] & counted
    by_step = judged.by_step[row][counted]
    share = float(happened.sum()) / count if count else float("nan")
    low, high = interval(int(happened.sum()), count)
    kind = "extreme" if isinstance(event, Extreme) else "first time" if isinstance(event, FirstTime) else "chance"
    steps = values = times = None
    if kind != "chance" and count:
        steps = _quantiles(judged.steps[row][counted])
        times = _times(steps, paths, row)
    if judged.values is not None and happened.any():
        values = _quantiles(judged.values[row][happened])
    whose = f"Series {paths.ids[row]}: " if len(paths.ids) > 1 else ""
    found = Found(count, int(happened.sum()), low, high, steps, times, values)
    return Outcome(
        id=paths.ids[row],
        event=text,
        kind=kind,
        paths=count,
        probability=share,
        low=low,
        high=high,
        never=(count - happened.sum()) / count if kind == "first time" and count else None,
        steps=steps,
        times=times,
        values=values,
        sentence=whose + sentence(event, found, paths.series(row)),
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

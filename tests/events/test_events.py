"""Events: the language against a plain-Python oracle, intervals against their formula, sentences, errors, pictures."""

import math
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from conftest import ROOT
from loracast.errors import ConfigError
from loracast.event_figure import draw_events
from loracast.events import Outcome, Paths, frame, interval, judge, outcomes, read_event
from loracast.forecast import Forecast
from loracast.series import Series
from loracast.series.calendar import Calendar, moment_steps

NAMES, HORIZON, BEGIN = ("prey", "predator"), 6, 2021  # the forecast has steps 1 to 6, the years 2021 to 2026
YEARS = Calendar("number", 1)
Steps = list[list[float]]  # a path, [H][D]


def paths_of(samples: Any, dated: bool = True, ids: tuple[str, ...] | None = None) -> Paths:
    samples = np.asarray(samples, float)  # [N, S, H, D]
    count = len(samples)
    time = np.arange(samples.shape[2], dtype=float) + BEGIN
    times, calendars = ((time,) * count, (YEARS,) * count) if dated else ((None,) * count, (None,) * count)
    return Paths(samples, ids or tuple(f"s{index}" for index in range(count)), times, calendars)


def told(text: str, samples: Any, names: tuple[str, ...] = NAMES, **options: Any) -> Outcome:
    return outcomes([text], names, paths_of(samples, **options))[0]


# -- the oracle: loops over paths and steps, and its own way to write what it judges -------------------------------


class Quantity:
    """How a quantity is written, how closely its parts are bound, and its value at a step of a path."""

    def __init__(self, text: str, bound: int, value: Callable[[list[float]], float]):
        self.text, self.bound, self.value = text, bound, value


def divided(left: float, right: float) -> float:
    if right:
        return left / right
    return math.nan if left == 0 or math.isnan(left) else math.copysign(math.inf, left) * math.copysign(1, right)


ARITHMETIC: dict[str, tuple[int, Callable[[float, float], float]]] = {
    "+": (1, lambda a, b: a + b),
    "-": (1, lambda a, b: a - b),
    "*": (2, lambda a, b: a * b),
    "/": (2, divided),
}


def joined(operator: str, left: Quantity, right: Quantity) -> Quantity:
    """Writes no more brackets than are needed."""
    bound, compute = ARITHMETIC[operator]
    first = left.text if left.bound >= bound else f"({left.text})"
    second = right.text if right.bound > bound else f"({right.text})"
    return Quantity(f"{first} {operator} {second}", bound, lambda step: compute(left.value(step), right.value(step)))


NUMBERS = st.sampled_from(["0", "1", "2.5", "3e0", ".5", "-1", "20e-1"]).map(
    lambda text: Quantity(text, 3, lambda step: float(text))
)
VARIABLES = st.sampled_from([0, 1]).flatmap(
    lambda column: st.sampled_from([NAMES[column], f'"{NAMES[column]}"', f"`{NAMES[column]}`"]).map(
        lambda text: Quantity(text, 3, lambda step: step[column])
    )
)
QUANTITIES = st.recursive(
    NUMBERS | VARIABLES,
    lambda inner: st.tuples(st.sampled_from("+-*/"), inner, inner).map(lambda parts: joined(*parts)),
    max_leaves=4,
)
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b,
    " falls below ": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    " ≤ ": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    " exceeds ": lambda a, b: a > b,
    " is above ": lambda a, b: a > b,
    " >= ": lambda a, b: a >= b,
    " reaches ": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    " != ": lambda a, b: a != b,
}


class Condition:
    """How a condition is written, how closely its parts are bound, and whether it holds at a step or on a path."""

    def __init__(self, text: str, bound: int, holds: Callable[[Any], bool], of_path: bool = False):
        self.text, self.bound, self.holds, self.of_path = text, bound, holds, of_path

    def on(self, path: Steps) -> bool:
        return self.holds(path) if self.of_path else any(self.holds(step) for step in path)


def compared(left: Quantity, operator: str, right: Quantity) -> Condition:
    text, compare = f"{left.text}{operator}{right.text}", COMPARISONS[operator]
    return Condition(text, 3, lambda step: compare(left.value(step), right.value(step)))


def opposed(inner: Condition) -> Condition:
    text = f"not {inner.text}" if inner.bound >= 3 else f"not ({inner.text})"
    return Condition(text, 3, lambda step: not inner.holds(step))


def combined(operator: str, left: Condition, right: Condition) -> Condition:
    bound, both = (2, all) if operator == "and" else (1, any)
    first = left.text if left.bound >= bound else f"({left.text})"
    second = right.text if right.bound > bound else f"({right.text})"
    return Condition(f"{first} {operator} {second}", bound, lambda step: both([left.holds(step), right.holds(step)]))


STEPWISE = st.recursive(
    st.builds(compared, QUANTITIES, st.sampled_from(list(COMPARISONS)), QUANTITIES),
    lambda inner: inner.map(opposed) | st.builds(combined, st.sampled_from(["and", "or"]), inner, inner),
    max_leaves=4,
)


@st.composite
def spans(draw: st.DrawFn) -> tuple[str, list[int]]:
    """A span of steps as it is written, and its steps counted from 0."""
    first = draw(st.integers(1, HORIZON))
    last = draw(st.integers(first, HORIZON))
    year = BEGIN - 1  # of the step before the first
    return draw(
        st.sampled_from(
            [
                ("", list(range(HORIZON))),
                (f"within {last} steps", list(range(last))),
                (f"at least once within the next {last} steps", list(range(last))),
                (f"at step {first}", [first - 1]),
                (f"in {year + first}", [first - 1]),
                (f"by {year + last}", list(range(last))),
                (f"before {year + last + 1}", list(range(last))),
                (f"before step {last + 1}", list(range(last))),
                (f"after {year + first - 1}", list(range(first - 1, HORIZON))),
                (f"from {year + first}", list(range(first - 1, HORIZON))),
                (f"from {year + first} to {year + last}", list(range(first - 1, last))),
                (f"between step {first} and step {last}", list(range(first - 1, last))),
            ]
        )
    )


def some(inner: Condition, span: tuple[str, list[int]]) -> Condition:
    return Condition(
        f"{inner.text} {span[0]}", 0, lambda path: any(inner.holds(path[step]) for step in span[1]), bool(span[0])
    )


def every(inner: Condition, word: str, span: tuple[str, list[int]]) -> Condition:
    text = f"{word} {inner.text if inner.bound >= 3 else f'({inner.text})'} {span[0]}"
    return Condition(text, 0, lambda path: all(inner.holds(path[step]) for step in span[1]), True)


LEAVES = st.builds(some, STEPWISE, spans()).filter(lambda one: one.of_path) | st.builds(
    every, STEPWISE, st.sampled_from(["always", "at every step"]), spans()
)


def told_not(inner: Condition) -> Condition:
    return Condition(f"not ({inner.text})", 3, lambda path: not inner.on(path), True)


def told_both(operator: str, left: Condition, right: Condition) -> Condition:
    both = all if operator == "and" else any
    return Condition(
        f"({left.text}) {operator} ({right.text})", 0, lambda path: both([left.on(path), right.on(path)]), True
    )


PATHWISE = st.recursive(
    LEAVES,
    lambda inner: inner.map(told_not) | st.builds(told_both, st.sampled_from(["and", "or"]), inner, inner | STEPWISE),
    max_leaves=3,
)
SAMPLES = st.lists(
    st.lists(
        st.tuples(*[st.sampled_from([0.0, 0.5, 1.0, 2.0, 2.5, 3.0])] * 2).map(list), min_size=HORIZON, max_size=HORIZON
    ),
    min_size=1,
    max_size=5,
)
FEW = settings(max_examples=150, deadline=None)


# -- events as the oracle judges them ------------------------------------------------------------------------------


@FEW
@given(STEPWISE, SAMPLES)
def test_a_condition_is_judged_at_every_step(condition: Condition, samples: list[Steps]):
    judged = judge(read_event(condition.text, NAMES), paths_of([samples]))
    held = [[condition.holds(step) for step in path] for path in samples]
    assert judged.happened[0].tolist() == [any(path) for path in held]
    assert judged.by_step[0].tolist() == [[any(path[: step + 1]) for step in range(HORIZON)] for path in held]


@FEW
@given(PATHWISE, SAMPLES)
def test_spans_and_what_is_made_of_them(condition: Condition, samples: list[Steps]):
    paths = paths_of([samples])
    judged = judge(read_event(condition.text, NAMES), paths)
    assert judged.happened[0].tolist() == [condition.on(path) for path in samples]
    assert (judged.by_step[..., -1] == judged.happened).all()
    assert (np.diff(judged.by_step.astype(int), axis=-1) >= 0).all()
    (one,) = outcomes([condition.text], NAMES, paths)
    assert one.probability == np.mean([condition.on(path) for path in samples])
    assert one.sentence.startswith("The chance that ")


@FEW
@given(STEPWISE, spans(), SAMPLES, st.sampled_from(["when", "when does", "first time that"]))
def test_first_times(condition: Condition, span: tuple[str, list[int]], samples: list[Steps], word: str):
    paths = paths_of([samples])
    text = f"{word} {condition.text} {span[0]}"
    first = [next((s + 1 for s in span[1] if condition.holds(path[s])), math.inf) for path in samples]
    assert judge(read_event(text, NAMES), paths).steps[0].tolist() == first
    (one,) = outcomes([text], NAMES, paths)
    never = sum(map(math.isinf, first)) / len(first)
    assert one.never == pytest.approx(never)
    assert one.probability == pytest.approx(1 - never)
    ordered = sorted(first)  # a quantile is the first value below or at which that share of the paths lies
    expected = [next(x for n, x in enumerate(ordered, 1) if n >= q * len(ordered) - 1e-9) for q in (0.1, 0.5, 0.9)]
    assert one.steps is not None
    assert list(one.steps) == expected
    assert one.times == tuple(None if math.isinf(x) else f"{BEGIN - 1 + x:.0f}" for x in expected)


@FEW
@given(QUANTITIES, spans(), SAMPLES, st.sampled_from(["highest", "max", "lowest", "minimum"]))
def test_extremes(quantity: Quantity, span: tuple[str, list[int]], samples: list[Steps], word: str):
    text = f"{word} {quantity.text} {span[0]}"
    judged = judge(read_event(text, NAMES), paths_of([samples]))
    best = min if word in ("lowest", "minimum") else max
    assert judged.values is not None
    for index, path in enumerate(samples):
        values = {step: quantity.value(path[step]) for step in span[1]}
        known = [value for value in values.values() if not math.isnan(value)]
        assert judged.happened[0, index] == bool(known)
        if known:
            assert judged.values[0, index] == best(known)
            assert judged.steps[0, index] == 1 + min(step for step, value in values.items() if value == best(known))
        else:
            assert math.isnan(judged.values[0, index])
            assert math.isinf(judged.steps[0, index])
    (one,) = outcomes([text], NAMES, paths_of([samples]))
    assert (one.kind, one.values is None) == ("extreme", not judged.happened.any())


def test_an_extreme_may_be_infinite_and_passes_over_what_has_no_value():
    path = [[0, 0], [1, 0], [3, 1]]  # nought by nought, one by nought, and three
    lowest, highest = (
        told("lowest prey / predator by 2022", [[path]]),
        told("highest -prey / predator by 2022", [[path]]),
    )
    assert (lowest.values, lowest.steps) == ((math.inf,) * 3, (2, 2, 2))
    assert (highest.values, highest.steps) == ((-math.inf,) * 3, (2, 2, 2))


def test_both_at_one_step_or_each_on_its_own():
    apart = [[[0, 9], [9, 0], [9, 9]]]  # prey is low at one step, the predator at another
    assert told("prey < 1 and predator < 1", [apart]).probability == 0
    assert told("(prey < 1 within 3 steps) and (predator < 1 within 3 steps)", [apart]).probability == 1
    assert told("(prey < 1 within 3 steps) and predator < 1", [apart]).probability == 1
    assert told("(prey < 1 within 3 steps) and (predator < 1 at step 1)", [apart]).probability == 0
    assert told("not prey < 1", [apart]).probability == 1  # at some step, it is not
    assert told("not (prey < 1 within 3 steps)", [apart]).probability == 0


def test_conditions_on_the_end_of_a_path_are_decided_there():
    path = [[[1, 1], [1, 1], [1, 1]]]
    assert told("always prey > 0", [path]).by_step.tolist() == [0, 0, 1]
    assert told("always prey > 0 within 2 steps", [path]).by_step.tolist() == [0, 1, 1]
    assert told("not (prey > 1 within 2 steps)", [path]).by_step.tolist() == [0, 1, 1]
    assert told("not always prey > 1 within 2 steps", [path]).by_step.tolist() == [0, 1, 1]


def test_paths_without_a_value_count_neither_way():
    samples = np.ones((2, 4, 3, 2))
    samples[0, 0, 2, 1] = np.nan
    samples[1] = np.nan
    first, second = outcomes(["prey < 2 at step 1"], NAMES, paths_of(samples))
    assert (first.paths, first.probability) == (3, 1)
    assert second.paths == 0
    assert np.isnan([second.probability, second.low, second.high, *second.by_step]).all()
    for text in ("prey < 2", "when prey < 2", "highest prey"):
        one = outcomes([text], NAMES, paths_of(samples))[1]
        assert (one.steps, one.times, one.values, one.never) == (None, None, None, None)
        assert one.sentence.endswith("not known: no sample path has all its values.")


def test_a_condition_of_two_series_may_fall_on_other_steps():
    samples = np.ones((2, 1, 12, 1))
    months = [np.arange(f"{year}-07", f"{year + 1}-07", dtype="datetime64[M]") for year in (2020, 2021)]
    monthly = Calendar("month", 1)
    times = tuple(month.astype("datetime64[ns]") for month in months)
    paths = Paths(samples, ("a", "b"), times, (monthly, monthly))
    first, second = outcomes(["x > 0 in 2021"], ("x",), paths)
    assert first.by_step.tolist() == [0] * 6 + [1] * 6
    assert second.by_step.tolist() == [1] * 12
    assert first.sentence.startswith("Series a: The chance that x rises above 0 at least once from 2021-01 to 2021-06 ")
    assert " by 2021-12 " in second.sentence
    with pytest.raises(ConfigError, match=r"series 'a': 2021-08 lies beyond.* 12, from 2020-07 to 2021-06"):
        outcomes(["x > 0 by 2021-08"], ("x",), paths)


# -- probabilities and their intervals -----------------------------------------------------------------------------


@given(st.integers(1, 400).flatmap(lambda paths: st.tuples(st.integers(0, paths), st.just(paths))))
@example((0, 7))
@example((7, 7))
def test_intervals_are_wilsons(counts: tuple[int, int]):
    happened, paths = counts
    low, high = interval(happened, paths)
    z, share = norm.ppf(0.95), happened / paths
    middle = (share + z**2 / (2 * paths)) / (1 + z**2 / paths)
    half = z / (1 + z**2 / paths) * math.sqrt(share * (1 - share) / paths + z**2 / (4 * paths**2))
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-12)
    assert 0 <= low <= share <= high <= 1
    assert low < high
    if happened in (0, paths):
        assert (low == 0) == (happened == 0)
        assert (high == 1) == (happened == paths)


def test_no_paths_have_no_interval():
    assert np.isnan(interval(0, 0)).all()


def test_a_forecast_tells_its_events():
    samples = np.array([[[[1, 5], [3, 5]], [[2, 5], [2, 5]]]], float)  # two paths of two steps
    forecast = forecast_of(samples)
    (one,) = forecast.events(["prey > 2.5"])
    assert (one.id, one.event, one.kind, one.paths, one.probability) == ("s0", "prey > 2.5", "chance", 2, 0.5)
    assert (one.low, one.high) == interval(1, 2)
    assert forecast.probability("prey > 2.5").tolist() == [0.5]
    assert forecast.probability("when prey > 2.5").tolist() == [0.5]
    with pytest.raises(ConfigError, match="'highest prey' has no probability"):
        forecast.probability("highest prey")
    assert forecast.events([]) == []


def test_a_table_has_a_row_an_event_and_series():
    samples = np.stack([np.full((4, HORIZON, 2), level, float) for level in (1, 2)])
    samples[1, 0, 3:] = 9
    table = frame(outcomes(["when prey > 3", "highest prey", "prey > 1"], NAMES, paths_of(samples)))
    assert table["event"].tolist() == ["when prey > 3"] * 2 + ["highest prey"] * 2 + ["prey > 1"] * 2
    assert table["id"].tolist() == ["s0", "s1"] * 3
    assert table["probability"].tolist() == [0, 0.25, 1, 1, 0, 1]
    row = table.iloc[1]
    assert (row["never"], row["step_q10"], row["step_q50"], row["time_q10"]) == (0.75, 4, np.inf, "2024")
    assert pd.isna(row["time_q50"])
    assert table["value_q90"].tolist()[2:4] == [1, 9]
    assert table.columns[-1] == "sentence"
    assert "by_step" not in table


# -- sentences -----------------------------------------------------------------------------------------------------

HALF = np.ones((1, 100, HORIZON, 2))
HALF[0, :50, 2:, 1] = 0.01  # the predator falls at the third step on half of the paths
HALF[0, :, :, 0] = np.linspace(1, 2, 100)[:, None]


@pytest.mark.parametrize(
    ("text", "dated", "expected"),
    [
        ("predator < 0.1", True, "predator falls below 0.1 at least once by 2026 is 50% (42 to 58)."),
        ("predator < 0.1", False, "predator falls below 0.1 at least once within 6 steps is 50% (42 to 58)."),
        (
            "0.1 > predator within 3 steps",
            True,
            "predator falls below 0.1 at least once within 3 steps is 50% (42 to 58).",
        ),
        ("predator < 0.1 in 2023", True, "predator is below 0.1 in 2023 is 50% (42 to 58)."),
        ("predator < 0.1 at step 3", True, "predator is below 0.1 at step 3 is 50% (42 to 58)."),
        (
            "predator < 0.1 from 2023 to 2025",
            True,
            "predator falls below 0.1 at least once from 2023 to 2025 is 50% (42 to 58).",
        ),
        ("always predator >= 1 by 2024", True, "predator is at least 1 at every step by 2024 is 50% (42 to 58)."),
        (
            "prey > 0 and predator < 0.1",
            True,
            "prey is above 0 and predator is below 0.1 at least once by 2026 is 50% (42 to 58).",
        ),
        (
            "prey > 0 and (predator < 0.1 or prey < predator)",
            True,
            "prey is above 0 and (predator is below 0.1 or prey is below predator) at least once by 2026 is 50% (42 to "
            "58).",
        ),
        (
            "(prey > 0 within 2 steps) and (predator < 0.1 by 2025)",
            True,
            "prey rises above 0 at least once within 2 steps and predator falls below 0.1 at least once by 2025 is 50% "
            "(42 to 58).",
        ),
        (
            "not (predator < 0.1 by 2025)",
            True,
            "it is not so that predator falls below 0.1 at least once by 2025 is 50% (42 to 58).",
        ),
        (
            "(prey + predator) / 2 > 9",
            True,
            "(prey + predator) / 2 rises above 9 at least once by 2026 is at most 3% (it happens on none of 100 "
            "paths).",
        ),
        ("prey >= 1", True, "prey reaches 1 at least once by 2026 is at least 97% (it happens on all 100 paths)."),
    ],
)
def test_sentences_of_chances(text: str, dated: bool, expected: str):
    assert told(text, HALF, dated=dated).sentence == f"The chance that {expected}"


def rare(happens: int, paths: int) -> np.ndarray:
    samples = np.ones((1, paths, HORIZON, 2))
    samples[0, :happens, 3:] = 0
    return samples


@pytest.mark.parametrize(
    ("happens", "paths", "expected"),
    [
        (1, 1000, "less than 1% (0 to 1)"),
        (999, 1000, "more than 99% (99 to 100)"),
        (20, 20, "at least 88% (it happens on all 20 paths)"),
        (0, 20, "at most 12% (it happens on none of 20 paths)"),
        (68, 100, "68% (60 to 75)"),
    ],
)
def test_no_chance_is_certain(happens: int, paths: int, expected: str):
    assert told("prey < 1", rare(happens, paths)).sentence.endswith(f" is {expected}.")


@pytest.mark.parametrize(
    ("text", "samples", "expected"),
    [
        (
            "when prey < 1",
            rare(95, 100),
            "prey falls below 1 is about 2024 (80% range 2024 to 2024); it does not happen by 2026 on 5% of the paths.",
        ),
        (
            "when does prey first fall below 1",
            rare(70, 100),
            "prey falls below 1 is about 2024 (80% range 2024 to later, or never); it does not happen by 2026 on 30% "
            "of the paths.",
        ),
        (
            "when prey < 1",
            rare(100, 100),
            "prey falls below 1 is about 2024 (80% range 2024 to 2024); it happens by 2026 on all 100 paths.",
        ),
        (
            "when prey < 1 within 5 steps",
            rare(20, 100),
            "prey falls below 1 is more likely later, or never: it does not happen within 5 steps on 80% of the paths, "
            "and by 2024 it has happened on a tenth of them. The chance that it happens is 20% (14 to 27).",
        ),
        (
            "when prey < 1",
            rare(0, 100),
            "prey falls below 1 is not foreseen: the chance that it comes by 2026 is at most 3% (it happens on none of "
            "100 paths).",
        ),
    ],
)
def test_sentences_of_first_times(text: str, samples: np.ndarray, expected: str):
    assert told(text, samples).sentence == f"The first time that {expected}"


def test_sentences_of_extremes():
    samples = np.ones((1, 11, HORIZON, 2))
    samples[0, :, 2, 0] = np.arange(11) + 2
    expected = "The highest prey by 2024 is 7 (80% range 3 to 11), reached about 2023."
    assert told("max prey by 2024", samples).sentence == expected
    assert told("peak prey within 4 steps", samples, dated=False).sentence == (
        "The highest prey within 4 steps is 7 (80% range 3 to 11), reached about step 3."
    )


def test_names_in_the_plural_and_several_series():
    samples = np.concatenate([rare(5, 10), rare(5, 10)])
    found = outcomes(["wolves < 1"], ("wolves", "grass"), paths_of(samples, ids=("north", "south")))
    assert [one.sentence for one in found] == [
        f"Series {name}: The chance that wolves fall below 1 at least once by 2026 is 50% (27 to 73)."
        for name in ("north", "south")
    ]
    assert "grass falls below 1" in told("grass < 1", rare(5, 10), ("wolves", "grass")).sentence


@pytest.mark.parametrize(
    ("time", "calendar", "expected"),
    [
        (np.arange("2024-01", "2024-07", dtype="datetime64[M]"), Calendar("month", 1), "in 2024-04"),
        (np.arange("2024-02-27", "2024-03-04", dtype="datetime64[D]"), Calendar("day", 1), "on 2024-03-01"),
        (np.arange(0, 15, 2.5), Calendar("number", 2.5), "at 7.5"),
        (
            np.arange("2024-03-01T00", "2024-03-01T06", dtype="datetime64[h]"),
            Calendar("second", 3600),
            "at 2024-03-01 03:00",
        ),
    ],
)
def test_times_are_written_as_exactly_as_they_need(time: np.ndarray, calendar: Calendar, expected: str):
    time = time.astype("datetime64[ns]") if time.dtype.kind == "M" else time
    paths = Paths(rare(5, 10), ("s",), (time,), (calendar,))
    moment = expected.split(" ", 1)[1]
    (one,) = outcomes([f"prey < 1 at {moment}"], NAMES, paths)
    assert one.sentence == f"The chance that prey is below 1 {expected} is 50% (27 to 73)."
    (first,) = outcomes(["when prey < 1"], NAMES, paths)
    assert first.times == (moment, moment, None)


# -- names and errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "written", "column"),
    [
        (("a b", "a"), "a b", 0),
        (("a b", "a"), "a", 1),
        (("a b", "a b c"), "A B C", 1),
        (("Sepal.Length", "Sepal"), "Sepal.Length", 0),
        (("année", "x"), "année", 0),
        (("anne\u0301e", "x"), "ann\u00e9e", 0),  # the accent as a sign of its own, and within the letter
        (("catch (t)", "catch"), "catch (t)", 0),
        (("catch (t)", "catch"), '"catch (t)"', 0),
        (('the "old" one', "x"), 'the "old" one', 0),
        (("2nd", "x"), "2nd", 0),
        (("2010", "x"), '"2010"', 0),
        (("x", "2010"), "`2010`", 1),
        (("and", "not"), "and", 0),
        (("and", "not"), "not", 1),
        (("max", "x"), "max", 0),
        (("max", "x"), '"max"', 0),
        (("max temp", "temp"), "max temp", 0),
        (("not here", "here"), "not here", 0),
        (("when", "first time"), "first time", 1),
        (("T", "t"), "t", 1),
        (("t", "T"), "T", 1),
        (("x-y", "x"), "x-y", 0),
        (("a <b> c", "a"), "a <b> c", 0),
        (("prey_2", "prey"), "prey_2", 0),
    ],
)
def test_names_of_all_kinds(names: tuple[str, str], written: str, column: int):
    samples = np.ones((1, 1, 2, 2))
    samples[..., column] = 5
    assert told(f"{written} < 6 at step 1", samples, names).probability == 1
    assert told(f"{written} > 4", samples, names).probability == 1
    assert told(f"4 < {written}", samples, names).probability == 1
    assert told(f"{written} - 1 == 4 and {written} exceeds 4", samples, names).probability == 1
    assert told(f"highest ({written})", samples, names).values == (5, 5, 5)


def test_a_number_is_no_name_without_quotes():
    samples = np.ones((1, 1, 2, 2))
    assert told("x < 5", samples, ("x", "5")).probability == 1
    assert told('x < "5"', samples, ("x", "5")).probability == 0


def test_a_keyword_may_be_followed_by_a_variable_of_its_name():
    samples = np.full((1, 1, 2, 1), 3.0)
    assert told("max max", samples, ("max",)).values == (3, 3, 3)
    assert told("when when > 2", samples, ("when",)).steps == (1, 1, 1)


@pytest.mark.parametrize(
    ("text", "place", "mentions"),
    [
        ("", 1, ("found the end where a variable or a number should be", "variables are prey, predator")),
        ("wolf < 1", 1, ("found 'wolf < 1' where a variable or a number",)),
        ("predatr < 1", 1, ("did you mean 'predator'?",)),
        ("prey < predators", 8, ("found 'predators' (did you mean 'predator'?)",)),
        ("prey", 5, ("found the end where a comparison such as",)),
        ("prey = 1", 6, ("found '= 1' where '==' should be",)),
        ("prey < few", 8, ("found 'few' where a variable or a number",)),
        ("prey < nan", 8, ("found 'nan'",)),
        ("prey < 1,000", 9, ("found ',000' where nothing more",)),
        ("(prey < few) and prey > 1", 9, ("found 'few) and prey > 1'",)),
        ("(prey + 1 > 2", 14, ("found the end",)),
        ("prey < 1 within few steps", 17, ("found 'few steps' where a number of steps",)),
        ("prey < 1 within 20 fortnights", 20, ("found 'fortnights' where nothing more",)),
        ("prey < 1 by then", 13, ("found 'then' where a time such as 2039",)),
        ("prey < 1 within 2 steps and prey > 2", 25, ("in brackets, as in '(A within 5 steps)",)),
        ("(prey < 1 within 2 steps) at step 3", 27, ("names its steps already",)),
        ("always prey > 1 and predator < 2 within 5 steps", 34, ("names its steps already",)),
        ("when always prey > 1 within 5 steps", 22, ("names its steps already",)),
        ("max", 4, ("found the end where a variable",)),
        ("highest prey < 2", 14, ("found '< 2' where nothing more",)),
    ],
)
def test_an_error_says_what_was_found_where(text: str, place: int, mentions: tuple[str, ...]):
    with pytest.raises(ConfigError) as error:
        read_event(text, NAMES)
    message = str(error.value)
    assert f"event {text!r}, character {place}: " in message
    assert all(part in message for part in mentions), message


def test_other_texts_that_cannot_be_read():
    with pytest.raises(ConfigError, match="the number 1e999 is too large"):
        read_event("prey < 1e999", NAMES)
    with pytest.raises(ConfigError, match="brackets in too many brackets"):
        read_event("(" * 5000 + "prey" + ")" * 5000 + " < 1", NAMES)
    with pytest.raises(ConfigError, match="found 'ab < 1' where 'Ab' or 'aB', in small and capital letters,"):
        read_event("ab < 1", ("Ab", "aB"))
    assert read_event("(" * 50 + "prey" + ")" * 50 + " < 1", NAMES) == read_event("prey < 1", NAMES)


@pytest.mark.parametrize(
    ("span", "dated", "message"),
    [
        (
            "within 7 steps",
            True,
            "step 7 lies beyond the end of the forecast; the forecast has steps 1 to 6, from 2021 to 2026",
        ),
        ("within 7 steps", False, "step 7 lies beyond the end of the forecast; the forecast has steps 1 to 6"),
        ("at step 7", True, "step 7 lies beyond the end"),
        ("by 2027", True, "2027 lies beyond the end"),
        ("before 2028", True, "2028 lies beyond the end"),
        ("before step 8", False, "step 8 lies beyond the end"),
        ("within 0 steps", True, "no step of the forecast lies there"),
        ("at step 0", True, "no step of the forecast lies there"),
        ("in 2020", True, "no step of the forecast lies there"),
        ("in 2021.5", True, "no step of the forecast lies there"),
        ("after 2026", True, "no step of the forecast lies there"),
        ("from step 5 to step 3", True, "no step of the forecast lies there"),
        ("by 2024", False, "there are no times, so that '2024' means none; say 'step 5'"),
        ("by 2024-05", True, "'2024-05' is not a number"),
    ],
)
def test_steps_that_a_forecast_has_not_are_refused(span: str, dated: bool, message: str):
    for text in (f"prey < 1 {span}", f"when prey < 1 {span}", f"highest prey {span}", f"always prey < 1 {span}"):
        with pytest.raises(ConfigError) as error:
            told(text, HALF, dated=dated)
        assert message in str(error.value)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                *'()<>=+-*/"`',
                "prey",
                "predator",
                "and",
                "or",
                "not",
                "always",
                "when",
                "max",
                "1",
                "within",
                "steps",
                "by",
                "step 2",
                "at",
                "2023",
                "falls below",
                "ö",
                " ",
            ]
        ),
        max_size=12,
    )
)
def test_any_text_is_an_event_or_refused(words: list[str]):
    text = " ".join(words)
    with suppress(ConfigError):
        (one,) = outcomes([text], NAMES, paths_of(HALF[:, :3]))
        assert one.sentence.endswith(".")
        assert 0 <= one.low <= one.probability <= one.high <= 1


# -- pictures ------------------------------------------------------------------------------------------------------


def forecast_of(samples: np.ndarray, names: tuple[str, ...] = NAMES) -> Forecast:
    series, _, horizon, _ = samples.shape
    contexts = tuple(
        Series(np.ones((8, len(names))), names, f"s{row}", np.arange(8.0) + BEGIN - 8) for row in range(series)
    )
    times = (np.arange(horizon, dtype=float) + BEGIN,) * series
    return Forecast(samples, np.ones(samples.shape[:3], bool), contexts, times)


@pytest.mark.parametrize("variables", [1, 2, 4])
def test_a_picture_shows_thresholds_and_the_chance_by_year(variables: int):
    names = ("prey", "predator", "c", "d")[:variables]
    samples = np.random.default_rng(0).gamma(2, size=(2, 30, HORIZON, variables))
    forecast = forecast_of(samples, names)
    texts = ["prey < 0.5", "when prey < 0.5", "highest prey"]
    found = forecast.events(texts)
    figure = draw_events(forecast, found, row=1)
    figure.canvas.draw()
    fans, panels = figure.axes[:variables], figure.axes[variables:]
    levels = [line for line in fans[0].lines if np.asarray(line.get_ydata()).tolist() == [0.5, 0.5]]
    assert len(levels) == 2
    assert len(panels) == len(texts)
    mine = [one for one in found if one.id == "s1"]
    titles = [panel.get_title(loc="left").replace("\n", " ") for panel in panels]
    assert titles == [one.sentence for one in mine]
    chance = panels[0].lines[0]
    np.testing.assert_allclose(np.asarray(chance.get_ydata()), 100 * mine[0].by_step)
    np.testing.assert_array_equal(chance.get_xdata(), forecast.time[1])
    assert [np.asarray(line.get_xdata())[0] for line in panels[2].lines] == list(mine[2].values or ())


def test_a_picture_of_infinite_extremes_and_of_too_many_events():
    samples = np.ones((1, 4, HORIZON, 2))
    samples[0, :3, :, 1] = 0
    forecast = forecast_of(samples)
    figure = draw_events(forecast, forecast.events(["highest prey / predator", *["prey > 2"] * 4]))
    figure.canvas.draw()
    bars: Any = figure.axes[2].patches
    assert sum(bar.get_height() for bar in bars) == 1  # the one path whose extreme is finite
    assert not figure.axes[2].lines[1:]
    assert "4 of 5 events are drawn" in [text.get_text() for part in figure.subfigs for text in part.texts]


def test_a_picture_without_whole_paths():
    samples = np.ones((1, 3, HORIZON, 2))
    samples[:, :, 2] = np.nan
    forecast = forecast_of(samples)
    draw_events(forecast, forecast.events(["prey < 0.5", "highest prey"])).canvas.draw()


# -- the page --------------------------------------------------------------------------------------------------------


def test_the_page_tells_events_that_are_read():
    page = (ROOT / "docs/events.md").read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    texts = [text for text in re.findall(r"`([^`]+)`", prose) if re.search(r"\b(prey|predator)\b", text)]
    assert len(texts) > 15
    for text in texts:
        read_event(text, NAMES)
    spans = re.findall(r"`((?:within|at|before|after|from|by|in) (?:step )?\d[^`]*)`", prose)
    assert len(spans) > 8
    for span in spans:
        read_event(f"prey < 1 {span}", NAMES)
    (words,) = re.findall(r"in words (.*?)\. `falls", prose, flags=re.DOTALL)
    for phrase in re.findall(r"`([^`]+)`", words):
        read_event(f"prey {phrase} 1", NAMES)


DATED = {  # forecasts of 8 steps by their spacing: the last time that was read, and the calendar
    "monthly": (np.datetime64("2020-12-01", "ns"), Calendar("month")),
    "quarterly": (np.datetime64("2020-10-01", "ns"), Calendar("month", 3)),
    "weekly": (np.datetime64("2020-12-28", "ns"), Calendar("day", 7)),
    "hourly": (np.datetime64("2020-12-31T23", "ns"), Calendar("second", 3600)),
    "years": (np.float64(2020), Calendar("number", 1)),
    "seasons": (np.float64(2020), Calendar("number", 1)),
    "other numbers": (np.float64(12.5), Calendar("number", 0.5)),
}


@pytest.mark.parametrize(
    ("spacing", "text", "expected"),
    [
        ("monthly", "3 months", (2, 2)),
        ("monthly", "2 quarters", (5, 5)),
        ("monthly", "1 year", (8, 8)),  # beyond the end
        ("monthly", "2021Q1", (0, 2)),
        ("monthly", "2021-Q2", (3, 5)),
        ("quarterly", "1 year", (3, 3)),
        ("quarterly", "5 months", (0, 0)),
        ("quarterly", "2022 q1", (4, 4)),
        ("weekly", "3 weeks", (2, 2)),
        ("weekly", "1 month", (3, 3)),  # to 2021-01-28
        ("weekly", "2021-W03", (2, 2)),
        ("hourly", "1 hour", (0, 0)),
        ("hourly", "90 minutes", (0, 0)),
        ("years", "5 years", (4, 4)),
        ("years", "1 year", (0, 0)),
        ("seasons", "2023/24", (2, 2)),
    ],
)
def test_moments_and_whiles(spacing: str, text: str, expected: tuple[int, int]):
    last, calendar = DATED[spacing]
    assert moment_steps(calendar.after(last, 8), calendar, text) == expected


@pytest.mark.parametrize(
    ("spacing", "text", "message"),
    [
        ("quarterly", "2 months", "2 months are less than a step, which takes 3 months"),
        ("other numbers", "2 years", "the times are numbers, of which years are not known"),
        ("years", "3 months", "of which months are not known"),
        ("monthly", "2021-W60", "cannot be read as a date"),
    ],
)
def test_moments_that_mean_nothing_are_refused(spacing: str, text: str, message: str):
    last, calendar = DATED[spacing]
    with pytest.raises(ValueError, match=message):
        moment_steps(calendar.after(last, 8), calendar, text)


def test_within_so_many_years():
    samples = np.ones((1, 1, 6, 2))
    samples[..., 3:, 0] = 0
    assert told("prey < 0.5 within 4 years", samples).probability == 1
    assert told("prey < 0.5 within 3 years", samples).probability == 0
    with pytest.raises(ConfigError, match="7 years lies beyond the end of the forecast"):
        told("prey < 0.5 within 7 years", samples)

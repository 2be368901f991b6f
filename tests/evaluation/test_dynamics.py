"""Series whose period, lag and kind are known: sines, a damped cosine, decays, gaps, dates, and simulated ones."""

import math

import h5py
import numpy as np
import pandas as pd
import pytest

from conftest import SHARED
from loracast.evaluation.dynamics import DESCRIPTION, SUMMARY, describe, summarise
from loracast.series import Series
from loracast.systems import get_system, lynx_hare, simulate

NAN = float("nan")
DATA = SHARED / "data" / "lotka_volterra_data.h5"
STEPS = np.arange(100.0)


def wave(period: float, lag: float = 0.0, time: np.ndarray = STEPS) -> np.ndarray:
    """A sine about 3, which peaks `lag` after multiples of the period."""
    return 3 + np.cos(2 * np.pi * (time - lag) / period)


def described(*columns: np.ndarray, time: np.ndarray | None = None) -> pd.Series:
    names = tuple(f"v{index}" for index in range(len(columns)))
    return describe([Series(np.stack(columns, axis=1), names, "one", time)]).iloc[0]


@pytest.mark.parametrize("period", [3.0, 7.3, 20.0, 33.0, 40.0])
@pytest.mark.parametrize("share", [-0.4, -0.1, 0.0, 0.25, 0.45])
def test_a_sine_has_its_period_and_lag(period: float, share: float):
    row = described(wave(period), wave(period, share * period))
    assert row["kind"] == "oscillating"
    assert row["period"] == pytest.approx(period, rel=0.03)
    assert row["lag"] == pytest.approx(share * period, abs=max(0.03 * period, 0.1))
    assert row["lag_share"] == pytest.approx(row["lag"] / row["period"])


def test_up_and_down_is_a_period_of_two_steps():
    row = described(np.tile([1.0, 2.0], 10), np.tile([5.0, 4.0], 10))
    assert (row["period"], row["kind"]) == (2, "oscillating")
    assert abs(row["lag_share"]) == 0.5


def test_variables_that_peak_together_have_no_lag_even_if_single_peaks_jitter():
    peaks = np.arange(10, 190, 20)
    jitter = np.array([-1, 1, 0, 1, -1, 0, -1, 1, 0])
    time = np.arange(190.0)
    first, second = (sum(np.exp(-((time - peak) ** 2) / 20) for peak in at) for at in (peaks, peaks + jitter))
    assert described(first, second)["lag"] == pytest.approx(0, abs=0.2)


def test_one_missed_peak_changes_neither_period_nor_lag():
    first, second = wave(16), wave(16, 4)
    second[30:40] = 2.0
    first[60:70] = 2.0
    row = described(first, second)
    assert row["period"] == pytest.approx(16, rel=0.02)
    assert row["lag"] == pytest.approx(4, abs=0.3)


def test_the_period_is_of_the_first_variable_that_has_two_peaks():
    assert described(np.linspace(0, 1, 100), wave(25), wave(10))["period"] == pytest.approx(25, rel=0.02)
    assert described(wave(20), wave(10))["period"] == pytest.approx(20, rel=0.02)


def test_a_lag_needs_two_variables_that_peak():
    assert np.isnan(described(wave(20))["lag"])
    row = described(wave(20), np.ones(100), wave(20, 5))
    assert row["period"] == pytest.approx(20, rel=0.01)
    assert np.isnan([row["lag"], row["lag_share"]]).all()


def test_periods_are_in_units_of_time():
    time = 1900 + 0.25 * STEPS
    row = described(wave(5, time=time), wave(5, 1, time=time), time=time)
    assert (row["period"], row["lag"]) == (pytest.approx(5, rel=0.02), pytest.approx(1, abs=0.1))


def test_dates_count_in_days():
    time = np.datetime64("1999-12-30", "ns") + 6 * np.arange(100) * np.timedelta64(1, "h")
    row = described(wave(20), wave(20, 4), time=time)  # four observations a day
    assert (row["period"], row["lag"]) == (pytest.approx(5, rel=0.02), pytest.approx(1, abs=0.05))


def test_gaps_are_bridged():
    values = np.stack([wave(20), wave(20, 5)], axis=1)
    values[np.random.default_rng(0).random(values.shape) < 0.2] = NAN
    values[:3], values[-2:] = NAN, NAN
    row = described(*values.T)
    assert row["kind"] == "oscillating"
    assert (row["period"], row["lag"]) == (pytest.approx(20, rel=0.05), pytest.approx(5, abs=1))


def test_a_variable_that_was_never_observed_does_not_move():
    row = described(np.full(100, NAN), wave(20))
    assert (row["kind"], row["period"]) == ("oscillating", pytest.approx(20, rel=0.01))
    assert described(np.full(100, NAN))["kind"] == "damped"


def test_noise_makes_no_cycles():
    """Of series with 10% noise, most keep the period that they have without."""
    clean, noisy = (describe(simulate("predator-prey", n=60, seed=0, noise=noise))["period"] for noise in (0.0, 0.1))
    cycling = clean.notna()
    assert (np.abs(noisy / clean - 1) < 0.1)[cycling].mean() > 0.9


@pytest.mark.parametrize(
    ("left", "kind"), [(0.02, "damped"), (0.3, "damped"), (0.85, "oscillating"), (3, "oscillating")]
)
def test_a_cosine_is_damped_if_its_swings_fade(left: float, kind: str):
    """A share `left` of the swing is left in the end; more than 1 where it grows."""
    row = described(3 + np.exp(math.log(left) * STEPS / 100) * np.cos(2 * np.pi * STEPS / 20))
    assert row["kind"] == kind
    assert row["period"] == pytest.approx(20, rel=0.03)


@pytest.mark.parametrize("sizes", [(1, 1000), (1000, 1)])
def test_large_and_small_variables_weigh_the_same(sizes: tuple[int, int]):
    """One keeps its swing, the other loses it: together they keep just over half."""
    fading = np.exp(-STEPS / 10) * np.cos(2 * np.pi * STEPS / 20)
    assert described(sizes[0] * wave(20), sizes[1] * fading)["kind"] == "damped"


def test_a_variable_that_does_not_move_has_no_weight():
    fading = 3 + np.exp(-STEPS / 100) * np.cos(2 * np.pi * STEPS / 20)
    rounding = 5 + np.random.default_rng(0).normal(scale=1e-8, size=100)
    assert described(fading, rounding, np.ones(100))["kind"] == "damped"


def test_cycles_on_a_slope_are_sustained():
    assert described(wave(10) + 0.02 * STEPS)["kind"] == "oscillating"


def test_what_comes_to_rest_or_never_turns_is_damped():
    for values in (1 + np.exp(-STEPS / 10), 1 - np.exp(-STEPS / 10), STEPS):
        row = described(values)
        assert row["kind"] == "damped"
        assert np.isnan(row["period"])


def test_a_predator_that_dies_out_collapses():
    row = described(6 / (1 + 5 * np.exp(-STEPS / 5)), np.exp(-STEPS / 10))
    assert row["kind"] == "collapsing"
    assert np.isnan([row["period"], row["lag"]]).all()


def test_cycles_that_end_in_extinction_collapse_and_keep_their_period():
    values = np.where(STEPS < 60, 1.05 + np.cos(2 * np.pi * STEPS / 15), 0.0)
    row = described(values)
    assert (row["kind"], row["period"]) == ("collapsing", pytest.approx(15, rel=0.03))


@pytest.mark.parametrize("first", [10, 25])
def test_a_long_trough_at_the_end_is_no_collapse(first: int):
    """Outbreaks every 45 steps with next to nothing between them, the last one up to 45 steps before the end."""
    values = np.exp(-((STEPS - first) ** 2) / 10) + np.exp(-((STEPS - first - 45) ** 2) / 10)
    assert values[-20:].max() < 0.01
    assert described(values)["kind"] == "oscillating"


def test_what_goes_below_zero_cannot_die_out():
    assert described(np.exp(-STEPS / 10) * np.cos(2 * np.pi * STEPS / 20))["kind"] == "damped"


def test_constant_series_are_damped():
    rounding = np.random.default_rng(0).normal(scale=1e-8, size=100)
    for values in (np.zeros(100), np.full(100, 0.1), 5 + rounding):
        row = described(values, values)
        assert row["kind"] == "damped"
        assert np.isnan([row["period"], row["lag"], row["lag_share"]]).all()


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5])
def test_short_series_have_a_kind_and_no_period(steps: int):
    row = described(np.arange(1.0, steps + 1), np.ones(steps))
    assert row["kind"] == "damped"
    assert np.isnan(row["period"])


def test_one_row_a_series_in_order():
    several = [Series(wave(period), "v", name) for period, name in ((10, "b"), (20, "a"))]
    table = describe(several)
    assert tuple(table.columns) == DESCRIPTION
    assert list(table["series"]) == ["b", "a"]
    assert list(table["period"]) == [pytest.approx(10, rel=0.02), pytest.approx(20, rel=0.02)]
    assert tuple(describe([]).columns) == DESCRIPTION


def test_no_simulated_limit_cycle_is_called_damped():
    """Where prey x* = c / (e b - c h) that just feeds the predator is below (K - 1/h) / 2, the equilibrium repels."""
    ranges = get_system("predator-prey").parameters
    series = simulate("predator-prey", n=100, seed=0)
    table = describe(series)
    cycles = 0
    for index, row in table.iterrows():
        random = np.random.default_rng([0, index])
        drawn = {name: random.uniform(low, high) for name, (low, high) in ranges.items()}
        prey = drawn["c"] / (drawn["e"] * drawn["b"] - drawn["c"] * drawn["h"])
        if 0 < prey < (drawn["K"] - 1 / drawn["h"]) / 2:
            cycles += 1
            assert row["kind"] == "oscillating", row["series"]
        if row["kind"] == "oscillating":
            assert 0 < row["lag_share"] < 0.5  # the predator follows its prey
    assert cycles > 20
    kinds = table.set_index("series")["kind"]
    assert [kinds[one] for one in ("3", "26", "49", "1", "2", "42", "47", "62")] == ["oscillating"] * 3 + ["damped"] * 5
    assert [one for one, kind in kinds.items() if kind == "collapsing"] == [
        "25"
    ]  # K is below the prey that the predator needs


def test_hare_and_lynx_cycle_every_ten_years():
    row = describe([lynx_hare()]).iloc[0]
    assert row["kind"] == "oscillating"
    assert 9 < row["period"] < 11
    assert 0 < row["lag"] < 2.5


@pytest.mark.skipif(not DATA.is_file(), reason="the published trajectories are not here")
def test_published_trajectories():
    """By eye: predators that are all but gone, those that settle at a few percent, and troughs of 1% that recover."""
    with h5py.File(DATA) as file:
        values, time = np.asarray(file["trajectories"]), np.asarray(file["time"])
    series = [Series(one, ("prey", "predator"), str(index), time) for index, one in enumerate(values)]
    table = describe(series).set_index("series")
    assert set(table.index[table["kind"] == "collapsing"]) == {"356", "423", "650", "693", "934"}
    assert set(table["kind"][["222", "745", "97", "126"]]) == {"oscillating"}
    assert set(table["kind"][["969", "250", "173", "398", "654"]]) == {"damped"}
    assert table["period"].isna().mean() < 0.06
    assert table["period"].median() == pytest.approx(41.5, abs=1)
    assert table["lag_share"].median() == pytest.approx(0.21, abs=0.02)


def test_summarise_by_hand():
    one = Series(np.array([[1.0, NAN], [3.0, NAN]]), ("prey", "predator"))
    other = Series(np.array([[5.0, NAN], [NAN, NAN], [7.0, NAN]]), ("prey", "predator"))
    table = summarise([one, other]).set_index("variable")
    assert ("variable", *table.columns) == SUMMARY
    assert table.loc["prey"].to_dict() == {
        "observed": 4,
        "missing": 1,
        "minimum": 1.0,
        "mean": 4.0,
        "maximum": 7.0,
        "deviation": pytest.approx(math.sqrt(5)),
        "p99": pytest.approx(5 + 2 * 0.97),
    }
    assert tuple(table.loc["predator", ["observed", "missing"]]) == (0, 5)
    assert table.loc["predator", ["minimum", "mean", "maximum", "deviation", "p99"]].isna().all()


def test_summarise_finds_a_variable_by_its_name():
    table = summarise([Series([[1.0, 2.0]], ("a", "b")), Series([[4.0, 3.0, 9.0]], ("b", "a", "c"))])
    assert list(table["variable"]) == ["a", "b", "c"]
    assert list(table["mean"]) == [2.0, 3.0, 9.0]
    assert list(table["observed"]) == [2, 2, 1]
    assert tuple(summarise([]).columns) == SUMMARY

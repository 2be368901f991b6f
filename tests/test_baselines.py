"""The baselines: by hand, with gaps, on short contexts, and the published table of the predator-prey data."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from conftest import SHARED
from loracast.baselines import (
    BASELINES,
    best_period,
    climatology,
    context_mean,
    last_value,
    seasonal_naive,
)
from loracast.errors import DataError
from loracast.evaluation.metrics import score

NAN = float("nan")
DATA = SHARED / "data"


def column(*values: float) -> np.ndarray:
    return np.array(values, float)[:, None]


def test_by_hand():
    context = np.array([[1.0, 10.0], [2.0, 20.0], [6.0, 60.0]])
    np.testing.assert_array_equal(last_value(context, 2), [[6.0, 60.0]] * 2)
    np.testing.assert_array_equal(context_mean(context, 2), [[3.0, 30.0]] * 2)
    np.testing.assert_array_equal(best_period(column(1, 2, 3, 1, 2, 3, 1), 5), column(2, 3, 1, 2, 3))


def test_best_period_takes_one_lag_for_all_variables():
    """By itself the small variable repeats every 3 steps; the large one has period 4, and the joint lag follows it."""
    steps = np.arange(22)  # too few for 12, which would suit both
    context = np.stack([0.25 * (steps % 3), 100.0 * (steps % 4)], axis=1).astype(np.float64)
    np.testing.assert_array_equal(best_period(context[:, :1], 3), column(0.25, 0.5, 0))
    np.testing.assert_array_equal(best_period(context, 6), np.resize(context[-4:], (6, 2)))


@pytest.mark.parametrize(("length", "longest"), [(4, 2), (7, 3), (19, 9), (20, 10), (50, 25), (99, 49)])
def test_best_period_searches_lags_up_to_half_of_the_context(length: int, longest: int):
    """Noise repeated exactly after a given lag is continued if the lag is within the range, and not beyond it."""

    def found(lag: int) -> bool:
        context = column(*np.random.default_rng(lag).normal(size=length))
        context[lag:] = np.resize(context[:lag], (length - lag, 1))
        return bool(np.array_equal(best_period(context, lag), np.resize(context[-lag:], (lag, 1))))

    assert found(longest)
    assert not found(longest + 1)


@pytest.mark.parametrize(("length", "shortest"), [(1, 1), (4, 1), (19, 1), (20, 2), (50, 5), (99, 9)])
def test_best_period_never_goes_below_a_tenth(length: int, shortest: int):
    slow = column(*range(length)).astype(np.float64)  # a ramp differs least from itself at the shortest lag allowed
    np.testing.assert_array_equal(best_period(slow, 20), np.resize(slow[-shortest:], (20, 1)))


def test_missing_values():
    context = np.array([[1.0, NAN], [2.0, NAN], [NAN, NAN]])
    np.testing.assert_array_equal(last_value(context, 2), [[2.0, NAN]] * 2)
    np.testing.assert_array_equal(context_mean(context, 2), [[1.5, NAN]] * 2)


def test_best_period_fills_a_gap_from_an_earlier_cycle():
    whole = column(*([1.0, 5.0, 2.0, 9.0] * 4))
    gappy = whole.copy()
    gappy[[2, 5, 14]] = NAN
    np.testing.assert_array_equal(best_period(gappy, 9), best_period(whole, 9))


def test_best_period_takes_the_mean_for_a_step_no_cycle_has():
    context = column(*([1.0, 5.0, NAN] * 4))
    np.testing.assert_array_equal(best_period(context, 3), column(1, 5, 3))


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("length", [1, 2, 3, 5, 50])
@pytest.mark.parametrize("constant", [0.0, 0.1, -7.0, 1e6])
def test_a_constant_stays_constant(name: str, length: int, constant: float):
    context = np.full((length, 2), constant)
    context[: length // 2, 1] = NAN
    np.testing.assert_allclose(BASELINES[name](context, 4), np.full((4, 2), constant), rtol=1e-14)


@pytest.mark.parametrize("name", BASELINES)
def test_never_observed_is_not_guessed(name: str):
    assert np.isnan(BASELINES[name](np.full((8, 1), NAN), 3)).all()


@given(
    context=arrays(
        float,
        st.tuples(st.integers(1, 30), st.integers(1, 3)),
        elements=st.floats(-1e6, 1e6) | st.just(NAN),
    ),
    horizon=st.integers(1, 40),
)
def test_any_context_is_forecast_within_its_range(context: np.ndarray, horizon: int):
    before = context.copy()
    for forecast in BASELINES.values():
        path = forecast(context, horizon)
        assert path.shape == (horizon, context.shape[1])
        for variable, values in zip(context.T, path.T, strict=True):
            observed = variable[~np.isnan(variable)]
            if observed.size:
                slack = 1e-12 * np.abs(observed).max()
                assert ((values >= observed.min() - slack) & (values <= observed.max() + slack)).all()
            else:
                assert np.isnan(values).all()
    np.testing.assert_array_equal(context, before)


@pytest.mark.parametrize("name", BASELINES)
def test_errors_name_the_shape(name: str):
    with pytest.raises(DataError, match=r"shape \(5,\)"):
        BASELINES[name](np.zeros(5), 3)
    with pytest.raises(DataError, match=r"shape \(0, 2\)"):
        BASELINES[name](np.zeros((0, 2)), 3)
    with pytest.raises(DataError, match="horizon of 0"):
        BASELINES[name](np.zeros((5, 2)), 0)


@pytest.mark.skipif(not (DATA / "split.json").exists(), reason="the predator-prey data set is not here")
@pytest.mark.parametrize(
    ("name", "mae", "mae_seed_units"),
    [("last-value", 0.4605, 2.084), ("context-mean", 0.3264, 1.500), ("best-period", 0.2156, 0.930)],
)
def test_the_published_table(name: str, mae: float, mae_seed_units: float):
    import h5py

    test = json.loads((DATA / "split.json").read_text())["test"]
    with h5py.File(DATA / "lotka_volterra_data.h5") as file:
        windows = np.asarray(file["trajectories"], dtype=float)[test]  # [150, 100, 2]
    context, future = windows[:, :50], windows[:, 50:]
    row = score(
        np.stack([BASELINES[name](one, 50) for one in context])[:, None],
        future,
        seed_unit=np.percentile(windows, 99, axis=1) / 10,
        names=["prey", "predator"],
        series=[str(index) for index in test],
    ).row()
    assert (round(row["mae"], 4), round(row["mae_seed_units"], 3)) == (mae, mae_seed_units)
    assert (row["n_series"], row["n_windows"], row["n_unscored"]) == (150, 150, 0)


def test_seasonal_naive_repeats_the_last_season():
    context = np.array([1.0, 2, 3, 4, 5, NAN, 7])[:, None]
    assert seasonal_naive(context, 5, 3)[:, 0].tolist() == [5, 3, 7, 5, 3]  # the missing step, from a season before
    assert seasonal_naive(context, 3, 1)[:, 0].tolist() == [7, 7, 7]


def test_climatology_draws_whole_steps_of_the_context():
    context = np.array([[1.0, 10], [2, 20], [3, 30], [4, 40]])
    paths = climatology(context, 50)
    assert paths.shape == (100, 50, 2)
    np.testing.assert_array_equal(paths[..., 1], 10 * paths[..., 0])
    counts = np.unique(paths[..., 0], return_counts=True)[1]
    assert len(counts) == 4
    assert abs(counts / counts.sum() - 0.25).max() < 0.03

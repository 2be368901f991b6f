"""Other scales: what is written comes back, nothing goes below zero that never was, and no line is seen in a cycle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from loracast.settings import TransformKind
from loracast.transforms import KINDS, Transform

STEPS = np.arange(40.0)[:, None]
COUNTS = arrays(float, (12, 2), elements=st.one_of(st.just(0.0), st.floats(1e-3, 1e6), st.just(np.nan)))


@given(values=COUNTS, kind=st.sampled_from(KINDS))
def test_what_is_written_comes_back(values: NDArray[np.float64], kind: TransformKind):
    transform = Transform.fit(kind, values[:8])
    values = np.where((values == 0) & (transform.shift == 0) & transform.logs, transform.floor, values)
    values = np.minimum(values, transform.highest)
    written = transform.forward(values)
    assert (np.isnan(written) == np.isnan(values)).all()
    np.testing.assert_allclose(transform.inverse(written, 0), values, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(transform.inverse(written[8:], 8), values[8:], rtol=1e-6, atol=1e-6)


@given(values=arrays(float, (12, 2), elements=st.floats(-1e6, 1e6)), kind=st.sampled_from(KINDS))
def test_a_variable_that_was_negative_stays_on_its_scale(values: NDArray[np.float64], kind: TransformKind):
    transform = Transform.fit(kind, values)
    below = (values < 0).any(0)
    assert not (transform.logs | transform.roots)[below].any()
    assert (transform.lowest == np.where(below, -np.inf, 0.0)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_no_path_falls_below_zero_where_nothing_was(kind: TransformKind):
    transform = Transform.fit(kind, 30 - 0.7 * STEPS)  # a decline that a straight line takes below zero
    assert (transform.inverse(np.full((60, 1), -5.0), 40) >= 0).all()


def test_growth_is_flat_without_its_line_on_a_logarithmic_scale():
    growth = 3 * np.exp(0.1 * STEPS)
    transform = Transform.fit("log-trend", growth)
    assert np.abs(transform.forward(growth)).max() < 1e-9
    np.testing.assert_allclose(transform.inverse(np.zeros((5, 1)), 40), 3 * np.exp(0.1 * np.arange(40, 45)[:, None]))


@pytest.mark.parametrize("kind", ["trend", "log-trend"])
def test_a_cycle_has_no_trend(kind: TransformKind):
    cycle = 3 + np.sin(2 * np.pi * STEPS / 25)
    assert (Transform.fit(kind, cycle).slope == 0).all()
    assert (Transform.fit(kind, cycle[:4]).slope == 0).all()  # too short to tell


def test_zeros_have_a_logarithm():
    counts = np.array([0.0, 4, 8, 0, 2, 6])[:, None]
    transform = Transform.fit("log", counts)
    assert transform.shift.tolist() == [1.0]
    new = Transform.fit("log", counts[1:3])  # zeros that were not in the context
    assert new.forward(counts).min() == new.forward(np.array([[2.0]]))
    assert np.isfinite(new.log_slope(counts)).all()
    assert np.isfinite(transform.forward(counts)).all()
    assert not Transform.fit("log", np.zeros((6, 1))).changes
    assert not Transform.fit("log", np.full((6, 1), np.nan)).changes


@pytest.mark.parametrize("kind", KINDS)
def test_slopes_are_those_of_what_is_written(kind: TransformKind):
    values = 5 + 0.2 * STEPS + np.cos(STEPS)
    transform = Transform.fit(kind, values)
    finite = (transform.forward(values + 1e-6) - transform.forward(values - 1e-6)) / 2e-6
    np.testing.assert_allclose(transform.log_slope(values), np.log(finite), atol=1e-5)


def test_no_path_outgrows_ten_times_the_context_or_its_line():
    cycle = np.exp(3 * np.sin(np.arange(40) / 3))[:, None]
    back = Transform.fit("log", cycle).inverse(np.full((5, 1), 50.0), 40)
    np.testing.assert_allclose(back, 10 * cycle.max())
    growth = 3 * np.exp(0.1 * np.arange(40))[:, None]
    back = Transform.fit("log-trend", growth).inverse(np.full((5, 1), 50.0), 40)
    np.testing.assert_allclose(back[:, 0], 30 * np.exp(0.1 * np.arange(40, 45)))
    falling = Transform.fit("log-trend", growth[::-1]).inverse(np.full((5, 1), 50.0), 40)
    np.testing.assert_allclose(falling, 10 * growth.max())

"""`benchmarks/nearest.py` beside published values, and what the benchmark of populations makes of series and paths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="module")
def nearest(load_benchmark: Callable[[str], Any]) -> Any:
    return load_benchmark("nearest")


@pytest.fixture(scope="module")
def populations(load_benchmark: Callable[[str], Any]) -> Any:
    return load_benchmark("populations")


def tent_map(steps: int) -> np.ndarray:
    """A tent map of slope 2, whose numbers would run out of binary digits: a random last digit stands in for them."""
    draws, values = np.random.default_rng(0), [0.3]
    for _ in range(steps + 100):
        value = values[-1]
        values.append(min(max((2 * value if value < 0.5 else 2 - 2 * value) + 1e-9 * draws.random(), 0.0), 1.0))
    return np.array(values[101:])


def test_simplex_forecasts_the_tent_map_about_as_sugihara_and_may_did(nearest: Any):
    """Their figure 1: differences of a tent map, 500 points to learn from and 500 to forecast.

    They tell correlations of 0.997 two steps ahead and 0.89 five steps ahead, with simplices that enclose the point.
    The nearest neighbours of later work, as here, do as well with two lags, and less well with more of them.
    """
    values = np.diff(tent_map(1010))[:, None]
    points, _ = nearest.embedded(values, 2)
    found = {}
    for ahead in (2, 5, 8):
        known, asked, following = range(500 - ahead), range(500, 1000 - ahead), values[1 + ahead :]
        made = [nearest.simplex(points[known], following[known], points[one])[0] for one in asked]
        found[ahead] = np.corrcoef(made, following[asked, 0])[0, 1]
    assert found[2] == pytest.approx(0.997, abs=0.005)
    assert found[5] == pytest.approx(0.89, abs=0.04)
    assert found[8] < 0.5


@pytest.mark.parametrize("theta", [0.0, 4.0])
def test_an_s_map_finds_the_rotation_of_a_circle(nearest: Any, theta: float):
    """Exactly linear dynamics are found with any weights: the next place is the rotation of this one."""
    angle = 0.063 * np.arange(100)
    points = np.column_stack([np.cos(angle), np.sin(angle)])
    found = nearest.smap(theta)(points[:-1], points[1:], points[-1])
    np.testing.assert_allclose(found, [np.cos(6.3), np.sin(6.3)], atol=1e-5)


def test_what_is_chosen_is_what_made_the_series(nearest: Any):
    """A logistic map has one lag and is far from linear; a noisy autoregression is best fitted by a linear map."""
    chaos = [0.4]
    for _ in range(120):
        chaos.append(3.9 * chaos[-1] * (1 - chaos[-1]))
    ways = {theta: nearest.smap(theta) for theta in nearest.THETAS}
    fitted = nearest.choose(np.array(chaos)[:, None], ways)
    assert fitted.theta >= 4
    assert np.abs(fitted.errors).max() < 0.05
    draws, noisy = np.random.default_rng(0), [0.0]
    for _ in range(150):
        noisy.append(0.7 * noisy[-1] + draws.standard_normal())
    assert nearest.choose(np.array(noisy)[:, None], ways).theta < 1


def test_paths_stay_near_the_data_and_spread(nearest: Any):
    values = 5 + np.random.default_rng(0).standard_normal((40, 2)).cumsum(0)
    fitted = nearest.choose(values, {None: nearest.simplex}, most=3)
    paths = nearest.paths(values, fitted, 12, 50, np.random.default_rng(1))
    assert paths.shape == (50, 12, 2)
    room = values.max(0) - values.min(0)
    assert (paths >= values.min(0) - room).all()
    assert (paths <= values.max(0) + room).all()
    assert (paths.std(0) > 0).all()


def test_two_clocks_become_even_steps(populations: Any):
    rows = pd.DataFrame(
        {
            "prey_time": [0, 2, 4, 8.0],
            "prey": [0, 2, 4, 8.0],
            "predator_time": [1, 5, 9, np.nan],
            "predator": [1, 5, 9, np.nan],
        }
    )
    found = populations.even_steps(rows)
    np.testing.assert_allclose(found, np.linspace(1, 8, 4)[:, None].repeat(2, 1))


def test_an_origin_sees_nothing_of_its_future(populations: Any):
    values = np.arange(60.0)[:, None]
    values[[3, 50]] = np.nan
    chosen = list(populations.origins("a", "b", values, 5))
    assert [len(one.context) for one in chosen] == [30, 37, 44, 52, 59]
    for one in chosen:
        np.testing.assert_array_equal(one.context, values[: len(one.context)])
        np.testing.assert_array_equal(one.future, values[len(one.context) :][:20])
        assert not np.isnan(one.filled).any()
    assert list(populations.origins("a", "b", values[:16], 5)) == []


def test_a_perfect_forecast_has_no_error(populations: Any):
    origin = populations.Origin(
        "a", "b", np.arange(20.0)[:, None], np.array([[20.0], [np.nan], [22.0], [23.0], [24.0]])
    )
    paths = np.repeat(np.nan_to_num(origin.future)[None], 7, 0)
    found = populations.scores(origin, paths)
    assert set(found) == {"series", "at", "1", "5", "energy"}
    assert found["5"]["crps"] == found["5"]["error"] == [0.0]
    assert found["energy"] == 0
    np.testing.assert_allclose(found["1"]["covered"], [0.5, 0.8, 0.95])  # the truth equals all paths


def _doubles(number: int, least: int) -> Callable[[str], dict[str, Any]]:
    def do(name: str) -> dict[str, Any]:
        if int(name) < least:
            raise ValueError(f"{name} is too small")
        return {"twice": 2 * int(name)}

    return do


def test_what_fails_in_a_process_is_told_and_the_rest_goes_on(load_benchmark: Callable[[str], Any]):
    found = dict(load_benchmark("crew").shared_out(_doubles, ["1", "5", "7"], 2, 3))
    assert found == {"1": {"failed": "ValueError: 1 is too small"}, "5": {"twice": 10}, "7": {"twice": 14}}

"""Series of many kinds: what is drawn, what is scored, and the table that says where loracast loses."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

Load = Callable[[str], Any]


@pytest.fixture
def series(load_benchmark: Load) -> ModuleType:
    return load_benchmark("wild_series")


@pytest.fixture
def wild(load_benchmark: Load) -> ModuleType:
    return load_benchmark("wild")


def test_every_kind_is_drawn_by_its_seed(series: Any):
    names = [case.name for case in series.CASES]
    assert len(set(names)) == len(names) > 30
    for case in series.CASES:
        if case.made:
            continue  # a thousand steps each; see below
        window = case.window(3)
        assert len(window) == case.context + case.horizon, case.name
        assert np.nanstd(window, 0).max() > 0, case.name
        assert not np.isinf(window).any(), case.name
        np.testing.assert_array_equal(window, case.window(3), err_msg=case.name)
        assert not np.array_equal(window, case.window(4), equal_nan=True), case.name
        assert np.isnan(window).any() == ("missing" in case.name), case.name


def test_longer_contexts_of_a_kind_end_in_the_same_steps(series: Any):
    short, long = (case for case in series.CASES if case.name in ("noisy cycles, 20 steps", "noisy cycles, 300 steps"))
    np.testing.assert_array_equal(long.window(1)[-40:], short.window(1))


def test_scores_are_those_of_the_definition(wild: Any):
    window = np.array([1.0, 3, 1, 3, 2, 2])[:, None]
    paths = np.array([[[2.0], [4.0]], [[2.0], [0.0]]])  # [S, H, D]
    crps, half, most = wild.score(window, 4, paths)
    size = window.std()
    # of two paths x and y, the mean distance of the truth, less a quarter of |x - y| (Gneiting and Raftery 2007)
    assert crps == pytest.approx((0 + (2 - 4 / 4)) / 2 / size)
    assert 0 <= half <= most <= 1
    point = wild.score(window, 4, paths[:1])
    assert point[0] == pytest.approx((0 + 2) / 2 / size)
    assert np.isnan(point[1:]).all()


def test_what_has_died_out_is_not_scored(wild: Any):
    window = np.stack([np.arange(6.0), np.zeros(6)], 1)
    paths = np.repeat(window[None, 4:], 3, 0)
    paths[..., 1] += 5
    assert wild.score(window, 4, paths)[0] == 0


def test_the_table_names_the_best_other_and_how_far_it_is(wild: Any):
    def found(crps: list[float]) -> dict[str, Any]:
        return {"cases": {"growth": {"crps": crps, "covered": [[0.5, 0.8]] * 2}}}

    result = {"forecasters": {wild.OURS: found([0.2, 0.4]), "VAR": found([0.1, 0.1]), "S-map": found([0.9, 0.9])}}
    row = wild.table(result).splitlines()[-1]
    assert row == "| growth | 0.3000 | 50%, 80% | VAR 0.1000 | +0.2000 ± 0.2000 |"


def test_naive_forecasts_of_chaos(load_benchmark: Load):
    chaos = load_benchmark("chaos")
    wave = np.stack([np.sin(np.arange(300) * 0.3), np.cos(np.arange(300) * 0.3)], 1)
    copied = chaos.parrot(wave[:250], 50)
    assert chaos.smape(wave[250:], wave[250:]) == 0
    assert np.abs(copied - wave[250:]).max() < 0.1
    assert chaos.smape(wave[250:], copied) < chaos.smape(wave[250:], chaos.last_value(wave[:250], 50))
    assert chaos.valid_time(wave[250:], copied, wave.std(0), 0.1) == pytest.approx(5)
    assert chaos.valid_time(wave[250:], wave[250:] + 1, wave.std(0), 0.1) == 0
    scores = chaos.scored(np.concatenate([wave, wave]), 0.1, 300, wave[None, :256])
    assert scores["smape_256"] == scores["paths_256"] == 0

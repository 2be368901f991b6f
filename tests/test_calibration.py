"""How wide forecasts ought to be: what held-out windows ask for, and what becomes of paths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loracast import Forecaster, SampleConfig, Series, TuneConfig, simulate
from loracast.calibration import Widths, fit_widths, recorded
from loracast.evaluation.backtest import backtest
from loracast.merge import merge
from loracast.ranks import covered

ANY = np.full((60, 1), -np.inf)


def ideal(seed: int = 0, windows: int = 60, paths: int = 10, horizon: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Paths and truth of the same random walks."""
    draws = np.random.default_rng(seed)
    walks = draws.standard_normal((windows, paths + 1, horizon, 1)).cumsum(2)
    return walks[:, 1:], walks[:, 0]


def shrunk(samples: np.ndarray, factors: np.ndarray) -> np.ndarray:
    middle = np.median(samples, 1, keepdims=True)
    return middle + factors[:, None] * (samples - middle)


def coverage(samples: np.ndarray, truth: np.ndarray) -> float:
    return float(covered(np.moveaxis(samples, 1, -1), truth, np.array([0.8])).mean())


@pytest.mark.parametrize(("first", "last"), [(0.5, 0.5), (1.0, 0.4), (0.4, 0.8), (2.0, 2.0)])
def test_what_was_shrunk_is_widened_again(first: float, last: float):
    samples, truth = ideal()
    drawn = shrunk(samples, Widths(first, last, 20, 0, 0, 0).factors(20))
    found = fit_widths(drawn, truth, ANY)
    assert found is not None
    assert found.first == pytest.approx(1 / first, rel=0.35)
    assert found.last == pytest.approx(1 / last, rel=0.25)
    assert abs(found.coverage - 0.8) < 0.03 < abs(found.raw_coverage - 0.8)
    others, their_truth = ideal(seed=1)
    drawn = shrunk(others, Widths(first, last, 20, 0, 0, 0).factors(20))
    before, after = (abs(coverage(one, their_truth) - 0.8) for one in (drawn, found.applied(drawn, ANY)))
    assert after < 0.05 < before


def test_an_ideal_forecaster_is_left_alone_and_so_is_one_of_few_windows():
    assert sum(fit_widths(*ideal(seed), ANY) is not None for seed in range(8)) <= 1
    samples, truth = ideal()
    truth[:, 10:] = np.nan  # the second half was never observed
    assert fit_widths(shrunk(samples, np.full(20, 0.3)), truth, ANY) is None
    samples, truth = ideal(windows=12)
    assert fit_widths(shrunk(samples, np.full(20, 0.3)), truth, ANY[:12]) is None


def test_medians_stay_paths_stay_in_order_and_nothing_falls_below_zero():
    samples = np.random.default_rng(0).gamma(1.0, 1.0, (2, 9, 6, 2))
    samples[0, :, 3, 1] = 2.5  # given for all paths
    samples[1, 2, 4:] = np.nan  # not readable
    found = Widths(1.5, 3.0, 6, 30, 1, 1).applied(samples, np.zeros((2, 2)))
    np.testing.assert_allclose(np.nanmedian(found, 1), np.nanmedian(samples, 1))
    np.testing.assert_array_equal(np.argsort(found, 1)[:, 4:8], np.argsort(samples, 1)[:, 4:8])  # above the median
    np.testing.assert_array_equal(found[0, :, 3, 1], 2.5)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(samples))
    assert np.nanmin(found) >= 0
    assert (found[0].std(0) > samples[0].std(0))[:3].all()
    np.testing.assert_allclose(Widths(1.0, 4.0, 3, 30, 1, 1).factors(5), [1, 2, 4, 4, 4])


@pytest.mark.filterwarnings("ignore:TUNING DID NOT HELP")
def test_a_forecaster_applies_what_its_record_says_unless_raw_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qwen2_directory: Path
):
    widths = Widths(2.0, 2.0, 4, 24, 1.0, 0.9)
    monkeypatch.setattr("loracast.fitting.fit_widths", lambda *arguments: widths)
    series = simulate("predator-prey", 30, seed=0, steps=24)
    tune = TuneConfig(2, steps=2, batch=2, context=8, horizon=4, validation_samples=2, validation_windows=2)
    base = Forecaster.from_pretrained(qwen2_directory, device="cpu")
    base.fit(series, tune=tune, directory=tmp_path / "a", force=True)
    tuned = Forecaster.from_pretrained(qwen2_directory, tmp_path / "a", device="cpu")
    assert recorded(tuned.record) == widths
    with pytest.warns(UserWarning, match="says how wide its forecasts ought to be, which a merged model cannot"):
        merge(qwen2_directory, tmp_path / "a", tmp_path / "merged")
    sample = SampleConfig(7, seed=1)
    one, raw = (tuned.predict(series[0], 6, sample=sample, raw=raw) for raw in (False, True))
    assert (one.widths, raw.widths) == (widths, None)
    np.testing.assert_allclose(one.median(), raw.median())
    np.testing.assert_array_equal(one.samples, raw.widened(widths).samples)
    assert (one.samples != raw.samples).any()
    scores = backtest({"mine": tuned}, simulate("predator-prey", 2, seed=9, steps=24), 8, 4, sample=sample).scores
    assert list(scores)[:2] == ["mine", "mine, raw"]
    assert scores["mine"].row()["mae"] == pytest.approx(scores["mine, raw"].row()["mae"])


def test_what_was_below_zero_may_be_so_again():
    forecaster = Forecaster.from_pretrained("bundled", device="cpu")
    signed = Series(np.column_stack([np.sin(np.arange(20.0)), 2 + np.sin(np.arange(20.0))]), ("x", "y"))
    forecast = forecaster.predict(signed, 2, sample=SampleConfig(2))
    np.testing.assert_array_equal(forecast.lowest, [[-np.inf, 0.0]])
    assert forecast.widened(None) is forecast

"""The forecaster of sktime: sktime's own checks, and that its numbers are those of a plain forecast."""

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sktime", reason="needs sktime: pip install 'loracast[sktime]'")

from sktime.forecasting.base import ForecastingHorizon
from sktime.utils.estimator_checks import check_estimator

from loracast.errors import DataError
from loracast.forecaster import Forecaster
from loracast.integrations.sktime import LoracastForecaster
from loracast.series import Series
from loracast.settings import SampleConfig, TuneConfig

SAMPLE = SampleConfig(4, seed=2)
MONTHS = pd.period_range("2020-01", periods=30, freq="M")
STEPS = np.arange(30)
HARE = pd.Series(5 + 4 * np.sin(STEPS / 2), MONTHS, name="hare")
BOTH = pd.DataFrame({"hare": HARE, "lynx": 20 + 9 * np.cos(STEPS / 2)})
RAIN = pd.DataFrame({"rain": 2 + np.sin(np.arange(40) / 3)}, pd.period_range("2020-01", periods=40, freq="M"))


@pytest.fixture(scope="module")
def bundled() -> Forecaster:
    return Forecaster.from_pretrained("bundled")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # sktime's checks call for warnings, and make some of their own
def test_sktime_accepts_the_forecaster(monkeypatch: pytest.MonkeyPatch, qwen2_directory: Path):
    """Of a tiny model, which is loaded once: there are hundreds of checks, and each forecasts."""
    settings = [{**one, "model": str(qwen2_directory)} for one in LoracastForecaster.get_test_params()]
    monkeypatch.setattr(LoracastForecaster, "get_test_params", lambda parameter_set="default": settings)
    monkeypatch.setattr(Forecaster, "from_pretrained", cache(Forecaster.from_pretrained))
    results = check_estimator(LoracastForecaster, raise_exceptions=True, verbose=False)
    assert Counter(results.values()) == {"PASSED": len(results)}
    assert len(results) > 500


def test_a_forecast_is_that_of_the_plain_forecaster(bundled: Forecaster):
    forecaster = LoracastForecaster(sample=SAMPLE).fit(BOTH, X=RAIN.iloc[:30])
    series = Series(np.column_stack([RAIN.iloc[:30], BOTH]), ("rain", "hare", "lynx"), known=("rain",))
    plain = bundled.predict(series, 5, sample=SAMPLE, known=RAIN.iloc[30:35].to_numpy()[None])
    made: Any = forecaster.predict(fh=[1, 2, 5], X=RAIN.iloc[30:35])
    assert made.index.tolist() == pd.PeriodIndex(["2022-07", "2022-08", "2022-11"], freq="M").tolist()
    np.testing.assert_array_equal(made[["hare", "lynx"]], plain.median()[0, [0, 1, 4]])
    quantiles: Any = forecaster.predict_quantiles(fh=[1, 2, 5], X=RAIN.iloc[30:35], alpha=[0.1, 0.9])
    for place, level in enumerate((0.1, 0.9)):
        expected = plain.quantiles([0.1, 0.9])[0, place][[0, 1, 4]]
        np.testing.assert_array_equal(quantiles.xs(level, axis=1, level=1)[["hare", "lynx"]], expected)
    variance: Any = forecaster.predict_var(fh=[5], X=RAIN.iloc[30:35])
    np.testing.assert_allclose(variance.to_numpy()[0], plain.samples[0, :, 4].var(0))
    interval: Any = forecaster.predict_interval(fh=[5], X=RAIN.iloc[30:35], coverage=0.8)
    np.testing.assert_allclose(interval.to_numpy()[0], quantiles.to_numpy()[2])


def test_values_that_are_known_beforehand_are_asked_for():
    forecaster = LoracastForecaster(sample=SAMPLE).fit(HARE, X=RAIN.iloc[:30])
    with pytest.raises(DataError, match="'rain' is known beforehand, but its value at step 2"):
        forecaster.predict(fh=[3], X=RAIN.iloc[30:31])


@pytest.mark.parametrize("kind", ["months", "dates", "numbers"])
def test_absent_steps_are_missing_values(bundled: Forecaster, kind: str):
    index: Any = {"months": MONTHS, "dates": MONTHS.to_timestamp(), "numbers": pd.Index(STEPS)}[kind]
    y = HARE.set_axis(index)
    holed = y.where(STEPS != 7)
    given = holed if kind == "dates" else holed.drop(index[7])  # sktime refuses dates without a frequency
    made: Any = LoracastForecaster(sample=SAMPLE).fit(given).predict(fh=[1, 2])
    plain = bundled.predict(Series(holed.to_numpy(), ("hare",)), 2, sample=SAMPLE)
    np.testing.assert_array_equal(made, plain.median()[0, :, 0])


def test_an_update_is_read_without_tuning_anew():
    forecaster = LoracastForecaster(sample=SAMPLE).fit(HARE[:20])
    forecaster.update(HARE[20:])
    whole = LoracastForecaster(sample=SAMPLE).fit(HARE)
    horizon = ForecastingHorizon([1, 3])
    pd.testing.assert_series_equal(forecaster.predict(horizon), whole.predict(horizon))


@pytest.mark.filterwarnings("ignore:TUNING DID NOT HELP")
def test_fit_tunes_where_it_is_told_to():
    settings = {"context": 8, "horizon": 4, "validate_every": 1, "validation_windows": 2, "validation_series": 0}
    tune = TuneConfig(steps=2, batch=2, **settings)
    forecaster = LoracastForecaster(tune=tune, sample=SAMPLE).fit(HARE)
    assert forecaster.forecaster_.record["variables"] == ["hare"]
    assert not np.array_equal(
        forecaster.predict(fh=[1, 2]), LoracastForecaster(sample=SAMPLE).fit(HARE).predict(fh=[1, 2])
    )

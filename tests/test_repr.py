"""What the types print as: short, and what one wants to know first."""

from __future__ import annotations

import numpy as np
import pytest

import loracast
from loracast.codec import Codec
from loracast.evaluation.backtest import backtest
from loracast.flops import Flops
from loracast.forecast import Forecast
from loracast.forecaster import Forecaster
from loracast.ledger import Ledger
from loracast.series import Series, Window
from loracast.settings import SampleConfig, TuneConfig

VALUES = np.arange(12.0).reshape(6, 2)
DAYS = np.datetime64("2020-01-30") + np.arange(6)


@pytest.mark.parametrize(
    ("series", "text"),
    [
        (
            Series(VALUES, ("hare", "lynx"), "a", np.arange(1845.0, 1851)),
            "Series('a', 6 steps × hare, lynx, 1845 to 1850)",
        ),
        (Series(VALUES, ("x", "y")), "Series('0', 6 steps × x, y)"),
        (Series(VALUES[:, 0], ("x",), "d", DAYS), "Series('d', 6 steps × x, 2020-01-30 to 2020-02-04)"),
        (
            Series(VALUES[:2, 0], ("x",), "h", np.array(["2020-01-01T00", "2020-01-01T06"], "datetime64[ns]")),
            "Series('h', 2 steps × x, 2020-01-01 00:00 to 2020-01-01 06:00)",
        ),
        (Series(np.ones((3, 9)), tuple("abcdefghi")), "Series('0', 3 steps × a, b, c and 6 more)"),
        (
            Series(np.ones((3, 3)), ("rain", "effort", "hare"), "k", known=("rain",), past=("effort",)),
            "Series('k', 3 steps × rain (known), effort (past), hare)",
        ),
        (Series(VALUES, ("x", "y"), "s", np.linspace(0, 0.5, 6)), "Series('s', 6 steps × x, y, 0 to 0.5)"),
    ],
)
def test_a_series_says_its_id_size_and_span(series: Series, text: str):
    assert repr(series) == text


def test_a_window_says_where_it_lies():
    window = Window(Series(VALUES, ("x", "y"), "a"), 1, 3, 2)
    assert repr(window) == "Window('a', steps 1 to 5: context 3, horizon 2)"


def test_a_forecast_says_its_size():
    one, two = Series(VALUES, ("hare", "lynx"), "a"), Series(VALUES, ("hare", "lynx"), "b")
    single = Forecast(np.zeros((1, 5, 3, 2)), np.ones((1, 5, 3), bool), (one,), (None,))
    assert repr(single) == "Forecast(series 'a', 3 steps of hare, lynx, 5 paths)"
    both = Forecast(np.zeros((2, 5, 3, 2)), np.ones((2, 5, 3), bool), (one, two), (None, None))
    assert repr(both) == "Forecast(2 series, 3 steps of hare, lynx, 5 paths)"


def test_a_ledger_says_what_is_spent_of_what():
    ledger = Ledger(1e12)
    ledger.charge("training", Flops(2 * 10**11, 3 * 10**11))
    ledger.charge("forecasts", Flops(10**11, 10**11))
    said = "Ledger(3.000e+11 FLOPs (executed) of a budget of 1.000e+12, training 2.000e+11, forecasts 1.000e+11)"
    assert repr(ledger) == said
    assert repr(Ledger(convention="published")) == "Ledger(0.000e+00 FLOPs (published) of no budget)"


def test_a_codec_says_what_is_not_the_default():
    assert repr(Codec()) == "Codec('fixed', digits=3)"
    assert repr(Codec("decimal", 2, offset="zero")) == "Codec('decimal', digits=2, offset='zero')"
    assert eval(repr(Codec("fixed", 4, headroom=3.0))) == Codec("fixed", 4, headroom=3.0)


@pytest.mark.filterwarnings("ignore:.mine. was tuned on")
def test_a_forecaster_says_its_model_and_adapter():
    base = Forecaster.from_pretrained("bundled", precision="float32")
    size = f"{base.model.network.config.parameters():,}"
    codec = repr(base.codec)
    assert repr(base) == f"Forecaster('bundled', {size} parameters, untouched, {codec}, float32)"
    series = loracast.simulate("lotka-volterra", 5, steps=16)
    tune = TuneConfig(rank=2, steps=1, batch=1, context=6, horizon=6, validation_series=0)
    names = ", ".join(series[0].names)
    tuned = base.fit(series, tune=tune)
    adapter = f"adapter of rank 2 tuned on {names}"
    assert repr(tuned) == f"Forecaster('bundled', {size} parameters, {adapter}, {codec}, float32)"
    result = backtest({"mine": tuned}, series, 6, 6, sample=SampleConfig(samples=2))
    assert repr(result).startswith("Backtest(5 windows, 6 → 6 steps; MAE: mine ")
    assert "best-period" in repr(result)

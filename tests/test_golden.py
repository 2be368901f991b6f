"""The bundled model from end to end, on a CPU in float32: it forecasts well, as it did when it was made, and can learn.

The recorded numbers belong to the bundled weights: record them anew when those are pretrained anew.
"""

import numpy as np
import pytest

from loracast.evaluation.backtest import backtest
from loracast.forecaster import Forecaster
from loracast.series import Series
from loracast.settings import SampleConfig, TuneConfig
from loracast.systems import simulate

STEPS = np.arange(36.0)
PHASE = 2 * np.pi * STEPS / 12
SINE = Series(5 + 4 * np.sin(PHASE)[:, None], ("x",), "sine")
DAMPED = Series(
    np.stack([5 + 4 * np.sin(PHASE) * 0.98**STEPS, 2 + 1.5 * np.cos(PHASE) * 0.98**STEPS], 1), ("x", "y"), "damped"
)
GREEDY = {  # the integers that are written for the next six steps
    "sine": [[279], [390], [470], [500], [470], [390]],
    "damped": [[291, 399], [346, 384], [385, 346], [398, 295], [383, 246], [345, 211]],
}
TOLERANCE = 2  # integers: where two digits are nearly as likely, another processor may prefer the other one


@pytest.fixture(scope="module")
def bundled() -> Forecaster:
    return Forecaster.from_pretrained("bundled", device="cpu", precision="float32")


def test_the_bundled_model_is_as_small_as_promised(bundled: Forecaster):
    assert 2e6 <= bundled.model.network.config.parameters() <= 6e6
    assert sum(parameter.numel() for parameter in bundled.model.network.parameters()) <= 6e6


def test_zero_shot_medians_beat_naive_guesses_on_predator_and_prey(bundled: Forecaster):
    series = [one.slice(0, 60) for one in simulate("predator-prey", 3, seed=5)]
    result = backtest({"zero-shot": bundled}, series, 50, 10, sample=SampleConfig(samples=5))
    errors = {row["forecaster"]: row["mae"] for row in result.rows}
    assert errors["zero-shot"] < 0.1 * errors["last-value"]
    assert errors["zero-shot"] < 0.3 * errors["best-period"]
    assert result.forecasts["zero-shot"].valid.all()


@pytest.mark.parametrize("series", [SINE, DAMPED], ids=lambda series: series.id)
def test_the_likeliest_path_is_the_recorded_one(bundled: Forecaster, series: Series):
    forecast = bundled.predict(series, 6, samples=1, temperature=1e-4, seed=1)
    scale = bundled.codec.fit_scale(series.values)
    expected = scale.offset + np.array(GREEDY[series.id]) * scale.unit  # [H, D]
    np.testing.assert_array_less(np.abs(forecast.samples[0, 0] - expected) / scale.unit, TOLERANCE + 0.5)
    # and it is right: the sine goes on as it began
    if series is SINE:
        truth = 5 + 4 * np.sin(2 * np.pi * (36 + np.arange(6)) / 12)
        np.testing.assert_array_less(np.abs(forecast.samples[0, 0, :, 0] - truth), 0.1)


def test_ten_steps_of_tuning_lower_the_validation_loss(bundled: Forecaster):
    config = TuneConfig(
        steps=10,
        batch=8,
        context=10,
        horizon=14,
        learning_rate=1e-3,
        validate_every=10,
        validation_windows=12,
        validation_series=0,
    )
    tuned = bundled.fit([one.slice(0, 60) for one in simulate("predator-prey", 24, seed=0)], tune=config)
    result = tuned.record["result"]
    assert result["best_step"] == 10
    assert result["validation_loss"]["tuned"] < 0.98 * result["validation_loss"]["untouched"]
    layers = 8 * 8 * (2 * (256 + 256) + 2 * (256 + 128) + 3 * (256 + 640))  # layers · rank · (q, o; k, v; MLP)
    assert result["trainable_parameters"] == layers

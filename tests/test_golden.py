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
    "sine": [[278], [389], [470], [500], [470], [389]],
    "damped": [[290, 398], [345, 382], [383, 343], [395, 292], [379, 244], [340, 210]],
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
    forecast = bundled.predict(series, 6, sample=SampleConfig(1, temperature=1e-4, seed=1))
    scale = bundled.codec.fit_scale(series.values)
    written, clipped = bundled.codec.quantise(forecast.samples[0, 0], scale)  # [H, D]
    assert not clipped.any()
    np.testing.assert_allclose(written, GREEDY[series.id], atol=TOLERANCE)
    # and it is right: each goes on as it began
    phase = 2 * np.pi * np.arange(36, 42) / 12
    decay = 0.98 ** np.arange(36, 42) if series is DAMPED else 1
    truth = np.stack([5 + 4 * np.sin(phase) * decay, 2 + 1.5 * np.cos(phase) * decay], 1)[:, : series.variables]
    np.testing.assert_allclose(forecast.samples[0, 0], truth, atol=3 * scale.unit.max())


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
    assert result["validation_loss"]["tuned"] < 0.99 * result["validation_loss"]["untouched"]
    layers = 14 * 8 * (2 * (192 + 192) + 2 * (192 + 96) + 3 * (192 + 480))  # layers · rank · (q, o; k, v; MLP)
    assert result["trainable_parameters"] == layers

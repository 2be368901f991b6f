"""Groups of variables and the choice of a scale: what is chosen, what it costs, and what it leaves alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loracast.codec import Codec
from loracast.engine import views
from loracast.engine.views import most_view_flops, resolved
from loracast.errors import ConfigError, UnseenWarning
from loracast.flops import PassCost
from loracast.forecaster import Forecaster
from loracast.series import Series, windows
from loracast.settings import SampleConfig

FEW = SampleConfig(3, seed=1)
STEPS = np.arange(48.0)


@pytest.fixture(scope="module")
def bundled() -> Forecaster:
    return Forecaster.from_pretrained("bundled", device="cpu")


@pytest.fixture
def small(make_numeric: Callable[..., Path]) -> Forecaster:
    return Forecaster.from_pretrained(make_numeric(), codec=Codec(digits=2), device="cpu", precision="float32")


def growth(rate: float = 0.1, name: str = "growing") -> Series:
    noise = np.random.default_rng(0).normal(size=len(STEPS))
    return Series(7 * np.exp(rate * STEPS + 0.05 * noise), ("x",), name)


def cycle(name: str = "cycling") -> Series:
    return Series(np.sin(STEPS * 0.7) - 0.3 * np.cos(STEPS * 1.4), ("x",), name)


# -- scales ------------------------------------------------------------------------------------------------------------


def test_each_series_is_written_on_the_scale_that_suits_it(bundled: Forecaster):
    forecast = bundled.predict([growth(), cycle()], 8, sample=SampleConfig(20))
    assert forecast.transforms[0][0] in ("log", "log-trend")
    assert forecast.transforms[1] == ("none",)
    as_it_is = bundled.predict(growth(), 8, sample=SampleConfig(20, transform="none"))
    assert as_it_is.transforms == (("none",),)
    expected = 7 * np.exp(0.1 * np.arange(48, 56))
    errors = [np.abs(np.log(one.median()[0, :, 0] / expected)).max() for one in (forecast, as_it_is)]
    assert errors[0] < min(errors[1], 0.25)


def test_the_choice_asks_for_no_other_series(bundled: Forecaster):
    alone = bundled.predict(growth(), 4, sample=FEW)
    together = bundled.predict([cycle(), growth(), growth(-0.1, "falling")], 4, sample=FEW)
    assert together.transforms[1] == alone.transforms[0]
    np.testing.assert_allclose(together.samples[1], alone.samples[0], rtol=1e-6)


@pytest.mark.parametrize("kind", ["log", "root", "trend", "log-trend"])
def test_a_scale_can_be_asked_for(small: Forecaster, kind: Any):
    forecast = small.predict(growth(), 4, sample=replace(FEW, transform=kind))
    assert forecast.transforms == ((kind,),)
    assert np.isfinite(forecast.samples).all()
    assert (forecast.samples >= 0).all()


def test_values_that_were_given_come_back_exactly_on_every_scale(small: Forecaster):
    known = np.array([3.3, np.nan, 1e5, np.nan])[None, :, None]
    for kind in ("log", "log-trend", "auto"):
        found = small.predict(growth(), 4, sample=replace(FEW, transform=kind), known=known).samples
        assert (found[0, :, [0, 2], 0] == [[3.3], [1e5]]).all()


def test_a_short_context_and_an_adapter_are_written_as_they_are(small: Forecaster, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(views, "step_log_density", lambda *_: pytest.fail("a scale was chosen"))
    short = small.predict(growth().slice(0, views.FEWEST - 1), 4, sample=FEW)
    adapter = Forecaster(small.model, small.codec, record={"variables": ["x"]})
    assert short.transforms == adapter.predict(growth(), 4, sample=FEW).transforms == (("none",),)


@pytest.mark.parametrize(
    "codec", [Codec(digits=2, offset="zero"), Codec(digits=2).with_dataset_scale([growth().values])]
)
def test_a_codec_for_values_as_they_are_takes_no_other_scale(small: Forecaster, codec: Codec):
    forecaster = Forecaster(small.model, codec)
    assert forecaster.predict(growth(), 4, sample=FEW).transforms == (("none",),)
    with pytest.raises(ConfigError, match="transform 'log' does not go with scale"):
        forecaster.predict(growth(), 4, sample=replace(FEW, transform="log"))


def test_the_choice_counts_in_how_far_a_forecast_is(bundled: Forecaster):
    shares: list[float] = []
    bundled.predict([growth(), cycle()], 8, sample=SampleConfig(20), progress=shares.append)
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.5  # growth is tried on other scales first
    assert shares[-1] == 1


# -- groups ------------------------------------------------------------------------------------------------------------


def many(variables: int, **roles: Any) -> Series:
    values = np.stack([5 + np.sin(STEPS * (0.5 + 0.1 * column)) for column in range(variables)], 1)
    return Series(values, tuple(f"v{column}" for column in range(variables)), "many", **roles)


@pytest.fixture
def of_two(small: Forecaster) -> Forecaster:
    return Forecaster(replace(small.model, variables=2), small.codec)


def test_more_variables_than_the_model_knows_are_forecast_in_groups(of_two: Forecaster):
    with pytest.warns(UnseenWarning, match="groups that know nothing of each other: v0, v1; v2, v3; v4"):
        forecast = of_two.predict(many(5), 6, sample=FEW)
    assert forecast.samples.shape == (1, 3, 6, 5)
    assert len(forecast.transforms[0]) == 5
    pair = Series(many(5).values[:, 2:4], ("v2", "v3"), "many, group 1")
    np.testing.assert_allclose(forecast.samples[..., 2:4], of_two.predict(pair, 6, sample=FEW).samples)


def test_what_is_known_goes_with_every_group(of_two: Forecaster):
    known = np.full((1, 4, 3), np.nan)
    known[..., 0] = 5.5
    with pytest.warns(UnseenWarning, match="each other: v1; v2"):
        forecast = of_two.predict(many(3, known=("v0",)), 4, sample=FEW, known=known)
    assert forecast.names == ("v1", "v2")
    assert np.isfinite(forecast.samples).all()
    with pytest.warns(UnseenWarning, match="have 3 variables; the model has only seen up to 2 at once"):
        of_two.predict(many(3, past=("v0", "v1")), 4, sample=FEW)


def test_the_density_of_groups_is_that_of_each(of_two: Forecaster):
    with pytest.warns(UnseenWarning):
        found = of_two.log_density(windows([many(4)], 30, 6))
    pairs = [Series(many(4).values[:, columns], ("a", "b")) for columns in ([0, 1], [2, 3])]
    expected = sum(of_two.log_density(windows([pair], 30, 6)) for pair in pairs)
    np.testing.assert_allclose(found, expected)


# -- what it costs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["auto", "none"])
def test_a_forecast_costs_no_more_than_was_said(of_two: Forecaster, kind: Any):
    sample = replace(FEW, transform=kind)
    with pytest.warns(UnseenWarning):
        spent = of_two.predict(many(4), 6, sample=sample).flops
    read, plans = of_two._reach(2).read([many(4)], 6)
    most = most_view_flops(
        of_two.codec,
        [[0, 1], [2, 3]],
        [read[0].values],
        plans,
        resolved(sample, of_two.codec, tuned=False),
        PassCost.of(of_two.model.network),
    )
    assert spent.executed <= most.executed
    assert spent.executed == most.executed or kind == "auto"

"""Simulated siblings: as many as are asked for, moving as the series does, and of use to a tuning."""

from pathlib import Path

import numpy as np
import pytest

import loracast
from loracast import Forecaster, Series, TuneConfig
from loracast.errors import ConfigError, DataError
from loracast.fitting import prepare
from loracast.systems import System, siblings

PELTS = loracast.lynx_hare()


def period(values: np.ndarray) -> float:
    """Steps of the strongest wave of the logarithms [T]."""
    logs = np.log(values) - np.log(values).mean()
    power = np.abs(np.fft.rfft(logs)) ** 2
    return len(values) / (1 + int(power[1:].argmax()))


def test_siblings_move_as_their_series_does():
    made = siblings([PELTS], "predator-prey", 12, seed=1)
    assert [one.id for one in made] == [f"lynx_hare_1845_1935, sibling {number}" for number in range(1, 13)]
    assert {one.names for one in made} == {("hare", "lynx")}
    values = np.stack([one.values for one in made])  # [12, T, 2]
    assert (values > 0).all()
    np.testing.assert_allclose(np.log(values).mean(1), np.tile(np.log(PELTS.values).mean(0), (12, 1)))
    spread, wanted = np.log(values).std(1), np.log(PELTS.values).std(0)
    assert np.abs(np.log(np.median(spread, 0) / wanted)).max() < 0.2
    periods = [period(one[:, 1]) for one in values]
    assert 8 < period(PELTS.values[:, 1]) < 11.5
    assert 8 < np.median(periods) < 11.5
    assert len({one.tobytes() for one in values}) == 12


def test_a_seed_fixes_the_siblings_of_each_series():
    short = PELTS.slice(0, 30)
    first, again, other = (siblings([short], "lotka-volterra", 2, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first[0].values, again[0].values)
    assert not np.allclose(first[0].values, other[0].values)
    both = siblings([short, PELTS.slice(30, 60)], "lotka-volterra", 3, seed=3)
    assert [one.steps for one in both] == [30] * 3


def test_zeros_and_missing_values_have_siblings():
    values = PELTS.values[:40].copy()
    values[3, 0], values[7, 1] = 0.0, np.nan
    made = siblings([Series(values, ("hare", "lynx"))], "predator-prey", 2)
    assert all(np.isfinite(one.values).all() for one in made)


def test_a_predator_that_was_not_counted_is_simulated_beside_its_prey():
    hare = Series(PELTS.values[:, :1], ("hare",), "hare")
    made = siblings([hare], "predator-prey", 8, seed=2)
    assert {one.values.shape for one in made} == {(91, 1)}
    assert 8 < np.median([period(one.values[:, 0]) for one in made]) < 11.5


@pytest.mark.parametrize(
    ("series", "told"),
    [
        (
            Series(np.hstack([PELTS.values, PELTS.values[:, :1]]), ("hare", "lynx", "fox"), "a"),
            r"'a' has the variables hare, lynx, fox, but system 'predator-prey' has prey",
        ),
        (PELTS.slice(0, 11), "has 11 steps; siblings need 12"),
        (Series(PELTS.values - 30, ("hare", "lynx"), "b"), "'b' has negative values"),
    ],
)
def test_a_series_that_does_not_suit_the_system_is_refused(series: Series, told: str):
    with pytest.raises(DataError, match=told):
        siblings([series], "predator-prey", 2)


def test_a_system_that_cannot_be_computed_at_once_is_refused():
    with pytest.raises(ConfigError, match="driven by season"):
        siblings([PELTS], "seasonal-predator-prey", 2)
    system = System(
        "branching", "", ("a", "b"), {}, {"a": (1, 2), "b": (1, 2)}, lambda s, t, p: (1, 1) if s[0] > 1 else (2, 2), ""
    )
    with pytest.raises(ConfigError, match="cannot be computed for many states at once"):
        siblings([PELTS], system, 2)


def test_a_tuning_learns_from_siblings_of_what_it_may_see(tmp_path: Path):
    tune = TuneConfig(
        steps=2, batch=2, context=20, horizon=10, validation_windows=2, validation_series=0, siblings="predator-prey",
        sibling_series=6,
    )  # fmt: skip
    base = Forecaster.from_pretrained("bundled", device="cpu")
    material = prepare([PELTS], None, tune, base.codec, base._reach)
    assert len(material.siblings) == 6
    assert {one.steps for one in material.siblings} == {material.training[0].steps}  # not of what is held out
    assert [one.id for one in material.drawn_from[:2]] == [PELTS.id] * 2
    assert len(material.drawn_from) == 8
    tuned = base.fit([PELTS], tune=tune)
    assert tuned.record["tune"]["siblings"] == "predator-prey"
    with pytest.raises(ConfigError, match="unknown system 'foxes'"):
        base.fit([PELTS], tune=TuneConfig(steps=2, siblings="foxes", context=20, horizon=10))

"""Which series an adapter was tuned on is kept with it, and nothing is judged by them unawares."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loracast.codec import Codec
from loracast.evaluation.backtest import backtest
from loracast.forecaster import Forecaster
from loracast.series import Series, windows
from loracast.series.seen import digest, is_seen, seen_record, steps_seen, unseen
from loracast.settings import TuneConfig

TUNE = TuneConfig(rank=2, steps=1, batch=2, context=6, horizon=3, validation_series=2, validation_samples=2)


def waves(count: int, steps: int = 24) -> list[Series]:
    return [Series(np.sin(np.arange(float(steps)) + shift) + 2, "x", f"s{shift}") for shift in range(count)]


def test_a_series_is_known_again_by_its_first_steps():
    one = waves(1)[0]
    assert digest(one) == digest(replace(one, id="other")) == digest(one.slice(0, 20))
    assert digest(one) != digest(one.slice(1, 24))
    record = seen_record([one], [])
    longer = Series(np.concatenate([one.values, one.values[:6]]), "x", "grown")
    assert steps_seen(longer, record) == 24
    assert [is_seen(window, record) for window in windows([longer], 6, 3)] == [True] * 6 + [False, False]
    assert steps_seen(waves(2)[1], record) == 0


def test_what_was_not_tuned_on_is_scored():
    series = waves(5)
    record = seen_record(series[:3], series[3:4])
    kept, told = unseen(series, record, 6, 3)
    assert [one.id for one in kept] == ["s3", "s4"]
    assert told is not None
    assert "2 of 5 series (1 of them chose the best adapter)" in told
    assert unseen(series[3:], record, 6, 3) == (series[3:], None)
    assert unseen(series[:3], record, 6, 3) == (series[:3], None)  # nothing else is there: a backtest warns
    lone = seen_record([series[0].slice(0, 18)], [])
    (rest,), _ = unseen(series[:1], lone, 6, 3)
    assert (rest.steps, rest.values[0, 0]) == (12, series[0].values[12, 0])


@pytest.fixture
def base(numeric_directory: Path) -> Forecaster:
    return Forecaster.from_pretrained(numeric_directory, codec=Codec(digits=2), device="cpu", precision="float32")


@pytest.mark.filterwarnings("ignore:TUNING DID NOT HELP", "ignore:.*has only seen up to")
def test_an_adapter_keeps_its_split_and_a_backtest_warns_of_it(base: Forecaster, tmp_path: Path):
    series = waves(8)
    tuned = base.fit(series, tune=TUNE, directory=tmp_path / "a")
    again = base.with_adapter(tmp_path / "a")
    split = again.record["split"]
    assert split == tuned.record["split"]
    assert len(split["train"]) + len(split["validation"]) == 8
    trained = [one for one in series if steps_seen(one, split)]
    others = [one for one in series if not steps_seen(one, split)]
    with pytest.warns(UserWarning, match=f"'tuned' was tuned on {len(trained)} of the 8 series"):
        backtest({"tuned": again}, series, 6, 3)
    backtest({"tuned": again}, others, 6, 3)  # a warning would be an error
    again.record.pop("split")  # an adapter of before
    backtest({"tuned": again}, series, 6, 3)

"""A task of fev's, on data made here, runs through loracast and is evaluated by fev."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("fev", reason="needs fev: pip install 'loracast[fev]'")

import fev

from loracast.forecaster import Forecaster
from loracast.integrations.fev import LoracastModel
from loracast.settings import SampleConfig, TuneConfig

SAMPLE = SampleConfig(10, seed=1)
MONTHS = pd.date_range("2015-01-01", periods=72, freq="MS")


@pytest.fixture(scope="module")
def bundled() -> Forecaster:
    return Forecaster.from_pretrained("bundled")


@pytest.fixture
def frame() -> pd.DataFrame:
    """Seasons with noise; the ids are not in the order in which fev reads them."""
    generator, parts = np.random.default_rng(0), []
    for number in (10, 2, 1):
        season = 2 * np.pi * np.arange(72) / 12 + number
        hare = 5 + 3 * np.sin(season) + generator.normal(0, 0.2, 72)
        lynx = 20 + 9 * np.cos(season) + generator.normal(0, 0.6, 72)
        rain = np.sin(season + 1) + np.random.default_rng(number).normal(0, 0.3, 72)  # not to be foreseen exactly
        columns = {"hare": hare, "lynx": lynx, "rain": rain, "site": f"place {number}"}
        parts.append(pd.DataFrame({"name": f"s{number}", "when": MONTHS, **columns}))
    return pd.concat(parts)


@pytest.fixture
def task(frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a task on a file of that table."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    frame.to_parquet(tmp_path / "seasons.parquet")
    names = {"id_column": "name", "timestamp_column": "when", "horizon": 12, "seasonality": 12}
    scores = {"eval_metric": "MASE", "extra_metrics": ["MAE", "SQL", "WQL"], "quantile_levels": [0.1, 0.5, 0.9]}
    path = str(tmp_path / "seasons.parquet")
    return lambda **options: fev.Task(dataset_path=path, **names, **scores, static_columns=["site"], **options)


def test_fev_evaluates_a_task(task: Any, bundled: Forecaster, frame: pd.DataFrame):
    seasons = task(target="hare", num_windows=2)
    model = LoracastModel(bundled, sample=SAMPLE)
    predictions = model.fit_predict(seasons)
    summary = seasons.evaluation_summary(predictions, model.model_name, inference_time_s=model.inference_time)
    assert summary["model_name"] == "loracast"
    assert summary["num_forecasts"] == 6
    assert summary["inference_time_s"] > 0
    naive = []  # what happened a season ago, of each window in the form of fev
    for window in seasons.iter_windows():
        last = [row["hare"][-12:] for row in window.get_input_data()[0]]
        naive.append([dict.fromkeys(["predictions", "0.1", "0.5", "0.9"], values) for values in last])
    assert 0 < summary["WQL"] < seasons.evaluation_summary(naive, "naive")["WQL"]
    # Plain twin: the same forecasts of the table, and their error by hand.
    table = frame[["name", "when", "hare"]]
    errors = []
    for end in (48, 60):
        past = table.groupby("name").head(end)
        made = bundled.predict_df(past, 12, id_column="name", time_column="when", target="hare", sample=SAMPLE)
        truth = made.merge(table, on=["name", "when"])
        errors.append((truth["hare"] - truth["predictions"]).abs().mean())
    assert summary["MAE"] == pytest.approx(np.mean(errors), rel=1e-5)


def test_several_targets_and_what_is_known_beforehand(task: Any, bundled: Forecaster):
    seasons = task(target=["lynx", "hare"], known_dynamic_columns=["rain"])
    model = LoracastModel(bundled, sample=SAMPLE)
    (predictions,) = model.fit_predict(seasons)
    assert set(predictions) == {"lynx", "hare"}
    summary = seasons.evaluation_summary([predictions], model.model_name)
    assert summary["num_forecasts"] == 6
    assert np.mean(predictions["lynx"]["predictions"]) > 2 * np.mean(predictions["hare"]["predictions"])
    past = task(target=["lynx", "hare"], past_dynamic_columns=["rain"])
    (unknown,) = model.fit_predict(past)
    assert unknown["lynx"]["predictions"] != predictions["lynx"]["predictions"]


@pytest.mark.filterwarnings("ignore:TUNING DID NOT HELP")
def test_a_model_may_be_tuned_before_each_window(task: Any, bundled: Forecaster):
    seasons = task(target="hare", num_windows=1)
    tune = TuneConfig(steps=2, batch=2, context=24, horizon=12, validate_every=1, validation_windows=2)
    model = LoracastModel(bundled, tune=tune, sample=SAMPLE)
    predictions = model.fit_predict(seasons)
    assert model.training_time > 0
    assert seasons.evaluation_summary(predictions, "tuned")["num_forecasts"] == 3

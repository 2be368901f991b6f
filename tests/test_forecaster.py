"""The public face: what goes in, what is refused, what comes out; and what one reads off sample paths."""

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from loracast.codec import Codec, Scale
from loracast.errors import BudgetError, ConfigError, DataError, LoracastError, ModelError, UnseenWarning
from loracast.flops import Flops, PassCost
from loracast.forecast import Forecast, future_time, write_frame
from loracast.forecaster import Forecaster, recorded_base
from loracast.ledger import Ledger
from loracast.model.transformer import Transformer
from loracast.series import Series, windows
from loracast.settings import SampleConfig, TuneConfig

CODEC = Codec(digits=2)
TUNE = TuneConfig(
    steps=6,
    batch=2,
    context=8,
    horizon=4,
    learning_rate=0.01,
    validate_every=3,
    validation_windows=2,
    validation_series=0,
)


def wave(name: str = "0", steps: int = 20, period: float = 6, time: Any = None) -> Series:
    phase = 2 * np.pi * np.arange(steps) / period
    return Series(np.stack([5 + 4 * np.sin(phase), 20 + 9 * np.cos(phase)], 1), ("hare", "lynx"), name, time)


def waves(n: int = 4, steps: int = 20) -> list[Series]:
    return [wave(str(index), steps, 5 + 0.7 * index) for index in range(n)]


@pytest.fixture(scope="module")
def base(numeric_directory: Path) -> Forecaster:
    return load(numeric_directory, codec=CODEC)


@pytest.fixture(scope="module")
def tuned(base: Forecaster, tmp_path_factory: pytest.TempPathFactory) -> tuple[Forecaster, Path]:
    """A tuned forecaster and the folder that it was saved to. Both to be read only."""
    directory = tmp_path_factory.mktemp("tuned") / "adapter"
    return base.fit(waves(), tune=TUNE, directory=directory), directory


def load(*args: Any, **options: Any) -> Forecaster:
    return Forecaster.from_pretrained(*args, device="cpu", precision="float32", **options)


# -- fit, save and load ------------------------------------------------------------------------------------------


def test_fit_returns_a_new_forecaster_and_leaves_the_base_alone(base: Forecaster):
    before = base.predict(wave(), 3, sample=SampleConfig(2, seed=1)).samples
    attributes = dict(vars(base))
    tuned = base.fit(waves(), tune=TUNE)
    assert tuned is not base
    assert dict(vars(base)) == attributes
    np.testing.assert_array_equal(base.predict(wave(), 3, sample=SampleConfig(2, seed=1)).samples, before)
    assert not np.array_equal(tuned.predict(wave(), 3, sample=SampleConfig(2, seed=1)).samples, before)
    assert (base.lora, tuned.lora) == (None, TUNE.lora)
    again = base.fit(waves(), tune=TUNE)  # nothing of the first one was left behind
    np.testing.assert_array_equal(
        again.predict(wave(), 3, sample=SampleConfig(2)).samples,
        tuned.predict(wave(), 3, sample=SampleConfig(2)).samples,
    )


def test_a_saved_forecaster_forecasts_the_same_when_loaded(tuned: tuple[Forecaster, Path], tmp_path: Path):
    forecaster, directory = tuned
    expected = forecaster.predict(waves(2), 5, sample=SampleConfig(3, seed=4)).samples
    loaded = load(adapter=directory)  # the base is found by the record
    assert loaded.model.source == forecaster.model.source
    assert (loaded.codec, loaded.lora) == (forecaster.codec, forecaster.lora)
    assert loaded.record == json.loads(json.dumps(forecaster.record))
    np.testing.assert_array_equal(loaded.predict(waves(2), 5, sample=SampleConfig(3, seed=4)).samples, expected)
    loaded.save(tmp_path / "again")
    np.testing.assert_array_equal(
        load(adapter=tmp_path / "again").predict(waves(2), 5, sample=SampleConfig(3, seed=4)).samples, expected
    )


def test_an_adapter_is_put_on_a_base_that_is_loaded_already(base: Forecaster, tuned: tuple[Forecaster, Path]):
    adapted = base.with_adapter(tuned[1])
    expected, found = (one.predict(waves(2), 5, sample=SampleConfig(3)).samples for one in (tuned[0], adapted))
    np.testing.assert_array_equal(found, expected)
    assert base.lora is None
    embedding = adapted.model.network.model.embed_tokens.weight
    assert embedding.data_ptr() == base.model.network.model.embed_tokens.weight.data_ptr()


def test_the_record_says_how_the_adapter_came_about(tuned: tuple[Forecaster, Path]):
    forecaster, directory = tuned
    record = json.loads((directory / "loracast.json").read_text(), parse_constant=pytest.fail)
    assert record["base"] == {"model": forecaster.model.source, "fingerprint": forecaster.model.fingerprint}
    assert Codec(**record["codec"]) == CODEC
    assert TuneConfig(**record["tune"]) == TUNE
    assert record["variables"] == ["hare", "lynx"]
    for flops in (record["flops"]["executed"], record["flops"]["published"]):
        assert flops.keys() == {"training", "validation", "total"}
        assert flops["total"] == flops["training"] + flops["validation"] > 0
    assert record["made"]["precision"] == "float32"
    names = {"README.md", "adapter_config.json", "adapter_model.safetensors", "loracast.json", "metrics.jsonl"}
    assert {path.name for path in directory.iterdir()} == names


def test_a_plain_peft_adapter_names_its_base_too(tuned: tuple[Forecaster, Path], tmp_path: Path):
    forecaster, directory = tuned
    shutil.copytree(directory, tmp_path / "plain")
    (tmp_path / "plain" / "loracast.json").unlink()
    assert recorded_base(tmp_path / "plain") == forecaster.model.source
    loaded = load(adapter=tmp_path / "plain", codec=CODEC)
    found, expected = (one.predict(wave(steps=8), 3, sample=SampleConfig(2)).samples for one in (loaded, forecaster))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("content", ["{}", '{"base_model_name_or_path": null}'])
def test_an_adapter_that_names_no_base_is_an_error(tmp_path: Path, content: str):
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(ModelError, match=r"does not say which base model it belongs to; name it with --model"):
        recorded_base(tmp_path)


def test_a_broken_record_is_an_error_that_names_it(tmp_path: Path):
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "loracast.json").write_text("{")
    with pytest.raises(ModelError, match=r"loracast\.json cannot be read as JSON"):
        recorded_base(tmp_path)


def test_an_adapter_only_reads_what_it_was_tuned_on(tuned: tuple[Forecaster, Path], make_numeric: Callable[..., Path]):
    _, directory = tuned
    with pytest.raises(ModelError, match=r"was tuned with Codec.*leave the codec out"):
        load(adapter=directory, codec=Codec(digits=3))
    with pytest.raises(ModelError, match="was tuned on another base model"):
        load(make_numeric(seed=9), directory)


def test_a_folder_with_an_earlier_run_is_refused_before_anything_is_computed(
    base: Forecaster, tuned: tuple[Forecaster, Path], tmp_path: Path
):
    with pytest.raises(ConfigError, match=f"{tuned[1]} holds an adapter already"):
        base.fit(waves(), tune=TUNE, directory=tuned[1], report=lambda event: pytest.fail("something ran"))
    (tmp_path / "training.safetensors").touch()
    with pytest.raises(ConfigError, match="holds an interrupted run; continue it with --resume"):
        base.fit(waves(), tune=TUNE, directory=tmp_path, report=lambda event: pytest.fail("something ran"))


def test_what_fit_cannot_use_is_refused(base: Forecaster, tuned: tuple[Forecaster, Path], tmp_path: Path):
    with pytest.raises(ModelError, match="has an adapter already; fit the untouched base"):
        tuned[0].fit(waves(), tune=TUNE)
    with pytest.raises(DataError, match="series to tune on is empty"):
        base.fit([], tune=TUNE)
    one = Series(np.arange(20.0), ("hare",), "alone")
    with pytest.raises(DataError, match="'alone' has 1 variables, series '0' has 2"):
        base.fit([*waves(), one], tune=TUNE)
    with pytest.raises(DataError, match="'alone' has 1 variables, series '0' has 2"):
        base.fit(waves(), tune=TUNE, validation=[one])
    with pytest.raises(DataError, match="shorter context or horizon"):
        base.fit(waves(steps=11), tune=TUNE, directory=tmp_path / "a")
    unseen = replace(wave("gone"), values=np.where([True, False], np.nan, wave().values))
    with pytest.raises(DataError, match="'gone' has no observed value of hare"):
        base.fit([*waves(), unseen], tune=TUNE, validation=waves(), directory=tmp_path / "a")
    assert not (tmp_path / "a").exists()
    with pytest.raises(ModelError, match="no adapter to save"):
        base.save(tmp_path)


def test_validation_windows_without_any_truth_are_not_forecast(base: Forecaster):
    values = wave("v").values.copy()
    values[8:12] = np.nan
    config = replace(TUNE, validation_series=4, validation_samples=2, learning_rate=1e-3)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TUNING DID NOT HELP")
        fitted = base.fit(waves(), tune=config, validation=[Series(values, ("hare", "lynx"), "v")])
    verdict = fitted.record["validation_forecasts"]
    assert verdict["windows"] == 2  # of the starts 0, 4 and 8
    assert verdict["untouched_mae"] > 0


def test_validation_without_any_truth_is_refused(base: Forecaster, tmp_path: Path):
    blank = [replace(wave("v").slice(0, 12), values=np.vstack([wave().values[:8], np.full((4, 2), np.nan)]))]
    with pytest.raises(DataError, match="no validation window has an observed value after its context"):
        base.fit(waves(), tune=TUNE, validation=blank, directory=tmp_path / "a")
    assert not (tmp_path / "a").exists()


# -- predict -----------------------------------------------------------------------------------------------------


def test_a_forecast_has_its_shapes_and_stays_within_the_codecs_range(base: Forecaster):
    forecast = base.predict(waves(3), 7, sample=SampleConfig(5))
    assert forecast.samples.shape == (3, 5, 7, 2)
    assert forecast.valid.shape == (3, 5, 7)
    assert forecast.valid.all()
    assert (forecast.names, forecast.ids) == (("hare", "lynx"), ("0", "1", "2"))
    assert forecast.samples.min() >= 0
    assert forecast.samples.max() <= 2 * 29
    assert forecast.median().shape == forecast.mean().shape == (3, 7, 2)
    assert forecast.quantiles([0.1, 0.5, 0.6, 0.9]).shape == (3, 4, 7, 2)
    assert forecast.flops.executed > 0
    assert forecast.flops.published > 0
    assert base.predict(waves(3)[1], 7, sample=SampleConfig(1)).samples.shape == (1, 1, 7, 2)


def test_a_series_paths_depend_on_seed_id_and_number_alone(base: Forecaster):
    alone = base.predict(wave("b"), 6, sample=SampleConfig(4, seed=3)).samples[0]
    together = base.predict([wave("a", 15), wave("b"), wave("c", 9)], 6, sample=SampleConfig(7, seed=3)).samples[1]
    np.testing.assert_array_equal(together[:4], alone)
    np.testing.assert_array_equal(base.predict(wave("b"), 4, sample=SampleConfig(4, seed=3)).samples[0], alone[:, :4])
    for other in (
        base.predict(wave("b"), 6, sample=SampleConfig(4, seed=4)),
        base.predict(wave("z"), 6, sample=SampleConfig(4, seed=3)),
    ):
        assert not np.array_equal(other.samples[0], alone)


def test_paths_lie_among_the_numbers_that_are_written(base: Forecaster):
    series = waves(3)
    samples = base.predict(series, 7, sample=SampleConfig(40)).samples
    scale = CODEC.fit_scale(np.stack([one.values for one in series]))
    for paths, offset, unit in zip(samples, scale.offset, scale.unit):
        one = Scale(offset, unit)
        off = (paths - CODEC.dequantise(CODEC.quantise(paths, one)[0], one)) / unit
        assert np.abs(off).max() <= 0.5 + 1e-9
        assert off.std() == pytest.approx(12**-0.5, rel=0.1)


def test_constants_stay_as_they_are(base: Forecaster):
    series = [
        Series(np.tile([0.1, -1234.567], (9, 1)), ("a", "b"), "constant"),
        wave("varying"),
        Series(np.zeros((9, 2)), ("a", "b"), "zeros"),
        Series(np.where(np.arange(9)[:, None] == [3, 8], np.nan, [1e-300, 7e250]), ("a", "b"), "gaps"),
        Series(np.array([[3.0, 4.0]]), ("a", "b"), "one step"),
    ]
    with pytest.warns(UnseenWarning, match="'one step': 1 step of context; that tells next to nothing"):
        forecast = base.predict(series, 4, sample=SampleConfig(3))
    for index, level in {0: [0.1, -1234.567], 2: [0.0, 0.0], 3: [1e-300, 7e250], 4: [3.0, 4.0]}.items():
        np.testing.assert_array_equal(forecast.samples[index], np.broadcast_to(level, (3, 4, 2)))
    assert np.ptp(forecast.samples[1]) > 0
    assert forecast.valid.all()
    half = base.predict(Series(np.stack([np.full(9, 3.0), np.arange(9.0)], 1), ("a", "b")), 4, sample=SampleConfig(3))
    assert np.ptp(half.samples[..., 1]) > 0  # one variable that varies is enough to ask the model
    only = base.predict(series[0], 4, sample=SampleConfig(3))
    assert only.flops == Flops()
    np.testing.assert_array_equal(only.median(), np.broadcast_to([0.1, -1234.567], (1, 4, 2)))


def test_a_forecast_costs_what_reading_each_context_and_writing_each_path_takes(base: Forecaster):
    lengths, grammar = (20, 11), CODEC.grammar(2)
    series = [wave(str(steps), steps) for steps in lengths]
    cost = PassCost.of(base.model.network)
    expected = Flops.sum(
        cost.decode(1, 3, steps * grammar.step_tokens, 5 * grammar.step_tokens).total for steps in lengths
    )
    constant = Series(np.full((9, 2), 3.0), ("hare", "lynx"), "constant")  # the model is not asked
    assert base.predict([*series, constant], 5, sample=SampleConfig(3)).flops == expected
    assert base.forecast_flops([one.values for one in series], 5, 3) == expected


def test_numbers_that_turn_out_short_cost_less_than_was_asked_for(numeric_directory: Path):
    """A budget has to hold the most that a forecast may cost; what it did cost is charged."""
    base = load(numeric_directory, codec=Codec(layout="decimal", digits=1))
    most, ledger = base.forecast_flops([wave().values], 5, 3), Ledger()
    spent = base.predict(wave(), 5, sample=SampleConfig(3), ledger=ledger).flops
    assert ledger.spent == {"forecasts": spent}
    for convention in ("executed", "published"):
        assert 0 < spent.of(convention) < most.of(convention)
        base.predict(wave(), 5, sample=SampleConfig(3), ledger=Ledger(most.of(convention), convention))
        with pytest.raises(BudgetError, match="forecasts would take"):
            base.predict(wave(), 5, sample=SampleConfig(3), ledger=Ledger(most.of(convention) - 1, convention))


def test_an_adapter_is_part_of_what_a_forecast_costs(base: Forecaster, tuned: tuple[Forecaster, Path]):
    with pytest.warns(UnseenWarning, match="20 steps is longer than the 8 that the adapter was tuned on"):
        adapted = tuned[0].predict(wave(), 5, sample=SampleConfig(3), context=20).flops
    plain = base.predict(wave(), 5, sample=SampleConfig(3), context=20).flops
    assert adapted.executed > plain.executed
    assert adapted.published > plain.published
    assert base.forecast_flops([wave().values], 5, 3, TUNE.lora) == adapted  # which is known before it is tuned


@pytest.mark.parametrize("convention", ["executed", "published"])
def test_a_ledger_that_does_not_hold_the_work_keeps_it_from_beginning(
    base: Forecaster, tuned: tuple[Forecaster, Path], convention: Any, monkeypatch: pytest.MonkeyPatch
):
    judged = windows(waves(2, 12), 8, 4)
    tokens = 12 * CODEC.grammar(2).step_tokens - 1
    ledger = Ledger()
    densities = tuned[0].log_density(judged, ledger=ledger)
    likelihood = PassCost.of(base.model.network, TUNE.lora).forward(len(judged), tokens).total
    assert ledger.spent == {"likelihood": likelihood}
    forecasts = tuned[0].predict(waves(2), 3, sample=SampleConfig(2), ledger=ledger).flops
    assert ledger.spent == {"likelihood": likelihood, "forecasts": forecasts}
    np.testing.assert_array_equal(tuned[0].log_density(judged), densities)

    exact = Ledger((likelihood + forecasts).of(convention), convention)
    tuned[0].predict(waves(2), 3, sample=SampleConfig(2), ledger=exact)
    tuned[0].log_density(judged, ledger=exact)
    assert exact.left == 0
    monkeypatch.setattr(Transformer, "hidden", lambda *_: pytest.fail("the model was run"))
    with pytest.raises(BudgetError, match=rf"likelihood would take .* FLOPs \({convention}\)"):
        tuned[0].log_density(judged, ledger=Ledger(likelihood.of(convention) - 1, convention))
    with pytest.raises(BudgetError, match=rf"forecasts would take .* FLOPs \({convention}\)"):
        tuned[0].predict(waves(2), 3, sample=SampleConfig(2), ledger=Ledger(forecasts.of(convention) - 1, convention))


def test_the_end_of_a_series_is_its_context(base: Forecaster, tuned: tuple[Forecaster, Path]):
    long = wave(steps=20)
    expected = base.predict(long.slice(11, 20), 3, sample=SampleConfig(2)).samples
    np.testing.assert_array_equal(base.predict(long, 3, sample=SampleConfig(2), context=9).samples, expected)
    assert base.predict(long, 3, sample=SampleConfig(2)).contexts[0].steps == 20  # as much as the model was made for
    assert tuned[0].predict(long, 3, sample=SampleConfig(2)).contexts[0].steps == TUNE.context
    assert tuned[0].predict(long.slice(0, 5), 3, sample=SampleConfig(2)).contexts[0].steps == 5


@pytest.mark.parametrize(
    ("series", "options", "message"),
    [
        ([], {}, "series to forecast is empty"),
        ([wave("a"), wave("b"), wave("a")], {}, "id 'a' is used more than once"),
        ([wave("a")], {"context": 21}, "'a' has 20 steps, fewer than the context of 21"),
        ([wave("a"), Series(np.arange(5.0), ("x",), "b")], {}, "'b' has 1 variables, series 'a' has 2"),
        ([wave("a")], {"horizon": 0}, "horizon must be at least 1, not 0"),
        ([wave("a")], {"context": 0}, "context must be at least 1, not 0"),
        ([wave("a")], {"constrained": False}, "needs the full vocabulary"),
        ([Series(np.full((5, 2), np.nan), ("x", "y"), "m")], {}, "'m' has no observed value of x, y in its context"),
    ],
)
def test_what_cannot_be_forecast_is_refused(
    base: Forecaster, series: list[Series], options: dict[str, Any], message: str
):
    with pytest.raises(LoracastError, match=message):
        base.predict(series, **{"horizon": 3, "sample": SampleConfig(2), **options})


def test_all_problems_of_how_paths_are_drawn_are_told_at_once():
    with pytest.raises(ConfigError, match=r"samples must be at least 1.*temperature must be positive.*top_p must lie"):
        SampleConfig(samples=0, temperature=-1.0, top_p=0.0)


def test_an_adapter_refuses_another_number_of_variables(tuned: tuple[Forecaster, Path]):
    with pytest.raises(DataError, match=r"tuned on 2 variables \(hare, lynx\), but the series have 1 \(owl\)"):
        tuned[0].predict(Series(np.arange(9.0), ("owl",)), 3, sample=SampleConfig(2))
    with pytest.raises(DataError, match="tuned on 2 variables"):
        tuned[0].log_density(windows([Series(np.arange(12.0), ("owl",))], 8, 4))


# -- time --------------------------------------------------------------------------------------------------------


def test_future_times_follow_on_the_calendar():
    months = wave(steps=3, time=np.array(["2023-12-01", "2024-01-01", "2024-02-01"], "datetime64[D]"))
    assert np.datetime_as_string(np.asarray(future_time(months, 3)), "D").tolist() == [
        "2024-03-01",
        "2024-04-01",
        "2024-05-01",
    ]
    assert np.asarray(future_time(wave(steps=3, time=[1900, 1902, 1904]), 2)).tolist() == [1906, 1908]
    days = wave(steps=4, time=np.array(["2024-02-26", "2024-02-27", "2024-02-28", "2024-02-29"], "datetime64[D]"))
    expected = np.array(["2024-03-01", "2024-03-02"], "datetime64[ns]")
    np.testing.assert_array_equal(future_time(days, 2), expected)
    assert future_time(wave(), 3) is None
    assert future_time(wave(steps=1, time=[4.0]), 3) is None


def test_a_forecast_carries_times_into_its_frames(base: Forecaster):
    days = np.datetime64("2024-01-01", "ns") + np.arange(20) * np.timedelta64(1, "D")
    forecast = base.predict(
        [wave("a", time=days), wave("b", time=days + np.timedelta64(3, "h"))], 2, sample=SampleConfig(2)
    )
    frame = forecast.to_frame()
    assert frame["time"].dtype == "datetime64[ns]"
    assert frame["time"].iloc[[0, 1, 2, 4]].dt.strftime("%m-%d %H").tolist() == ["01-21 00"] * 2 + [
        "01-22 00",
        "01-21 03",
    ]
    paths = forecast.paths_frame()
    assert paths["time"].dt.day.tolist() == [21, 22] * 4


# -- what one reads off sample paths -----------------------------------------------------------------------------


def made_forecast(samples: Any, valid: Any = None, names: tuple[str, ...] = ("prey", "predator"), **changes: Any):
    """A forecast of given samples [N, S, H, D], with contexts of three steps."""
    samples = np.asarray(samples, float)
    valid = np.ones(samples.shape[:3], bool) if valid is None else np.asarray(valid)
    contexts = tuple(
        Series(np.arange(3.0 * len(names)).reshape(3, -1), names, f"s{index}") for index in range(len(samples))
    )
    return Forecast(samples, valid, contexts, **{"time": (None,) * len(samples), **changes})


def broken_forecast() -> Forecast:
    """Two series of four paths; in the first, one path breaks at its second step and another lacks a value."""
    samples = np.arange(2 * 4 * 3 * 2, dtype=float).reshape(2, 4, 3, 2)
    valid = np.ones((2, 4, 3), bool)
    valid[0, 1, 1] = False
    samples[0, 1, 1] = np.nan
    samples[0, 2, 2, 0] = np.nan  # written as missing, which parses
    samples[1, :, 0], valid[1, :, 0] = np.nan, False
    return made_forecast(samples, valid)


def test_medians_means_and_quantiles_of_whole_paths():
    samples = np.random.default_rng(0).normal(size=(2, 5, 3, 2))
    forecast = made_forecast(samples)
    np.testing.assert_allclose(forecast.median(), np.sort(samples, 1)[:, 2])
    np.testing.assert_allclose(forecast.mean(), samples.mean(1))
    levels = forecast.quantiles([0.0, 2 / 6, 2.5 / 6, 1.0])
    ordered = np.sort(samples, 1)
    np.testing.assert_allclose(levels[:, 0], ordered[:, 0])
    np.testing.assert_allclose(levels[:, 1], ordered[:, 1])
    np.testing.assert_allclose(levels[:, 2], (ordered[:, 1] + ordered[:, 2]) / 2)
    np.testing.assert_allclose(levels[:, 3], ordered[:, 4])
    with pytest.raises(ConfigError, match=r"quantile 1\.5 .*quantile -0\.1"):
        forecast.quantiles([0.5, 1.5, -0.1])


def test_medians_means_and_quantiles_leave_out_what_has_no_value():
    forecast = broken_forecast()
    for series in range(2):
        for step in range(3):
            for variable in range(2):
                paths = forecast.samples[series, :, step, variable]
                seen = paths[~np.isnan(paths)]
                expected = (
                    [np.median(seen), seen.mean(), np.quantile(seen, 0.3, method="weibull")]
                    if len(seen)
                    else [np.nan] * 3
                )
                place = series, step, variable
                found = [
                    forecast.median()[place],
                    forecast.mean()[place],
                    forecast.quantiles([0.3])[series, 0][place[1:]],
                ]
                np.testing.assert_allclose(found, expected)
    assert np.isnan(forecast.median()[1, 0]).all()
    nothing = made_forecast(np.full((1, 2, 3, 2), np.nan), np.zeros((1, 2, 3), bool))
    assert np.isnan(nothing.quantiles([0.1, 0.9])).all()
    assert np.isnan(nothing.probability("prey > 0")).all()


def test_a_missing_value_that_parses_is_no_zero_and_no_nan_in_a_median():
    samples = np.array([[[[1.0]], [[np.nan]], [[5.0]]]])
    forecast = made_forecast(samples, names=("x",))
    assert forecast.median().item() == forecast.mean().item() == 3.0
    assert forecast.probability("x < 2").item() == 0.5


def test_probabilities_count_paths():
    predator = np.array([[[3, 2, 1], [3, 3, 3], [0.5, 3, 3], [2, 2, 2]]], float)
    forecast = made_forecast(np.stack([np.zeros_like(predator), predator], -1))
    for event, expected in {
        "predator < 1": 0.25,
        "predator <= 1": 0.5,
        " predator<=1.0 ": 0.5,
        "predator > 2": 0.75,
        "predator >= 2e0": 1.0,
        "prey > 0": 0.0,
    }.items():
        assert forecast.probability(event).tolist() == [expected], event
    rising = forecast.probability(lambda paths: paths[:, :, -1, 1] > paths[:, :, 0, 1])
    assert rising.tolist() == [0.25]


def test_broken_paths_count_neither_way():
    forecast = broken_forecast()
    # of series s0, paths 0 and 3 are whole: the predator ends at 5 and at 23; of s1 none is
    np.testing.assert_array_equal(forecast.probability("predator > 20"), [0.5, np.nan])
    np.testing.assert_array_equal(forecast.probability("predator > 10"), [0.5, np.nan])
    np.testing.assert_array_equal(forecast.probability(lambda paths: paths[..., -1, 1] > 4), [1.0, np.nan])


@pytest.mark.parametrize("event", ["predator", "fox < 1", "predator = 1", "< 1", "predator < "])
def test_an_event_that_cannot_be_read_lists_the_names(event: str):
    with pytest.raises(ConfigError, match=r"character \d+: found .* The variables are prey, predator"):
        broken_forecast().probability(event)


@pytest.mark.parametrize("threshold", ["few", "nan"])
def test_an_event_needs_a_number(threshold: str):
    with pytest.raises(ConfigError, match=f"found '{threshold}' where a variable or a number should be"):
        broken_forecast().probability(f"prey < {threshold}")


def test_a_name_may_hold_spaces_and_signs():
    forecast = made_forecast([[[[1.0]], [[3.0]]]], names=("a <b> c",))
    assert forecast.probability("a <b> c < 2").tolist() == [0.5]


def test_a_frame_has_a_row_a_series_step_and_variable():
    forecast = broken_forecast()
    frame = forecast.to_frame([0.07, 0.29, 0.975])
    assert frame.columns.tolist() == ["id", "step", "variable", "mean", "median", "q7", "q29", "q97.5"]
    assert len(frame) == 2 * 3 * 2
    row = frame.query("id == 's1' and step == 3 and variable == 'predator'").iloc[0]
    assert row["median"] == forecast.median()[1, 2, 1]
    assert row["mean"] == forecast.mean()[1, 2, 1]
    assert row["q29"] == forecast.quantiles([0.29])[1, 0, 2, 1]


def test_a_frame_of_paths_has_a_row_a_series_path_and_step():
    forecast = broken_forecast()
    frame = forecast.paths_frame()
    assert frame.columns.tolist() == ["id", "sample", "step", "prey", "predator"]
    assert len(frame) == 2 * 4 * 3
    row = frame.query("id == 's1' and sample == 2 and step == 3").iloc[0]
    assert [row["prey"], row["predator"]] == forecast.samples[1, 2, 2].tolist()
    timed = replace(forecast, time=(np.array([3.0, 4.0, 5.0]), np.array([7.0, 8.0, 9.0]))).paths_frame()
    assert timed["time"].tolist() == [3.0, 4.0, 5.0] * 4 + [7.0, 8.0, 9.0] * 4
    mixed = replace(forecast, time=(np.array([3.0, 4.0, 5.0]), None))
    assert "time" not in mixed.paths_frame()
    assert "time" not in mixed.to_frame()


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".CSV"])
def test_a_frame_is_written_and_read_back(tmp_path: Path, suffix: str):
    frame = broken_forecast().to_frame()
    path = tmp_path / f"forecast{suffix}"
    write_frame(frame, path)
    read = pd.read_parquet(path) if suffix == ".parquet" else pd.read_csv(path)
    pd.testing.assert_frame_equal(read, frame, check_dtype=False)
    with pytest.raises(ConfigError, match=r"forecast\.xlsx: .*write a \.parquet or \.csv file"):
        write_frame(frame, tmp_path / "forecast.xlsx")


# -- pictures ----------------------------------------------------------------------------------------------------


def draw(figure: Figure) -> None:
    """Draws it for good; a warning, such as that of a glyph or of a layout, is an error here."""
    FigureCanvasAgg(figure).draw()


DAYS = np.datetime64("2024-01-01", "ns") + np.arange(20) * np.timedelta64(1, "D")


@pytest.mark.parametrize("time", [None, np.arange(20.0), DAYS], ids=["steps", "numbers", "dates"])
def test_a_plot_has_a_panel_a_series_and_variable(base: Forecaster, time: Any):
    forecast = base.predict([wave(str(index), time=time) for index in range(6)], 5, sample=SampleConfig(4))
    figure = forecast.plot(truth=[np.full((5, 2), 6.0)] * 6, most=3)
    assert isinstance(figure, Figure)
    draw(figure)
    assert len(figure.axes) == 3 * 2
    assert [axis.get_title() for axis in figure.axes[:2]] == ["hare", "lynx"]
    assert {axis.get_xlabel() for axis in figure.axes[-2:]} == {"step" if time is None else "time"}
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["context", "80% of paths", "50% of paths", "median", "truth"]


def test_a_fan_begins_where_its_context_ends(base: Forecaster):
    forecast = base.predict(wave(), 5, sample=SampleConfig(4))
    lines = {line.get_label(): np.asarray(line.get_data()) for line in forecast.plot().axes[0].get_lines()}
    steps, median = lines["median"]
    assert steps.tolist() == [20, 21, 22, 23, 24, 25]
    assert median[0] == lines["context"][1, -1]
    np.testing.assert_array_equal(median[1:], forecast.median()[0, :, 0])
    assert "truth" not in lines


def test_a_forecast_with_holes_is_drawn_all_the_same():
    draw(broken_forecast().plot(truth=[np.full((3, 2), np.nan)] * 2))
    draw(made_forecast(np.full((1, 2, 3, 2), np.nan), np.zeros((1, 2, 3), bool)).plot())


def test_paths_of_counts_are_counts():
    draws = np.random.default_rng(0)
    counted = draws.poisson(6, (30, 1)).astype(float)
    counted[[3, 4, 20]] = 0.0
    measured = 3 + np.sin(np.arange(30.0))[:, None]
    series = Series(np.hstack([counted, measured, 0.0 * counted]), ("counted", "measured", "gone"), id="both")
    known = np.full((1, 5, 3), np.nan)
    known[0, 2, 0] = 2.5
    forecaster = Forecaster.from_pretrained("bundled", device="cpu")
    forecast = forecaster.predict(series, 5, sample=SampleConfig(4), known=known)
    np.testing.assert_array_equal(forecast.whole, [[True, False, True]])
    paths = forecast.samples[0]  # [S, H, D]
    np.testing.assert_array_equal(paths[:, 2, 0], 2.5)  # set, and left as it was
    np.testing.assert_array_equal(np.delete(paths[..., 0], 2, 1) % 1, 0.0)
    assert (paths[..., 1] % 1 > 0).all()
    np.testing.assert_array_equal(paths[..., 2] % 1, 0.0)
    alone = forecaster.predict(series, 5, sample=SampleConfig(1), known=known).samples[0, 0, :, 0]
    np.testing.assert_array_equal(np.delete(alone, 2) % 1, 0.0)  # a single path, too
    few = forecaster.predict(Series(counted[:7], ("counted",)), 2, sample=SampleConfig(4))
    assert not few.whole.any()
    assert (few.samples % 1 > 0).any()


# -- several requests at once ----------------------------------------------------------------------------------------


def test_requests_that_are_drawn_together_are_answered_as_alone(tuned: tuple[Forecaster, Path]):
    """Also where their series have the same ids, and some never vary."""
    (forecaster, _), data = tuned, waves()
    flat = replace(data[0], values=np.full_like(data[0].values, 3.0), id="flat")
    asked = [[data[0], data[1]], [replace(data[2], id=data[0].id)], [flat], [flat, data[3]]]
    requests = [forecaster.request(one, 4, sample=SampleConfig(5, seed=3)) for one in asked]
    assert len({request.kind for request in requests}) == 1
    together = forecaster.answer(requests)
    for series, answer in zip(asked, together):
        alone = forecaster.predict(series, 4, sample=SampleConfig(5, seed=3))
        np.testing.assert_array_equal(answer.samples, alone.samples)
        assert (answer.flops, answer.saturated, answer.ids) == (alone.flops, alone.saturated, alone.ids)
        assert (answer.stretches, answer.transforms) == (alone.stretches, alone.transforms)


def test_requests_of_other_settings_are_of_another_kind(tuned: tuple[Forecaster, Path]):
    (forecaster, _), data = tuned, waves()
    first = forecaster.request(data[0], 4)
    for other in (
        forecaster.request(data[0], 5),
        forecaster.request(data[0], 4, sample=SampleConfig(seed=1)),
        forecaster.request(data[0], 4, sample=SampleConfig(7)),
    ):
        assert other.kind != first.kind
    assert forecaster.request(data[1], 4).kind == first.kind

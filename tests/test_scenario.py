"""What is known of the future: values that are given in place of drawn ones, in forecasts, tuning and likelihoods."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from loracast.cli import main
from loracast.codec import Codec
from loracast.compute.drawing import draw
from loracast.engine import sample
from loracast.engine.batch import encode_batch
from loracast.engine.likelihood import log_density
from loracast.engine.sample import sample_paths
from loracast.errors import ConfigError, DataError, LoracastError, UnseenWarning
from loracast.evaluation.backtest import backtest
from loracast.forecaster import Forecaster
from loracast.grammar import DRAWN, MISSING, MOST_FED, SEMICOLON
from loracast.language_model import LanguageModel
from loracast.ledger import Ledger
from loracast.scenario import known_future, set_values, split_known
from loracast.series import Series, windows, write_series
from loracast.settings import SampleConfig, TuneConfig
from loracast.systems import simulate

CODECS = {"fixed": Codec(digits=2), "decimal": Codec(layout="decimal", digits=1, leading=2)}
SAMPLES = SampleConfig(3, seed=2)
SETTINGS = [SAMPLES, SampleConfig(2, temperature=0.7, top_p=0.8)]
TUNE = TuneConfig(
    steps=4, batch=2, context=8, horizon=4, learning_rate=0.01, validate_every=2, validation_windows=2, gaps=0.0
)


def wave(name: str = "0", steps: int = 12, period: float = 6, time: Any = None) -> Series:
    phase = 2 * np.pi * np.arange(steps) / period
    return Series(np.stack([5 + 4 * np.sin(phase), 20 + 9 * np.cos(phase)], 1), ("hare", "lynx"), name, time)


def seasonal(name: str = "0", steps: int = 20, past: bool = False) -> Series:
    """A series with a variable that is known beforehand and, if asked for, one of the past alone."""
    season = 2 + np.sin(np.arange(steps) * 0.9 + len(name))
    columns = [season, np.cos(np.arange(steps)) + 3] if past else [season]
    names = ("season", "snow") if past else ("season",)
    values = np.column_stack([*columns, wave(steps=steps).values])
    return Series(values, (*names, "hare", "lynx"), name, known=names[:1], past=names[1:])


def future_of(series: Series, horizon: int) -> Series:
    """The known variable from the step after the series on."""
    return Series(np.linspace(1.5, 2.5, horizon), ("season",), series.id)


@pytest.fixture(scope="module", params=["fixed", "decimal"])
def base(request: pytest.FixtureRequest, numeric_model: LanguageModel) -> Forecaster:
    return Forecaster(numeric_model, CODECS[request.param])


@pytest.fixture(scope="module")
def fixed(numeric_model: LanguageModel) -> Forecaster:
    return Forecaster(numeric_model, CODECS["fixed"])


def scenario(series: int = 1, horizon: int = 8) -> np.ndarray:
    """The lynx of steps 4 and 5, counted from 1, and the hare of step 6."""
    known = np.full((series, horizon, 2), np.nan)
    known[:, 3:5, 1], known[:, 5, 0] = [17.123456789, 30.2], 3.3
    return known


# -- given symbols -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def plain_path(
    forecaster: Forecaster, prompt: np.ndarray, number: int, given: np.ndarray, horizon: int, config: SampleConfig
) -> list[int]:
    """The twin: one path, its text read again for every symbol; what is given takes the place of what is drawn."""
    model, grammar = forecaster.model, forecaster.codec.grammar(2)
    uniforms = sample._uniforms(config.seed, "a", number, horizon * grammar.step_tokens)
    path: list[int] = []
    state = cell = place = 0
    while path.count(SEMICOLON) < horizon:
        logits = model.network(model.rows[torch.tensor([[*prompt, *path]])])[0, -1]
        logits = logits.masked_fill(torch.from_numpy(~grammar.sampled[state]), float("-inf"))[None]
        symbol = int(draw(logits / config.temperature, torch.tensor(uniforms[len(path)])[None], config.top_p))
        symbol = symbol if given[cell, place] == DRAWN else int(given[cell, place])
        path.append(symbol)
        state = grammar.next_state[state, symbol]
        cell, place = (cell + 1, 0) if symbol in (11, SEMICOLON) else (cell, place + 1)
    return path


@pytest.mark.parametrize("config", SETTINGS, ids=["all", "nucleus"])
def test_given_symbols_take_the_place_of_drawn_ones(base: Forecaster, config: SampleConfig):
    codec, context = base.codec, wave().values
    scale = codec.fit_scale(context)
    given, clipped = codec.cells(scenario(), scale, np.isnan(scenario()))  # [1, cells, W]
    assert not clipped.any()
    prompt = codec.encode(context, scale).ids
    drawn = sample_paths(base.model, [prompt], ["a"], codec.grammar(2), 8, config, given=given).symbols[0]
    for number, path in enumerate(drawn):
        expected = plain_path(base, prompt, number, given[0], 8, config)
        assert path[: len(expected)].tolist() == expected


def test_what_is_given_to_all_paths_needs_no_pass_of_its_own(fixed: Forecaster, monkeypatch: pytest.MonkeyPatch):
    """One pass a token gives the same symbols."""
    grammar, known = fixed.codec.grammar(2), np.full((2, 8, 2), np.nan)
    known[:, :, 0], known[0, 2, 1], known[:, 3:7] = 4.0, 20.0, 7.0
    scale = fixed.codec.fit_scale(np.stack([wave().values] * 2))
    given, _ = fixed.codec.cells(known, scale, np.isnan(known))
    prompts = [fixed.codec.encode(wave().values, fixed.codec.fit_scale(wave().values)).ids] * 2
    arguments = fixed.model, prompts, ["a", "b"], grammar, 8, SAMPLES
    together = sample_paths(*arguments, given=given)
    shared = np.where((given != DRAWN).all(0), given[0], DRAWN)
    lengths = grammar.passes(8, shared)
    assert sum(lengths) == 8 * grammar.step_tokens
    assert max(lengths) == 2 + 4 * 6 + 3 < MOST_FED  # a digit and its separator, four steps, the next step's hare
    assert len(lengths) == 1 + 2 * 4  # the first hare, then two digits of each lynx that is drawn in one series or both
    monkeypatch.setattr(sample.PathBatch, "_passes", lambda self, horizon: [1] * (horizon * grammar.step_tokens))
    alone = sample_paths(*arguments, given=given)
    np.testing.assert_array_equal(together.symbols, alone.symbols)
    np.testing.assert_array_equal(together.tokens, alone.tokens)


def test_no_pass_feeds_more_tokens_than_it_may(fixed: Forecaster):
    grammar = fixed.codec.grammar(2)
    known = np.zeros((1, 30, 2))
    given, _ = fixed.codec.cells(known, fixed.codec.fit_scale(np.ones((1, 1, 2))), np.isnan(known))
    assert grammar.passes(30, given[0]) == [MOST_FED] * 5 + [20]
    assert grammar.passes(2) == [1, 2, 1, 2, 1, 2, 1, 2]


# -- forecasts ---------------------------------------------------------------------------------------------------------


def test_set_values_come_back_and_change_nothing_before_them(base: Forecaster):
    series = [wave("a"), wave("b", 9)]
    plain = base.predict(series, 8, sample=SAMPLES)
    changed = base.predict(series, 8, sample=SAMPLES, known=scenario(2))
    assert (changed.samples[:, :, 3:5, 1] == [17.123456789, 30.2]).all()
    assert (changed.samples[:, :, 5, 0] == 3.3).all()
    np.testing.assert_array_equal(changed.samples[:, :, :3], plain.samples[:, :, :3])
    np.testing.assert_array_equal(changed.samples[:, :, 3, 0], plain.samples[:, :, 3, 0])  # written before the lynx
    assert "lynx" in changed.conditional[0]
    assert "conditional forecast" in changed.conditional[0]
    assert plain.conditional == ()


def test_the_paths_of_the_others_follow():
    """By how much is the model's affair; the bundled one reads what was set."""
    bundled = Forecaster.from_pretrained("bundled", device="cpu", precision="float32")
    series = [one.slice(0, 60) for one in simulate("predator-prey", 3, seed=5)]
    known = set_values(["predator = 0.001 from step 1"], series, 5)
    plain, changed = (bundled.predict(series, 5, sample=SAMPLES, known=some).median() for some in (None, known))
    np.testing.assert_array_equal(changed[:, 0, 0], plain[:, 0, 0])  # written before the first predator that is set
    assert (changed[:, 1:, 0] != plain[:, 1:, 0]).any(1).all()
    assert (changed[..., 1] == 0.001).all()


def test_set_values_are_written_in_later_stretches_too(make_numeric: Callable[..., Path]):
    base = Forecaster.from_pretrained(
        make_numeric(max_position_embeddings=96), codec=CODECS["fixed"], device="cpu", precision="float32"
    )
    plain = base.predict(wave(), 21, sample=SAMPLES)
    known = np.full((21, 2), np.nan)
    known[14:17, 0] = [1.0, 2.0, 1000.0]
    changed = base.predict(wave(), 21, sample=SAMPLES, known=known)
    assert len(plain.stretches[0]) == 4
    np.testing.assert_array_equal(changed.samples[:, :, :14], plain.samples[:, :, :14])
    assert (changed.samples[:, :, 14:17, 0] == [1.0, 2.0, 1000.0]).all()
    assert changed.saturated == plain.saturated + 1  # the thousand, once for all paths
    assert changed.flops == plain.flops  # a given token costs what a drawn one costs


def test_a_constant_series_is_asked_about_where_a_value_is_set(fixed: Forecaster):
    constant = Series(np.full((9, 2), 3.0), ("hare", "lynx"))
    known = scenario()
    assert fixed.predict(constant, 8, sample=SAMPLES).stretches == ((),)
    changed = fixed.predict(constant, 8, sample=SAMPLES, known=known)
    assert changed.stretches == ((8,),)
    assert (changed.samples[:, :, 5, 0] == 3.3).all()


@pytest.mark.parametrize("past", [False, True], ids=["known", "known and past"])
def test_a_forecast_holds_the_targets_alone(base: Forecaster, past: bool):
    series = [seasonal("a", past=past), seasonal("b", 15, past=past)]
    known = [future_of(one, 6) for one in series][::-1]
    forecast = base.predict(series, 6, sample=SAMPLES, known=known)
    assert forecast.names == ("hare", "lynx")
    assert forecast.samples.shape == (2, 3, 6, 2)
    assert forecast.contexts[0].variables == 3 + past
    assert forecast.conditional == ()
    assert set(forecast.to_frame()["variable"]) == {"hare", "lynx"}
    assert [*forecast.paths_frame()][-2:] == ["hare", "lynx"]
    assert len(forecast.plot().axes) == 4
    np.testing.assert_array_equal(forecast.context_values(1), series[1].values[:, -2:])
    array = np.stack([future_of(one, 6).values for one in series])
    np.testing.assert_array_equal(base.predict(series, 6, sample=SAMPLES, known=array).samples, forecast.samples)
    other = base.predict(series, 6, sample=SAMPLES, known=2 * array)
    assert not np.array_equal(other.samples, forecast.samples)


def test_times_tell_which_rows_are_meant():
    years = np.arange(1990.0, 2010.0)
    one = replace(seasonal(), time=years, calendar=None)
    given = Series(np.arange(40.0), ("season",), "0", time=np.arange(1985.0, 2025.0))
    assert known_future([one], 3, given)[0, :, 0].tolist() == [25.0, 26.0, 27.0]
    with pytest.raises(DataError, match=r"'season' is known beforehand, but its value at step 2 of .* \(2011\) is not"):
        known_future([one], 3, given.slice(0, 26))
    with pytest.raises(DataError, match=r"none of the times of known= is one of the forecast's \(2010\)"):
        known_future([one], 3, given.slice(0, 20))


@pytest.mark.parametrize(
    ("known", "message"),
    [
        (None, "series '0': 'season' is known beforehand, but its value at step 1 of the forecast is not there"),
        (np.full((1, 4, 1), 2.0), r"known= has shape \[1, 4, 1\], but 1 series and 5 steps take \[1, 5, 4\] or"),
        (np.array([[2.0], [2.0], [np.nan], [2.0], [2.0]]), "value at step 3"),
        (Series(np.ones(4), ("season",), "0"), "value at step 5"),
        (Series(np.ones(5), ("season",), "x"), "holds series 'x', which is not among those to forecast"),
        (Series(np.ones(5), ("rain",), "0"), "series '0': known= has 'rain', which the series has not"),
        ([Series(np.ones(5), ("season",), "0")] * 2, "one series for each"),
        (np.ones((5, 4)), "'snow' is only known in the past, but a value of its future was given"),
        (np.full((5, 1), np.inf), "infinite"),
        ("rain", "must be series or numbers"),
    ],
)
def test_what_is_not_known_is_told(fixed: Forecaster, known: Any, message: str):
    with pytest.raises(DataError, match=message):
        fixed.predict(seasonal(past=True), 5, sample=SAMPLES, known=known)


def test_the_rows_after_the_last_observed_one_are_what_is_known():
    one = replace(seasonal("a"), time=np.arange(1990.0, 2010.0))
    values = one.values.copy()
    values[[3, *range(15, 20)], 1:] = np.nan
    table = [replace(one, values=values), seasonal("b")]
    (first, second), known = split_known(table)
    assert known is not None
    assert (first.steps, second.steps, len(known)) == (15, 20, 1)
    assert (known[0].names, known[0].id) == (("season",), "a")
    np.testing.assert_array_equal(known_future([first], 5, known)[0, :, 0], values[15:, 0])
    assert split_known([wave()])[1] is None


def test_nothing_is_given_to_unconstrained_sampling(fixed: Forecaster):
    with pytest.raises(ConfigError, match="cannot be given to unconstrained sampling"):
        fixed.predict(wave(), 8, sample=SAMPLES, known=scenario(), constrained=False)


# -- tuning and likelihoods --------------------------------------------------------------------------------------------


def test_what_is_known_is_read_and_not_learnt(base: Forecaster):
    """No token of a known variable is in the loss, all others are as they were."""
    drawn = np.stack([seasonal(str(index), 12).values for index in range(3)])
    every = encode_batch(base.codec, drawn, 8)
    some = encode_batch(base.codec, drawn, 8, targets=np.array([False, True, True]))
    rest = encode_batch(base.codec, drawn, 8, targets=np.array([True, False, False]))
    np.testing.assert_array_equal(some.symbols, every.symbols)
    assert not (some.in_loss & rest.in_loss).any()
    np.testing.assert_array_equal(some.in_loss | rest.in_loss, every.in_loss)
    cell = np.cumsum(np.isin(every.symbols, (11, SEMICOLON)), 1) - np.isin(every.symbols, (11, SEMICOLON))
    assert not some.in_loss[cell % 3 == 0].any()


def test_a_density_is_conditional_on_what_is_known(fixed: Forecaster):
    values = np.stack([seasonal(str(index), 12).values for index in range(3)])
    known = np.array([True, False, False])
    both = log_density(fixed.model, fixed.codec, values, 8)
    parts = [log_density(fixed.model, fixed.codec, values, 8, targets) for targets in (known, ~known)]
    np.testing.assert_allclose(parts[0] + parts[1], both, rtol=1e-9)
    cut = windows([seasonal(str(index), 12) for index in range(3)], 8, 4)
    np.testing.assert_array_equal(fixed.log_density(cut), parts[1])


@pytest.fixture(scope="module")
def tuned(fixed: Forecaster, tmp_path_factory: pytest.TempPathFactory) -> Forecaster:
    directory = tmp_path_factory.mktemp("known") / "adapter"
    ledger = Ledger()
    fixed.fit([seasonal(str(index)) for index in range(6)], tune=TUNE, directory=directory, ledger=ledger)
    assert ledger.spent.keys() == {"training", "validation", "forecasts"}
    return fixed.with_adapter(directory)


@pytest.mark.filterwarnings("ignore:TUNING DID NOT HELP")
def test_an_adapter_remembers_what_was_known(tuned: Forecaster):
    assert (tuned.record["known"], tuned.record["past"]) == (["season"], [])
    one = seasonal()
    forecast = tuned.predict(one, 4, sample=SAMPLES, known=future_of(one, 4))
    assert forecast.samples.shape == (1, 3, 4, 2)
    with pytest.raises(DataError, match="tuned with season known beforehand; name it as known"):
        tuned.predict(replace(one, known=()), 4, sample=SAMPLES)
    untold = Forecaster(tuned.model, tuned.codec, tuned.lora, {**tuned.record, "known": []})
    with pytest.warns(UnseenWarning, match="season is known beforehand, but the adapter was tuned to forecast it"):
        untold.predict(one, 4, sample=SAMPLES, known=future_of(one, 4))


@pytest.mark.filterwarnings("ignore:TUNING DID NOT HELP", "ignore:.mine. was tuned on")
def test_a_backtest_gives_what_is_known_and_scores_the_targets(tuned: Forecaster):
    series = [seasonal(name) for name in ("unseen", "another")]
    result = backtest({"mine": tuned}, series, 8, 4, sample=SAMPLES)
    assert result.forecasts["mine"].names == ("hare", "lynx")
    assert result.forecasts["mine"].samples.shape == (6, 3, 4, 2)
    cut = result.windows[1]
    alone = tuned.predict(
        replace(cut.context_series, id=cut.id), 4, sample=SAMPLES, known=cut.future_values[None, :, :1], context=8
    )
    np.testing.assert_array_equal(alone.samples[0], result.forecasts["mine"].samples[1])


@pytest.mark.filterwarnings("ignore:TUNING DID NOT HELP")
def test_what_is_known_in_the_past_alone_is_tuned_on_and_dropped(fixed: Forecaster):
    series = [seasonal(str(index), past=True) for index in range(6)]
    tuned = fixed.fit(series, tune=TUNE)
    assert (tuned.record["variables"], tuned.record["past"]) == (["season", "snow", "hare", "lynx"], ["snow"])
    unseen = [seasonal(name, past=True) for name in ("unseen", "another")]
    result = backtest({"mine": tuned}, unseen, 8, 4, sample=SAMPLES)
    assert result.forecasts["mine"].names == ("hare", "lynx")
    assert np.isfinite(result.forecasts["mine"].samples).all()


def test_series_of_one_call_have_the_same_roles(fixed: Forecaster):
    with pytest.raises(DataError, match="known beforehand"):
        fixed.predict([seasonal("a"), replace(seasonal("b"), known=())], 4, sample=SAMPLES)


def test_a_simulated_season_is_known_beforehand():
    series = simulate("seasonal-predator-prey", 4, seed=1, noise=0.1)
    clean = simulate("seasonal-predator-prey", 2, seed=1)
    assert (series[0].names, series[0].known) == (("season", "prey", "predator"), ("season",))
    for noisy, one in zip(series, clean):
        np.testing.assert_array_equal(noisy.values[:, 0], one.values[:, 0])  # what is known has no noise
        assert not np.array_equal(noisy.values[:, 1:], one.values[:, 1:])
    assert len({one.values[0, 0] for one in series}) == 4


# -- settings in words -------------------------------------------------------------------------------------------------

DAYS = pd.date_range("2026-12-30", periods=12, freq="D").to_numpy()
MONTHS = pd.date_range("2026-01-01", periods=12, freq="MS").to_numpy()
YEARS = np.arange(2014.0, 2026.0)


@pytest.mark.parametrize(
    ("time", "text", "steps"),
    [
        (None, "lynx = 0.5", range(8)),
        (None, "lynx=0.5 at step 5", [4]),
        (None, "lynx = 0.5 from step 3 to step 5", [2, 3, 4]),
        (None, "lynx = 5e-1 from step 7", [6, 7]),
        (YEARS, "lynx = 0.5 from 2027", range(1, 8)),
        (YEARS, "lynx = 0.5 from 2027 to 2030", [1, 2, 3, 4]),
        (YEARS, "lynx = 0.5 at 2028", [2]),
        (YEARS, "lynx = 0.5 from 2020 to step 2", [0, 1]),
        (MONTHS, "lynx = 0.5 at 2027", range(8)),
        (MONTHS, "lynx = 0.5 from 2027-03 to 2027-04", [2, 3]),
        (DAYS, "lynx = 0.5 at 2027-01-12", [1]),
        (DAYS, "lynx = 0.5 from 2027-01-15", range(4, 8)),
    ],
)
def test_a_setting_is_read(time: Any, text: str, steps: Any):
    found = set_values([text], [wave(time=time)], 8)
    expected = np.full((1, 8, 2), np.nan)
    expected[0, [*steps], 1] = 0.5
    np.testing.assert_array_equal(found, expected)


def test_settings_add_up():
    given = np.full((2, 4, 2), np.nan)
    given[:, 0] = 1.0
    found = set_values(
        ["hare = 2 at step 2", "lynx = 3 from step 2", "hare = 4 at step 2"], [wave("a"), wave("b")], 4, given
    )
    assert found[1].tolist()[:2] == [[1.0, 1.0], [4.0, 3.0]]
    assert np.isnan(found[:, 2:, 0]).all()
    assert np.isnan(given[:, 1:]).all()  # what was given is not changed


@pytest.mark.parametrize(
    ("time", "texts", "message"),
    [
        (None, ["lynx 0.5"], "is not of the form 'NAME = NUMBER'.*the NAMEs are hare, lynx"),
        (None, ["fox = 1"], "the NAMEs are hare, lynx"),
        (None, ["lynx = many"], "'many' is not a finite number"),
        (None, ["lynx = nan"], "'nan' is not a finite number"),
        (None, ["lynx = 1 at 2027"], "there are no times, so that '2027' means none"),
        (
            None,
            ["lynx = 1 at step 9"],
            "no step of the forecast of series '0' lies there; it goes from step 1 to step 8",
        ),
        (YEARS, ["lynx = 1 at 2040"], r"it goes from step 1 \(2026\) to step 8 \(2033\)"),
        (YEARS, ["lynx = 1 from soon"], "'soon' is not a number"),
        (DAYS, ["lynx = 1 from soon"], "'soon' cannot be read as a date"),
        (DAYS, ["lynx = 1 at 2026"], r"from step 1 \(2027-01-11\)"),
        (None, ["fox = 1", "lynx = x"], "fox.*; 'lynx = x'"),
    ],
)
def test_a_setting_that_cannot_be_read_is_told(time: Any, texts: list[str], message: str):
    with pytest.raises(LoracastError, match=message):
        set_values(texts, [wave(time=time)], 8)


def test_a_text_of_a_missing_value_is_no_number(fixed: Forecaster):
    """A value that is neither given nor drawn would be written as missing."""
    scale = fixed.codec.fit_scale(np.ones((3, 1)))
    cells, clipped = fixed.codec.cells(np.array([[np.nan], [0.5], [9.0]]), scale, np.array([[False], [True], [False]]))
    assert cells[:, 0].tolist() == [MISSING, DRAWN, 9]
    assert clipped[:, 0].tolist() == [False, False, True]


def test_the_command_line_sets_values(numeric_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    table, output = tmp_path / "table.csv", tmp_path / "forecast.csv"
    write_series([wave(time=YEARS)], table)
    words = ["forecast", table, "--horizon", 8, "--samples", 2, "--model", numeric_directory, "-o", output]

    def run(*settings: str) -> int:
        monkeypatch.setattr("sys.argv", ["loracast", *map(str, words), *settings])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    assert run("--set", "lynx = 7.25 from 2027 to 2028", "--set", "hare = 1 at step 8") == 0
    assert "this is a conditional forecast" in capsys.readouterr().out
    medians = pd.read_csv(output).pivot(index="step", columns="variable", values="median")
    assert (medians["lynx"] == 7.25).to_numpy().nonzero()[0].tolist() == [1, 2]
    assert medians["hare"].iloc[7] == 1
    output.unlink()
    assert run("--set", "wolf = 7") == 2
    assert "the NAMEs are hare, lynx" in capsys.readouterr().err
    assert not output.exists()


def test_rows_at_the_end_without_a_value_are_forecast_and_not_read():
    values = np.concatenate([wave().values, np.full((2, 2), np.nan)])
    (read,), known = split_known([Series(values, ("hare", "lynx"), "a")])
    assert known is None
    np.testing.assert_array_equal(read.values, wave().values)

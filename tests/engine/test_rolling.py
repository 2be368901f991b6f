"""Long forecasts in stretches: what is read, what is refused, and that every path goes on from its own end."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from loracast.codec import Codec, Scale
from loracast.compute import plain
from loracast.context import Reach, reading_groups
from loracast.engine import rolling, sample
from loracast.engine.rolling import Plan
from loracast.engine.sample import cell_places, sample_paths
from loracast.engine.views import most_view_flops, resolved
from loracast.errors import BudgetError, ConfigError, DataError, UnseenWarning
from loracast.flops import Flops, PassCost
from loracast.forecaster import Forecaster
from loracast.language_model import load_model
from loracast.ledger import Ledger
from loracast.model.config import ModelConfig
from loracast.series import Series, windows
from loracast.settings import SampleConfig, TuneConfig

CODECS = {"fixed": Codec(digits=2), "decimal": Codec(layout="decimal", digits=1, leading=2)}
POSITIONS = {"fixed": 96, "decimal": 192}  # 16 steps of two variables
SAMPLES = SampleConfig(3, seed=2)


def wave(name: str = "0", steps: int = 12, period: float = 6) -> Series:
    phase = 2 * np.pi * np.arange(steps) / period
    return Series(np.stack([5 + 4 * np.sin(phase), 20 + 9 * np.cos(phase)], 1), ("hare", "lynx"), name)


@pytest.fixture(scope="module")
def load(make_numeric: Callable[..., Path]) -> Callable[[str], Forecaster]:
    """Forecasters of few positions, by layout."""
    loaded = {}
    for layout, codec in CODECS.items():
        directory = make_numeric(max_position_embeddings=POSITIONS[layout])
        loaded[layout] = Forecaster.from_pretrained(directory, codec=codec, device="cpu", precision="float32")
    return loaded.__getitem__


@pytest.fixture(scope="module", params=["fixed", "decimal"])
def base(request: pytest.FixtureRequest, load: Callable[[str], Forecaster]) -> Forecaster:
    return load(request.param)


@pytest.fixture(scope="module")
def fixed(load: Callable[[str], Forecaster]) -> Forecaster:
    return load("fixed")


# -- what is read, and in which stretches ------------------------------------------------------------------------------


def reach(positions: int = 128, tune: tuple[int, int] | None = None) -> Reach:
    """That of a model of so many steps of two variables, or of an adapter tuned on (context, horizon)."""
    config = ModelConfig(19, 32, 48, 2, 4, 2, 8, max_position_embeddings=8 * positions)
    record = {"tune": {"context": tune[0], "horizon": tune[1]}} if tune else {}
    return Reach.of(config, Codec(), 2, record)


@pytest.mark.parametrize(
    ("steps", "horizon", "read", "stretches"),
    [
        (100, 20, 100, (20,)),
        (100, 28, 100, (28,)),
        (100, 100, 100, (28, 64, 8)),
        (100, 126, 100, (28, 64, 34)),
        (100, 400, 100, (28, 64, 64, 64, 64, 64, 52)),
        (10, 100, 10, (100,)),
        (10, 200, 10, (118, 64, 18)),
    ],
)
def test_a_base_reads_the_same_however_long_the_horizon(steps: int, horizon: int, read: int, stretches: tuple):
    (context,), (plan,) = reach().read([wave(steps=steps)], horizon)
    assert (context.steps, plan) == (read, Plan(stretches, 64))


def test_an_adapter_keeps_to_the_window_that_it_was_tuned_on():
    adapter = reach(tune=(50, 30))
    (context,), (plan,) = adapter.read([wave(steps=100)], 90)
    assert (context.steps, plan) == (50, Plan((30, 40, 20), 40))
    (context,), (plan,) = adapter.read([wave(steps=30)], 90)  # a shorter series leaves more to the first stretch
    assert (context.steps, plan) == (30, Plan((50, 40), 40))
    # where the context is chosen by hand, the model's positions decide
    (context,), (plan,) = adapter.read([wave(steps=100)], 90, 50)
    assert (context.steps, plan) == (50, Plan((78, 12), 64))


def test_an_adapter_whose_window_the_model_does_not_hold_leaves_room_for_a_forecast():
    narrow = reach(60, (80, 30))
    (context,), (plan,) = narrow.read([wave(steps=100)], 40)
    assert (context.steps, plan) == (59, Plan((1, 30, 9), 30))


def test_a_cut_series_is_warned_of():
    with pytest.warns(UnseenWarning, match=r"series '0': read the last 108 of 150 rows: the model holds 128 steps$"):
        reach().read([wave(steps=150)], 20)
    with pytest.warns(UnseenWarning, match=r"read the last 102 of 300 rows.*and 1 other series were cut"):
        reach().read([wave("a", 150), wave("b", 300), wave("c", 30)], 60)
    reach(tune=(50, 50)).read([wave(steps=150)], 20)  # an adapter reads what it was tuned on
    reach().read([wave(steps=150)], 20, 100)
    with pytest.warns(UnseenWarning, match="100 steps is longer than the 50 that the adapter was tuned on"):
        reach(tune=(50, 50)).read([wave(steps=150)], 20, 100)


def test_what_the_model_does_not_hold_is_refused(fixed: Forecaster, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match="a step of 40 variables takes 160 tokens and the model holds 240, fewer"):
        Reach.of(ModelConfig(19, 32, 48, 2, 4, 2, 8, max_position_embeddings=240), Codec(), 40)
    monkeypatch.setattr(rolling, "sample_paths", lambda *_, **__: pytest.fail("the model was run"))
    with pytest.raises(
        ConfigError, match=r"window of 17 steps of 2 variables.* does not fit the model, which holds 16"
    ):
        fixed.predict(wave(steps=20), 5, context=16)
    with pytest.raises(ConfigError, match="window of 17 steps"):
        fixed.log_density(windows([wave(steps=20)], 12, 5))
    with pytest.raises(ConfigError, match="window of 17 steps"):
        fixed.fit([wave(steps=20)], tune=TuneConfig(context=12, horizon=5))


# -- paths -------------------------------------------------------------------------------------------------------------


def test_a_longer_forecast_begins_with_a_shorter_one(base: Forecaster):
    forecasts = {horizon: base.predict(wave(), horizon, sample=SAMPLES) for horizon in (2, 3, 9, 25)}
    longest = forecasts.pop(25)
    assert len(longest.stretches[0]) > 2
    for horizon, shorter in forecasts.items():
        np.testing.assert_array_equal(longest.samples[:, :, :horizon], shorter.samples)
    assert longest.valid.all()
    assert np.isfinite(longest.samples).all()


def plain_path(forecaster: Forecaster, series: Series, plan: Plan, number: int, config: SampleConfig) -> np.ndarray:
    """The twin: one path alone, which reads back all that it has as a series of its own."""
    codec, values = forecaster.codec, series.values
    grammar, places = codec.grammar(2), cell_places([series.id], plan.horizon, 2, config)[0, number]
    read = series.values
    for stretch, steps in enumerate(plan.stretches):
        scale = codec.fit_scale(read)
        text = codec.encode(read, scale).ids
        drawn = sample_paths(
            forecaster.model, [text], [series.id], grammar, steps, config, numbers=[number], stretch=stretch
        )
        begin = sum(plan.stretches[:stretch])
        new = codec.decode(drawn.symbols[0, 0], scale, steps, places[begin : begin + steps]).values
        values = np.concatenate([values, new])
        read = values[-plan.reread :]
    return values[series.steps :]


def test_paths_are_those_of_the_plain_twin(base: Forecaster):
    series = [wave("a"), wave("b", 9, 4.0), wave("c", 12, 7.0)]
    forecast = base.predict(series, 21, sample=SAMPLES)
    assert len(set(forecast.stretches)) > 1  # series of other lengths are forecast in other stretches
    for one, paths, stretches in zip(series, forecast.samples, forecast.stretches):
        plan = Plan(stretches, base._reach(2).plan(one.steps, 21, chosen=False).reread)
        for number in range(SAMPLES.samples):
            np.testing.assert_array_equal(paths[number], plain_path(base, one, plan, number, SAMPLES))


def test_a_long_path_depends_on_seed_id_and_number_alone(base: Forecaster, monkeypatch: pytest.MonkeyPatch):
    alone = base.predict(wave("b"), 21, sample=SAMPLES).samples[0]
    many = [wave("a", 9), wave("b"), wave("c", 11)]
    together = base.predict(many, 21, sample=replace(SAMPLES, samples=5)).samples[1]
    np.testing.assert_array_equal(together[:3], alone)
    monkeypatch.setattr(plain, "CPU_MEMORY_BYTES", 1)  # a batch a path
    np.testing.assert_array_equal(base.predict(many, 21, sample=SAMPLES).samples[1], alone)


def test_stretches_draw_from_numbers_of_their_own():
    streams = [sample._uniforms(0, "a", number, 64, stretch) for number in range(3) for stretch in range(3)]
    runs = [tuple(stream[start : start + 3]) for stream in streams for start in range(62)]
    assert len(set(runs)) == len(runs)


def test_a_later_stretch_that_does_not_fit_the_memory_is_halved(fixed: Forecaster, monkeypatch: pytest.MonkeyPatch):
    expected = fixed.predict([wave("a"), wave("b")], 21, sample=SAMPLES).samples
    constrained = sample.PathBatch.constrained

    def short_of_memory(self: sample.PathBatch, horizon: int, told):
        if self.paths > 2:
            raise torch.OutOfMemoryError
        return constrained(self, horizon, told)

    monkeypatch.setattr(sample.PathBatch, "constrained", short_of_memory)
    np.testing.assert_array_equal(fixed.predict([wave("a"), wave("b")], 21, sample=SAMPLES).samples, expected)


def test_progress_goes_on_over_all_stretches(fixed: Forecaster):
    told: list[float] = []
    fixed.predict([wave("a"), wave("b", 9)], 21, sample=SAMPLES, progress=told.append)
    assert told == sorted(told)
    assert len(told) > 4
    assert told[-1] == pytest.approx(1.0)


@pytest.mark.parametrize("policy", ["variable", "joint"])
def test_a_variable_that_tells_no_size_keeps_its_scale(policy: Any):
    read = np.array([[[0.0, 3.0], [0.0, 5.0]], [[np.nan, 4.0], [np.nan, 8.0]]])
    before = Scale(np.zeros((2, 1, 2)), np.array([[[0.5, 0.25]], [[0.125, 2.0]]]))
    codec = Codec(digits=2, scale=policy)
    found, fitted = rolling._refit(codec, read, before), codec.fit_scale(read)
    np.testing.assert_array_equal(found.unit[:, 1], fitted.unit[:, 1])
    np.testing.assert_array_equal(found.unit[:, 0], fitted.unit[:, 0] if policy == "joint" else [0.5, 0.125])


def test_paths_that_come_to_rest_are_forecast_on(base: Forecaster, monkeypatch: pytest.MonkeyPatch):
    """Zero throughout what is read back, and one number throughout: neither is an error."""
    ends = rolling._ends

    def at_rest(*args: Any) -> np.ndarray:
        read = ends(*args)
        read[:, :, 0], read[:, :, 1] = 0.0, 7.0
        return read

    monkeypatch.setattr(rolling, "_ends", at_rest)
    forecast = base.predict(wave(), 21, sample=SAMPLES)
    assert np.isfinite(forecast.samples).all()
    assert forecast.valid.all()


def test_unconstrained_paths_with_holes_are_read_back(make_qwen2: Callable[..., Path]):
    model = load_model(
        make_qwen2(max_position_embeddings=POSITIONS["fixed"]), vocabulary="full", device="cpu", precision="float32"
    )
    forecast = Forecaster(model, CODECS["fixed"]).predict(wave(), 21, sample=SAMPLES, constrained=False)
    assert len(forecast.stretches[0]) > 1
    assert not forecast.valid.all()
    assert np.isnan(forecast.samples[~forecast.valid]).all()


# -- what it costs -----------------------------------------------------------------------------------------------------


def test_every_prompt_that_is_read_back_is_charged(fixed: Forecaster):
    series, cost, ledger = [wave("a"), wave("b", 10)], PassCost.of(fixed.model.network), Ledger()
    forecast = fixed.predict(series, 21, sample=SAMPLES, ledger=ledger)
    assert forecast.stretches == ((4, 8, 8, 1), (6, 8, 7))
    parts = [cost.decode(1, 3, 12 * 6, 4 * 6), cost.decode(1, 3, 10 * 6, 6 * 6)]
    parts += [cost.decode(3, 1, 8 * 6, steps * 6) for steps in (8, 8, 1, 8, 7)]
    assert forecast.flops == Flops.sum(part.total for part in parts)
    assert ledger.spent == {"forecasts": forecast.flops}


def test_a_budget_has_to_hold_the_most_that_a_rolled_forecast_may_cost(base: Forecaster):
    spent = base.predict(wave(), 21, sample=SAMPLES).flops
    read, plans = base._reach(2).read([wave()], 21)
    sample, cost = resolved(SAMPLES, base.codec, tuned=False), PassCost.of(base.model.network)
    most = most_view_flops(base.codec, [[0, 1]], [read[0].values], plans, sample, cost)
    assert (spent == most) == (base.codec.layout == "fixed")
    base.predict(wave(), 21, sample=SAMPLES, ledger=Ledger(most.executed))
    with pytest.raises(BudgetError, match="forecasts would take"):
        base.predict(wave(), 21, sample=SAMPLES, ledger=Ledger(most.executed - 1))


# -- variables ---------------------------------------------------------------------------------------------------------


def test_variables_are_read_in_the_order_of_the_adapter():
    record = {"variables": ["hare", "lynx"]}
    assert reading_groups(wave(), record) == [[0, 1]]
    assert reading_groups(wave(), {}, most=2) == [[0, 1]]
    swapped = Series(wave().values[:, ::-1], ("lynx", "hare"))
    with pytest.warns(UnseenWarning, match="read as hare, lynx, the order that the adapter was tuned on"):
        assert reading_groups(swapped, record) == [[1, 0]]
    others = Series(wave().values, ("fox", "owl"))
    with pytest.warns(UnseenWarning, match="tuned on hare, lynx; the series have fox, owl"):
        assert reading_groups(others, record) == [[0, 1]]
    with pytest.raises(DataError, match=r"tuned on 2 variables \(hare, lynx\), but the series have 1"):
        reading_groups(Series(np.arange(9.0), ("owl",)), record)


def test_variables_in_another_order_come_back_in_their_own(fixed: Forecaster):
    adapter = Forecaster(fixed.model, fixed.codec, record={"variables": ["hare", "lynx"]})
    expected = adapter.predict(wave(), 21, sample=SAMPLES).samples
    swapped = Series(wave().values[:, ::-1], ("lynx", "hare"))
    with pytest.warns(UnseenWarning):
        found = adapter.predict(swapped, 21, sample=SAMPLES)
    assert found.names == ("lynx", "hare")
    np.testing.assert_array_equal(found.samples[..., ::-1], expected)
    some = windows([wave()], 8, 4)
    with pytest.warns(UnseenWarning):
        density = adapter.log_density(windows([swapped], 8, 4))
    np.testing.assert_array_equal(density, adapter.log_density(some))

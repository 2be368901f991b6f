"""Log densities against a plain twin that reads one window, one token at a time."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from loracast.codec import Codec
from loracast.engine.likelihood import log_density
from loracast.errors import LoracastError
from loracast.forecaster import Forecaster
from loracast.grammar import MISSING
from loracast.language_model import LanguageModel, load_model
from loracast.series import Series, windows

CODECS = {
    "fixed": Codec(digits=2),
    "signed": Codec(digits=3, offset="low"),
    "decimal": Codec(layout="decimal", digits=1, leading=2),
    "joint": Codec(digits=2, scale="joint"),
}


def some_windows(count: int = 3, steps: int = 7, variables: int = 2, seed: int = 0) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    windows = random.uniform(1, 9, (count, steps, variables)) * [1.0, 30.0][:variables]
    windows[1, 1, 0] = np.nan  # in a context
    return windows


@torch.no_grad()
def plain_log_density(model: LanguageModel, codec: Codec, window: NDArray[np.float64], context: int) -> float:
    """Reads the whole text again for each of its symbols, with no batch and no shortcut for forced ones."""
    scale = codec.fit_scale(window[:context])
    text = codec.encode(window, scale).ids
    first = len(codec.encode(window[:context], scale).ids)
    grammar = codec.grammar(window.shape[1])
    state, total = 0, 0.0
    for place, symbol in enumerate(text):
        if place >= first and symbol != MISSING:
            logits = model.network(model.rows[torch.from_numpy(text[None, :place])])[0, -1].double()
            logits = logits if model.vocabulary == "numeric" else logits[model.rows]
            allowed = np.flatnonzero(grammar.sampled[state])
            total += float(logits[symbol] - torch.logsumexp(logits[allowed], 0))
        state = grammar.next_state[state, symbol]
    for variable, unit in enumerate(scale.unit):
        total -= math.log(unit) * (~np.isnan(window[context:, variable])).sum()
    low, high = codec._limits
    for number in np.rint((window[context:] - scale.offset) / scale.unit).ravel():
        total -= 2 * math.log1p(max(number - high, low - number, 0)) if np.isfinite(number) else 0
    return total


@pytest.mark.parametrize("name", CODECS)
def test_log_density_equals_its_plain_twin(numeric_model: LanguageModel, name: str):
    codec, batch = CODECS[name], some_windows()
    found = log_density(numeric_model, codec, batch, 4, batch=2)
    expected = [plain_log_density(numeric_model, codec, window, 4) for window in batch]
    assert len(set(expected)) == 3
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_full_vocabulary_gives_the_same_density_as_its_numeric_rows(numeric_model: LanguageModel, qwen2_directory):
    codec, batch = CODECS["fixed"], some_windows()
    found = []
    for vocabulary in ("numeric", "full"):
        model = load_model(qwen2_directory, vocabulary=vocabulary, device="cpu", precision="float32")
        found.append(log_density(model, codec, batch, 4))
        assert found[-1][0] == pytest.approx(plain_log_density(model, codec, batch[0], 4), rel=1e-5)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


@pytest.mark.parametrize("gaps", [[(4, 0)], [(6, 1)], [(4, 0), (4, 1), (5, 1)]])
def test_missing_values_of_the_future_count_for_nothing(numeric_model: LanguageModel, gaps: list[tuple[int, int]]):
    gappy = some_windows()
    for step, variable in gaps:
        gappy[0, step, variable] = np.nan
    found = log_density(numeric_model, CODECS["fixed"], gappy, 4)
    expected = plain_log_density(numeric_model, CODECS["fixed"], gappy[0], 4)
    assert found[0] == pytest.approx(expected, rel=1e-5)
    whole = log_density(numeric_model, CODECS["fixed"], some_windows(), 4)
    assert found[0] != pytest.approx(whole[0], rel=1e-3)
    np.testing.assert_allclose(found[1:], whole[1:], rtol=1e-5)  # the other windows know nothing of it


def test_a_future_without_an_observation_has_density_one(numeric_model: LanguageModel):
    batch = some_windows()
    batch[:, 4:] = np.nan
    np.testing.assert_array_equal(log_density(numeric_model, CODECS["fixed"], batch, 4), 0.0)


@pytest.mark.parametrize("codec", [Codec(digits=1), Codec(layout="decimal", digits=1, leading=1)])
def test_the_density_of_all_possible_values_integrates_to_one(numeric_model: LanguageModel, codec: Codec):
    context = np.array([3.0, 7.0, 5.0])[:, None]
    scale = codec.fit_scale(context)
    low, high = codec._limits
    values = codec.dequantise(np.arange(low, high + 1)[:, None], scale)[:, None]  # each possible next value once
    batch = np.concatenate([np.broadcast_to(context, (len(values), 3, 1)), values], 1)
    density = np.exp(log_density(numeric_model, codec, batch, 3))
    assert len(density) in (10, 199)
    assert density.min() < 0.5 * density.max()
    assert (density * scale.unit[0]).sum() == pytest.approx(1, abs=1e-4)


def test_the_density_of_all_values_beyond_the_range_integrates_to_that_of_its_edge(numeric_model: LanguageModel):
    codec, context = Codec(digits=1), np.array([3.0, 7.0, 5.0])[:, None]
    scale = codec.fit_scale(context)
    beyond = codec.dequantise(np.arange(9, 20_000)[:, None], scale)[:, None]  # the edge, and what is written as it
    batch = np.concatenate([np.broadcast_to(context, (len(beyond), 3, 1)), beyond], 1)
    density = np.exp(log_density(numeric_model, codec, batch, 3))
    share = 1 / (1 + np.arange(len(density))) ** 2
    np.testing.assert_allclose(density, density[0] * share, rtol=1e-5)
    assert (np.diff(density) < 0).all()


def test_density_scales_with_the_unit_of_the_series(numeric_model: LanguageModel):
    batch = some_windows(variables=1)
    found = log_density(numeric_model, CODECS["fixed"], batch, 4)
    coarser = log_density(numeric_model, CODECS["fixed"], batch * 1000, 4)
    np.testing.assert_allclose(coarser, found - 3 * math.log(1000), rtol=1e-6)


def test_a_forecaster_judges_windows(numeric_model: LanguageModel):
    series = [Series(window, ("a", "b"), str(index)) for index, window in enumerate(some_windows())]
    forecaster = Forecaster(numeric_model, CODECS["fixed"])
    found = forecaster.log_density(windows(series, 4, 3))
    np.testing.assert_array_equal(found, log_density(numeric_model, CODECS["fixed"], some_windows(), 4))


def test_windows_of_several_shapes_are_refused(numeric_model: LanguageModel):
    series = Series(np.arange(20.0), ("a",))
    forecaster = Forecaster(numeric_model, CODECS["fixed"])
    with pytest.raises(LoracastError, match="same context and horizon"):
        forecaster.log_density([*windows([series], 5, 4), *windows([series], 4, 5)])
    with pytest.raises(LoracastError, match="windows is empty"):
        forecaster.log_density([])

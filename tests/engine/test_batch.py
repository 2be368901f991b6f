"""Batches against the codec, one window at a time, and the loss against plain cross-entropy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from loracast.codec import Codec, Scale
from loracast.compute.plain import loss_sum
from loracast.engine.batch import Batch, encode_batch, gaps, to_device
from loracast.grammar import COMMA, MISSING, SEMICOLON
from loracast.language_model import LanguageModel

CODECS = {
    "fixed": Codec(digits=2),
    "joint": Codec(scale="joint", offset="low"),
    "decimal": Codec(layout="decimal", digits=1),
    "dataset": Codec(digits=2).with_dataset_scale([[[1.0, 5.0], [9.0, 4.0]]]),
}


def some_windows(count: int = 5, steps: int = 9, variables: int = 2, seed: int = 0) -> NDArray[np.float64]:
    """Windows [B, W, D] of levels far apart, some below zero, some with gaps, some that leave the context's range."""
    random = np.random.default_rng(seed)
    windows = random.normal(1, 2, (count, steps, variables)) * 10.0 ** random.integers(-3, 4, (count, 1, 1))
    windows[random.random(windows.shape) < 0.15] = np.nan
    windows[:, -1] *= 50
    return windows


@pytest.mark.parametrize("name", CODECS)
@given(seed=st.integers(0, 10_000), one_context=st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_batch_is_each_window_encoded_with_the_scale_of_its_own_context(name: str, seed: int, one_context: bool):
    codec, windows = CODECS[name], some_windows(seed=seed)
    contexts = np.full(5, 4) if one_context else np.random.default_rng(seed).integers(1, 9, 5)
    batch = encode_batch(codec, windows, 4 if one_context else contexts)
    saturated = 0
    for window, context, symbols, in_loss in zip(windows, contexts, batch.symbols, batch.in_loss):
        text = codec.encode(window, codec.fit_scale(window[:context]))
        saturated += text.saturated
        length = len(text.ids)
        np.testing.assert_array_equal(symbols[:length], text.ids)
        np.testing.assert_array_equal(in_loss[:length], (text.ids != MISSING) & (np.arange(length) > 0))
        assert not in_loss[length:].any()
    assert batch.saturated == saturated


def test_gaps_leave_something_of_every_variable_that_had_something():
    sparse = np.random.default_rng(0).normal(size=(300, 20, 2))
    sparse[:, :, 1] = np.where(np.arange(20) == 7, 1.0, np.nan)  # seen once
    hidden = gaps(sparse, 0.9, (0.3, 0.6), np.random.default_rng(1))
    assert not hidden[:, :, 1].all(1).any()
    assert not np.isnan(np.where(hidden, np.nan, sparse)).all(1).any()
    share = hidden[:, 1:, 0].mean(1)
    assert 0.8 < (share > 0).mean() < 0.97
    assert 0.4 < share[share > 0].mean() < 0.5
    assert not gaps(sparse, 0.0, (0.3, 0.6), np.random.default_rng(1)).any()


def test_no_missing_value_and_no_padding_is_a_target_but_their_separators_are():
    window = np.array([[3.0, 1.0], [np.nan, 2.0], [4.0, 9.0]])
    batch = encode_batch(Codec(digits=1), np.stack([window, np.where(np.isnan(window), 5.0, window)]), 2)
    gappy, whole = batch.symbols
    assert (gappy == MISSING).sum() == 1
    assert len(gappy) == len(whole) == 12  # one digit is as long as NaN
    np.testing.assert_array_equal(batch.in_loss[0], (gappy != MISSING) & (np.arange(12) > 0))
    assert batch.in_loss[0, 5]
    assert gappy[5] == COMMA
    assert gappy[-1] == SEMICOLON


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_after_a_context_only_what_follows_it_is_a_target(codec: Codec):
    windows = some_windows()
    batch = encode_batch(codec, windows, 4)
    scales = codec.fit_scale(windows[:, :4])
    for row, window, after, before in zip(range(len(windows)), windows, batch.after(4).in_loss, batch.in_loss):
        context = len(codec.encode(window[:4], Scale(scales.offset[row], scales.unit[row])).ids)
        assert not after[:context].any()
        np.testing.assert_array_equal(after[context:], before[context:])
        assert after.any()


def test_parts_are_the_batch():
    batch = encode_batch(CODECS["fixed"], some_windows(6), 4)
    parts = list(batch.parts(3))
    assert [len(part.symbols) for part in parts] == [2, 2, 2]
    np.testing.assert_array_equal(np.concatenate([part.symbols for part in parts]), batch.symbols)
    np.testing.assert_array_equal(np.concatenate([part.in_loss for part in parts]), batch.in_loss)


def test_the_loss_is_plain_cross_entropy(numeric_model: LanguageModel):
    batch = encode_batch(CODECS["decimal"], some_windows(), 4)
    ids, targets, in_loss = to_device(batch, numeric_model.rows)
    logits = numeric_model.network(ids)  # [B, L, V]
    expected = 0.0
    for row in range(len(ids)):
        for place in range(1, ids.shape[1]):
            if batch.in_loss[row, place]:
                expected -= float(F.log_softmax(logits[row, place - 1], -1)[ids[row, place]])
    assert 0 < batch.in_loss.sum() < batch.in_loss.size
    assert loss_sum(numeric_model.network, ids, targets, in_loss).item() == pytest.approx(expected, rel=1e-5)


def test_gradients_come_from_targets_alone(numeric_model: LanguageModel):
    """The gradient of the loss by the logits is zero wherever the next token is no target."""
    network = numeric_model.network
    batch = encode_batch(CODECS["fixed"], some_windows(), 4)
    ids, targets, in_loss = to_device(batch, numeric_model.rows)
    hidden = network.hidden(ids[:, :-1]).detach().requires_grad_()

    class Frozen(torch.nn.Module):  # the same head on hidden states that remember their gradient
        def hidden(self, _: torch.Tensor) -> torch.Tensor:
            return hidden

        def logits(self, states: torch.Tensor) -> torch.Tensor:
            return network.logits(states)

    loss_sum(Frozen(), ids, targets, in_loss).backward()  # type: ignore[arg-type]
    assert hidden.grad is not None
    np.testing.assert_array_equal((hidden.grad != 0).any(-1).numpy(), batch.in_loss[:, 1:])


def test_what_is_no_target_may_be_anything_that_comes_last(numeric_model: LanguageModel):
    batch = encode_batch(CODECS["fixed"], some_windows(4), 4)
    lengths = batch.in_loss.shape[1] - batch.in_loss[:, ::-1].argmax(1)
    padded = np.where(np.arange(batch.symbols.shape[1]) >= lengths[:, None], 7, batch.symbols)
    assert (padded != batch.symbols).any()  # there was padding
    losses = []
    for symbols in (batch.symbols, padded):
        on_device = to_device(Batch(symbols, batch.in_loss, 0), numeric_model.rows)
        losses.append(loss_sum(numeric_model.network, *on_device).item())
    assert losses[0] == losses[1]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_noise_moves_the_last_digits_that_are_fed_and_nothing_else(codec: Codec):
    batch = encode_batch(codec, some_windows(40), 4)
    noisy = batch.noisy(0.6, np.random.default_rng(0))
    assert noisy.fed is not None
    np.testing.assert_array_equal(noisy.symbols, batch.symbols)
    np.testing.assert_array_equal(noisy.in_loss, batch.in_loss)
    moved = noisy.fed != batch.symbols
    rows, places = moved.nonzero()
    assert np.isin(batch.symbols[rows, places + 1], (COMMA, SEMICOLON)).all()
    assert (batch.symbols[moved] < 10).all()
    assert (noisy.fed[moved] < 10).all()
    last = (batch.symbols[:, :-1] < 10) & np.isin(batch.symbols[:, 1:], (COMMA, SEMICOLON))
    inner = last & (batch.symbols[:, :-1] > 2) & (batch.symbols[:, :-1] < 7)  # that no edge clips
    assert moved[:, :-1][inner].mean() == pytest.approx(0.405, abs=0.06)  # P(|N(0, 0.6)| > 1/2)
    (part,) = noisy.parts(1)
    np.testing.assert_array_equal(part.fed, noisy.fed)


def test_what_is_fed_is_read_and_what_is_no_noise_is_written(numeric_model: LanguageModel):
    batch = encode_batch(CODECS["fixed"], some_windows(), 4).noisy(2.0, np.random.default_rng(0))
    ids, targets, in_loss = to_device(batch, numeric_model.rows)
    log_p = F.log_softmax(numeric_model.network(ids[:, :-1]), -1)  # [B, L-1, V]
    expected = -log_p.gather(-1, targets[:, 1:, None])[..., 0][in_loss[:, 1:]].sum()
    assert (ids != targets).any()
    torch.testing.assert_close(loss_sum(numeric_model.network, ids, targets, in_loss), expected)


def test_a_batch_without_targets_costs_nothing(numeric_model: LanguageModel):
    ids = torch.zeros(2, 5, dtype=torch.long)
    assert loss_sum(numeric_model.network, ids, ids, torch.zeros(2, 5, dtype=torch.bool)).item() == 0.0

"""Kernels and the fused network against the plain one; interpreted on a CPU, compiled where there is a GPU."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from loracast.codec import Codec
from loracast.compute.cuda.network import FusedNetwork
from loracast.compute.drawing import PlainDrawing
from loracast.compute.plain import PlainDecoder, loss_sum
from loracast.engine.pretrain import initialise
from loracast.grammar import OTHER
from loracast.language_model import load_model
from loracast.model.config import ModelConfig
from loracast.model.lora import adapter_layers, attach
from loracast.model.rotary import rotary
from loracast.model.transformer import RMSNorm, Transformer, rotate
from loracast.settings import LoraConfig, SampleConfig

pytest.importorskip("triton")

from loracast.compute.cuda.decoder import FusedDecoder
from loracast.compute.cuda.drawing import FusedDrawing
from loracast.compute.cuda.kernels.cross_entropy import HeadLoss, padded_head
from loracast.compute.cuda.kernels.norm import AddNorm
from loracast.compute.cuda.kernels.rotary import Rotate
from loracast.compute.cuda.kernels.swiglu import SwiGLU

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = {"head_dim": 16, "hidden_size": 48, "num_attention_heads": 6, "num_key_value_heads": 2}


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(DEVICE).requires_grad_()


def same(fast: Callable[..., Any], plain: Callable[..., Any], *inputs: Tensor) -> None:
    """Both give the same values and the same gradients."""
    results = []
    for function in (fast, plain):
        copies = [one.detach().clone().requires_grad_() for one in inputs]
        outputs = function(*copies)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        total: Any = sum((out * normal(*out.shape, seed=9 + index)).sum() for index, out in enumerate(outputs))
        total.backward()
        results.append([*outputs, *(one.grad for one in copies)])
    for ours, theirs in zip(*results):
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("columns", "extra"), [(48, 0), (100, 8)])
def test_add_norm(columns: int, extra: int):
    norm = RMSNorm(columns, 1e-6).to(DEVICE)
    norm.weight.data = normal(columns, seed=3).data
    norm.requires_grad_(False)
    same(
        lambda x, delta: AddNorm.apply(x, delta, norm.weight, norm.eps, extra, extra),
        lambda x, delta: (x + delta, norm(x + delta)),
        normal(5, columns),
        normal(5, columns, seed=1),
    )


def test_rotate():
    heads, groups, tokens, size = 6, 2, 5, 16
    config = ModelConfig(20, 96, 96, 1, heads, groups, head_dim=size, rope_theta=1e4)

    def plain(merged: Tensor) -> tuple[Tensor, ...]:
        query, key, value = merged.transpose(1, 2).split([heads, groups, groups], 1)
        turn = rotary(torch.arange(tokens, device=DEVICE)[None], config, torch.float32)
        return rotate(query, *turn), rotate(key, *turn), value

    cos, sin = (
        part[0, 0, :, : size // 2].contiguous()
        for part in rotary(torch.arange(tokens, device=DEVICE)[None], config, torch.float32)
    )
    same(
        lambda merged: Rotate.apply(merged, cos, sin, heads, groups, 8),
        plain,
        normal(3, tokens, heads + 2 * groups, size),
    )


def test_swiglu():
    def plain(gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, -1)
        return F.silu(gate) * up

    same(lambda gate_up: SwiGLU.apply(gate_up, 8, 16), plain, normal(3, 2 * 1030))


@pytest.mark.parametrize("rows", [15, 300])
def test_head_loss(rows: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("loracast.compute.cuda.kernels.cross_entropy.LOGITS_BYTES", 4 * 304 * 3)  # in parts
    head = normal(rows, 48, seed=2).detach()
    target = torch.arange(7, device=DEVICE) * 2
    wanted = torch.tensor([1, 1, 0, 1, 0, 1, 1], dtype=torch.bool, device=DEVICE)

    def plain(hidden: Tensor) -> Tensor:
        return F.cross_entropy((hidden @ head.T)[wanted], target[wanted], reduction="sum")

    same(lambda hidden: HeadLoss.apply(hidden, padded_head(head), rows, target, wanted), plain, normal(7, 48))


def normed_heads() -> Transformer:
    """A small Qwen3, whose norms of queries and keys matter."""
    config = ModelConfig(20, 48, 96, 2, 6, 2, 16, family="qwen3", qkv_bias=False, qk_norm=True)
    network = initialise(config, 0).requires_grad_(False).to(DEVICE)
    for name, parameter in network.named_parameters():
        if "norm" in name:
            parameter.data = 1 + 0.3 * normal(*parameter.shape, seed=len(name)).data
        else:
            parameter.data *= 5
    return network


@pytest.fixture(scope="module", params=["q,v", "all-linear", "untouched", "normed heads"])
def network(request: pytest.FixtureRequest, make_qwen2: Any) -> Transformer:
    """A small network whose adapters, if any, matter; rank 3 fills no multiple of 8 columns."""
    if request.param == "normed heads":
        plain = normed_heads()
    else:
        plain = load_model(make_qwen2(**SHAPES), device=DEVICE, precision="float32").network
    if request.param == "untouched":
        return plain
    targets = ("q", "v") if request.param == "q,v" else ("q", "k", "v", "o", "gate", "up", "down")
    adapted = attach(plain, LoraConfig(3, 5.0, 0.0, targets))
    for index, (_, layer) in enumerate(adapter_layers(adapted)):
        layer.lora_B.data = 0.3 * normal(*layer.lora_B.shape, seed=index).data
    return adapted


def test_fused_training(network: Transformer):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(15, (3, 20), generator=generator).to(DEVICE)
    targets = torch.randint(15, (3, 20), generator=generator).to(DEVICE)
    in_loss = (torch.rand(3, 20, generator=generator) < 0.7).to(DEVICE)
    fused = FusedNetwork(network)
    losses, gradients = [], []
    for loss in (fused.loss_sum(ids, targets, in_loss), loss_sum(network, ids, targets, in_loss)):
        parameters = [one for one in network.parameters() if one.requires_grad]
        losses.append(loss.item())
        gradients.append(torch.autograd.grad(loss, parameters) if parameters else ())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for ours, theirs in zip(*gradients):
        torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=2e-4)


def test_refresh(network: Transformer):
    layers = [layer for _, layer in adapter_layers(network)]
    if not layers:
        pytest.skip("nothing to refresh")
    ids = torch.arange(12, device=DEVICE)[None]
    fused = FusedNetwork(network)
    before = fused.hidden(ids)
    layers[-1].lora_B.data *= 2
    assert torch.equal(fused.hidden(ids), before)
    fused.refresh()
    torch.testing.assert_close(fused.hidden(ids), network.hidden(ids)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", ["fixed", "decimal"])
@pytest.mark.parametrize("config", [SampleConfig(), SampleConfig(temperature=0.6, top_p=0.8)], ids=["all", "nucleus"])
@pytest.mark.parametrize("some", [False, True], ids=["drawn", "given"])
def test_drawing(layout: str, config: SampleConfig, some: bool):
    """The same symbols, given and forced ones and ends of paths, whatever the hidden states are."""
    codec = Codec(layout=layout, digits=2, leading=2)
    grammar, given = codec.grammar(2), None
    if some:
        draws = np.random.default_rng(3)
        values = np.where(draws.random((21, 2, 2)) < 0.4, draws.uniform(0, 9, (21, 2, 2)), np.nan)
        scale = codec.fit_scale(np.full((21, 1, 2), 9.0))
        given = torch.from_numpy(codec.cells(values, scale, np.isnan(values))[0].astype(np.int8)).to(DEVICE)
    head, rows = normal(15, 48).detach(), torch.arange(40, 55, device=DEVICE)
    length, horizon = 2 * grammar.step_tokens, 2
    uniforms = 1 - torch.rand(21, length, generator=torch.Generator().manual_seed(2)).to(DEVICE)
    plain = PlainDrawing(head, rows, uniforms, grammar, horizon, config, given)
    fast = FusedDrawing(head, rows, uniforms, grammar, horizon, config, given)
    position = state = 0
    while position < length:
        new = 1
        if grammar.lockstep:
            state = grammar.follow(state)
            while grammar.forced[state]:
                new, state = new + 1, grammar.follow(state)
        fed = [torch.zeros(21, new, dtype=torch.int64, device=DEVICE) for _ in range(2)]
        hidden = normal(21, 48, seed=position).detach()
        plain.draw(hidden, position, fed[0])
        fast.draw(hidden, position, fed[1])
        position += new
        assert torch.equal(plain.symbols, fast.symbols.long())
        assert torch.equal(plain.steps_left, fast.steps_left.long())
        assert torch.equal(*fed)
    assert (plain.steps_left <= 0).all()
    assert (plain.symbols == OTHER).any() == (layout == "decimal")  # some ended before others


class Eager(FusedDecoder):
    """Without graphs, which a CPU does not have."""

    def advance(self, ids: Tensor) -> Tensor:
        return self._pass(ids)


@torch.inference_mode()
@pytest.mark.parametrize("samples", [1, 7])
def test_fused_decoding(network: Transformer, samples: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("loracast.compute.cuda.decoder.PREFILL_TOKENS", 200)  # in parts
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([70, 3, 66], device=DEVICE)
    prompt = torch.randint(15, (3, 70), generator=generator).to(DEVICE)
    feeds = [torch.randint(15, (3 * samples, new), generator=generator).to(DEVICE) for new in (1, 2, 3, 1)]
    feeds += [torch.randint(15, (3 * samples, 33), generator=generator).to(DEVICE)] * 2 if samples == 1 else []
    decoder = FusedDecoder if DEVICE == "cuda" else Eager
    fast = decoder(network, prompt, lengths, samples, sum(feed.shape[1] for feed in feeds))
    plain = PlainDecoder(network.hidden, prompt, lengths, samples)
    torch.testing.assert_close(fast.prefill(), plain.prefill(), rtol=1e-4, atol=1e-4)
    for feed in feeds:
        buffer = fast.buffer(feed.shape[1])
        buffer.copy_(feed)
        torch.testing.assert_close(fast.advance(buffer), plain.advance(feed), rtol=1e-4, atol=1e-4)

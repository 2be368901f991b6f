"""The CPU's fast paths against their plain twins: tightly in float32; in bfloat16 by their errors against float32."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, addmm_flop

from loracast.compute import choose, cpu
from loracast.compute.cpu import CpuCompute, blocks
from loracast.compute.cpu.attention import PARTS, QUERY_BLOCK, BlockedAttention
from loracast.compute.plain import PlainCompute
from loracast.flops import PassCost
from loracast.language_model import load_model
from loracast.model.attention import SharedPrefixCache
from loracast.model.config import ModelConfig
from loracast.model.lora import adapter_layers, attach
from loracast.model.rotary import rotary
from loracast.model.transformer import RMSNorm, Transformer, rotate
from loracast.settings import PROJECTIONS, LoraConfig

SHAPE = ModelConfig(20, 32, 32, 1, 2, 2, head_dim=16, rope_theta=10_000.0)
HEADS = [(4, 4), (4, 2), (7, 1)]
TARGETS = [PROJECTIONS, ("q", "v"), ("o",), ("k", "down"), ("gate",)]


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def plain_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)


def with_gradients(function, *inputs: Tensor) -> list[Tensor]:
    """What a function makes of copies of its inputs, and their gradients."""
    leaves = [one.detach().clone().requires_grad_() for one in inputs]
    results = function(*leaves)
    results = results if isinstance(results, tuple) else (results,)
    weights = [normal(*result.shape, seed=index).to(result.dtype) for index, result in enumerate(results)]
    total: Any = sum((r * w).sum() for r, w in zip(results, weights))
    gradients = torch.autograd.grad(total, leaves)
    return [*(result.detach() for result in results), *gradients]


def assert_close(actual: list[Tensor], expected: list[Tensor], tolerance: float = 2e-5) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert one.shape == other.shape
        assert (one - other).norm() <= tolerance * other.norm() + 1e-5


def assert_as_exact(fast: list[Tensor], plain: list[Tensor], exact: list[Tensor], factor: float) -> None:
    """bfloat16: no further from float32 than so many times the plain path is; one more rounding makes it 1.4."""
    for one, other, truth in zip(fast, plain, exact, strict=True):
        errors = [((found.float() - truth).norm() / truth.norm()).item() for found in (one, other)]
        print(f"relative errors: fast {errors[0]:.5f}, plain {errors[1]:.5f}")
        assert errors[0] < factor * errors[1] + 1e-6


@pytest.mark.parametrize(("heads", "groups"), HEADS)
@pytest.mark.parametrize("tokens", [1, 40, QUERY_BLOCK, QUERY_BLOCK + 1, 3 * QUERY_BLOCK - 5])
def test_blocked_attention(heads, groups, tokens):
    query = normal(2, heads, tokens, 16, seed=1)
    key, value = (normal(2, groups, tokens, 16, seed=seed) for seed in (2, 3))
    expected = with_gradients(plain_attention, query, key, value)
    assert_close(with_gradients(BlockedAttention.apply, query, key, value), expected)


@pytest.mark.parametrize("strength", [1.0, 6.0, 1000.0], ids=["even", "peaked", "hard"])
def test_blocked_attention_in_bfloat16(strength):
    inputs = [strength * normal(2, 4, 300, 32, seed=1), normal(2, 2, 300, 32, seed=2), normal(2, 2, 300, 32, seed=3)]
    low = [one.bfloat16() for one in inputs]
    exact = with_gradients(plain_attention, *(one.float() for one in low))
    fast, plain = with_gradients(BlockedAttention.apply, *low), with_gradients(plain_attention, *low)
    assert_as_exact(fast[:1], plain[:1], exact[:1], 1.6)
    # small weights have a rounded logarithm in the backward pass; large ones, which decide in a network, have not
    assert_as_exact(fast[1:], plain[1:], exact[1:], 3 if strength == 1 else 1.6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_rms_norm(scale):
    norm = RMSNorm(48, 1e-6).requires_grad_(False)
    nn.init.normal_(norm.weight, 1.0, 0.3)
    x = scale * normal(30, 48, seed=0)
    assert_close(with_gradients(lambda x: blocks.rms_norm(x, norm), x), with_gradients(norm, x))
    low = x.bfloat16()
    norm.bfloat16()
    fast, plain = with_gradients(lambda x: blocks.rms_norm(x, norm), low), with_gradients(norm, low)
    assert_as_exact(fast, plain, with_gradients(norm.float(), low.float()), 1.6)


def test_rotation():
    x = normal(2, 3, 20, 16, seed=0)
    cos, sin = rotary(torch.arange(20)[None], SHAPE, torch.float32)
    expected = with_gradients(lambda x: rotate(x, cos, sin), x)
    assert_close(with_gradients(lambda x: blocks.Rotation.apply(x, cos, sin), x), expected)


def test_swiglu():
    gate, up = normal(30, 48, seed=0), normal(30, 48, seed=1)
    expected = with_gradients(lambda gate, up: F.silu(gate) * up, gate, up)
    assert_close(with_gradients(blocks.SwiGLU.apply, gate, up), expected)


def adapted(directory, precision: str, targets: tuple[str, ...]) -> Transformer:
    network = attach(load_model(directory, device="cpu", precision=precision).network, LoraConfig(4, targets=targets))
    for index, (_, layer) in enumerate(adapter_layers(network)):
        layer.lora_B.data.copy_(0.1 * normal(*layer.lora_B.shape, seed=index))
    return network


def computed(compute: PlainCompute, tokens: int = 150) -> list[Tensor]:
    """Logits and gradients of the adapters, as computed in some way."""
    network = compute.network
    ids = torch.randint(15, (2, tokens), generator=torch.Generator().manual_seed(0))
    logits = network.logits(compute.hidden(ids))
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    loss = F.cross_entropy(logits.flatten(0, 1), ids.roll(-1, 1).flatten())
    return [logits.detach(), *torch.autograd.grad(loss, parameters)]


@pytest.mark.parametrize("targets", TARGETS, ids=" ".join)
def test_a_network_in_float32(make_numeric, targets):
    network = adapted(make_numeric(num_hidden_layers=3), "float32", targets)
    assert_close(computed(CpuCompute(network)), computed(PlainCompute(network)), 1e-4)


def test_a_network_in_bfloat16(make_numeric):
    directory = make_numeric(hidden_size=64, intermediate_size=128, head_dim=16, strength=4.0)
    low = adapted(directory, "bfloat16", PROJECTIONS)
    high = adapted(directory, "float32", PROJECTIONS)
    exact = computed(PlainCompute(high))

    def error(found: list[Tensor]) -> list[float]:
        gradients, truth = (torch.cat([one.flatten() for one in part[1:]]) for part in (found, exact))
        return [
            ((found[0] - exact[0]).norm() / exact[0].norm()).item(),
            ((gradients - truth).norm() / truth.norm()).item(),
        ]

    fast, plain = error(computed(CpuCompute(low))), error(computed(PlainCompute(low)))
    print(f"relative errors of logits and gradients: fast {fast}, plain {plain}")
    assert all(one < 1.25 * other for one, other in zip(fast, plain))


def test_paths_continue_a_prompt_as_the_plain_network_has_it(make_numeric):
    network = adapted(make_numeric(), "float32", PROJECTIONS)
    prompts = torch.randint(15, (2, 9), generator=torch.Generator().manual_seed(0))
    continued = torch.randint(15, (6, 3), generator=torch.Generator().manual_seed(1))

    @torch.inference_mode()
    def hidden(compute: PlainCompute) -> list[Tensor]:
        cache = SharedPrefixCache(torch.tensor([9, 5]), 3)
        return [compute.hidden(ids, cache) for ids in (prompts, continued[:, :1], continued[:, 1:])]

    fast, plain = hidden(CpuCompute(network)), hidden(PlainCompute(network))
    assert_close([fast[0][0], *fast[1:]], [plain[0][0], *plain[1:]])


def test_where_it_is_chosen(make_numeric):
    directory = make_numeric()
    assert isinstance(choose(adapted(directory, "bfloat16", PROJECTIONS)), CpuCompute)
    assert type(choose(adapted(directory, "bfloat16", PROJECTIONS), "plain")) is PlainCompute
    assert cpu.refusal(adapted(directory, "float32", PROJECTIONS)) == "its precision is float32, not bfloat16"
    assert type(choose(adapted(directory, "float32", PROJECTIONS))) is PlainCompute
    base = load_model(directory, device="cpu", precision="bfloat16").network
    assert isinstance(choose(base), CpuCompute)
    base.requires_grad_(True)  # as in pretraining
    assert cpu.refusal(base) == "its own weights are trained"


def test_dropout_is_drawn_by_the_plain_blocks(make_numeric):
    base = load_model(make_numeric(), device="cpu", precision="bfloat16").network
    network = attach(base, LoraConfig(4, dropout=0.5, targets=PROJECTIONS))
    for _, layer in adapter_layers(network):
        layer.lora_B.data.fill_(0.1)
    adapters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    ids = torch.randint(15, (2, 40), generator=torch.Generator().manual_seed(0))
    given = ids, ids, torch.ones_like(ids, dtype=torch.bool), torch.ones(())
    found = []
    for compute in (CpuCompute(network), PlainCompute(network)):
        torch.manual_seed(0)
        passes = compute.passes(adapters)
        found.append([passes.add_gradients(*given).item() for _ in range(2)])
    assert found[0][0] != found[0][1]
    assert found[0] == pytest.approx(found[1], rel=0.02)


@pytest.mark.parametrize("targets", TARGETS, ids=" ".join)
def test_it_executes_the_products_that_are_counted(make_numeric, targets):
    network, lora = adapted(make_numeric(), "bfloat16", targets), LoraConfig(4, targets=targets)
    in_place = {torch.ops.aten.addmm_: lambda out, a, b, **_: addmm_flop(out, a, b)}  # which the counter leaves out
    with FlopCounterMode(display=False, custom_mapping=in_place) as flops:
        network.logits(CpuCompute(network).hidden(torch.zeros(2, 40, dtype=torch.int64))).sum().backward()
    shape = network.config
    layers = shape.num_hidden_layers - (not {"q", "k", "v"} & set(targets))  # those with attention's backward pass
    scores = 2 * layers * shape.num_attention_heads * 40 * 40  # of 2 windows
    counted = PassCost.of(network, lora).training(2, 40).total.executed
    assert flops.get_total_flops() == counted + 2 * PARTS * scores  # the normalisers' columns, left out as too few

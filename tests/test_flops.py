"""What passes cost: `executed` against torch's own counter, `published` against a twin that computes number by number.

The counter has no formula for the attention kernel that CPUs run; it is given the one that it has for the same
algorithm on GPUs (five products in the backward pass). With the plain matrix products of the math backend it needs no
help, but those keep the scores and need one product less.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from loracast.codec import Codec
from loracast.compute import PlainCompute
from loracast.engine.sample import sample_paths
from loracast.flops import TERMS, Cost, Flops, PassCost
from loracast.language_model import load_model
from loracast.model.attention import SharedPrefixCache
from loracast.model.config import ModelConfig
from loracast.model.lora import attach
from loracast.model.transformer import Transformer
from loracast.settings import PROJECTIONS, LoraConfig, SampleConfig

TINY = ModelConfig(
    vocab_size=40,
    hidden_size=48,
    intermediate_size=80,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=12,
)
CONFIGS = {
    "grouped": TINY,
    "full heads": replace(TINY, num_key_value_heads=4),
    "one group, wide heads": replace(TINY, num_key_value_heads=1, head_dim=32),
    "untied": replace(TINY, tie_word_embeddings=False),
    "one layer": replace(TINY, num_hidden_layers=1),
}
QWEN = ModelConfig(  # Qwen2.5-0.5B
    vocab_size=151_936,
    hidden_size=896,
    intermediate_size=4864,
    num_hidden_layers=24,
    num_attention_heads=14,
    num_key_value_heads=2,
    head_dim=64,
)
SEQUENCES, LENGTH = 2, 40

every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def counter() -> FlopCounterMode:
    def forward(query, key, value, *_, **__):  # shapes
        return sdpa_flop_count(query, key, value)

    def backward(gradient, query, key, value, *_, **__):
        return sdpa_backward_flop_count(gradient, query, key, value)

    on_a_cpu = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: forward,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }
    return FlopCounterMode(display=False, custom_mapping=on_a_cpu)


def some_ids(sequences: int = SEQUENCES, length: int = LENGTH) -> Tensor:
    return torch.randint(0, 15, (sequences, length), generator=torch.Generator().manual_seed(0))


def counted_training(network: Transformer) -> int:
    ids = some_ids()
    with counter() as flops:
        F.cross_entropy(network(ids).flatten(0, 1), ids.flatten()).backward()
    return flops.get_total_flops()


# -- executed ----------------------------------------------------------------------------------------------------


@every_config
@pytest.mark.parametrize("rows", [15, None])
def test_forward(config, rows):
    network = Transformer(config, rows)
    expected = PassCost(config, rows or config.vocab_size).forward(SEQUENCES, LENGTH).total.executed
    with torch.no_grad():
        with counter() as flops:
            network(some_ids())
        assert flops.get_total_flops() == expected
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as flops:
            network(some_ids())
        assert flops.get_total_flops() == expected


def counted_terms(flops: FlopCounterMode) -> dict[str, int]:
    """What a counter saw of forward passes, by the modules that it was spent in."""
    counts = flops.get_flop_counts()

    def of(module: str) -> int:
        """Of all layers; a module's parts are counted with it."""
        return sum(sum(count.values()) for name, count in counts.items() if f".{name}".endswith(f".{module}"))

    terms = Counter({"attention": of("self_attn"), "head": of("Global") - of("self_attn") - of("mlp")})
    for name in PROJECTIONS:
        attends, whole, base = name in "qkvo", of(f"{name}_proj"), of(f"{name}_proj.base")
        terms[{"o": "output"}.get(name, "projections" if attends else name)] += base or whole
        terms["adapters"] += whole - base if base else 0
        terms["attention"] -= whole if attends else 0
    return dict(terms)


def told_terms(cost: Cost) -> dict[str, int]:
    terms = {term: flops.executed for term, flops in cost.terms.items() if flops.executed}
    assert terms["scores"] == terms["weighted sum"]
    return {"adapters": 0, "attention": terms.pop("scores") + terms.pop("weighted sum"), **terms}


@every_config
@pytest.mark.parametrize("targets", [(), ("q", "v"), ("k", "o", "down"), PROJECTIONS], ids=" ".join)
def test_every_term_of_a_forward_pass(config, targets):
    lora = LoraConfig(rank=4, targets=targets)
    network = attach(Transformer(config), lora)
    with torch.no_grad(), counter() as flops:
        network(some_ids())
    assert counted_terms(flops) == told_terms(PassCost(config, 40, lora).forward(SEQUENCES, LENGTH))


def test_forward_with_an_adapter_and_the_head_of_one_token():
    lora = LoraConfig(rank=4)
    network = attach(Transformer(TINY), lora)
    with torch.no_grad(), counter() as flops:
        network.logits(network.hidden(some_ids())[:, -1])
    assert flops.get_total_flops() == PassCost(TINY, 40, lora).forward(SEQUENCES, LENGTH, head_tokens=1).total.executed


@every_config
def test_training_from_scratch(config):
    cost = PassCost(config, 15, frozen=False)
    assert counted_training(Transformer(config, 15)) == cost.training(SEQUENCES, LENGTH).total.executed


@every_config
def test_training_an_adapter(config):
    lora = LoraConfig(rank=4)
    counted = counted_training(attach(Transformer(config, 15), lora))
    assert counted == PassCost(config, 15, lora).training(SEQUENCES, LENGTH).total.executed


@pytest.mark.parametrize("config", [TINY, CONFIGS["one layer"]], ids=["three layers", "one layer"])
@pytest.mark.parametrize("targets", ["qv", "o", ["gate"], ["k", "down"], ["down"]], ids=" ".join)
@pytest.mark.parametrize("rows", [15, None])
def test_training_goes_no_lower_than_the_first_adapter(config, targets, rows):
    lora = LoraConfig(rank=4, targets=tuple(targets))
    network = attach(Transformer(config, rows), lora)
    assert counted_training(network) == PassCost.of(network, lora).training(SEQUENCES, LENGTH).total.executed


@pytest.mark.parametrize("targets", ["qv", "o", ["gate"]], ids=" ".join)
def test_attention_and_matrices_of_training_are_told_apart(targets):
    lora = LoraConfig(rank=4, targets=tuple(targets))
    network = attach(Transformer(TINY, 15), lora)
    with counter() as flops:
        network(some_ids()).sum().backward()
    by_operation = flops.get_flop_counts()["Global"]
    attention = sum(count for operation, count in by_operation.items() if "attention" in str(operation))
    terms = PassCost.of(network, lora).training(SEQUENCES, LENGTH).terms
    assert terms["scores"].executed + terms["weighted sum"].executed == attention > 0


def test_plain_attention_recomputes_no_scores():
    ids = some_ids()
    network = Transformer(TINY, 15)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as flops:
        loss = network(ids).sum()
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    scores = 2 * SEQUENCES * LENGTH**2 * TINY.num_attention_heads * TINY.head_dim * TINY.num_hidden_layers
    counted = flops.get_total_flops() + backward.get_total_flops()
    assert counted + scores == PassCost(TINY, 15, frozen=False).training(SEQUENCES, LENGTH).total.executed


def test_a_frozen_weight_costs_four_flops_a_token_and_a_trained_one_six():
    config = replace(TINY, num_hidden_layers=100)
    weights = 15 * config.hidden_size + 100 * sum(i * o for i, o in config.projections().values())
    lora = LoraConfig(rank=1, targets=("q",))
    assert PassCost(config, 15, lora).training(1, 1).total.executed / weights == pytest.approx(4, rel=0.02)
    assert PassCost(config, 15, frozen=False).training(1, 1).total.executed / weights == pytest.approx(6, rel=0.02)


@pytest.mark.parametrize("config", [TINY, CONFIGS["one group, wide heads"]], ids=["grouped", "one group"])
@pytest.mark.parametrize("new", [1, 66])  # 65 tokens are fed: a block of keys and one more
def test_decoding(config, new):
    series, samples, prompt = 2, 3, 20
    lora = LoraConfig(rank=4, targets=("q", "up"))
    network = attach(Transformer(config, 15), lora)
    with torch.no_grad(), counter() as flops:
        cache = SharedPrefixCache(torch.full((series,), prompt), samples)
        hidden = network.hidden(some_ids(series, prompt), cache)[:, -1].repeat_interleave(samples, 0)
        for token in range(new):
            drawn = network.logits(hidden).argmax(-1, keepdim=True)
            if token < new - 1:
                hidden = network.hidden(drawn, cache)[:, -1]
    cost = PassCost(config, 15, lora).decode(series, samples, prompt, new)
    assert counted_terms(flops) == told_terms(cost)
    assert flops.get_total_flops() == cost.total.executed


@pytest.fixture
def unpadded(monkeypatch):
    """What pads a batch is not counted."""
    monkeypatch.setattr(PlainCompute, "padded", lambda self, lengths: [max(lengths)] * len(lengths))
    monkeypatch.setattr(PlainCompute, "spare_prompts", lambda self, prompts, samples: 0)


def test_sampling(make_numeric, unpadded):
    """Forced tokens are counted as if each was drawn and fed, which is a little more than what they cost."""
    directory = make_numeric(hidden_size=128, intermediate_size=320, head_dim=32)
    model = load_model(directory, device="cpu", precision="float32")  # bfloat16 skips what is after a block of queries
    codec, steps, horizon, samples = Codec(digits=3), 50, 50, 4
    grammar = codec.grammar(1)
    prompts = [codec.encode([[one]] * steps, codec.fit_scale([[one]])).ids for one in (1.0, 2.0)]
    with counter() as flops:
        sample_paths(model, prompts, ["a", "b"], grammar, horizon, SampleConfig(samples=samples))
    cost = PassCost.of(model.network).decode(2, samples, len(prompts[0]), horizon * grammar.step_tokens)
    expected = cost.total.executed
    assert 0.99 * expected <= flops.get_total_flops() <= expected


def test_sampling_what_is_given(make_numeric, unpadded):
    """Given tokens are charged like drawn ones, although the head is left out for them and they share passes."""
    directory = make_numeric(hidden_size=128, intermediate_size=320, head_dim=32)
    model = load_model(directory, device="cpu", precision="float32")
    codec, horizon, samples = Codec(digits=3), 30, 4
    scale, known = codec.fit_scale([[1.0, 2.0]]), np.full((1, horizon, 2), np.nan)
    known[..., 0], known[:, 10:20, 1] = 1.0, 2.0
    given, _ = codec.cells(known, scale, np.isnan(known))
    prompt = codec.encode([[1.0, 2.0]] * 40, scale).ids
    with counter() as flops:
        paths = sample_paths(
            model, [prompt], ["a"], codec.grammar(2), horizon, SampleConfig(samples=samples), given=given
        )
    expected = PassCost.of(model.network).forecasts([len(prompt)], paths.tokens.tolist()).total.executed
    assert flops.get_total_flops() == pytest.approx(expected, rel=0.015)
    assert (paths.tokens == horizon * 8).all()


def test_padding_costs_less_than_a_quarter_of_the_prompt_and_rows_up_to_eight_a_thread(make_numeric):
    model = load_model(make_numeric(), device="cpu", precision="float32")
    for length in range(1, 5000):
        (padded,) = model.compute.padded([length])
        assert length <= padded < max(1.25 * length, length + 64)
    threads = torch.get_num_threads()
    for prompts in range(1, 20):
        for samples in range(1, 20):
            rows = (prompts + model.compute.spare_prompts(prompts, samples)) * samples
            assert rows == prompts * samples or 8 * threads <= rows < 8 * threads + samples
            assert rows >= 8 * threads


@pytest.mark.parametrize("constrained", [True, False])
def test_sampling_numbers_of_any_length(qwen2_directory, constrained, unpadded):
    """Where nothing is forced, the tokens that sampling says it computed are all that is counted."""
    model = load_model(qwen2_directory, vocabulary="full", device="cpu", precision="float32")
    codec, samples = Codec(layout="decimal", digits=1, leading=3), 3
    prompt = codec.encode([[1.0], [20.0], [3.0]], codec.fit_scale([[1.0], [20.0], [3.0]])).ids
    with counter() as flops:
        paths = sample_paths(
            model, [prompt], ["a"], codec.grammar(1), 20, SampleConfig(samples=samples), constrained=constrained
        )
    cost = PassCost(model.network.config, len(model.rows) if constrained else model.network.config.vocab_size)
    assert flops.get_total_flops() == cost.forecasts([len(prompt)], paths.tokens.tolist()).total.executed
    assert paths.tokens.tolist() == [[paths.tokens.max()] * samples]
    assert not constrained or paths.tokens.max() < 20 * codec.grammar(1).step_tokens


# -- published ------------------------------------------------------------------------------------------------------


class Operations:
    """Counts scalar operations by the term that is being computed."""

    def __init__(self):
        self.by_term: Counter[str] = Counter()
        self.term = "none"

    @contextmanager
    def of(self, term: str) -> Iterator[None]:
        before, self.term = self.term, term
        yield
        self.term = before


class Number:
    """A number whose arithmetic is counted."""

    __slots__ = ("operations", "value")

    def __init__(self, value: float, operations: Operations):
        self.value, self.operations = value, operations

    def _made(self, value: float, flops: int = 1) -> Number:
        self.operations.by_term[self.operations.term] += flops
        return Number(value, self.operations)

    def __add__(self, other: Number) -> Number:
        return self._made(self.value + other.value)

    def __sub__(self, other: Number) -> Number:
        return self._made(self.value - other.value)

    def __mul__(self, other: Number) -> Number:
        return self._made(self.value * other.value)

    def __truediv__(self, other: Number) -> Number:
        return self._made(self.value / other.value)

    def exponential(self) -> Number:
        return self._made(math.exp(self.value), 10)

    def root(self) -> Number:
        return self._made(math.sqrt(self.value), 10)


Vector: TypeAlias = list[Number]
Matrix: TypeAlias = list[list[Number]]


def dot(one: Sequence[Number], other: Sequence[Number]) -> Number:
    return reduce(add, [x * y for x, y in zip(one, other, strict=True)])


def product(rows: Matrix, weight: Matrix) -> Matrix:
    """[T][inputs] and [outputs][inputs] to [T][outputs]."""
    return [[dot(row, column) for column in weight] for row in rows]


def plus(one: Matrix, other: Matrix) -> Matrix:
    return [[x + y for x, y in zip(*rows, strict=True)] for rows in zip(one, other, strict=True)]


class Twin:
    """Qwen2 with full multi-head attention, number by number: nothing is shared, skipped or computed in bulk.

    The keys and values of a network with grouped attention are repeated, so that its logits are the same.
    """

    def __init__(self, network: Transformer, lora: LoraConfig | None):
        self.config, self.lora, self.operations = network.config, lora, Operations()
        config = network.config
        self.weights: dict[str, Any] = {}
        for name, tensor in network.state_dict().items():
            if any(part in name for part in ("k_proj", "v_proj")) and not name.endswith("lora_A"):
                heads = tensor.unflatten(0, (config.num_key_value_heads, config.head_dim))
                tensor = heads.repeat_interleave(config.num_attention_heads // config.num_key_value_heads, 0)
                tensor = tensor.flatten(0, 1)
            short = name.removeprefix("model.").removeprefix("layers.").replace(".base.", ".")
            self.weights[short] = self.numbers(tensor.tolist())

    def numbers(self, values: Any) -> Any:
        if isinstance(values, list):
            return [self.numbers(value) for value in values]
        return Number(values, self.operations)

    def logits(self, ids: Sequence[int], cache: list[tuple[Matrix, Matrix]], head_tokens: int) -> list[list[float]]:
        """Logits [head_tokens][V] of the last ids, which continue what is in the cache: (keys, values) of each layer.

        The cache is replaced, not changed, layer by layer.
        """
        config, of, weights = self.config, self.operations.of, self.weights
        with of("embedding"):
            x = [weights["embed_tokens.weight"][index] for index in ids]
        for layer in range(config.num_hidden_layers):
            with of("norms"):
                normed = [self.norm(row, weights[f"{layer}.input_layernorm.weight"]) for row in x]
            mixed = self.attention(normed, f"{layer}.self_attn", layer, cache)
            with of("residuals"):
                x = plus(x, mixed)
            with of("norms"):
                normed = [self.norm(row, weights[f"{layer}.post_attention_layernorm.weight"]) for row in x]
            gate, up = (self.project(normed, f"{layer}.mlp", name, name) for name in ("gate", "up"))
            with of("activation"):
                inner = [[self.silu(g) * u for g, u in zip(*rows)] for rows in zip(gate, up)]
            down = self.project(inner, f"{layer}.mlp", "down", "down")
            with of("residuals"):
                x = plus(x, down)
        with of("norms"):
            x = [self.norm(row, weights["norm.weight"]) for row in x]
        with of("head"):
            head = weights["embed_tokens.weight" if config.tie_word_embeddings else "lm_head.weight"]
            logits = product(x[len(x) - head_tokens :], head)
        return [[number.value for number in row] for row in logits]

    def norm(self, row: Vector, weight: Vector) -> Vector:
        size, epsilon = self.numbers([len(row), self.config.rms_norm_eps])
        root = (dot(row, row) / size + epsilon).root()
        return [x / root * w for x, w in zip(row, weight)]

    def silu(self, x: Number) -> Number:
        minus, one = self.numbers([-1.0, 1.0])
        return x / (one + (minus * x).exponential())

    def project(self, x: Matrix, module: str, name: str, term: str) -> Matrix:
        prefix = f"{module}.{name}_proj"
        with self.operations.of(term):
            result = product(x, self.weights[f"{prefix}.weight"])
            if f"{prefix}.bias" in self.weights:
                result = [[y + b for y, b in zip(row, self.weights[f"{prefix}.bias"], strict=True)] for row in result]
        if self.lora and name in self.lora.targets:
            with self.operations.of("adapters"):
                change = product(product(x, self.weights[f"{prefix}.lora_A"]), self.weights[f"{prefix}.lora_B"])
                scaling = self.numbers(self.lora.scaling)
                result = plus(result, [[scaling * y for y in row] for row in change])
        return result

    def attention(self, x: Matrix, module: str, layer: int, cache: list[tuple[Matrix, Matrix]]) -> Matrix:
        size, of = self.config.head_dim, self.operations.of
        query, key, value = (self.project(x, module, name, "projections") for name in "qkv")
        before = len(cache[layer][0])
        with of("rotary"):
            query, key = ([self.rotate(row, before + at) for at, row in enumerate(rows)] for rows in (query, key))
        key, value = cache[layer][0] + key, cache[layer][1] + value  # [n][H*E]
        cache[layer] = key, value
        mixed: Matrix = [[] for _ in x]
        for head in range(self.config.num_attention_heads):
            part = slice(head * size, (head + 1) * size)
            root = self.numbers(math.sqrt(size))
            with of("scores"):
                scores = [[dot(q[part], k[part]) / root for k in key] for q in query]
            if len(x) > 1:  # a single new token sees everything
                with of("mask"):
                    for at, row in enumerate(scores):
                        hidden = [-math.inf if place > before + at else 0.0 for place in range(len(row))]
                        scores[at] = [score + self.numbers(bias) for score, bias in zip(row, hidden)]
            for at, row in enumerate(scores):
                with of("softmax"):
                    raised = [score.exponential() for score in row]
                    total = reduce(add, raised)
                    shares = [one / total for one in raised]
                with of("weighted sum"):
                    mixed[at] += [dot(shares, [v[column] for v in value]) for column in range(*part.indices(10**6))]
        return self.project(mixed, module, "o", "output")

    def rotate(self, row: Vector, position: int) -> Vector:
        """Each pair (i, i + E/2) of each head, turned by its angle; sines and cosines are tabulated."""
        size, turned = self.config.head_dim, list(row)
        for first in range(0, len(row), size):
            for index in range(size // 2):
                angle = position / self.config.rope_theta ** (2 * index / size)
                cos, sin = self.numbers([math.cos(angle), math.sin(angle)])
                low, high = first + index, first + index + size // 2
                turned[low] = row[low] * cos - row[high] * sin
                turned[high] = row[high] * cos + row[low] * sin
        return turned


SMALL = ModelConfig(
    vocab_size=7,
    hidden_size=6,
    intermediate_size=5,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=4,
    rope_theta=100.0,
)
SMALL_CONFIGS = {
    "grouped": SMALL,
    "full heads": replace(SMALL, num_key_value_heads=4),
    "untied": replace(SMALL, tie_word_embeddings=False),
    "one layer": replace(SMALL, num_hidden_layers=1),
}
TARGETS = [None, ("q", "v"), ("k", "o", "gate"), PROJECTIONS]


def small_network(config: ModelConfig, targets: tuple[str, ...] | None) -> tuple[Transformer, LoraConfig | None]:
    """A network in which everything matters, adapters included."""
    lora = LoraConfig(rank=3, targets=targets) if targets else None
    network = Transformer(config) if lora is None else attach(Transformer(config), lora)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return network, lora


def published(cost: Cost) -> dict[str, int]:
    return {term: flops.published for term, flops in cost.terms.items() if flops.published}


def empty(config: ModelConfig) -> list[tuple[Matrix, Matrix]]:
    return [([], []) for _ in range(config.num_hidden_layers)]


@pytest.mark.parametrize("config", SMALL_CONFIGS.values(), ids=SMALL_CONFIGS.keys())
@pytest.mark.parametrize("targets", TARGETS, ids=lambda targets: " ".join(targets or ("no adapter",)))
@pytest.mark.parametrize("head_tokens", [5, 1, 0])
def test_course_counts_what_the_twin_computes(config, targets, head_tokens):
    network, lora = small_network(config, targets)
    twin, ids = Twin(network, lora), [[3, 1, 4, 1, 5], [2, 6, 0, 5, 3]]
    logits = [twin.logits(row, empty(config), head_tokens) for row in ids]
    if head_tokens:
        with torch.no_grad():
            expected = network(torch.tensor(ids))[:, -head_tokens:]
        torch.testing.assert_close(torch.tensor(logits), expected, atol=1e-4, rtol=1e-4)
    cost = PassCost.of(network, lora)
    assert published(cost.forward(2, 5, head_tokens=head_tokens)) == twin.operations.by_term
    if head_tokens == 5:
        assert cost.forward(2, 5).terms == cost.forward(2, 5, head_tokens=5).terms
        assert published(cost.training(2, 5)) == {term: 3 * flops for term, flops in twin.operations.by_term.items()}


@pytest.mark.parametrize("config", SMALL_CONFIGS.values(), ids=SMALL_CONFIGS.keys())
@pytest.mark.parametrize("targets", [None, ("k", "down")], ids=["no adapter", "k down"])
@pytest.mark.parametrize("new", [1, 2, 5])
def test_course_counts_decoding_with_kept_keys_step_by_step(config, targets, new):
    network, lora = small_network(config, targets)
    twin, prompts, samples, written = Twin(network, lora), [[3, 1, 4], [1, 5, 2]], 2, [6, 0, 2, 5, 3]
    for prompt in prompts:
        prefilled = empty(config)
        twin.logits(prompt, prefilled, 0)
        twin.operations.term = "head"  # of each path's first symbol, from the prompt's last state
        with torch.no_grad():
            whole = network(torch.tensor([prompt + written]))[0]
            last = twin.numbers(network.hidden(torch.tensor([prompt]))[0, -1:].tolist())
        head = twin.weights["embed_tokens.weight" if config.tie_word_embeddings else "lm_head.weight"]
        for _ in range(samples):
            cache = list(prefilled)
            product(last, head)
            for step in range(new - 1):
                logits = twin.logits([written[step]], cache, 1)
                torch.testing.assert_close(torch.tensor(logits[0]), whole[3 + step], atol=1e-4, rtol=1e-4)
    cost = PassCost.of(network, lora).decode(len(prompts), samples, 3, new)
    assert published(cost) == twin.operations.by_term


@pytest.mark.parametrize(("length", "flops"), [(512, 6.778e12), (768, 1.0379e13)])
def test_course_gives_the_figures_that_are_known_of_qwen(length, flops):
    cost = PassCost(QWEN, QWEN.vocab_size, LoraConfig(rank=8, targets=("q", "v"))).training(4, length)
    assert cost.total.published == pytest.approx(flops, rel=0.001)


# -- both --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2, targets=("o",))], ids=["no adapter", "o"])
@pytest.mark.parametrize("frozen", [True, False])
def test_every_cost_has_every_term_and_they_add_up(lora, frozen):
    cost = PassCost(TINY, 15, lora, frozen)
    costs = [cost.forward(2, 7), cost.training(2, 7), cost.decode(2, 3, 5, 4)]
    for one in (*costs, costs[0] + costs[1], 3 * costs[2]):
        assert tuple(one.terms) == TERMS
        assert one.total.executed == sum(flops.executed for flops in one.terms.values()) > 0
        assert one.total.published == sum(flops.published for flops in one.terms.values()) > 0
        assert one.terms["embedding"] == Flops()
    assert (costs[0] + costs[1]).total == costs[0].total + costs[1].total
    assert (3 * costs[2]).total == costs[2].total * 3


def test_forecasts_cost_what_reading_each_series_and_writing_each_path_cost():
    cost = PassCost(TINY, 15, LoraConfig(rank=2))
    prompts, tokens = [9, 4, 9], [[70, 3], [5, 5], [3, 3]]
    expected = cost.prefill(2, 9) + cost.prefill(1, 4)
    for prompt, paths in zip(prompts, tokens):
        for new in paths:
            expected += cost.continuation(1, prompt, new)
    assert cost.forecasts(prompts, tokens) == expected
    assert cost.forecasts([9, 9], [[6] * 3] * 2) == cost.decode(2, 3, 9, 6)
    assert cost.forecasts([], []).total == Flops()


def test_only_the_head_depends_on_the_rows_that_are_computed():
    lora = LoraConfig(rank=2)
    for work in ("forward", "training"):
        numeric, full = (getattr(PassCost(TINY, rows, lora), work)(2, 7) for rows in (15, 40))
        changed = {term for term in TERMS if numeric.terms[term] != full.terms[term]}
        assert changed == {"head"}


def test_costs_grow_with_everything_that_is_computed():
    cost = PassCost(TINY, 15, LoraConfig(rank=2))
    one = cost.decode(1, 2, 5, 4).total
    for more in ((2, 2, 5, 4), (1, 3, 5, 4), (1, 2, 6, 4), (1, 2, 5, 5)):
        total = cost.decode(*more).total
        assert total.executed > one.executed
        assert total.published > one.published
    for shorter, longer in pairwise(cost.forward(1, length).total.published for length in range(1, 6)):
        assert longer > shorter


def test_flops_are_counted_in_both_conventions_side_by_side():
    flops = Flops(executed=3, published=5)
    assert (flops.of("executed"), flops.of("published")) == (3, 5)
    assert flops + 2 * flops - flops * 1 == Flops(6, 10)
    assert Flops.sum([]) == Flops()
    assert Flops.sum([flops, Flops(published=1)]) == Flops(3, 6)

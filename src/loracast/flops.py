"""What a pass costs in floating-point operations, term by term and in two conventions.

- `executed`: 2·m·n·k for every matrix product that is executed and nothing else, so that the cost is what
  `torch.utils.flop_counter` counts. Frozen weights get no gradient; heads of a group share keys and values. Attention
  is counted over all pairs of tokens, as the counter does, although a causal kernel skips about half of them; the few
  columns that a CPU's backward pass adds to its scores in bfloat16 are left out.
- `published`: what the equations say, whoever executes them. Each addition, multiplication and division is 1; an
  exponential, logarithm, root or sine is 10; an (m×n)(n×p) product is m·p·(2n-1). Grouped attention counts as full
  multi-head attention, and the backward pass as twice the forward pass.

In both, looking up an embedding costs nothing, and the loss, the optimiser, dropout and drawing symbols are left out.

Notation of the formulas: N layers, C hidden size, H heads of size E, I inner size of the MLP, V rows of the head.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from loracast.model.config import CACHE_BLOCK, ModelConfig
from loracast.settings import LoraConfig

if TYPE_CHECKING:  # costs are told without loading torch
    from loracast.model.transformer import Transformer

Convention = Literal["executed", "published"]
FORMERLY = {"hardware": "executed", "course": "published"}  # as files of before name the conventions

TERMS = (
    "embedding", "norms", "projections", "rotary", "scores", "mask", "softmax", "weighted sum", "output", "gate", "up",
    "activation", "down", "residuals", "adapters", "head",
)  # fmt: skip
TERM_OF = {"q": "projections", "k": "projections", "v": "projections", "o": "output"}  # others are called as they are
TRANSCENDENTAL = 10  # an exponential, logarithm, root or sine under `published`


def column_name(name: str) -> str:
    """A column of a table of costs, by the names that conventions have now."""
    before, _, convention = name.rpartition("predicted_")
    return f"{name[: len(name) - len(convention)]}{FORMERLY.get(convention, convention)}" if not before else name


def renamed(stored: Any) -> Any:
    """What a file holds, with the names that conventions have now: as keys of numbers, and as a `convention`."""
    if isinstance(stored, list):
        return [renamed(value) for value in stored]
    if not isinstance(stored, dict):
        return stored
    found = {}
    for name, value in stored.items():
        if name == "convention" and isinstance(value, str):
            value = FORMERLY.get(value, value)
        if not isinstance(value, str):  # "hardware" is also where a machine's name stands
            name = FORMERLY.get(name, name)
        found[name] = renamed(value)
    return found


@dataclass(frozen=True)
class Flops:
    """A number of FLOPs in each convention.

    Examples:
        >>> loracast.Flops(100, 120) + 2 * loracast.Flops(10, 15)
        Flops(executed=120, published=150)
    """

    executed: int = 0
    published: int = 0

    def __add__(self, other: Flops) -> Flops:
        return Flops(self.executed + other.executed, self.published + other.published)

    def __sub__(self, other: Flops) -> Flops:
        return Flops(self.executed - other.executed, self.published - other.published)

    def __mul__(self, times: int) -> Flops:
        return Flops(self.executed * times, self.published * times)

    __rmul__ = __mul__

    def of(self, convention: Convention) -> int:
        return self.executed if convention == "executed" else self.published

    @staticmethod
    def sum(parts: Iterable[Flops]) -> Flops:
        return sum(parts, Flops())


@dataclass(frozen=True)
class Cost:
    """What a piece of work costs by term; every one of `TERMS` is there."""

    terms: dict[str, Flops]

    @property
    def total(self) -> Flops:
        return Flops.sum(self.terms.values())

    def __add__(self, other: Cost) -> Cost:
        return Cost({term: self.terms[term] + other.terms[term] for term in TERMS})

    def __mul__(self, times: int) -> Cost:
        return Cost({term: flops * times for term, flops in self.terms.items()})

    __rmul__ = __mul__


@dataclass(frozen=True)
class PassCost:
    """Costs of passes through one model, with or without an adapter.

    Args:
        rows: rows of the head that are computed: the numeric symbols, or the whole vocabulary.
        lora: the adapter, if there is one.
        frozen: whether the base is frozen, so that its weights get no gradients (`executed`).
    """

    config: ModelConfig
    rows: int
    lora: LoraConfig | None = None
    frozen: bool = True

    @classmethod
    def of(cls, network: Transformer, lora: LoraConfig | None = None) -> PassCost:
        """The costs of a loaded network with the rows that it holds."""
        return cls(network.config, network.model.embed_tokens.num_embeddings, lora)

    def forward(self, sequences: int, length: int, *, head_tokens: int | None = None) -> Cost:
        """A forward pass over `sequences` of `length` tokens, the head on `head_tokens` of each (all unless given)."""
        tokens, pairs = sequences * length, sequences * length * length
        head_tokens = sequences * (length if head_tokens is None else head_tokens)
        executed = self._executed(tokens, pairs, head_tokens)
        published = self._published(tokens, pairs, head_tokens)
        published["mask"] = pairs * self.config.num_attention_heads * self.config.num_hidden_layers
        return _cost(executed, published)

    def training(self, sequences: int, length: int) -> Cost:
        """A forward and backward pass.

        `executed`: a frozen weight costs 4 and not 6 FLOPs a token, and the backward pass of attention recomputes the
        scores: of its five products three are of scores and two of weighted sums.
        """
        tokens, pairs = sequences * length, sequences * length * length
        forward = self._executed(tokens, pairs, tokens)
        backward: dict[str, int] = dict.fromkeys(forward, 1 if self.frozen else 2)
        backward |= {"scores": 3, "weighted sum": 2, "adapters": 2}
        executed = {term: forward[term] * (1 + backward[term]) for term in forward}
        for term, spared in self._below_the_adapters(tokens, pairs).items():
            executed[term] -= spared
        published = {term: 3 * flops.published for term, flops in self.forward(sequences, length).terms.items()}
        return _cost(executed, published)

    def decode(self, series: int, samples: int, prompt: int, new: int) -> Cost:
        """Prefill `series` prompts once, then decode `new` tokens of `samples` paths of each with a cache."""
        return self.prefill(series, prompt) + self.continuation(series * samples, prompt, new)

    def prefill(self, series: int, prompt: int) -> Cost:
        """Read prompts; the head after their last tokens counts as the first decoded token's."""
        return self.forward(series, prompt, head_tokens=0)

    def continuation(self, paths: int, prompt: int, new: int) -> Cost:
        """Decode `new` tokens of `paths` that continue prompts of one length.

        A path's last token is drawn and not fed. Tokens that a grammar forces are counted like drawn ones, although
        the head is left out for them. `executed`: each path's own keys are read in whole blocks.
        """
        fed = new - 1
        in_blocks = sum(prompt + CACHE_BLOCK * (step // CACHE_BLOCK + 1) for step in range(fed))
        exact = fed * (prompt + 1) + fed * (fed - 1) // 2
        executed = self._executed(paths * fed, paths * in_blocks, paths * new)
        published = self._published(paths * fed, paths * exact, paths * new)
        return _cost(executed, published)

    def forecasts(self, prompts: Sequence[int], tokens: Sequence[Sequence[int]]) -> Cost:
        """Prefill of series with prompts of these lengths, and decoding of so many tokens in each path of each."""
        lengths = Counter((prompt, new) for prompt, paths in zip(prompts, tokens) for new in paths)
        parts = [self.prefill(series, prompt) for prompt, series in Counter(prompts).items()]
        parts += [self.continuation(paths, prompt, new) for (prompt, new), paths in lengths.items()]
        return Cost({term: Flops.sum(part.terms[term] for part in parts) for term in TERMS})

    def each_forecast(self, prompts: NDArray[np.int64], tokens: NDArray[np.int64]) -> list[Flops]:
        """What `forecasts` cost of each series by itself: with prompts of lengths [N, P], and new tokens of the paths
        [N, S] of all of its prompts, as many of each."""
        known: dict[bytes, Flops] = {}
        found = []
        for lengths, new in zip(prompts, tokens.reshape(*prompts.shape, -1)):
            key = lengths.tobytes() + new.tobytes()
            if key not in known:
                known[key] = self.forecasts(lengths.tolist(), new.tolist()).total
            found.append(known[key])
        return found

    # -- executed ------------------------------------------------------------------------------------------------

    def _executed(self, tokens: int, pairs: int, head_tokens: int) -> dict[str, int]:
        """The products of a forward pass; `pairs` of a query and a key in each layer and head."""
        config, layers = self.config, self.config.num_hidden_layers
        terms: dict[str, int] = dict.fromkeys(("projections", "output", "gate", "up", "down"), 0)
        for name, (inputs, outputs) in config.projections().items():
            terms[TERM_OF.get(name, name)] += 2 * tokens * inputs * outputs * layers
        terms["scores"] = terms["weighted sum"] = self._attention_product(pairs) * layers
        adapters = config.lora_parameters(self.lora.rank, self.lora.targets) if self.lora else 0
        return terms | {"adapters": 2 * tokens * adapters, "head": 2 * head_tokens * config.hidden_size * self.rows}

    def _attention_product(self, pairs: int) -> int:
        """Scores, or their weighted sum, in one layer: 2·E a head and pair."""
        return 2 * pairs * self.config.num_attention_heads * self.config.head_dim

    def _below_the_adapters(self, tokens: int, pairs: int) -> dict[str, int]:
        """Backward FLOPs that a frozen base is spared: no gradient goes below the first layer's first adapter."""
        spared = dict.fromkeys(self._executed(0, 0, 0), 0)
        if not self.frozen:
            return spared
        targets, rank = (self.lora.targets, self.lora.rank) if self.lora else ((), 0)
        shapes = self.config.projections()
        for stage in (("q", "k", "v"), ("o",), ("gate", "up"), ("down",)):  # each reads what the one before it made
            for name in stage:
                inputs, outputs = shapes[name]
                spared[TERM_OF.get(name, name)] += 2 * tokens * inputs * outputs
                spared["adapters"] += 2 * tokens * inputs * rank if name in targets else 0
            if any(name in targets for name in stage):
                break
            if "q" in stage:
                spared["scores"] += 3 * self._attention_product(pairs)
                spared["weighted sum"] += 2 * self._attention_product(pairs)
        return spared

    # -- published --------------------------------------------------------------------------------------------------

    def _published(self, tokens: int, pairs: int, head_tokens: int) -> dict[str, int]:
        """All terms of a forward pass but the mask, which a single new token does not need."""
        config = self.config
        layers, heads, size = config.num_hidden_layers, config.num_attention_heads, config.head_dim
        hidden, inner, width = config.hidden_size, config.intermediate_size, heads * size
        norm = 4 * hidden + 1 + TRANSCENDENTAL  # squares and their mean, epsilon, root, division, scale
        silu = 3 + TRANSCENDENTAL  # x / (1 + exp(-x))
        in_layers = {
            "norms": 2 * tokens * norm + (2 * tokens * heads * (norm + 4 * (size - hidden)) if config.qk_norm else 0),
            "projections": 3 * (_product(tokens, hidden, width) + (tokens * width if config.qkv_bias else 0)),
            "rotary": 2 * 3 * tokens * width,  # of queries and keys: x·cos + rotated x·sin
            "scores": heads * pairs * (2 * size - 1 + 1),  # scaled
            "softmax": heads * (pairs * (TRANSCENDENTAL + 2) - tokens),  # of n keys: n exponentials, n-1 sums, n ratios
            "weighted sum": heads * size * (2 * pairs - tokens),
            "output": _product(tokens, width, hidden),
            "gate": _product(tokens, hidden, inner),
            "up": _product(tokens, hidden, inner),
            "activation": tokens * inner * (silu + 1),  # times `up`
            "down": _product(tokens, inner, hidden),
            "residuals": 2 * tokens * hidden,
            "adapters": self._course_adapters(tokens),
        }
        terms = {term: layers * flops for term, flops in in_layers.items()}
        terms["norms"] += tokens * norm  # the last one
        return terms | {"head": _product(head_tokens, hidden, self.rows)}

    def _course_adapters(self, tokens: int) -> int:
        """B(Ax), scaled and added, of one layer's targets."""
        if self.lora is None:
            return 0
        width = self.config.num_attention_heads * self.config.head_dim
        flops = 0
        for name in self.lora.targets:
            inputs, outputs = self.config.projections()[name]
            outputs = width if name in ("k", "v") else outputs
            flops += _product(tokens, inputs, self.lora.rank) + _product(tokens, self.lora.rank, outputs)
            flops += 2 * tokens * outputs
        return flops


def _product(rows: int, inner: int, columns: int) -> int:
    """`published`: (rows × inner)(inner × columns)."""
    return rows * columns * (2 * inner - 1)


def _cost(executed: dict[str, int], published: dict[str, int]) -> Cost:
    return Cost({term: Flops(executed.get(term, 0), published.get(term, 0)) for term in TERMS})

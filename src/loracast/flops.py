"""What a pass costs in floating-point operations, and a ledger that keeps within a budget.

The convention here is `hardware`: 2·m·n·k for every matrix product that is executed and nothing else, so that the cost
is what `torch.utils.flop_counter` counts. Element-wise work (norms, rotary, SiLU, softmax, the optimiser) is left out.
Attention is counted over all pairs of tokens, as the counter does, although a causal kernel skips about half of them,
and for every query head, although heads of a group share keys and values.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from loracast.errors import BudgetError
from loracast.model.attention import BLOCK
from loracast.model.config import Qwen2Config
from loracast.settings import LoraConfig


@dataclass(frozen=True)
class PassCost:
    """Cost of passes through one model, with or without an adapter.

    Args:
        rows: rows of the head that are computed: the numeric symbols, or the whole vocabulary.
        lora: the adapter, if there is one.
        frozen: whether the base is frozen, so that its weights get no gradients.
    """

    config: Qwen2Config
    rows: int
    lora: LoraConfig | None = None
    frozen: bool = True

    @property
    def _projections(self) -> int:
        """Forward FLOPs a token of all projections of all layers."""
        shapes = self.config.projections().values()
        return 2 * self.config.num_hidden_layers * sum(inputs * outputs for inputs, outputs in shapes)

    @property
    def _adapters(self) -> int:
        """Forward FLOPs a token of all adapters."""
        if self.lora is None:
            return 0
        return 2 * self.config.lora_parameters(self.lora.rank, self.lora.targets)

    @property
    def _head(self) -> int:
        return 2 * self.config.hidden_size * self.rows

    def _attention(self, tokens: int, keys: int) -> int:
        """Scores and weighted sum of `tokens` queries over `keys` keys, all layers and heads."""
        width = self.config.num_attention_heads * self.config.head_dim
        return 4 * self.config.num_hidden_layers * width * tokens * keys

    def forward(self, sequences: int, length: int, *, head_tokens: int | None = None) -> int:
        """A forward pass over `sequences` of `length` tokens, the head on `head_tokens` of each (all unless given)."""
        tokens = sequences * length
        head_tokens = length if head_tokens is None else head_tokens
        body = tokens * (self._projections + self._adapters) + sequences * self._attention(length, length)
        return body + sequences * head_tokens * self._head

    def training(self, sequences: int, length: int) -> int:
        """A forward and backward pass. Frozen weights get no gradient, so they cost 4 and not 6 FLOPs a token.

        The backward pass of attention recomputes the scores: five products where the forward pass has two.
        """
        tokens = sequences * length
        per_weight = self._projections + self._head
        backward = tokens * (per_weight * (1 if self.frozen else 2) + 2 * self._adapters)
        backward += sequences * self._attention(length, length) * 5 // 2
        return self.forward(sequences, length) + backward - self._below_the_adapters(sequences, length)

    def _below_the_adapters(self, sequences: int, length: int) -> int:
        """Backward FLOPs that a frozen base is spared: no gradient goes below the first layer's first adapter."""
        if not self.frozen:
            return 0
        tokens, spared = sequences * length, 0
        targets, rank = (self.lora.targets, self.lora.rank) if self.lora else ((), 0)
        shapes = self.config.projections()
        for stage in (("q", "k", "v"), ("o",), ("gate", "up"), ("down",)):  # each reads what the one before it made
            for name in stage:
                inputs, outputs = shapes[name]
                spared += 2 * tokens * inputs * (outputs + (rank if name in targets else 0))
            if any(name in targets for name in stage):
                break
            if "q" in stage:
                spared += sequences * self._attention(length, length) // self.config.num_hidden_layers * 5 // 2
        return spared

    def decode(self, series: int, samples: int, prompt: int, new: int) -> int:
        """Prefill `series` prompts once, then decode `new` tokens of `samples` paths of each with a cache.

        Each path's own keys are read in whole blocks, and its last token is drawn and not fed. Tokens that a grammar
        forces are counted like drawn ones, although the head is left out for them.
        """
        paths = series * samples
        prefill = self.forward(series, prompt, head_tokens=0)
        attended = sum(prompt + BLOCK * (step // BLOCK + 1) for step in range(new - 1))
        body = paths * (new - 1) * (self._projections + self._adapters)
        return prefill + body + paths * self._attention(1, attended) + paths * new * self._head


@dataclass
class Ledger:
    """FLOPs spent, by experiment. With a budget, a charge that would pass it is refused before it is made."""

    budget: float | None = None
    spent: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.spent.values())

    def affords(self, flops: int) -> bool:
        return self.budget is None or self.total + flops <= self.budget

    def charge(self, experiment: str, flops: int) -> None:
        if not self.affords(flops):
            raise BudgetError(
                f"{experiment} needs {flops:.3e} FLOPs, but {self.total:.3e} of {self.budget:.3e} are spent; "
                "raise the budget or take smaller steps"
            )
        self.spent[experiment] = self.spent.get(experiment, 0) + flops

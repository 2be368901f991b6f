"""The reference way of computing: what `loracast.model` says, as it says it, on any device and in any precision.

All faster ways are tested against this one, and `compute="plain"` takes it by choice.

Shapes: N series, S samples a series, B = N·S paths, T tokens of a pass, L tokens, C hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loracast.compute.device import free_memory, on_gpu
from loracast.compute.drawing import PlainDrawing
from loracast.compute.interface import Decoder, Drawing, Passes
from loracast.grammar import Grammar
from loracast.model.attention import CausalAttention, SharedPrefixCache, causal_attention
from loracast.model.config import CACHE_BLOCK, ModelConfig
from loracast.model.transformer import Transformer
from loracast.settings import SampleConfig

CPU_MEMORY_BYTES = 1200 * 2**20  # of a batch on a CPU, once for its keys and values and once for its prefill
MEMORY_SHARE = 0.8  # of a GPU's free memory that a part of a training batch may take as it was estimated
FEWEST_ROWS = 8  # of a product on a CPU, for each thread; fewer ones are added up in another order

Hidden = Callable[..., Tensor]
"""Normalised hidden states [B, T, C] of ids [B, T], which may continue a `SharedPrefixCache`."""


def loss_sum(
    network: Transformer, ids: Tensor, targets: Tensor, in_loss: Tensor, hidden: Hidden | None = None
) -> Tensor:
    """Summed cross-entropy in nats of next tokens: ids [B, L] are fed, targets [B, L] with in_loss [B, L] predicted.

    The head is computed where it is needed only. hidden: what computes the hidden states, the network unless given.
    """
    states = (hidden or network.hidden)(ids[:, :-1])  # [B, L-1, C]
    wanted = in_loss[:, 1:]
    return F.cross_entropy(network.logits(states[wanted]), targets[:, 1:][wanted], reduction="sum")


class PlainPasses:
    """See `interface.Passes`."""

    length_multiple = 1

    def __init__(self, network: Transformer, hidden: Hidden, element_bytes: int):
        self.network, self.hidden, self.element_bytes = network, hidden, element_bytes

    def loss_sum(self, ids: Tensor, targets: Tensor, in_loss: Tensor) -> Tensor:
        self.network.eval()
        return loss_sum(self.network, ids, targets, in_loss, self.hidden)

    def add_gradients(self, ids: Tensor, targets: Tensor, in_loss: Tensor, share: Tensor) -> Tensor:
        self.network.train()
        loss = share * loss_sum(self.network, ids, targets, in_loss, self.hidden)
        loss.backward()
        return loss.detach()

    def parts(self, windows: int, tokens: int) -> int:
        return parts_that_fit(self.network.config, self.element_bytes, windows, tokens, self.network.head.device)

    def forget(self) -> None:
        pass  # nothing is kept


def parts_that_fit(config: ModelConfig, size: int, windows: int, tokens: int, device: torch.device) -> int:
    """As few parts of a training batch as the free memory holds by an estimate; one on a CPU.

    size: bytes of each number that is kept for the backward pass.
    """
    free = free_memory(device, reserved=True)
    if free is None:
        return 1
    needed = windows * tokens * kept_bytes(config, size)
    return min(windows, max(1, -(-needed // int(MEMORY_SHARE * free))))


def kept_bytes(config: ModelConfig, size: int) -> int:
    """About how much a token of a forward pass keeps for its backward pass: what the fused network keeps, or twice."""
    projections = config.projections()
    wide = 2 * config.intermediate_size + 3 * config.hidden_size + sum(projections[name][1] for name in "qkv")
    return size * config.num_hidden_layers * (wide + projections["o"][0])


class PlainDecoder:
    """See `interface.Decoder`; the prompts [N, P] are padded on the right, their `lengths` are [N].

    Args:
        hidden: what computes hidden states.
        attention: what computes the attention of the prompts.
    """

    def __init__(
        self,
        hidden: Hidden,
        prompt: Tensor,
        lengths: Tensor,
        samples: int,
        attention: CausalAttention = causal_attention,
    ):
        self.hidden, self.prompt, self.lengths, self.samples = hidden, prompt, lengths, samples
        self.cache = SharedPrefixCache(lengths, samples, attention)

    def prefill(self) -> Tensor:
        hidden = self.hidden(self.prompt, self.cache)  # [N, P, C]
        last = hidden[torch.arange(len(hidden), device=hidden.device), self.lengths - 1]
        return last.repeat_interleave(self.samples, 0)

    def buffer(self, new: int) -> Tensor:
        paths = len(self.prompt) * self.samples
        return torch.empty(paths, new, dtype=torch.int64, device=self.prompt.device)

    def advance(self, ids: Tensor) -> Tensor:
        return self.hidden(ids, self.cache)[:, -1]


class PlainCompute:
    """The reference way of computing one network, and what every way offers: faster ones put their own in its place.

    Attributes:
        name: `plain`, `cpu` or `cuda`.
        network: what is computed, with or without an adapter.
    """

    name = "plain"

    def __init__(self, network: Transformer):
        self.network = network

    @property
    def device(self) -> torch.device:
        return self.network.head.device

    @property
    def drops_out(self) -> bool:
        """Whether the adapter drops some of what it reads in training."""
        return any(getattr(module, "dropout", 0) for module in self.network.modules())

    def hidden(self, ids: Tensor, cache: SharedPrefixCache | None = None) -> Tensor:
        """Normalised hidden states [B, T, C] of ids [B, T], which continue what the cache holds."""
        return self.network.hidden(ids, cache)

    def passes(self, adapters: list[nn.Parameter]) -> Passes:
        """What computes the gradients of these parameters of the network's adapter."""
        return PlainPasses(self.network, self.network.hidden, adapters[0].element_size())

    def decoder(self, prompt: Tensor, lengths: Tensor, samples: int, most: int) -> Decoder:
        """A decoder of prompts [N, P] of `lengths` [N], padded on the right.

        samples: S; most: own tokens that a path is fed at most.
        """
        return PlainDecoder(self.hidden, prompt, lengths, samples)

    def drawing(
        self,
        rows: Tensor,
        uniforms: Tensor,
        grammar: Grammar,
        horizon: int,
        config: SampleConfig,
        given: Tensor | None,
    ) -> Drawing:
        """What draws symbols from the rows [A] of the head that stand for them.

        Args:
            uniforms: [B, L] each path's own numbers in (0, 1].
            horizon: steps that every path is to close.
            given: [B, cells, W] symbols that are taken in place of what is drawn, int8; `DRAWN` stands elsewhere.
        """
        return self.drawing_kind()(self.network.head[rows], rows, uniforms, grammar, horizon, config, given)

    def drawing_kind(self) -> Callable[..., Drawing]:
        """The class of what `drawing` returns."""
        return PlainDrawing

    def padded(self, lengths: Sequence[int]) -> list[int]:
        """What prompts of these lengths [N] are padded to; those of one length there can be read together.

        On a CPU that depends on each prompt alone. With `FEWEST_ROWS` and more, a product's numbers are then the same
        whatever else is in the batch, to the last bit; a GPU's are not, and padding to the longest costs it least.
        """
        if on_gpu(self.device):
            return [max(lengths)] * len(lengths)
        return [_whole(length) for length in lengths]

    def spare_prompts(self, prompts: int, samples: int) -> int:
        """How many prompts are read and continued beside so many, for the sake of the number of rows alone."""
        return 0 if on_gpu(self.device) else max(0, -(-FEWEST_ROWS * torch.get_num_threads() // samples) - prompts)

    def together(self, longest: int, samples: int, new: int) -> tuple[int, int]:
        """How many series, and how many of their S paths, the memory holds at once.

        longest: tokens of the longest prompt; new: tokens that each path writes.
        """
        config, size = self.network.config, self.network.model.norm.weight.element_size()
        free = free_memory(self.device)
        budget = CPU_MEMORY_BYTES if free is None else free // 3
        prefill_bytes = 4 * config.intermediate_size * size  # of a token: what one MLP holds at its widest
        own = -(-new // CACHE_BLOCK) * CACHE_BLOCK  # kept in whole blocks
        most_paths = max(1, budget // (token_bytes(config, size) * (own + longest)))
        paths = min(samples, most_paths)
        return max(1, min(most_paths // paths, budget // (prefill_bytes * longest))), paths


def _whole(length: int) -> int:
    """A length rounded up, by less than a quarter from the fourth block on: few lengths occur, so that many meet."""
    block = CACHE_BLOCK * max(1, 2 ** ((length - 1) // CACHE_BLOCK // 4).bit_length() // 2)
    return -(-length // block) * block


def token_bytes(config: ModelConfig, size: int) -> int:
    """What the keys and values of one token take."""
    return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * size

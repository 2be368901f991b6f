"""What a way of computing offers. `plain` is the reference; the others compute the same, faster.

Shapes: N series, S samples a series, B = N·S paths, T tokens of a pass, L tokens of a path, C hidden size, A symbols.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from loracast.grammar import Grammar
from loracast.model.transformer import Transformer
from loracast.settings import SampleConfig


class Passes(Protocol):
    """What computes losses, and gradients of adapters; ids, targets and in_loss are [B, L].

    Attributes:
        length_multiple: of tokens, that batches are padded to, so that few shapes occur.
    """

    length_multiple: int

    def loss_sum(self, ids: Tensor, targets: Tensor, in_loss: Tensor) -> Tensor:
        """Summed cross-entropy in nats."""
        ...

    def add_gradients(self, ids: Tensor, targets: Tensor, in_loss: Tensor, share: Tensor) -> Tensor:
        """Adds the gradients of share · loss_sum to the adapters' and returns that loss."""
        ...

    def parts(self, windows: int, tokens: int) -> int:
        """As few parts of a batch as the memory holds one at a time, by an estimate."""
        ...

    def forget(self) -> None:
        """Gives up what was kept between passes, after a batch did not fit the memory."""
        ...


class Decoder(Protocol):
    """Continues N prompts by S paths each."""

    def prefill(self) -> Tensor:
        """Normalised hidden state [B, C] of the last prompt token of each path; called first and once."""
        ...

    def buffer(self, new: int) -> Tensor:
        """[B, T] where the ids of the next pass are to be put."""
        ...

    def advance(self, ids: Tensor) -> Tensor:
        """Feeds ids [B, T] of a `buffer`; the normalised hidden state [B, C] after each path's last one."""
        ...


class Drawing(Protocol):
    """Paths as far as they are drawn: symbols [B, L], steps_left [B].

    unsound_from [B] is the first position whose logits were not finite, or L. It stays on the device until a batch
    ends, and tells of no path that had ended.
    """

    symbols: Tensor
    steps_left: Tensor
    unsound_from: Tensor

    def draw(self, hidden: Tensor, position: int, tokens: Tensor) -> None:
        """Draws the symbol at a position from hidden states [B, C], and what must follow it, into tokens [B, T]."""
        ...


class Compute(Protocol):
    """A way of computing one network, chosen once by `loracast.compute.choose`.

    Attributes:
        name: `plain`, `cpu` or `cuda`.
        network: what is computed, with or without an adapter.
    """

    name: str
    network: Transformer

    @property
    def device(self) -> torch.device: ...

    def hidden(self, ids: Tensor) -> Tensor:
        """Normalised hidden states [B, T, C] of ids [B, T]."""
        ...

    def passes(self, adapters: list[nn.Parameter]) -> Passes:
        """What computes the gradients of these parameters of the network's adapter."""
        ...

    def decoder(self, prompt: Tensor, lengths: Tensor, samples: int, most: int) -> Decoder:
        """A decoder of prompts [N, P], padded on the right to the longest of `lengths` [N].

        samples: S; most: own tokens that a path is fed at most.
        """
        ...

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
        ...

    def together(self, longest: int, samples: int, new: int) -> tuple[int, int]:
        """How many series, and how many of their S paths, the memory holds at once.

        longest: tokens of the longest prompt; new: tokens that each path writes.
        """
        ...

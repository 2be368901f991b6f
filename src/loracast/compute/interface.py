"""What training, decoding and drawing need of a way of computing; `plain.PlainCompute` gives it, and faster ones.

Shapes: N series, S samples a series, B = N·S paths, T tokens of a pass, L tokens of a path, C hidden size, A symbols.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


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

"""Windows of numbers to padded batches of symbols, and the loss on them.

Shapes: B windows, W steps, C steps of context, D variables, L tokens, A symbols.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from loracast.codec import Codec
from loracast.grammar import SEMICOLON
from loracast.model.qwen2 import Qwen2


@dataclass(frozen=True, eq=False)
class Batch:
    """symbols [B, L], padded on the right; in_loss [B, L], the tokens that are targets; saturated values."""

    symbols: NDArray[np.int64]
    in_loss: NDArray[np.bool_]
    saturated: int

    def after(self, context: int) -> Batch:
        """The batch with nothing in the loss but what follows the first `context` steps of each window."""
        ended = np.cumsum(self.symbols == SEMICOLON, 1)  # [B, L] steps, with the one that a token closes
        ahead = np.zeros(self.in_loss.shape, bool)
        ahead[:, 1:] = ended[:, :-1] >= context
        return replace(self, in_loss=self.in_loss & ahead)

    def parts(self, count: int) -> Iterator[Batch]:
        """The batch in `count` parts."""
        for symbols, in_loss in zip(np.array_split(self.symbols, count), np.array_split(self.in_loss, count)):
            yield Batch(symbols, in_loss, 0)


def encode_batch(
    codec: Codec,
    windows: NDArray[np.float64],
    context: int | NDArray[np.int64],
    stretch: NDArray[np.float64] | None = None,
) -> Batch:
    """Windows [B, W, D] as text whose scale is fitted to the first `context` steps (one number, or one a window).

    Its units are then multiplied by `stretch` [B, D or 1], if there is one.
    """
    beyond = np.arange(windows.shape[1]) >= np.reshape(context, (-1, 1))  # [B or 1, W]
    scale = codec.fit_scale(np.where(beyond[..., None], np.nan, windows))
    if stretch is not None:
        scale = codec.stretch(scale, stretch)
    integers, saturated = codec.quantise(windows, scale)
    slots, keep = codec.slots(integers, np.isnan(windows))  # [B, W, D, S]
    slots, keep = slots.reshape(len(windows), -1), keep.reshape(len(windows), -1)
    lengths = keep.sum(1)
    present = np.arange(lengths.max()) < lengths[:, None]  # [B, L]
    symbols = np.zeros(present.shape, np.int64)
    symbols[present] = slots[keep]
    in_loss = codec.grammar(windows.shape[2]).in_loss(symbols) & present
    in_loss[:, 0] = False  # nothing comes before the first token
    return Batch(symbols, in_loss, int(saturated.sum()))


def loss_sum(network: Qwen2, ids: Tensor, in_loss: Tensor) -> Tensor:
    """Summed cross-entropy in nats of next tokens: ids [B, L] are fed, those with in_loss [B, L] are predicted.

    The head is computed where it is needed only.
    """
    hidden = network.hidden(ids[:, :-1])  # [B, L-1, C]
    wanted = in_loss[:, 1:]
    return F.cross_entropy(network.logits(hidden[wanted]), ids[:, 1:][wanted], reduction="sum")


def to_device(batch: Batch, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The model's row numbers [B, L] of a batch and its mask [B, L], on the device of `rows` [A]; not waited for."""
    symbols, in_loss = torch.from_numpy(batch.symbols), torch.from_numpy(batch.in_loss)
    if rows.is_cuda:  # from other memory, a copy waits for all work before it
        symbols, in_loss = symbols.pin_memory(), in_loss.pin_memory()
    return rows[symbols.to(rows.device, non_blocking=True)], in_loss.to(rows.device, non_blocking=True)

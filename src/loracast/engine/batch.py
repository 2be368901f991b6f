"""Windows of numbers to padded batches of symbols, and the loss on them.

Shapes: B windows, W steps, C steps of context, D variables, L tokens, A symbols.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from loracast.codec import Codec
from loracast.compute.device import send
from loracast.grammar import COMMA, SEMICOLON


@dataclass(frozen=True, eq=False)
class Batch:
    """symbols [B, L], padded on the right; in_loss [B, L], the tokens that are targets; saturated values.

    A model reads `fed` [B, L] where there is such a thing, and is to write `symbols` all the same.
    """

    symbols: NDArray[np.int64]
    in_loss: NDArray[np.bool_]
    saturated: int
    fed: NDArray[np.int64] | None = None

    def after(self, context: int) -> Batch:
        """The batch with nothing in the loss but what follows the first `context` steps of each window."""
        ended = np.cumsum(self.symbols == SEMICOLON, 1)  # [B, L] steps, with the one that a token closes
        ahead = np.zeros(self.in_loss.shape, bool)
        ahead[:, 1:] = ended[:, :-1] >= context
        return replace(self, in_loss=self.in_loss & ahead)

    def parts(self, count: int) -> Iterator[Batch]:
        """The batch in `count` parts."""
        for rows in np.array_split(np.arange(len(self.symbols)), count):
            yield Batch(self.symbols[rows], self.in_loss[rows], 0, None if self.fed is None else self.fed[rows])

    def noisy(self, deviation: float, draws: np.random.Generator) -> Batch:
        """The batch with noise on the last digit of every number that is fed, of a deviation in its units.

        No digit is carried, so that the digits of a number still belong together.
        """
        last = np.zeros(self.symbols.shape, bool)
        last[:, :-1] = (self.symbols[:, :-1] < 10) & np.isin(self.symbols[:, 1:], (COMMA, SEMICOLON))
        moved = self.symbols + np.rint(draws.normal(0, deviation, self.symbols.shape)).astype(np.int64)
        return replace(self, fed=np.where(last, np.clip(moved, 0, 9), self.symbols))


def encode_batch(
    codec: Codec,
    windows: NDArray[np.float64],
    context: int | NDArray[np.int64],
    stretch: NDArray[np.float64] | None = None,
    targets: NDArray[np.bool_] | None = None,
) -> Batch:
    """Windows [B, W, D] as text whose scale is fitted to the first `context` steps (one number, or one a window).

    Its units are then multiplied by `stretch` [B, D or 1], if there is one. Of the variables, only the `targets` [D]
    are in the loss; all unless given.
    """
    beyond = np.arange(windows.shape[1]) >= np.reshape(context, (-1, 1))  # [B or 1, W]
    scale = codec.fit_scale(np.where(beyond[..., None], np.nan, windows))
    if stretch is not None:
        scale = codec.stretch(scale, stretch)
    integers, saturated = codec.quantise(windows, scale)
    slots, keep = codec.slots(integers, np.isnan(windows))  # [B, W, D, S]
    targets = np.ones(windows.shape[2], bool) if targets is None else targets
    parts = slots, keep, np.broadcast_to(targets[:, None], slots.shape)
    slots, keep, target = (part.reshape(len(windows), -1) for part in parts)
    lengths = keep.sum(1)
    present = np.arange(lengths.max()) < lengths[:, None]  # [B, L]
    symbols = np.zeros(present.shape, np.int64)
    symbols[present] = slots[keep]
    in_loss = codec.grammar(windows.shape[2]).in_loss(symbols) & present
    in_loss[present] &= target[keep]
    in_loss[:, 0] = False  # nothing comes before the first token
    return Batch(symbols, in_loss, int(saturated.sum()))


def gaps(
    windows: NDArray[np.float64], share: float, part: tuple[float, float], draws: np.random.Generator
) -> NDArray[np.bool_]:
    """Which numbers of windows [B, W, D] to hide: of a `share` of the windows, a part of the numbers within `part`.

    No first step is hidden, and no variable loses all its numbers, since a scale is fitted to them.
    """
    gappy = draws.random((len(windows), 1, 1)) < share
    hidden_part = draws.uniform(*part, gappy.shape)
    hidden = gappy & (draws.random(windows.shape) < hidden_part)
    hidden[:, 0] = False
    return hidden & ~(hidden | np.isnan(windows)).all(1, keepdims=True)


def to_device(batch: Batch, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The model's row numbers [B, L] of what is fed and of the targets, and the mask [B, L] of the latter.

    On the device of `rows` [A], and not waited for.
    """
    targets = rows[send(batch.symbols, rows.device)]
    fed = targets if batch.fed is None else rows[send(batch.fed, rows.device)]
    return fed, targets, send(batch.in_loss, rows.device)

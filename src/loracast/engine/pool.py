"""The synthetic series of a pretraining, and the batches of their windows.

Series are made once, in large batches: made anew each step they would starve the training. Each window's scale comes
from a context that ends at a random step, since a forecast may begin anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from loracast.codec import Codec
from loracast.engine.batch import Batch, encode_batch, gaps
from loracast.settings import PretrainConfig
from loracast.synthetic import synthesise

SHARES = {1: 0.25, 2: 0.5, 3: 0.25}  # of a batch's windows, by number of variables
CONTEXT = 0.15, 0.65  # where in a window its context may end, as shares of its length
GAPPY, GAPS = 0.08, (0.05, 0.5)  # share of windows with missing values, and how many of their numbers are
CHUNK = 2**20  # series made at a time: integrators cost a GPU the same for a few as for very many
PREFETCH = 8  # batches encoded ahead, by as many threads as half of them


class Pool:
    """Synthetic series by number of variables, and the batches that are drawn from them.

    A batch depends on the settings and its step alone, so that a resumed run sees the same ones.
    """

    def __init__(self, config: PretrainConfig, codec: Codec, seed: int, size: int, device: torch.device):
        self.config, self.codec, self.seed = config, codec, seed
        self.series: dict[int, NDArray[np.float32]] = {}
        for variables, share in SHARES.items():
            steps = config.tokens // (codec.digits + 1) // variables
            rows = max(1, round(size * share))
            self.series[variables] = (
                synthesise(rows, steps, variables, seed=seed, device=device, chunk=CHUNK).cpu().numpy()
            )

    def batch(self, step: int, size: int) -> Batch:
        """Windows of one to three variables as symbols [size, tokens]."""
        counts = {variables: round(size * share) for variables, share in SHARES.items()}
        counts[2] = size - counts[1] - counts[3]
        parts = [self._part(step, variables, count) for variables, count in counts.items() if count > 0]
        symbols = np.zeros((size, self.config.tokens), np.int64)
        in_loss = np.zeros(symbols.shape, bool)
        row = 0
        for part in parts:
            rows, length = part.symbols.shape
            symbols[row : row + rows, :length], in_loss[row : row + rows, :length] = part.symbols, part.in_loss
            row += rows
        return Batch(symbols, in_loss, sum(part.saturated for part in parts))

    def _part(self, step: int, variables: int, count: int) -> Batch:
        series = self.series[variables]
        # rows are in random order already, so each is used once before any is used again
        windows = series[(step * count + np.arange(count)) % len(series)].astype(float)  # [count, W, variables]
        draws = np.random.default_rng([self.seed, step, variables])
        length = windows.shape[1]
        context = draws.integers(max(2, round(CONTEXT[0] * length)), round(CONTEXT[1] * length) + 1, count)
        windows[gaps(windows, GAPPY, GAPS, draws)] = np.nan
        return encode_batch(self.codec, windows, context)

    def batches(self, first: int, last: int, size: int) -> Iterator[Batch]:
        """The batches of steps `first` to `last` - 1, encoded ahead by a few threads."""
        with ThreadPoolExecutor(PREFETCH // 2) as pool:
            waiting: list[Future[Batch]] = []
            for step in range(first, last):
                waiting.append(pool.submit(self.batch, step, size))
                if len(waiting) >= PREFETCH:
                    yield waiting.pop(0).result()
            for future in waiting:
                yield future.result()

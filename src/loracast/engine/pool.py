"""The synthetic series of a pretraining, and the batches of their windows.

Series are made once, in large batches: made anew each step they would starve the training. Each window's scale comes
from a context that ends at a random step, since a forecast may begin anywhere; some windows are written on a
logarithmic scale or without a line that is fitted to that context, as forecasts may be (see `transforms`).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from loracast.codec import Codec
from loracast.engine.batch import Batch, encode_batch, gaps
from loracast.settings import PretrainConfig, TransformKind
from loracast.synthetic import synthesise
from loracast.transforms import Transform

SHARES = {1: 0.3, 2: 0.38, 3: 0.12, 4: 0.09, 5: 0.03, 6: 0.03, 7: 0.02, 8: 0.03}  # of windows, by variables
CONTEXT = 0.15, 0.7  # of most windows, as shares of their steps
SHORT, SHORTEST = 0.2, 6  # share of the windows with less context, and the fewest steps of it
VIEWED: dict[TransformKind, float] = {"log": 0.06, "trend": 0.06, "log-trend": 0.08}  # shares written otherwise
GAPPY, GAPS = 0.08, (0.05, 0.5)  # share of windows with missing values, and how many of their numbers are
CHUNK = 2**20  # series made at a time: integrators cost a GPU the same for a few as for very many
PREFETCH = 8  # batches encoded ahead, by as many threads as half of them


def shared(size: int, variables: int) -> dict[int, int]:
    """How many of `size` windows have 1, 2 and so on up to `variables` variables, by SHARES."""
    shares = {count: share for count, share in SHARES.items() if count <= variables}
    ends = np.rint(np.cumsum([*shares.values()]) / sum(shares.values()) * size).astype(int)
    return dict(zip(shares, np.diff(ends, prepend=0).tolist()))


class Pool:
    """Synthetic series by number of variables and length, and the batches that are drawn from them.

    A batch depends on the settings and its step alone, so that a resumed run sees the same ones.

    Args:
        size: how many series of `tokens` tokens are made.
        steps: how many batches are drawn at most, by which long series are made or not.
    """

    def __init__(self, config: PretrainConfig, codec: Codec, seed: int, size: int, steps: int, device: torch.device):
        self.config, self.codec, self.seed = config, codec, seed
        self.series: dict[tuple[int, int], NDArray[np.float32]] = {}  # by tokens and variables
        lengths = {config.window_tokens(step) for step in range(min(steps, config.long_every))}
        for tokens in sorted(lengths):
            number = size if tokens == config.tokens else size * config.tokens // tokens // (config.long_every - 1 or 1)
            for variables, rows in shared(number, config.variables).items():
                window = tokens // (codec.digits + 1) // variables
                made = synthesise(max(1, rows), window, variables, seed=seed, device=device, chunk=CHUNK)
                self.series[tokens, variables] = made.cpu().numpy()

    def batch(self, step: int, size: int | None = None) -> Batch:
        """The windows of a step as symbols [size, tokens]; as many as the settings say unless `size` is given."""
        size, tokens = size or self.config.windows(step), self.config.window_tokens(step)
        counts = shared(size, self.config.variables)
        parts = [self._part(step, tokens, variables, count) for variables, count in counts.items() if count > 0]
        symbols = np.zeros((size, tokens), np.int64)
        in_loss = np.zeros(symbols.shape, bool)
        row = 0
        for part in parts:
            rows, length = part.symbols.shape
            symbols[row : row + rows, :length], in_loss[row : row + rows, :length] = part.symbols, part.in_loss
            row += rows
        return Batch(symbols, in_loss, sum(part.saturated for part in parts))

    def _part(self, step: int, tokens: int, variables: int, count: int) -> Batch:
        series = self.series[tokens, variables]
        apart = self.config.long_tokens > self.config.tokens  # whether some windows are longer than others
        longs = (step + 1) // self.config.long_every if apart else 0  # batches of long windows before this one
        before = longs if tokens > self.config.tokens else step - longs
        # rows are in random order already, so each is used once before any is used again
        windows = series[(before * count + np.arange(count)) % len(series)].astype(float)  # [count, W, variables]
        draws = np.random.default_rng([self.seed, step, variables])
        length = windows.shape[1]
        least, most = CONTEXT[0] * length, CONTEXT[1] * length
        short = np.exp(draws.uniform(np.log(min(SHORTEST, least)), np.log(least), count))
        context = np.where(draws.random(count) < SHORT, short, draws.uniform(least, most, count))
        context = np.maximum(np.rint(context), 1).astype(np.int64)
        kinds = draws.choice(["none", *VIEWED], count, p=[1 - sum(VIEWED.values()), *VIEWED.values()])
        for index in np.flatnonzero(kinds != "none"):
            window = windows[index]
            windows[index] = Transform.fit(kinds[index], window[: context[index]]).forward(window)
        windows[gaps(windows, GAPPY, GAPS, draws)] = np.nan
        return encode_batch(self.codec, windows, context)

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """The batches of steps `first` to `last` - 1, encoded ahead by a few threads."""
        with ThreadPoolExecutor(PREFETCH // 2) as pool:
            waiting: list[Future[Batch]] = []
            for step in range(first, last):
                waiting.append(pool.submit(self.batch, step))
                if len(waiting) >= PREFETCH:
                    yield waiting.pop(0).result()
            for future in waiting:
                yield future.result()

"""Sample paths: each series is read once, then all paths of many series are continued together.

A horizon is counted in steps and never ends by a token. The grammar allows nothing that would not parse, and a symbol
that it forces is not sampled. With the full vocabulary, sampling may also run unconstrained, to see how much of what an
untouched model writes can be read.

Shapes: N series, S samples, B = N·S paths of a batch, L tokens, A symbols, V rows of the head.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from loracast.errors import ConfigError
from loracast.grammar import OTHER, SEMICOLON, Grammar
from loracast.model.attention import SharedPrefixCache
from loracast.model.checkpoint import LanguageModel
from loracast.model.config import CACHE_BLOCK
from loracast.settings import SampleConfig

CPU_MEMORY_BYTES = 1200 * 2**20  # of a batch on a CPU, once for its keys and values and once for its prefill
CUDA_MEMORY_SHARE = 0.4  # of the free memory of a GPU, likewise


@dataclass(frozen=True, eq=False)
class Paths:
    """symbols [N, S, L] of paths, padded with `OTHER`, and tokens [N, S] that were computed for each.

    A path that has ended is computed on for as long as the others of its batch take.
    """

    symbols: NDArray[np.int64]
    tokens: NDArray[np.int64]


def sample_paths(
    model: LanguageModel,
    prompts: Sequence[NDArray[np.int64]],
    ids: Sequence[str],
    grammar: Grammar,
    horizon: int,
    config: SampleConfig,
    *,
    constrained: bool = True,
    progress: Callable[[float], None] | None = None,
) -> Paths:
    """The paths that continue each series.

    Args:
        prompts: a series' context as symbols, each [its length].
        ids: the series' names. A path depends on the seed, its series' id and its number, not on the rest of the batch.
        horizon: steps to write.
        constrained: whether the grammar decides what may be drawn; False needs the full vocabulary.
        progress: called with the share of the work that is done.
    """
    if not constrained and model.vocabulary != "full":
        raise ConfigError(["unconstrained sampling needs the full vocabulary; load the model with vocabulary='full'"])
    length = horizon * grammar.step_tokens
    symbols = np.full((len(prompts), config.samples, length), OTHER, np.int64)
    tokens = np.zeros((len(prompts), config.samples), np.int64)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))  # so that little is padded
    done = 0
    for series, samples in _batches(model, [len(prompts[index]) for index in order], config.samples, length):
        chosen = [order[index] for index in series]
        uniforms = np.stack(
            [[_uniforms(config.seed, ids[index], sample, length) for sample in samples] for index in chosen]
        )  # [N, S, L]
        batch = PathBatch(model, [prompts[index] for index in chosen], uniforms, grammar, config)
        drawn, computed = batch.constrained(horizon) if constrained else batch.unconstrained(horizon)  # [N, S, L]
        for index, rows in zip(chosen, drawn):
            symbols[index, samples.start : samples.stop] = rows
            tokens[index, samples.start : samples.stop] = computed
        done += len(series) * len(samples)
        if progress:
            progress(done / (len(prompts) * config.samples))
    return Paths(symbols, tokens)


def _uniforms(seed: int, series: str, sample: int, length: int) -> NDArray[np.float32]:
    """Numbers in (0, 1] of one path's own stream; a longer path begins with the numbers of a shorter one."""
    key = int.from_bytes(hashlib.sha256(f"{seed}/{series}".encode()).digest()[:16], "little")
    stream = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, sample, 0]))
    return 1 - stream.random(length, np.float32)


def _batches(model: LanguageModel, lengths: list[int], samples: int, new: int) -> Iterator[tuple[range, range]]:
    """Series (as positions) and a range of samples of each batch, as many as their cache and their prefill allow."""
    config = model.network.config
    size = model.network.model.norm.weight.element_size()
    token_bytes = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * size
    prefill_bytes = 4 * config.intermediate_size * size  # of a token: what one MLP holds at its widest
    if model.device.type == "cuda":
        budget = int(torch.cuda.mem_get_info(model.device)[0] * CUDA_MEMORY_SHARE)
    else:
        budget = CPU_MEMORY_BYTES
    own = -(-new // CACHE_BLOCK) * CACHE_BLOCK  # kept in whole blocks
    longest = max(lengths)
    most_paths = max(1, budget // (token_bytes * (own + longest)))
    step = min(samples, most_paths)
    together = max(1, min(most_paths // step, budget // (prefill_bytes * longest)))
    for first in range(0, len(lengths), together):
        for start in range(0, samples, step):
            series = range(first, min(first + together, len(lengths)))
            yield series, range(start, min(start + step, samples))


class PathBatch:
    """The paths of a few series, continued in step with each other."""

    def __init__(
        self,
        model: LanguageModel,
        prompts: Sequence[NDArray[np.int64]],
        uniforms: NDArray[np.float32],  # [N, S, L]
        grammar: Grammar,
        config: SampleConfig,
    ):
        self.model, self.grammar, self.config = model, grammar, config
        self.shape = uniforms.shape
        device = model.device
        self.uniforms = torch.from_numpy(uniforms).to(device).flatten(0, 1)  # [B, L]
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        padded = np.zeros((len(prompts), int(lengths.max())), np.int64)
        for row, prompt in zip(padded, prompts):
            row[: len(prompt)] = prompt
        self.prompt = model.rows[torch.from_numpy(padded).to(device)]  # [N, P]
        self.lengths = lengths

    @torch.inference_mode()
    def _prefill(self) -> tuple[SharedPrefixCache, Tensor]:
        """The cache after the prompts and the hidden state [B, C] of each path's last prompt token."""
        cache = SharedPrefixCache(self.lengths, self.shape[1])
        hidden = self.model.network.hidden(self.prompt, cache)  # [N, P, C]
        last = hidden[torch.arange(len(hidden), device=hidden.device), self.lengths - 1]
        return cache, last.repeat_interleave(self.shape[1], 0)

    def _draw(self, logits: Tensor, position: int) -> Tensor:
        """One index [B] from logits [B, V] by inverting the cumulative distribution at each path's own number."""
        probability = torch.softmax(logits / self.config.temperature, -1)
        if self.config.top_p < 1:
            ordered, order = probability.sort(-1, descending=True)
            outside = ordered.cumsum(-1) - ordered >= self.config.top_p
            probability = torch.zeros_like(probability).scatter(-1, order, ordered.masked_fill(outside, 0))
        cumulative = probability.cumsum(-1)  # [B, V]
        target = self.uniforms[:, position, None] * cumulative[:, -1:]
        return (cumulative < target).sum(-1)

    @torch.inference_mode()
    def constrained(self, horizon: int) -> tuple[NDArray[np.int64], int]:
        """Symbols [N, S, L] that the grammar accepts, `horizon` steps a path, and the tokens computed for each path."""
        grammar, network, rows = self.grammar, self.model.network, self.model.rows
        device, length = self.model.device, self.shape[2]
        barred = torch.from_numpy(~grammar.sampled).to(device)  # [S, A]
        next_state = torch.from_numpy(grammar.next_state).to(device)
        cache, hidden = self._prefill()
        out = torch.full((len(hidden), length), OTHER, device=device)
        steps_left = torch.full((len(hidden),), horizon, device=device)
        # in lockstep all paths are in one state, which is known here without asking the device
        state = 0 if grammar.lockstep else torch.zeros_like(steps_left)
        position = 0
        while True:
            logits = network.logits(hidden)
            logits = logits if self.model.vocabulary == "numeric" else logits[:, rows]
            symbol = self._draw(logits.masked_fill(barred[state], float("-inf")), position)  # [B]
            if isinstance(state, int):
                feed = [symbol]
                state = grammar.follow(state)
                while grammar.forced[state]:  # needs no pass of its own
                    feed.append(torch.full_like(symbol, int(grammar.sampled[state].argmax())))
                    state = grammar.follow(state)
            else:
                state = next_state[state, symbol]
                feed = [torch.where(steps_left > 0, symbol, OTHER)]
                steps_left = steps_left - (symbol == SEMICOLON).long()
            fed = torch.stack(feed, 1)  # [B, T]
            out[:, position : position + len(feed)] = fed
            position += len(feed)
            if position >= length:
                break
            if not grammar.lockstep and position % 16 == 0 and bool((steps_left <= 0).all()):
                break
            hidden = network.hidden(rows[fed.clamp(max=OTHER - 1)], cache)[:, -1]  # an ended path is fed anything
        return out.view(self.shape).cpu().numpy(), position

    @torch.inference_mode()
    def unconstrained(self, horizon: int) -> tuple[NDArray[np.int64], int]:
        """Symbols [N, S, L] of whatever the full vocabulary writes, and the tokens computed for each path.

        What is no symbol becomes `OTHER`.
        A path ends when it has closed `horizon` steps, or has used the tokens that the longest steps would need.
        """
        network, tokens, length = self.model.network, self.model.tokens, self.shape[2]
        device = self.model.device
        closes = torch.zeros(network.config.vocab_size, dtype=torch.long, device=device)  # steps that a token closes
        for token, symbols in tokens.expansion.items():
            closes[token] = symbols.count(SEMICOLON)
        cache, hidden = self._prefill()
        drawn = []
        steps = torch.zeros(len(hidden), dtype=torch.long, device=device)
        for position in range(length):
            token = self._draw(network.logits(hidden), position)
            drawn.append(token)
            steps = steps + closes[token]
            if position + 1 == length or (position % 16 == 15 and bool((steps >= horizon).all())):
                break
            hidden = network.hidden(token[:, None], cache)[:, -1]
        out = np.full((len(hidden), length), OTHER, np.int64)
        for row, ids in zip(out, torch.stack(drawn, 1).cpu().numpy()):
            symbols = tokens.to_symbols(ids)[:length]
            ends = np.flatnonzero(symbols == SEMICOLON)[:horizon]
            if len(ends) == horizon:  # what a path writes after that depends on how long the others take
                symbols = symbols[: ends[-1] + 1]
            row[: len(symbols)] = symbols
        return out.reshape(self.shape), len(drawn)

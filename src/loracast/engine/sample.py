"""Sample paths: each series is read once, then all paths of many series are continued together.

A horizon is counted in steps and never ends by a token. The grammar allows nothing that would not parse, and a symbol
that it forces is not sampled. With the full vocabulary, sampling may also run unconstrained, to see how much of what an
untouched model writes can be read.

Shapes: N series, S samples, B = N·S paths of a batch, T new tokens, L tokens of a path, C hidden size, A symbols,
V rows of the head.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from loracast.compute.device import on_gpu, release_memory
from loracast.compute.drawing import draw
from loracast.compute.interface import Decoder, Drawing
from loracast.errors import ConfigError, ModelError
from loracast.grammar import DRAWN, OTHER, SEMICOLON, Grammar
from loracast.language_model import LanguageModel
from loracast.settings import SampleConfig

Watch = Callable[[Sequence[int], range, NDArray[np.int64], int], None]


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
    numbers: Sequence[int] | None = None,
    stretch: int = 0,
    given: NDArray[np.int64] | None = None,
    constrained: bool = True,
    progress: Callable[[float], None] | None = None,
    watch: Watch | None = None,
    choose: Callable[[Sequence[int]], None] | None = None,
) -> Paths:
    """The paths that continue each prompt.

    Args:
        prompts: a series' context as symbols, each [its length].
        ids: the series' names. A path depends on the seed, its series' id and its number, not on the rest of the batch:
            on a CPU to the last bit of what is computed, on a GPU but for rounding.
        horizon: steps to write.
        numbers: the number of the one path that continues each prompt, in a later stretch of a long forecast, where
            every path has a prompt of its own; unless given, paths 0 to S - 1 continue each.
        stretch: the stretch that is written, from 0; each draws from random numbers of its own.
        given: [N, cells, W] what is written in place of what would be drawn, as `Codec.cells` has it. The random
            numbers of all other symbols stay as they are.
        constrained: whether the grammar decides what may be drawn; False needs the full vocabulary.
        progress: called with the share of the work that is done; on a CPU also within a batch.
        watch: called whenever a step is drawn, with the prompts and samples of the batch, the symbols [n, s, L] and the
            steps that are whole; on a CPU, in a layout whose paths all write a step at once.
        choose: told before each batch the positions of its prompts, for a network that computes each with its own
            adapter.
    """
    if not constrained and model.vocabulary != "full":
        raise ConfigError(["unconstrained sampling needs the full vocabulary; load the model with vocabulary='full'"])
    length, paths = horizon * grammar.step_tokens, config.samples if numbers is None else 1
    symbols = np.full((len(prompts), paths, length), OTHER, np.int64)
    tokens = np.zeros((len(prompts), paths), np.int64)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))  # so that little is padded
    batches = list(_batches(model, [len(prompts[index]) for index in order], paths, length))[::-1]
    done = 0

    def on_progress(share: float) -> None:
        """Passes on the share of the batch that is drawn; not on a GPU, where what was begun is not done yet."""
        if progress and not on_gpu(model.device):
            progress((done + share * len(series) * len(samples)) / tokens.size)

    while batches:
        series, samples = batches.pop()
        chosen = [order[index] for index in series]
        streams = [
            (ids[index], sample if numbers is None else numbers[index], stretch)
            for index in chosen
            for sample in samples
        ]
        batch = PathBatch(
            model,
            [prompts[index] for index in chosen],
            streams,
            grammar,
            config,
            None if given is None else given[chosen],
        )
        if choose:
            choose([*chosen, *[chosen[-1]] * batch.spare])
        if watch and not on_gpu(model.device):
            batch.on_step = lambda found, steps, rows=chosen, columns=samples: watch(rows, columns, found, steps)
        try:
            draw_batch = batch.constrained if constrained else batch.unconstrained
            drawn, computed = draw_batch(horizon, on_progress)  # [N, S, L]
        except torch.OutOfMemoryError:
            drawn, computed = None, 0
        if drawn is None:  # only here, where the error no longer holds what it was raised in
            del batch
            release_memory()
            batches += _halves(series, samples)
            continue
        for index, rows in zip(chosen, drawn):
            symbols[index, samples.start : samples.stop] = rows
            tokens[index, samples.start : samples.stop] = computed
        done += len(series) * len(samples)
        if progress:
            progress(done / tokens.size)
    return Paths(symbols, tokens)


def cell_places(ids: Sequence[str], horizon: int, variables: int, config: SampleConfig) -> NDArray[np.float64]:
    """Where each number of `Paths` lies among those of the same text, [N, S, H, D] in [0, 1); see `Codec.dequantise`.

    Drawn evenly, as `log_density` spreads the probability of a text, and anew for each path, so that paths are
    independent. Without it, the paths of a sure forecast would all be one number, which the truth misses by some part
    of a unit.
    """
    paths = range(config.samples)
    drawn = [[_stream(config.seed, one, path, purpose=1).random((horizon, variables)) for path in paths] for one in ids]
    return np.array(drawn)


def _uniforms(seed: int, series: str, sample: int, length: int, stretch: int = 0) -> NDArray[np.float32]:
    """Numbers in (0, 1] of one path's own stream; a longer path begins with the numbers of a shorter one."""
    return 1 - _stream(seed, series, sample, purpose=0, stretch=stretch).random(length, np.float32)


def _stream(seed: int, series: str, sample: int, purpose: int, stretch: int = 0) -> np.random.Generator:
    key = int.from_bytes(hashlib.sha256(f"{seed}/{series}".encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key, counter=[0, stretch, sample, purpose]))


def _batches(model: LanguageModel, lengths: list[int], samples: int, new: int) -> Iterator[tuple[range, range]]:
    """Series (as positions) and a range of samples of each batch, as many as their cache and their prefill allow.

    lengths: of the prompts, in ascending order. Those that are padded to one length are read together.
    """
    begin = 0
    for padded, alike in groupby(model.compute.padded(lengths)):
        end = begin + len(list(alike))
        together, step = model.compute.together(padded, samples, new)
        for first in range(begin, end, together):
            for start in range(0, samples, step):
                yield range(first, min(first + together, end)), range(start, min(start + step, samples))
        begin = end


def _halves(series: range, samples: range) -> list[tuple[range, range]]:
    """A batch that did not fit the memory as two: of fewer series or, where there is one, of fewer samples."""
    middle = len(series) // 2
    if middle:
        return [(series[middle:], samples), (series[:middle], samples)]
    middle = len(samples) // 2
    if middle:
        return [(series, samples[middle:]), (series, samples[:middle])]
    raise ConfigError(
        ["the GPU's memory does not hold one path of this forecast; shorten the context or the horizon, or use the CPU"]
    )


class PathBatch:
    """The paths that continue a few prompts, in step with each other.

    Args:
        streams: [B] of each path, the paths of one prompt side by side: its series, its number and its stretch.
        given: [N, cells, W] symbols that are not drawn; see `sample_paths`.
    """

    def __init__(
        self,
        model: LanguageModel,
        prompts: Sequence[NDArray[np.int64]],
        streams: Sequence[tuple[str, int, int]],
        grammar: Grammar,
        config: SampleConfig,
        given: NDArray[np.int64] | None = None,
    ):
        self.model, self.grammar, self.config, self.given = model, grammar, config, given
        self.shape = len(prompts), len(streams) // len(prompts)  # N, S
        self.on_step: Callable[[NDArray[np.int64], int], None] | None = None
        device = model.device
        spare = self.spare = model.compute.spare_prompts(*self.shape)
        prompts = [*prompts, *[prompts[-1]] * spare]
        self.streams = [*streams, *[*streams[-self.shape[1] :]] * spare]
        if given is not None:
            self.given = given[[*range(len(given)), *[-1] * spare]]
        lengths = [len(prompt) for prompt in prompts]
        padded = np.zeros((len(prompts), max(model.compute.padded(lengths))), np.int64)
        for row, prompt in zip(padded, prompts):
            row[: len(prompt)] = prompt
        self.prompt = model.rows[torch.from_numpy(padded).to(device)]  # [N, P]
        self.lengths = torch.tensor(lengths, device=device)

    @property
    def paths(self) -> int:
        """How many are drawn; those of spare prompts follow them."""
        return self.shape[0] * self.shape[1]

    def _begin(self, length: int) -> tuple[Decoder, Tensor, Tensor]:
        """A decoder after the prompts, the hidden state [B, C] of each path's last one, and its numbers [B, L]."""
        decoder = self.model.compute.decoder(self.prompt, self.lengths, self.shape[1], length)
        hidden = decoder.prefill()
        uniforms = np.stack(  # made while a GPU reads the prompts
            [_uniforms(self.config.seed, name, number, length, stretch) for name, number, stretch in self.streams]
        )
        return decoder, hidden, torch.from_numpy(uniforms).to(self.model.device)

    @torch.inference_mode()
    def constrained(
        self, horizon: int, on_progress: Callable[[float], None] = lambda share: None
    ) -> tuple[NDArray[np.int64], int]:
        """Symbols [N, S, L] that the grammar accepts, `horizon` steps a path, and the tokens computed for each path."""
        grammar, length = self.grammar, horizon * self.grammar.step_tokens
        decoder, hidden, uniforms = self._begin(length)
        drawing = self._drawing(uniforms, horizon)
        passes, position, told = self._passes(horizon), 0, 0
        while True:
            new = passes.pop()
            tokens = decoder.buffer(new)
            drawing.draw(hidden, position, tokens)
            position += new
            if self.on_step and grammar.lockstep and position // grammar.step_tokens > told:
                told = position // grammar.step_tokens
                self.on_step(self._symbols(drawing), told)
            if not passes:
                break
            if not grammar.lockstep and position % 16 == 0 and bool((drawing.steps_left <= 0).all()):
                break
            hidden = decoder.advance(tokens)
            on_progress(position / length)
        self._check_sound(drawing.unsound_from, drawing.symbols == SEMICOLON)
        return self._symbols(drawing), position

    def _symbols(self, drawing: Drawing) -> NDArray[np.int64]:
        """What is written [N, S, L], without spare paths."""
        return drawing.symbols[: self.paths].view(*self.shape, -1).cpu().numpy().astype(np.int64)

    def _passes(self, horizon: int) -> list[int]:
        """The tokens that each pass adds to the paths, the last pass first.

        Where all paths are in one state, it is known here without asking the device, and a symbol that is given to all
        of them, or forced, needs no pass of its own.
        """
        if not self.grammar.lockstep:
            return [1] * (horizon * self.grammar.step_tokens)
        shared = None
        if self.given is not None:
            shared = np.where((self.given != DRAWN).all(0), self.given[0], DRAWN)  # [cells, W]
        return self.grammar.passes(horizon, shared)[::-1]

    def _check_sound(self, unsound_from: Tensor, closed: Tensor) -> None:
        """Refuses a batch with a path whose logits were not finite from a position [B] on.

        closed [B, L] counts the steps that each token of a path closed.
        """
        first = unsound_from[: self.paths].cpu().numpy()
        unsound = np.count_nonzero(first < closed.shape[1])
        if not unsound:
            return
        path = int(first.argmin())
        step = int(closed[path, : first[path]].sum()) + 1
        series, number, stretch = self.streams[path]
        of = f"stretch {stretch + 1} of the forecast" if stretch else "the forecast"
        wider = "" if self.model.precision == "float32" else " take --precision float32, or"
        raise ModelError(
            f"the model computes NaN or infinite logits, from which nothing can be drawn: on {unsound} of {len(first)} "
            f"paths, first at step {step} of {of} of series {series!r}, path {number}. "
            f"Its weights or the adapter's are damaged or far too large:{wider} forecast without the adapter to learn "
            "which, then copy the model again or tune another adapter"
        )

    def _drawing(self, uniforms: Tensor, horizon: int) -> Drawing:
        """How symbols are drawn from the few rows of the head that stand for them."""
        model, given = self.model, None
        if self.given is not None:
            given = torch.from_numpy(self.given.astype(np.int8)).to(model.device)
            given = given.repeat_interleave(self.shape[1], 0)  # [B, cells, W]
        return model.compute.drawing(model.rows, uniforms, self.grammar, horizon, self.config, given)

    @torch.inference_mode()
    def unconstrained(
        self, horizon: int, on_progress: Callable[[float], None] = lambda share: None
    ) -> tuple[NDArray[np.int64], int]:
        """Symbols [N, S, L] of whatever the full vocabulary writes, and the tokens computed for each path.

        What is not a symbol becomes `OTHER`.
        A path ends when it has closed `horizon` steps, or has used the tokens that the longest steps would need.
        """
        network, tokens, length = self.model.network, self.model.tokens, horizon * self.grammar.step_tokens
        device = self.model.device
        closes = torch.zeros(network.config.vocab_size, dtype=torch.long, device=device)  # steps that a token closes
        for token, symbols in tokens.expansion.items():
            closes[token] = symbols.count(SEMICOLON)
        decoder, hidden, uniforms = self._begin(length)
        drawn = []
        steps = torch.zeros(len(hidden), dtype=torch.long, device=device)
        unsound_from = torch.full_like(steps, length)
        for position in range(length):
            logits = network.logits(hidden) / self.config.temperature
            unsound = ~logits.sum(-1).isfinite() & (steps < horizon)  # in one pass over the whole vocabulary
            unsound_from = torch.where(unsound, unsound_from.clamp(max=position), unsound_from)
            token = draw(logits, uniforms[:, position], self.config.top_p)
            drawn.append(token)
            steps = steps + closes[token]
            if position + 1 == length or (position % 16 == 15 and bool((steps >= horizon).all())):
                break
            feed = decoder.buffer(1)
            feed[:, 0] = token
            hidden = decoder.advance(feed)
            on_progress(len(drawn) / length)
        written = torch.stack(drawn, 1)  # [B, L]
        self._check_sound(unsound_from, closes[written])
        out = np.full((len(hidden), length), OTHER, np.int64)
        for row, ids in zip(out, written.cpu().numpy()):
            symbols = tokens.to_symbols(ids)[:length]
            ends = np.flatnonzero(symbols == SEMICOLON)[:horizon]
            if len(ends) == horizon:  # what a path writes after that depends on how long the others take
                symbols = symbols[: ends[-1] + 1]
            row[: len(symbols)] = symbols
        return out[: self.paths].reshape(*self.shape, length), len(drawn)

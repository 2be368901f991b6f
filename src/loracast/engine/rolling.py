"""A forecast in stretches: one that the model's window does not hold is continued from the paths' own ends.

The first stretch continues what is read of a series. In each later one every path reads back the last steps of its own,
as numbers, with a scale that is fitted to them, and goes on: paths stay joint, and no text is longer than the window.

Shapes: N series, S samples, H steps of the horizon, K steps that are read back, D variables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from loracast.codec import Codec, Decoded, Scale
from loracast.engine.sample import cell_places, sample_paths
from loracast.flops import Flops, PassCost
from loracast.language_model import LanguageModel
from loracast.model.mixed import Members
from loracast.settings import SampleConfig

Watch = Callable[[Sequence[int], NDArray[np.float64]], None]


@dataclass(frozen=True)
class Adapters:
    """Of each series, the position of its adapter in a network of several; and what a pass costs with each.

    members: of that network, which is told before each batch which of its series are whose.
    """

    of: tuple[int, ...]
    costs: tuple[PassCost, ...]
    members: Members

    def some(self, chosen: Sequence[int]) -> Adapters:
        """The same of some of the series."""
        return replace(self, of=tuple(self.of[index] for index in chosen))

    def choose(self, series: Sequence[int]) -> None:
        """Tells the network that these series are computed next."""
        self.members.of = torch.tensor([self.of[index] for index in series])


@dataclass(frozen=True)
class Plan:
    """Steps of each stretch of a forecast, and the steps of its own that a path reads back before a later one."""

    stretches: tuple[int, ...]
    reread: int

    @property
    def horizon(self) -> int:
        return sum(self.stretches)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Paths' values [N, S, H, D], valid steps [N, S, H], and of each series what it cost.

    saturated: [N] values of a context, and values that were given, that were written as the edge of the codec's range.
    """

    values: NDArray[np.float64]
    valid: NDArray[np.bool_]
    saturated: NDArray[np.int64]
    flops: list[Flops]


def most_flops(prompts: Sequence[int], plans: Sequence[Plan], samples: int, step_tokens: int, cost: PassCost) -> Flops:
    """What forecasts from prompts of these lengths cost at most; each prompt that a path reads back is a prefill."""
    first = [[plan.stretches[0] * step_tokens] * samples for plan in plans]
    parts = [cost.forecasts(prompts, first)]
    for plan, count in Counter(plans).items():
        reread = plan.reread * step_tokens
        parts += [cost.decode(count * samples, 1, reread, steps * step_tokens) for steps in plan.stretches[1:]]
    return Flops.sum(part.total for part in parts)


def draw_paths(
    model: LanguageModel,
    codec: Codec,
    contexts: Sequence[NDArray[np.float64]],
    ids: Sequence[str],
    plans: Sequence[Plan],
    config: SampleConfig,
    cost: PassCost,
    *,
    given: NDArray[np.float64] | None = None,
    constrained: bool = True,
    progress: Callable[[float], None] | None = None,
    watch: Watch | None = None,
    adapters: Adapters | None = None,
) -> Drawn:
    """The paths that continue contexts, each [C, D] of at least K steps together with its first stretch.

    Args:
        ids: the series' names. A path depends on the seed, its series' id and its number, not on the others.
        plans: of each series; all of one horizon.
        cost: of a pass through the model.
        given: values [N, H, D] that are written in place of drawn ones and come back as they are; NaN elsewhere.
        constrained: whether only text that parses may be written; False needs the full vocabulary.
        progress: called with the share of the work that is done.
        watch: called with the positions of series and their paths' values [n, S, h, D] as far as they are drawn, as
            soon as a step of all of them is; on a CPU, where a batch holds them.
        adapters: where the model has several; what a pass costs is theirs, then.
    """
    members: dict[Plan, list[int]] = {}
    for index, plan in enumerate(plans):
        members.setdefault(plan, []).append(index)
    shape = len(contexts), config.samples, plans[0].horizon
    values, valid = np.empty((*shape, contexts[0].shape[1])), np.empty(shape, bool)
    saturated, flops, done = np.zeros(len(contexts), np.int64), [Flops()] * len(contexts), 0
    for plan, chosen in members.items():

        def report(share: float, before: int = done, count: int = len(chosen)) -> None:
            if progress:
                progress((before + share * count) / len(contexts))

        some = [contexts[index] for index in chosen], [ids[index] for index in chosen]
        known = np.full((len(chosen), *values.shape[2:]), np.nan) if given is None else given[chosen]
        told = (lambda values, rows=chosen: watch(rows, values)) if watch else None
        drawn = _draw_alike(
            model,
            codec,
            *some,
            known,
            plan,
            config,
            cost,
            constrained,
            report,
            told,
            adapters and adapters.some(chosen),
        )
        values[chosen], valid[chosen], saturated[chosen] = drawn.values, drawn.valid, drawn.saturated
        for index, spent in zip(chosen, drawn.flops):
            flops[index] = spent
        done += len(chosen)
    return Drawn(values, valid, saturated, flops)


def _draw_alike(
    model: LanguageModel,
    codec: Codec,
    contexts: Sequence[NDArray[np.float64]],
    ids: Sequence[str],
    given: NDArray[np.float64],
    plan: Plan,
    config: SampleConfig,
    cost: PassCost,
    constrained: bool,
    progress: Callable[[float], None],
    watch: Callable[[NDArray[np.float64]], None] | None = None,
    adapters: Adapters | None = None,
) -> Drawn:
    """`draw_paths` of series whose stretches are alike, so that they are drawn together."""
    series, samples, horizon, variables = len(contexts), config.samples, plan.horizon, contexts[0].shape[1]
    grammar, places = codec.grammar(variables), cell_places(ids, horizon, variables, config)
    values, valid = np.empty((series, samples, horizon, variables)), np.empty((series, samples, horizon), bool)
    prompts, scale = codec.encode_contexts(contexts)  # [N, D]
    saturated = np.array([prompt.saturated for prompt in prompts])
    names, numbers, flops, begin = list(ids), None, [Flops()] * series, 0
    for stretch, steps in enumerate(plan.stretches):
        now = slice(begin, begin + steps)
        if stretch:
            ends = _ends(contexts, values[:, :, :begin], plan.reread)  # [N·S, K, D]
            prompts, scale = codec.encode_contexts([*ends], _refit(codec, ends, scale))  # [N·S, D]
            names, numbers = [name for name in ids for _ in range(samples)], [*range(samples)] * series
        texts, cells, known = [prompt.ids for prompt in prompts], None, given[:, now]  # [N, h, D]
        if not np.isnan(known).all():
            by_prompt = np.repeat(known, len(texts) // series, 0)
            cells, clipped = codec.cells(by_prompt, scale, np.isnan(by_prompt))
            saturated += clipped.reshape(series, -1, steps, variables).any(1).sum((1, 2))
        shape = series, samples, variables
        scale = Scale(
            *(np.broadcast_to(part.reshape(series, -1, variables), shape) for part in (scale.offset, scale.unit))
        )

        def read(symbols: NDArray[np.int64], begin: int, steps: int, scale: Scale = scale) -> Decoded:
            """The values of what is written of this stretch, and of what is known of it."""
            found = codec.decode(symbols, scale, steps, places[:, :, begin : begin + steps])
            known = given[:, None, begin : begin + steps]
            return replace(found, values=np.where(np.isnan(known), found.values, known))

        def on_step(rows: Sequence[int], _: range, symbols: NDArray[np.int64], done: int, begin: int = begin) -> None:
            if watch and symbols.size == series * samples * symbols.shape[-1]:  # all paths, in one batch
                order = np.argsort(rows)
                found = read(symbols[order].reshape(series, samples, -1), begin, done)
                watch(np.concatenate([values[:, :, :begin], found.values], 2))

        def choose(prompts: Sequence[int], each: int = len(texts) // series) -> None:
            if adapters:
                adapters.choose([prompt // each for prompt in prompts])

        drawn = sample_paths(
            model,
            texts,
            names,
            grammar,
            steps,
            config,
            numbers=numbers,
            stretch=stretch,
            given=cells,
            constrained=constrained,
            progress=lambda share, now=now: progress((now.start + share * (now.stop - now.start)) / horizon),
            watch=on_step if watch else None,
            choose=choose if adapters else None,
        )
        lengths, tokens = np.array([len(text) for text in texts]).reshape(series, -1), drawn.tokens.reshape(series, -1)
        flops = [before + now for before, now in zip(flops, _spent(lengths, tokens, cost, adapters))]
        decoded = read(drawn.symbols.reshape(series, samples, -1), begin, steps)
        values[:, :, now], valid[:, :, now] = decoded.values, decoded.valid
        begin = now.stop
    return Drawn(values, valid, saturated, flops)


def _spent(
    lengths: NDArray[np.int64], tokens: NDArray[np.int64], cost: PassCost, adapters: Adapters | None
) -> list[Flops]:
    """What each series cost, with its own adapter where there are several."""
    if adapters is None:
        return cost.each_forecast(lengths, tokens)
    rows = zip(adapters.of, lengths[:, None], tokens[:, None])
    return [adapters.costs[member].each_forecast(prompts, new)[0] for member, prompts, new in rows]


def _ends(contexts: Sequence[NDArray[np.float64]], drawn: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """The last steps [N·S, K, D] of every path: what is drawn [N, S, ·, D] and, where it is short, what was read."""
    drawn = drawn[:, :, -steps:]
    series, samples, ready, variables = drawn.shape
    if ready < steps:
        before = np.stack([context[ready - steps :] for context in contexts])  # [N, K - ready, D]
        repeated = np.broadcast_to(before[:, None], (series, samples, steps - ready, variables))
        drawn = np.concatenate([repeated, drawn], 2)
    return drawn.reshape(series * samples, steps, variables)


def _refit(codec: Codec, read: NDArray[np.float64], before: Scale) -> Scale:
    """The scale [N·S, D] of what paths read back [N·S, K, D].

    A variable that tells no size there, since it is zero throughout or, as only an unconstrained path may be, missing,
    keeps the scale that it had `before`.
    """
    fitted = codec.fit_scale(read)
    tells = (np.nan_to_num(read) != 0).any(1)  # [N·S, D]
    if codec.scale == "joint":
        tells = tells.any(1, keepdims=True)
    offset, unit = (part.reshape(fitted.unit.shape) for part in (before.offset, before.unit))
    return Scale(np.where(tells, fitted.offset, offset), np.where(tells, fitted.unit, unit))

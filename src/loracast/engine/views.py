"""How a model is shown series: variables in groups that it can read at once, each series on the scale that suits it.

Another scale (see `transforms`) is chosen for each series by itself: the model reads the first two thirds of what it
knows of it on every scale, and that on which it finds the rest likeliest, by a margin, is taken. This costs as many
readings of a context as there are scales, little beside the paths that are drawn, and asks nothing of the future.

Shapes: N series, C steps of context, S samples, H steps of the horizon, D variables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from loracast.codec import Codec
from loracast.engine.likelihood import step_log_density
from loracast.engine.rolling import Drawn, Plan, draw_paths, most_flops
from loracast.errors import ConfigError
from loracast.flops import Flops, PassCost
from loracast.language_model import LanguageModel
from loracast.settings import SampleConfig, TransformKind
from loracast.transforms import KINDS, Transform

FEWEST = 24  # steps of a context, below which none is chosen
HELD = 1 / 3  # share of a context that the choice is made by
MARGIN = 0.3  # nats a value, by which another scale must be likelier


@dataclass(frozen=True)
class Chosen:
    """The scale of each series, and what choosing it cost."""

    transforms: list[Transform]
    flops: Flops


def resolved(config: SampleConfig, codec: Codec, *, tuned: bool) -> SampleConfig:
    """The settings with `auto` as it is meant for this codec: an adapter reads series on the scale it was tuned on."""
    fits = codec.scale != "dataset" and (codec.layout, codec.offset) != ("fixed", "zero")
    if config.transform == "auto":
        return config if fits and not tuned else replace(config, transform="none")
    if config.transform != "none" and not fits:
        raise ConfigError(
            [
                f"transform {config.transform!r} does not go with scale {codec.scale!r} and offset {codec.offset!r} of "
                "the codec, which are for values as they are; take 'none'"
            ]
        )
    return config


def most_view_flops(
    codec: Codec,
    groups: Sequence[Sequence[int]],
    contexts: Sequence[NDArray[np.float64]],
    plans: Sequence[Plan],
    config: SampleConfig,
    cost: PassCost,
) -> Flops:
    """What `draw_views` costs at most: on another scale, a text is as long."""
    total = Flops()
    for group in groups:
        prompts = [len(prompt.ids) for prompt in codec.encode_contexts([one[:, group] for one in contexts])[0]]
        total += most_flops(prompts, plans, config.samples, codec.grammar(len(group)).step_tokens, cost)
        if config.transform == "auto":
            chosen = [tokens for tokens, context in zip(prompts, contexts) if len(context) >= FEWEST]
            total += Flops.sum(cost.forward(len(KINDS), tokens).total for tokens in chosen)
    return total


def choose_transforms(
    model: LanguageModel, codec: Codec, contexts: Sequence[NDArray[np.float64]], cost: PassCost
) -> Chosen:
    """A transform for each context [C, D]: the likeliest of KINDS by its own last third."""
    transforms, flops = [Transform.fit("none", context) for context in contexts], Flops()
    alike: dict[int, list[int]] = {}
    for index, context in enumerate(contexts):
        if len(context) >= FEWEST:
            alike.setdefault(len(context), []).append(index)
    for steps, members in alike.items():
        read = steps - round(HELD * steps)
        windows = np.stack([contexts[index] for index in members])  # [n, C, D]
        values = np.maximum((~np.isnan(windows[:, read:])).sum((1, 2)), 1)
        gains: dict[TransformKind, NDArray[np.float64]] = {}
        for kind in KINDS:
            fitted = [Transform.fit(kind, window[:read]) for window in windows]
            changed = [place for place, one in enumerate(fitted) if one.changes or kind == "none"]
            gains[kind] = np.full(len(members), -np.inf)
            if not changed:
                continue
            written = np.stack([fitted[place].forward(windows[place]) for place in changed])
            slopes = np.stack([fitted[place].log_slope(windows[place])[read:] for place in changed])
            found = step_log_density(model, codec, written, read).sum(1) + np.nansum(slopes, (1, 2))
            gains[kind][changed] = found / values[changed]
            tokens = codec.grammar(windows.shape[2]).step_tokens * steps
            flops += cost.forward(len(changed), tokens).total
        for place, index in enumerate(members):
            best = max(KINDS, key=lambda kind: gains[kind][place])
            if gains[best][place] > gains["none"][place] + MARGIN:
                transforms[index] = Transform.fit(best, contexts[index])
    return Chosen(transforms, flops)


def draw_views(
    model: LanguageModel,
    codec: Codec,
    groups: Sequence[Sequence[int]],
    contexts: Sequence[NDArray[np.float64]],
    ids: Sequence[str],
    plans: Sequence[Plan],
    config: SampleConfig,
    cost: PassCost,
    *,
    given: NDArray[np.float64],
    constrained: bool = True,
    progress: Callable[[float], None] | None = None,
) -> tuple[Drawn, list[tuple[TransformKind, ...]]]:
    """`draw_paths` by groups of variables, and the kinds of transforms of each series, one a group.

    Args:
        groups: the columns of each, in the order in which they are read; paths of different groups are independent.
        given: values [N, H, D] that come back as they are; NaN elsewhere.
    """
    shape = len(contexts), config.samples, given.shape[1]
    values, valid = np.empty((*shape, given.shape[2])), np.ones(shape, bool)
    kinds: list[list[TransformKind]] = [[] for _ in contexts]
    saturated, flops = 0, Flops()
    for number, group in enumerate(groups):
        read, known = [context[:, group] for context in contexts], given[..., group]
        if config.transform == "auto":
            chosen = choose_transforms(model, codec, read, cost)
            transforms, flops = chosen.transforms, flops + chosen.flops
        else:
            transforms = [Transform.fit(config.transform, context) for context in read]
        written = [transform.forward(context) for transform, context in zip(transforms, read)]
        told = [transform.forward(one, len(context)) for transform, one, context in zip(transforms, known, read)]

        def report(share: float, before: int = number) -> None:
            if progress:
                progress((before + share) / len(groups))

        drawn = draw_paths(
            model,
            codec,
            written,
            ids if len(groups) == 1 else [f"{one}, group {number}" for one in ids],
            plans,
            config,
            cost,
            given=np.stack(told),
            constrained=constrained,
            progress=report,
        )
        for index, transform in enumerate(transforms):
            found = drawn.values[index]
            if transform.changes:
                found = transform.inverse(found, len(contexts[index]))
            values[index][..., group] = np.where(np.isnan(known[index]), found, known[index])
            kinds[index].append(transform.kind)
        valid &= drawn.valid
        saturated, flops = saturated + drawn.saturated, flops + drawn.flops
    return Drawn(values, valid, saturated, flops), [tuple(one) for one in kinds]

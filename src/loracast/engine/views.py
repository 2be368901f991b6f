"""How a model is shown series: variables in groups that it can read at once, each series on the scale that suits it.

Another scale (see `transforms`) is chosen for each series by itself, from what is known of it alone. One is considered
if the model, after the first two thirds, finds the rest likelier on it than as it is; it is taken if forecasts of the
last quarter, and of the one before, from what came before them, have a clearly lower CRPS, too. Either alone errs: a
density rewards exact small values where large ones are missed, and few paths from two origins may be lucky.

Shapes: N series, C steps of context, S samples, H steps of the horizon, D variables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from loracast.codec import Codec
from loracast.engine.likelihood import step_log_density
from loracast.engine.rolling import Adapters, Drawn, Plan, Watch, draw_paths, most_flops
from loracast.errors import ConfigError, ModelError
from loracast.flops import Flops, PassCost
from loracast.language_model import LanguageModel
from loracast.settings import SampleConfig, TransformKind
from loracast.statistics import centre_and_spread, window_crps
from loracast.transforms import Transform

AUTOMATIC: tuple[TransformKind, ...] = ("log", "trend", "log-trend")
FEWEST = 24  # steps of a context, below which none is chosen
HELD = 1 / 3  # share of a context whose likelihood is compared
QUARTER = 1 / 4  # share that is forecast, from each of two origins
PATHS = 10  # of each of these forecasts
LOWER = 0.9  # times the CRPS of the series as it is, below which another scale is taken


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
        step_tokens, trials = codec.grammar(len(group)).step_tokens, 2 * (1 + len(AUTOMATIC))
        total += most_flops(prompts, plans, config.samples, step_tokens, cost)
        for tokens, plan, steps in zip(prompts, plans, map(len, contexts)):
            if config.transform == "auto" and steps >= FEWEST:
                trial = Plan((_held(steps, plan.horizon),), 1)
                total += cost.forward(1 + len(AUTOMATIC), tokens).total
                total += most_flops([tokens] * trials, [trial] * trials, PATHS, step_tokens, cost)
    return total


def _held(steps: int, horizon: int) -> int:
    """Steps of a context of so many that are forecast from an origin in it."""
    return min(horizon, round(QUARTER * steps))


def choose_transforms(
    model: LanguageModel,
    codec: Codec,
    contexts: Sequence[NDArray[np.float64]],
    ids: Sequence[str],
    horizon: int,
    config: SampleConfig,
    cost: PassCost,
    progress: Callable[[float], None],
) -> tuple[list[Transform], list[Flops], float]:
    """A transform for each context [C, D], what choosing each cost, and the share of all work that this was.

    Args:
        progress: called with the share of all work, the paths that are drawn afterwards among it, that is done.
    """
    try:
        likelier, flops = _likelier(model, codec, contexts, cost)
    except ModelError:  # it computes no numbers, which is told better where paths are drawn
        likelier, flops = [[] for _ in contexts], [Flops()] * len(contexts)
    trials: dict[int, list[tuple[int, TransformKind, int]]] = {}  # by steps that are forecast: series, kind, origin
    for index, kinds in enumerate(likelier):
        steps = len(contexts[index])
        held = _held(steps, horizon)
        if kinds:
            both: list[TransformKind] = ["none", *kinds]
            trials.setdefault(held, []).extend((index, kind, steps - back * held) for kind in both for back in (1, 2))
    steps_tried = sum(held * len(tried) * PATHS for held, tried in trials.items())
    whole = steps_tried + len(contexts) * config.samples * horizon
    errors: dict[tuple[int, TransformKind], list[float]] = {}
    done = 0
    for held, tried in trials.items():
        size = held * len(tried) * PATHS
        pasts = [contexts[index][:origin] for index, _, origin in tried]
        fitted = [Transform.fit(kind, past) for (_, kind, _), past in zip(tried, pasts)]
        drawn = draw_paths(
            model,
            codec,
            [transform.forward(past) for transform, past in zip(fitted, pasts)],
            [f"{ids[index]}, {kind} from {origin}" for index, kind, origin in tried],
            [Plan((held,), 1)] * len(tried),
            replace(config, samples=PATHS),
            cost,
            progress=lambda share, done=done, size=size: progress((done + share * size) / whole),
        )
        done += size
        for (index, _, _), spent in zip(tried, drawn.flops):
            flops[index] += spent
        for (index, kind, origin), transform, paths in zip(tried, fitted, drawn.values):
            error = _crps(transform.inverse(paths, origin), contexts[index], origin)
            errors.setdefault((index, kind), []).append(error)
    transforms = []
    for index, kinds in enumerate(likelier):
        best: TransformKind = "none"
        if kinds:
            mean = {kind: np.mean(errors[index, kind]) for kind in ("none", *kinds)}
            lowest = min(kinds, key=lambda kind: mean[kind])
            best = lowest if mean[lowest] < LOWER * mean["none"] else "none"
        transforms.append(Transform.fit(best, contexts[index]))
    return transforms, flops, steps_tried / whole


def _likelier(
    model: LanguageModel, codec: Codec, contexts: Sequence[NDArray[np.float64]], cost: PassCost
) -> tuple[list[list[TransformKind]], list[Flops]]:
    """The kinds on which the model finds the end of each context likelier than as it is, and what that cost of each."""
    found: list[list[TransformKind]] = [[] for _ in contexts]
    flops, alike = [Flops()] * len(contexts), dict[int, list[int]]()
    for index, context in enumerate(contexts):
        if len(context) >= FEWEST:
            alike.setdefault(len(context), []).append(index)
    for steps, members in alike.items():
        read = steps - round(HELD * steps)
        as_it_is = dict[int, float]()
        for kind in ("none", *AUTOMATIC):
            fitted = {index: Transform.fit(kind, contexts[index][:read]) for index in members}
            changed = [index for index, one in fitted.items() if one.changes or kind == "none"]
            if not changed:
                continue
            written = np.stack([fitted[index].forward(contexts[index]) for index in changed])  # [n, C, D]
            density = step_log_density(model, codec, written, read).sum(1)
            spent = cost.forward(1, codec.grammar(written.shape[2]).step_tokens * steps).total
            for index, one in zip(changed, density):
                flops[index] += spent
                seen = float(one + np.nansum(fitted[index].log_slope(contexts[index])[read:]))
                if kind == "none":
                    as_it_is[index] = seen
                elif seen > as_it_is[index]:
                    found[index].append(kind)
    return found, flops


def _crps(paths: NDArray[np.float64], context: NDArray[np.float64], origin: int) -> float:
    """The CRPS of paths [S, H, D] that begin at a step of a context, in standard deviations of the context."""
    truth, (_, spread) = context[origin : origin + paths.shape[1]], centre_and_spread(context)
    size = np.where(spread > 0, spread, 1.0)  # [D]
    return float(np.nan_to_num(window_crps(paths[None], truth[None], size[None])[0]))


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
    watch: Watch | None = None,
    adapters: Adapters | None = None,
) -> tuple[Drawn, list[tuple[TransformKind, ...]]]:
    """`draw_paths` by groups of variables, and the kind of transform of each series [N] and variable [D].

    Args:
        groups: the columns of each, in the order in which they are read; paths of different groups are independent.
        given: values [N, H, D] that come back as they are; NaN elsewhere.
        watch, adapters: as of `draw_paths`; variables of groups that are still to be drawn are NaN.
    """
    shape, variables = (len(contexts), config.samples, given.shape[1]), given.shape[2]
    values, valid = np.empty((*shape, given.shape[2])), np.ones(shape, bool)
    kinds: list[list[TransformKind]] = [["none"] * given.shape[2] for _ in contexts]
    saturated, flops = np.zeros(len(contexts), np.int64), [Flops()] * len(contexts)
    for number, group in enumerate(groups):
        read, known = [context[:, group] for context in contexts], given[..., group]
        names = list(ids) if len(groups) == 1 else [f"{one}, group {number}" for one in ids]

        def report(share: float, before: int = number) -> None:
            if progress:
                progress((before + share) / len(groups))

        begun = 0.0
        if config.transform == "auto":
            horizon = plans[0].horizon
            transforms, spent, begun = choose_transforms(model, codec, read, names, horizon, config, cost, report)
            flops = [before + now for before, now in zip(flops, spent)]
        else:
            transforms = [Transform.fit(config.transform, context) for context in read]
        written = [transform.forward(context) for transform, context in zip(transforms, read)]
        told = [transform.forward(one, len(context)) for transform, one, context in zip(transforms, known, read)]

        def on_step(
            rows: Sequence[int],
            found: NDArray[np.float64],
            group: Sequence[int] = group,
            fitted: Sequence[Transform] = transforms,
            last: bool = number == len(groups) - 1,
        ) -> None:
            """Passes on the steps that are drawn on the series' own scale; those of an earlier group as they came."""
            so_far = values[list(rows), :, : found.shape[2]] if last else np.full((*found.shape[:3], variables), np.nan)
            for place, row in enumerate(rows):
                so_far[place][..., group] = fitted[row].inverse(found[place], len(contexts[row]))
            if watch:
                watch(rows, so_far)

        drawn = draw_paths(
            model,
            codec,
            written,
            names,
            plans,
            config,
            cost,
            given=np.stack(told),
            constrained=constrained,
            progress=lambda share, report=report, begun=begun: report(begun + (1 - begun) * share),
            watch=on_step if watch else None,
            adapters=adapters,
        )
        for index, transform in enumerate(transforms):
            found = drawn.values[index]
            if transform.changes:
                found = transform.inverse(found, len(contexts[index]))
            values[index][..., group] = np.where(np.isnan(known[index]), found, known[index])
            for column in group:
                kinds[index][column] = transform.kind
        valid &= drawn.valid
        saturated += drawn.saturated
        flops = [before + now for before, now in zip(flops, drawn.flops)]
    return Drawn(values, valid, saturated, flops), [tuple(one) for one in kinds]

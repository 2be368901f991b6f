"""Which settings are best: every combination (a grid), or successive halving, which spends less.

Runs are compared by their validation loss in nats a value, which is comparable between decimals and costs nothing more;
those that go on to the end are judged by their forecasts.

A search keeps no state of its own: its runs lie in the study's folder, and what they lost so far stands in their logs.
So any number of processes may share one, and any of them may die.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from loracast.study.context import StudyContext
from loracast.study.protocol import TuningSettings, with_changes
from loracast.study.runs import Stop, TuningRun

PRUNED = "pruned"
SETTINGS = ("decimals", "rank", "learning_rate")
HALVING = "search-halving-"  # and the place in the order


def combinations(study: StudyContext) -> Iterator[dict[str, Any]]:
    for values in product(*(getattr(study.protocol.search, name) for name in SETTINGS)):
        yield dict(zip(SETTINGS, values))


def priced(study: StudyContext) -> list[TuningSettings]:
    """The settings that differ in what they cost: all combinations, at one learning rate."""
    rates = study.protocol.search.learning_rate
    return [tuning(study, one) for one in combinations(study) if one["learning_rate"] == rates[0]]


def tuning(study: StudyContext, settings: dict[str, Any]) -> TuningSettings:
    return with_changes(study.protocol.tuning, {"steps": study.protocol.search.steps, **settings})


def grid(study: StudyContext) -> list[TuningRun]:
    """One run a combination of settings."""
    return [
        TuningRun(f"search-grid-{index:03}", "search", tuning(study, settings))
        for index, settings in enumerate(combinations(study))
    ]


def halving(study: StudyContext) -> list[TuningRun]:
    """The same in an order drawn from the seed. They are stopped early by `stop_at_rungs`."""
    settings = list(combinations(study))
    order = np.random.default_rng(study.protocol.seed).permutation(len(settings))
    return [
        TuningRun(f"{HALVING}{place:03}", "search", tuning(study, settings[index])) for place, index in enumerate(order)
    ]


def promoted(value: float, competing: Sequence[float], reduction: int) -> bool:
    """Whether a run with this loss goes on from a rung: it is among the best 1 / `reduction` of those that came so far.

    The rule of asynchronous successive halving (Li et al. 2020, arXiv:1810.05934), and the first runs go on anyway, if
    each is the best so far. It depends on losses alone, so that a run that died after it asked gets the same answer.
    A loss that is not a number is worse than any other.
    """
    value = math.inf if math.isnan(value) else value
    better = sum(other < value for other in competing)
    return better < max(1, len(competing) // reduction)


def stop_at_rungs(study: StudyContext, run: TuningRun) -> Stop:
    """What stops a run of a halving: at a rung, unless it is among the best of the runs that came there so far."""
    search = study.protocol.search

    def stop(step: int, nats: float) -> str | None:
        if step not in search.rungs:
            return None
        losses = {**_losses(study, step), run.name: nats}
        return None if promoted(nats, list(losses.values()), search.reduction) else PRUNED

    return stop


def _losses(study: StudyContext, step: int) -> dict[str, float]:
    """Validation losses after so many steps of the runs of the halving that came so far, by name."""
    losses = {}
    for path in study.folder.run("").glob(f"{HALVING}*"):
        for event in study.folder.log(path.name):
            if event["event"] == "validation" and event["step"] == step:
                losses[path.name] = math.nan if event["nats"] is None else event["nats"]
    return losses

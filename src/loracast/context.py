"""What a forecaster reads of a series, and in which stretches it forecasts: what fits its model, what that has seen."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loracast.codec import Codec
from loracast.engine.rolling import Plan
from loracast.errors import ConfigError, DataError, UnseenWarning
from loracast.model.config import ModelConfig
from loracast.series import Series
from loracast.series.checks import check_observed

READ = 0.8  # share of a base's window that is read of a series, however long the horizon
FEW = 4  # steps of context, below which nothing can be told
REREAD = 0.5  # share of a window that a path reads back before a later stretch


@dataclass(frozen=True)
class Reach:
    """Steps of so many variables that a model holds, and those that it, or its adapter, was made for.

    Attributes:
        positions: steps that the model's positions hold, context and forecast together.
        window: steps, context and forecast together, that the adapter was tuned on; `positions` without an adapter.
        context: steps that are read of a series that has them, however long the horizon.
        tuned: whether there is an adapter.
    """

    variables: int
    positions: int
    window: int
    context: int
    tuned: bool

    @classmethod
    def of(cls, config: ModelConfig, codec: Codec, variables: int, record: Mapping[str, Any] | None = None) -> Reach:
        """That of a model or, with its record, of an adapter. ConfigError where the model does not hold two steps."""
        tokens, step_tokens = config.max_position_embeddings, codec.grammar(variables).step_tokens
        positions = tokens // step_tokens
        if positions < 2:
            most = tokens // 2 // (step_tokens // variables)
            raise ConfigError(
                [
                    f"a step of {variables} variables takes {step_tokens} tokens and the model holds {tokens}, fewer "
                    f"than two steps; forecast at most {most} variables at once"
                ]
            )
        record = record or {}
        changes = record.get("validation_forecasts", {}).get("kept") != "untouched"  # else the model is as it was
        if changes and (tune := record.get("tune")):
            window = min(positions, tune["context"] + tune["horizon"])
            return cls(variables, positions, window, min(tune["context"], window - 1), tuned=True)
        return cls(variables, positions, positions, max(1, int(READ * positions)), tuned=False)

    def read(
        self, series: Sequence[Series], horizon: int, context: int | None = None
    ) -> tuple[list[Series], list[Plan]]:
        """What is read of each series, and the stretches of its forecast.

        That is `context` steps of its end or, unless given, as many as the model was made for. Warns where a series is
        cut, other than by choice or as its adapter was tuned, and of a context that the adapter has not seen.
        """
        contexts = [self._end(one, horizon, context) for one in series]
        for one in contexts:
            check_observed(one)
        plans = [self.plan(one.steps, horizon, chosen=context is not None) for one in contexts]
        if self.tuned and context and context > self.context:
            _warn(f"a context of {context} steps is longer than the {self.context} that the adapter was tuned on")
        if context is None and (few := [one for one in contexts if one.steps < FEW]):
            others = f" (and of {len(few) - 1} other series few)" if len(few) > 1 else ""
            _warn(
                f"series {few[0].id!r}: {few[0].steps} step{'s' * (few[0].steps > 1)} of context{others}; that tells "
                "next to nothing of how it goes on"
            )
        cut = [(one, read) for one, read in zip(series, contexts) if read.steps < one.steps]
        if cut and context is None and not self.tuned:
            one, read = max(cut, key=lambda pair: pair[0].steps)
            others = f" (and {len(cut) - 1} other series were cut)" if len(cut) > 1 else ""
            _warn(
                f"series {one.id!r}: read the last {read.steps} of {one.steps} rows: the model holds {self.positions} "
                f"steps{others}"
            )
        return contexts, plans

    def _end(self, series: Series, horizon: int, context: int | None) -> Series:
        if context is None:
            most = self.context if self.tuned else max(self.context, self.window - horizon)
            context = min(most, series.steps)
        elif context > series.steps:
            raise DataError(
                f"series {series.id!r} has {series.steps} steps, fewer than the context of {context}; take a shorter "
                "context, or leave the series out"
            )
        return series.slice(series.steps - context, series.steps)

    def check(self, steps: int) -> None:
        """ConfigError unless the model holds a window of so many steps."""
        if steps > self.positions:
            raise ConfigError(
                [
                    f"a window of {steps} steps of {self.variables} variables, context and forecast together, does not "
                    f"fit the model, which holds {self.positions} steps; shorten the context or take fewer variables"
                ]
            )

    def plan(self, context: int, horizon: int, *, chosen: bool) -> Plan:
        """The stretches of a forecast from so many steps.

        None is longer than what the window leaves beside the context, and the later ones all leave the same part of it
        to what is read back, so that a longer forecast begins with a shorter one. Where the context was chosen by
        hand, not the adapter's window but the model's positions decide.
        """
        window = self.positions if chosen else self.window
        self.check(context + 1)
        reread = max(1, round(REREAD * window))
        stretches = [min(horizon, window - context)]
        while (left := horizon - sum(stretches)) > 0:
            stretches.append(min(left, window - reread))
        return Plan(tuple(stretches), reread)


def reading_groups(series: Series, record: Mapping[str, Any], most: int | None = None) -> list[list[int]]:
    """The positions of a series' variables, in groups that are read and forecast together, in the order of reading.

    An adapter reads all variables in the order in which it was tuned on them. An untouched model is given no more at
    once than it knows: the targets in their order, in groups of nearly the same size, each with all variables that are
    not forecast before them.

    Args:
        record: that of the adapter; empty for an untouched model.
        most: the most variables that the base was pretrained on, where that is known.

    Raises DataError where the variables cannot be the adapter's, and warns where they may not be, and of groups.
    """
    if record.get("variables"):
        return [_tuned_order(series, record)]
    others = len(series.names) - len(series.targets)
    if not most or series.variables <= most:
        return [[*range(series.variables)]]
    room = most - others
    if room < 1:
        _warn(f"the series have {series.variables} variables; the model has only seen up to {most} at once")
        return [[*range(series.variables)]]
    groups = [[others + target for target in group] for group in variable_groups(len(series.targets), room)]
    listed = "; ".join(", ".join(series.names[column] for column in group) for group in groups)
    _warn(
        f"the series have {series.variables} variables, and the model has only seen up to {most} at once; they are "
        f"forecast in groups that know nothing of each other: {listed}"
    )
    return [[*range(others), *group] for group in groups]


def variable_groups(variables: int, most: int | None) -> list[list[int]]:
    """Variables in their order in the fewest groups of at most so many, of nearly one size; all in one for None."""
    count = -(-variables // most) if most else 1
    return [group.tolist() for group in np.array_split(np.arange(variables), count)]


def _tuned_order(series: Series, record: Mapping[str, Any]) -> list[int]:
    """The positions of a series' variables in the order in which the adapter with this record reads them."""
    names, tuned_on = series.names, tuple(record["variables"])
    if len(tuned_on) != len(names):
        raise DataError(
            f"the adapter was tuned on {len(tuned_on)} variables ({', '.join(tuned_on)}), but the series have "
            f"{len(names)} ({', '.join(names)}); choose those columns or tune another adapter"
        )
    if missing := [name for name in record.get("known", ()) if name not in series.known]:
        raise DataError(
            f"the adapter was tuned with {', '.join(missing)} known beforehand; name it as known and give its future "
            "values, or tune another adapter"
        )
    if extra := [name for name in series.known if name not in record.get("known", ())]:
        _warn(f"{', '.join(extra)} is known beforehand, but the adapter was tuned to forecast it", 5)
    if names == tuned_on:
        return [*range(len(names))]
    if set(names) == set(tuned_on):
        _warn(f"the variables are read as {', '.join(tuned_on)}, the order that the adapter was tuned on", 5)
        return [names.index(name) for name in tuned_on]
    _warn(f"the adapter was tuned on {', '.join(tuned_on)}; the series have {', '.join(names)}, read in that order", 5)
    return [*range(len(names))]


def _warn(message: str, stacklevel: int = 4) -> None:
    warnings.warn(message, UnseenWarning, stacklevel=stacklevel)  # where `predict` was called

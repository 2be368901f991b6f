"""How much of a series is read, and in which stretches a forecast is made: what fits the model, and what it knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loracast.codec import Codec
from loracast.engine.rolling import Plan
from loracast.errors import ConfigError, DataError
from loracast.model.config import Qwen2Config
from loracast.series import Series

READ = 0.8  # share of a base's window that is read of a series, however long the horizon
REREAD = 0.5  # share of a window that a path reads back before a later stretch


@dataclass(frozen=True)
class Reach:
    """Steps of so many variables that a model holds, and those that it, or its adapter, was made for.

    Attributes:
        positions: steps that the model's positions hold, context and forecast together.
        window: steps, context and forecast together, that the adapter was tuned on; `positions` without an adapter.
        context: steps that are read of a series that has them, however long the horizon.
    """

    variables: int
    positions: int
    window: int
    context: int
    tuned: bool

    @classmethod
    def of(cls, config: Qwen2Config, codec: Codec, variables: int, record: Mapping[str, Any] | None = None) -> Reach:
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
        if tune := (record or {}).get("tune"):
            window = min(positions, tune["context"] + tune["horizon"])
            return cls(variables, positions, window, min(tune["context"], window - 1), tuned=True)
        return cls(variables, positions, positions, max(1, int(READ * positions)), tuned=False)

    def read(self, series: Series, horizon: int, context: int | None) -> Series:
        """The end of a series that is read: `context` steps of it or, unless given, as many as the model was made for.

        Where there is no adapter, a short horizon leaves room for more.
        """
        if context is None:
            most = self.context if self.tuned else max(self.context, self.window - horizon)
            context = min(most, series.steps)
        elif context > series.steps:
            raise DataError(
                f"series {series.id!r} has {series.steps} steps, fewer than the context of {context}; take a shorter "
                "context, or leave the series out"
            )
        return series.slice(series.steps - context, series.steps)

    def plan(self, context: int, horizon: int, *, chosen: bool) -> Plan:
        """The stretches of a forecast from so many steps.

        None is longer than what the window leaves beside the context, and the later ones all leave the same part of it
        to what is read back, so that a longer forecast begins with a shorter one. Where the context was chosen by
        hand, not the adapter's window but the model's positions decide.
        """
        window = self.positions if chosen else self.window
        if context >= window:
            raise ConfigError(
                [
                    f"a context of {context} steps of {self.variables} variables and one step of forecast do not fit "
                    f"the model, which holds {window} steps; read at most {window - 1}"
                ]
            )
        reread = max(1, round(REREAD * window))
        stretches = [min(horizon, window - context)]
        while (left := horizon - sum(stretches)) > 0:
            stretches.append(min(left, window - reread))
        return Plan(tuple(stretches), reread)

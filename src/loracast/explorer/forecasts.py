"""Forecasts for the page: what is known at once, then the paths as they are drawn, then their scores and events.

Shapes: C steps of context, H steps of the horizon, S paths, D variables.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loracast.baselines import BASELINES
from loracast.charts.fan import LEVELS
from loracast.drawing import Request
from loracast.engine.written import written
from loracast.errors import ConfigError, LoracastError, told_warnings
from loracast.explorer.sources import Source
from loracast.explorer.work import Tell
from loracast.forecast import Forecast, future_time
from loracast.forecaster import Forecaster
from loracast.series import Series
from loracast.serve.answers import by_variable
from loracast.settings import SampleConfig
from loracast.statistics import centre_and_spread, path_quantiles, window_crps

TELL_SECONDS = 0.25  # between two pictures of one forecast
SHOWN_PATHS = 60  # single paths that the page draws
FEWEST = 4  # steps of context


@dataclass(frozen=True, eq=False)
class Question:
    """What the page asks of one series.

    Attributes:
        origin: steps of the series that are known; what follows them is forecast.
        future: values that are supposed or known, by variable: of each step, or None.
    """

    series: Series
    origin: int
    horizon: int
    sample: SampleConfig
    future: Mapping[str, list[float | None]]

    @property
    def context(self) -> Series:
        return self.series.slice(0, self.origin)

    @property
    def truth(self) -> NDArray[np.float64]:
        """What really followed, [H, D] of the targets, NaN where it is not known."""
        return self._followed()[:, self.series.target_columns]

    @property
    def known(self) -> NDArray[np.float64] | None:
        """What is given of the future, [1, H, D]; None where nothing is. Variables known beforehand are taken from the
        series itself where it goes on.
        """
        given = np.full((self.horizon, self.series.variables), np.nan)
        count = len(self.series.known)
        given[:, :count] = self._followed()[:, :count]
        for name, values in self.future.items():
            column = self.series.names.index(name)
            for step, value in enumerate(values[: self.horizon]):
                if value is not None:
                    given[step, column] = value
        return None if np.isnan(given).all() else given[None]

    def _followed(self) -> NDArray[np.float64]:
        found = np.full((self.horizon, self.series.variables), np.nan)
        rest = self.series.values[self.origin : self.origin + self.horizon]
        found[: len(rest)] = rest
        return found


def read_question(source: Source, asked: Mapping[str, Any]) -> Question:
    """A question as the page asks it."""
    number = int(asked.get("series", 0))
    if not 0 <= number < len(source.series):
        raise ConfigError([f"there is no series {number}; there are {len(source.series)}"])
    series = source.series[number]
    origin = min(series.steps, int(asked.get("origin") or series.steps))
    if origin < FEWEST:
        raise ConfigError([f"{origin} steps before the origin; {FEWEST} at least"])
    future = {name: values for name, values in (asked.get("future") or {}).items() if name in series.names}
    sample = SampleConfig(
        int(asked.get("paths", 20)), transform=asked.get("transform", "none"), seed=int(asked.get("seed", 0))
    )
    return Question(series, origin, int(asked.get("horizon", 20)), sample, future)


def beginning(question: Question) -> dict[str, Any]:
    """What is known before anything is drawn: context, truth, times and baselines."""
    context, truth = question.context, question.truth
    seen = context.values[:, context.target_columns]
    size = _size(seen)
    baselines = {}
    for name, baseline in BASELINES.items():
        found = baseline(seen, question.horizon)
        baselines[name] = {"values": by_variable(context.targets, found), **_scores(found[None], truth, size)}
    past, future = _times(question)
    return {
        "begin": {
            "id": context.id,
            "variables": list(context.targets),
            "past": past,
            "future": future,
            "context": by_variable(context.targets, seen),
            "truth": by_variable(context.targets, truth),
            "baselines": baselines,
            "steps": question.series.steps,
        }
    }


def draw(forecaster: Forecaster, name: str, question: Question, tell: Tell, go_on: Callable[[float], None]) -> Forecast:
    """Draws a forecast and tells of it whenever there is more to see; then all of it, and its scores."""
    request, warned = _request(forecaster, question)
    last = time.monotonic()

    def watch(parts: list[Forecast]) -> None:
        nonlocal last
        if time.monotonic() - last >= TELL_SECONDS or parts[0].samples.shape[2] == 1:
            last = time.monotonic()
            tell({"forecaster": name, "steps": parts[0].samples.shape[2], **picture(parts[0])})

    (found,) = forecaster.answer([request], progress=go_on, watch=watch)
    seen = found.context_values(0)
    told = {
        "flops": found.flops.executed,
        "scales": list(found.scales),
        "conditional": list(found.conditional),
        "read": found.contexts[0].steps,
        "warnings": warned,
        **_scores(found.samples[0], question.truth, _size(seen)),
    }
    tell({"forecaster": name, "steps": question.horizon, "done": True, **picture(found), **told})
    return found


def _request(forecaster: Forecaster, question: Question) -> tuple[Request, list[str]]:
    """What is asked, and what is to be warned of."""
    with told_warnings() as told:
        request = forecaster.request(question.context, question.horizon, sample=question.sample, known=question.known)
    return request, told


def picture(forecast: Forecast) -> dict[str, Any]:
    """Quantiles and paths of a forecast's only series, by variable."""
    levels = forecast.quantiles(LEVELS)[0]  # [5, H, D]
    shown = forecast.samples[0, :SHOWN_PATHS]  # [S, H, D]
    return {
        "levels": by_variable(forecast.names, levels),
        "paths": by_variable(forecast.names, shown),
    }


def judged(forecast: Forecast, texts: list[str]) -> list[dict[str, Any]]:
    """What becomes of events: a sentence, and the probability by each step; or what is wrong with a text."""
    found = []
    for text in texts:
        try:
            (one,) = forecast.events([text])
        except LoracastError as error:
            found.append({"event": text, "error": str(error)})
            continue
        by_step = one.by_step
        found.append(
            {
                "event": text,
                "kind": one.kind,
                "sentence": one.sentence,
                "probability": one.probability,
                "low": one.low,
                "high": one.high,
                "by_step": by_step.tolist(),
                "first": np.diff(by_step, prepend=0.0).tolist(),
                "values": one.values,
            }
        )
    return found


def write_text(
    forecaster: Forecaster, question: Question, number: int, tell: Tell, go_on: Callable[[float], None]
) -> None:
    """Tells what the model reads and the text of one path, token by token."""
    request, _ = _request(forecaster, question)
    (context,), (plan,) = request.contexts, request.plans
    if not plan.stretches:
        raise ConfigError(["the series never varies, so that the model is not asked"])
    group = list(request.groups[0])
    tell({"variables": [context.names[column] for column in group], "first": question.origin - context.steps})
    tokens = []
    for token in written(
        forecaster.model,
        forecaster.codec,
        context.values[:, group],
        context.id,
        plan.stretches[0],
        question.sample,
        number,
    ):
        go_on(0.0)
        tokens.append([token.text, token.variable, token.step, token.bits, token.read])
        if not token.read or len(tokens) >= 4000:
            tell({"tokens": tokens})
            tokens = []
    tell({"tokens": tokens, "done": True})


def _scores(paths: NDArray[np.float64], truth: NDArray[np.float64], size: NDArray[np.float64]) -> dict[str, Any]:
    """MAE of the median, CRPS in standard deviations of the context and share in 80% intervals, of what is known."""
    if np.isnan(truth).all():
        return {"scores": None}
    low, middle, high = path_quantiles(np.moveaxis(paths, 0, 1), (0.1, 0.5, 0.9))
    known = ~np.isnan(truth)
    scores = {
        "mae": float(np.abs(middle - truth)[known].mean()),
        "crps": float(window_crps(paths[None], truth[None], size[None])[0]),
    }
    if len(paths) > 1:
        scores["covered"] = float(((low <= truth) & (truth <= high))[known].mean())
    return {"scores": scores}


def _size(seen: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = centre_and_spread(seen)[1]
    return np.where(spread > 0, spread, 1.0)


def _times(question: Question) -> tuple[list[Any], list[Any]]:
    """The times of what is read and of what is forecast: as ISO dates, as numbers, or as steps from 1."""
    context, future = question.context, future_time(question.context, question.horizon)
    if context.time is None or future is None:
        count = question.origin
        return list(range(1, count + 1)), list(range(count + 1, count + question.horizon + 1))
    if context.time.dtype.kind == "M":
        return [str(one)[:19] for one in context.time], [str(one)[:19] for one in future]
    return context.time.tolist(), future.tolist()

"""Simulated siblings of a short series: a law's trajectories that move as the series does.

Parameters, speed, noise of the process and of observation are drawn at random, wider than the system's ranges. Those
draws are kept whose trajectories have statistics nearest to the series' (approximate Bayesian computation by rejection,
Pritchard et al. 1999, Molecular Biology and Evolution 16, 1791–1798): how much and how skewed each variable varies on a
logarithmic scale, how it correlates with itself and with the others at other times. From each that is kept, new
trajectories are drawn, with noise of their own, at the series' level.

Shapes: N draws, T steps, D variables, L lags.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loracast.errors import ConfigError, DataError
from loracast.series import Series
from loracast.systems.system import System, get_system

DRAWS = 20_000
KEPT = 60  # draws that siblings are made of
TRIED = 5  # new trajectories for each sibling, of which the nearest are taken
BROAD = 5.0  # how much more a variable's spread counts than any other statistic
WIDER = 2.0  # times the system's ranges, either way
SPEEDS = 0.3, 8.0  # units of the system's time a step
PROCESS, OBSERVATION = (0.01, 0.4), (0.01, 0.3)  # deviations of the logarithms
BURN = 60  # steps before a trajectory is looked at, at most
SUBSTEPS = 6  # of Runge and Kutta's method, a step
LONGEST = 20  # steps, the largest lag
FEWEST = 12  # steps of a series

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Draws:
    """Parameters by name, first state [D, N], time a step, and deviations of both noises, each [N]."""

    parameters: dict[str, Floats]
    state: Floats
    step: Floats
    process: Floats
    observation: Floats

    def of(self, rows: NDArray[np.int64]) -> Draws:
        parameters = {name: values[rows] for name, values in self.parameters.items()}
        return Draws(parameters, self.state[:, rows], self.step[rows], self.process[rows], self.observation[rows])


def siblings(series: Sequence[Series], system: str | System, n: int, *, seed: int = 0) -> list[Series]:
    """`n` simulated series that move as these do, shared out among them evenly.

    Args:
        series: of positive values (zeros count as half of the smallest positive one), of at least 12 steps, of the
            system's variables in its order, or of its first ones: those that were not counted are simulated, too.
        system: a system, or the name of one.

    Raises:
        ConfigError: the system's law cannot be computed for many states at once, or it has variables that are known.
        DataError: a series does not suit the system.

    Examples:
        >>> made = loracast.siblings([loracast.lynx_hare()], "predator-prey", n=4)
        >>> len(made), made[0].names, made[0].steps
        (4, ('hare', 'lynx'), 91)
    """
    system = get_system(system) if isinstance(system, str) else system
    if system.known:
        raise ConfigError([f"siblings: system '{system.name}' is driven by {', '.join(system.known)}; choose another"])
    made: list[Series] = []
    for number, one in enumerate(series):
        count = n // len(series) + (number < n % len(series))
        if count:
            made += _siblings_of(one, system, count, np.random.default_rng([seed, number]))
    return made


def _siblings_of(series: Series, system: System, count: int, random: np.random.Generator) -> list[Series]:
    logs = _logarithms(series, system)  # [T, D]
    wanted = _statistics(logs[:, None])[0]
    drawn = _draw(system, DRAWS, random)
    counted = logs.shape[1]  # of the system's variables
    found = _statistics(_trajectories(system, drawn, len(logs), random)[..., :counted])  # [N, statistics]
    usable = found[np.isfinite(found).all(1)]
    if not len(usable):
        raise DataError(f"series {series.id!r}: every draw of system '{system.name}' diverged; choose another system")
    scale = np.median(np.abs(usable - np.median(usable, 0)), 0) + 1e-6
    scale[:counted] /= BROAD
    nearest = np.argsort(_distance(found, wanted, scale))[:KEPT]
    again = drawn.of(random.choice(nearest, TRIED * count))
    values = _trajectories(system, again, len(logs), random)[..., :counted]  # [T, N, D]
    order = np.argsort(_distance(_statistics(values), wanted, scale))[:count]
    level = np.nanmean(logs, 0)  # [D]
    written = np.exp(values[:, order] - values[:, order].mean(0) + level).transpose(1, 0, 2)
    return [Series(one, series.names, f"{series.id}, sibling {number + 1}") for number, one in enumerate(written)]


def _distance(found: Floats, wanted: Floats, scale: Floats) -> Floats:
    """How far statistics [N, S] are from those that are wanted; infinite where they are not finite."""
    with np.errstate(over="ignore"):
        apart = np.square(((np.nan_to_num(found) - wanted) / scale).clip(-10, 10)).sum(1)
    return np.where(np.isfinite(found).all(1), apart, np.inf)


def _logarithms(series: Series, system: System) -> Floats:
    """The logarithms [T, D] of a series, NaN where a value is missing."""
    values = series.values
    if values.shape[1] > len(system.names):
        raise DataError(
            f"series {series.id!r} has the variables {', '.join(series.names)}, but system '{system.name}' has "
            f"{', '.join(system.names)}; siblings need no more, in that order"
        )
    if len(values) < FEWEST:
        raise DataError(f"series {series.id!r} has {len(values)} steps; siblings need {FEWEST} to move like it")
    smallest = np.where(values > 0, values, np.inf).min(0)  # [D]
    if (values < 0).any() or not np.isfinite(smallest).all():
        raise DataError(
            f"series {series.id!r} has negative values or a variable that is never positive, as system "
            f"'{system.name}' does not; siblings need numbers or amounts"
        )
    return np.log(np.where(values == 0, smallest / 2, values))


def _draw(system: System, count: int, random: np.random.Generator) -> Draws:
    def log_uniform(low: float, high: float) -> Floats:
        return np.exp(random.uniform(np.log(low), np.log(high), count))

    def wider(low: float, high: float) -> Floats:
        return log_uniform(low / WIDER, high * WIDER) if low > 0 else random.uniform(low, high, count)

    parameters = {name: wider(*limits) for name, limits in system.parameters.items()}
    state = np.stack([wider(*limits) for limits in system.initial.values()])
    noises = log_uniform(*PROCESS), log_uniform(*OBSERVATION)
    return Draws(parameters, state, log_uniform(*SPEEDS), *noises)


def _trajectories(system: System, drawn: Draws, steps: int, random: np.random.Generator) -> Floats:
    """Logarithms of what is observed, [T, N, D], each from a step up to BURN on; not finite where a draw diverges."""
    count, h = len(drawn.step), drawn.step / SUBSTEPS
    begin = random.integers(0, BURN, count)
    law: Any = system.derivative  # typed for single states; arithmetic serves many at once

    def slope(state: Floats) -> Floats:
        try:
            return np.stack([np.broadcast_to(one, count) for one in law(state, 0.0, drawn.parameters)])
        except (TypeError, ValueError) as error:
            raise ConfigError(
                [
                    f"siblings: the law of system '{system.name}' cannot be computed for many states at once "
                    f"({error}); write it with arithmetic and NumPy's functions"
                ]
            ) from None

    state, path = drawn.state, np.empty((BURN + steps, *drawn.state.shape))
    with np.errstate(all="ignore"):
        for place in range(BURN + steps):
            path[place] = state
            for _ in range(SUBSTEPS):
                first = slope(state)
                second = slope(state + h / 2 * first)
                third = slope(state + h / 2 * second)
                state = state + h / 6 * (first + 2 * second + 2 * third + slope(state + h * third))
            shock = random.standard_normal(state.shape)
            state = state * np.exp(drawn.process * shock - drawn.process**2 / 2)
        rows = begin + np.arange(steps)[:, None]  # [T, N]
        logs = np.log(path.transpose(0, 2, 1)[rows, np.arange(count)])  # [T, N, D]
    return logs + drawn.observation[:, None] * random.standard_normal(logs.shape)


def _statistics(logs: Floats) -> Floats:
    """What trajectories [T, N, D] are compared by, [N, statistics]; steps that are missing are left out."""
    steps, _, variables = logs.shape
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of draws that diverged
        centred = logs - np.nanmean(logs, 0)
        spread = np.sqrt(np.nanmean(centred**2, 0)) + 1e-9  # [N, D]
        standard = centred / spread
        found = [np.log(spread), np.nanmean(standard**3, 0)]
        for lag in range(1, max(2, min(LONGEST, steps // 3))):
            found.append(np.nanmean(standard[lag:] * standard[:-lag], 0))
            for other in range(1, variables):
                found.append(np.nanmean(standard[lag:] * np.roll(standard, other, 2)[:-lag], 0))
    return np.concatenate(found, 1)

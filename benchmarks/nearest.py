"""Forecasts from a series' own past by its nearest neighbours: simplex projection and S-maps.

Both see a series as points of E lags (of all variables together) and follow what came after points like the last one
(Sugihara & May 1990, Nature 344: 734; Sugihara 1994, Phil. Trans. R. Soc. A 348: 477). E and the S-map's theta are
those with the least squared error one step ahead, each point being left out when it is forecast.

Shapes: T steps, D variables, E lags, P points, S paths, H steps of the horizon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Map: TypeAlias = Callable[[Floats, Floats, Floats], Floats]
LAGS = 8
THETAS = (0.0, 0.01, 0.1, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
LEAST = 1e-6  # the smallest weight of a neighbour, relative to the nearest one's


def embedded(values: Floats, lags: int) -> tuple[Floats, Floats]:
    """Points [P, E · D] of values [T, D], the latest lag first, and what follows each of them [P, D]; P = T - E."""
    steps = range(lags - 1, len(values) - 1)
    points = np.stack([values[step - lags + 1 : step + 1][::-1].ravel() for step in steps])
    return points, values[lags:]


def simplex(points: Floats, following: Floats, at: Floats) -> Floats:
    """What follows `at` [E · D]: the mean [D] over the E + 1 nearest points, weighted by exp(-distance / least one)."""
    distance = np.linalg.norm(points - at, axis=1)
    nearest = np.argsort(distance, kind="stable")[: len(at) + 1]
    least = distance[nearest[0]]
    if least > 0:
        weight = np.maximum(np.exp(-distance[nearest] / least), LEAST)
    else:
        weight = np.where(distance[nearest] == 0, 1.0, LEAST)
    return weight @ following[nearest] / weight.sum()


def smap(theta: float) -> Map:
    """The S-map with this theta: a linear map fitted with weights exp(-theta · distance / mean distance)."""

    def mapped(points: Floats, following: Floats, at: Floats) -> Floats:
        distance = np.linalg.norm(points - at, axis=1)
        mean = distance.mean()
        weight = np.exp(-theta * distance / mean) if mean > 0 else np.ones(len(points))
        rows = np.column_stack([np.ones(len(points)), points]) * weight[:, None]
        found = np.linalg.lstsq(rows, following * weight[:, None], rcond=1e-5)[0]
        return np.concatenate([[1.0], at]) @ found

    return mapped


def left_out(values: Floats, lags: int, way: Map) -> tuple[Floats, Floats]:
    """Forecasts [P, D] of what follows each point from all the other points, and what did follow it [P, D]."""
    points, following = embedded(values, lags)
    others = ~np.eye(len(points), dtype=bool)
    found = [way(points[kept], following[kept], point) for kept, point in zip(others, points)]
    return np.stack(found), following


@dataclass(frozen=True)
class Fitted:
    """What was chosen, and its errors one step ahead [P, D]."""

    lags: int
    way: Map
    errors: Floats
    theta: float | None = None


def choose(values: Floats, ways: dict[float | None, Map], most: int = LAGS) -> Fitted:
    """The lags and the way of least squared error, each variable's by its own variance.

    As many lags are tried as leave at least two more points than a linear map of them has coefficients.
    """
    variance = values.var(0) + np.finfo(float).tiny
    tried = [lags for lags in range(1, most + 1) if len(values) - lags > lags * values.shape[1] + 3] or [1]
    candidates = []
    for lags in tried:
        for theta, way in ways.items():
            found, truth = left_out(values, lags, way)
            errors = truth - found
            candidates.append((float((errors**2 / variance).mean()), Fitted(lags, way, errors, theta)))
    return min(candidates, key=lambda candidate: candidate[0])[1]


def paths(values: Floats, fitted: Fitted, horizon: int, samples: int, draws: np.random.Generator) -> Floats:
    """Paths [S, H, D]: step by step, each with one of the errors one step ahead added and then read back."""
    points, following = embedded(values, fitted.lags)
    low, high = values.min(0), values.max(0)
    room = high - low  # a linear map may leave the data for good
    made = np.empty((samples, horizon, values.shape[1]))
    for path in made:
        recent = values[-fitted.lags :][::-1].copy()  # [E, D], the latest first
        for step in range(horizon):
            found = fitted.way(points, following, recent.ravel())
            found = found + fitted.errors[draws.integers(len(fitted.errors))]
            path[step] = np.clip(found, low - room, high + room)
            recent = np.vstack([path[step], recent[:-1]])
    return made

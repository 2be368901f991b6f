"""Forecasts that need no model; one that does not beat them has learned nothing.

Shapes
    C  steps of the context    H  steps of the horizon    D  variables    L  the lag, steps of a cycle

Missing values (NaN) of the context are left out. A variable that was never observed is forecast as NaN: a guess would
be scored as if it were a forecast.
"""

from collections.abc import Callable
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray

from loracast.errors import DataError
from loracast.statistics import observed_mean

FloatArray = NDArray[np.float64]
Context: TypeAlias = Annotated[FloatArray, "C D"]
Future: TypeAlias = Annotated[FloatArray, "H D"]


def last_value(context: FloatArray, horizon: int) -> Future:
    """Each variable stays at its last observed value: context [C, D] -> [H, D]."""
    _check(context, horizon)
    return np.tile(_last_observed(context), (horizon, 1))


def context_mean(context: FloatArray, horizon: int) -> Future:
    """Each variable stays at its mean over the context: context [C, D] -> [H, D]."""
    _check(context, horizon)
    return np.tile(observed_mean(context, axis=0), (horizon, 1))


def best_period(context: FloatArray, horizon: int) -> Future:
    """The last cycle of the context again and again: context [C, D] -> [H, D].

    A cycle's length is the lag L, one for all variables, at which the context differs least from itself L steps
    earlier: the mean of |x[t] - x[t - L]| over all variables and all t where both are observed, in the series' own
    units, so that a variable of large values weighs more. Lags run from C // 10 to C // 2, and are at least 1: below,
    any smooth series is close to itself; above, no cycle was seen twice. Of equally good lags the shortest is taken.

    A step missing from the last cycle is taken from the latest cycle that has it, or else from the context's mean.
    """
    _check(context, horizon)
    steps = len(context)
    lag = min(range(max(1, steps // 10), max(1, steps // 2) + 1), key=lambda lag: _mismatch(context, lag))
    return _repeated(context, horizon, lag)


def _repeated(context: Context, horizon: int, lag: int) -> Future:
    """The last `lag` steps of a context [C, D] again and again, [H, D]."""
    steps, variables = context.shape
    aligned = np.concatenate([np.full((-steps % lag, variables), np.nan), context])  # whole cycles, ending at the end
    cycle = _last_observed(aligned.reshape(-1, lag, variables))  # [L, D]
    cycle = np.where(np.isnan(cycle), observed_mean(context, axis=0), cycle)
    return np.resize(cycle, (horizon, variables))


def climatology(context: FloatArray, horizon: int) -> Annotated[FloatArray, "S H D"]:
    """Sample paths of values drawn from the context at random: context [C, D] -> [S, H, D] with S = `CLIMATE_PATHS`.

    All variables of a step come from one step of the context. What is known is how values are spread, and nothing of
    their order; unlike the mean, it is a forecast with intervals, so that its CRPS can be compared with that of paths.
    """
    _check(context, horizon)
    seen = context[~np.isnan(context).all(1)]
    if not len(seen):
        return np.full((CLIMATE_PATHS, horizon, context.shape[1]), np.nan)
    draws = np.random.default_rng(0).integers(len(seen), size=(CLIMATE_PATHS, horizon))
    return seen[draws]


def seasonal_naive(context: FloatArray, horizon: int, season: int) -> Future:
    """The value of one season earlier, again and again: context [C, D] -> [H, D].

    A step that is missing there is taken from the latest season that has it, or else from the context's mean.
    """
    _check(context, horizon)
    return _repeated(context, horizon, season)


CLIMATE_PATHS = 100
BASELINES: dict[str, Callable[[FloatArray, int], FloatArray]] = {
    "last-value": last_value,
    "context-mean": context_mean,
    "best-period": best_period,
}


def _mismatch(context: Context, lag: int) -> float:
    """Mean absolute difference of the context [C, D] from itself `lag` steps earlier; infinite without a pair."""
    difference = np.abs(context[lag:] - context[:-lag])  # [C - L, D]
    pairs = difference[~np.isnan(difference)]
    return float(pairs.mean()) if pairs.size else float("inf")


def _last_observed(values: Annotated[FloatArray, "T *B"]) -> Annotated[FloatArray, "*B"]:
    """The last value along the first axis that is not NaN: [T, ...] -> [...]; NaN where there is none."""
    steps_back = np.argmax(~np.isnan(values[::-1]), axis=0, keepdims=True)  # [1, ...], 0 also where all are NaN
    return np.take_along_axis(values, len(values) - 1 - steps_back, axis=0)[0]


def _check(context: FloatArray, horizon: int) -> None:
    if context.ndim != 2 or 0 in context.shape:
        raise DataError(f"a context has shape {context.shape}; give [steps, variables] with at least one of each")
    if horizon < 1:
        raise DataError(f"a horizon of {horizon} steps; give at least 1")

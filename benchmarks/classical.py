"""What ecologists and statisticians forecast populations with, each as sample paths, by the libraries that have it.

A forecaster takes a context [C, D] without gaps, a horizon, the number of paths and a random generator, and returns
paths [S, H, D]. Those of single series forecast each variable by itself. `logs` are taken of the values plus half of
the smallest positive one where there are zeros, and refused where a value is negative.

statsforecast, statsmodels, pysindy, scikit-learn and fracast are needed; docs/populations.md says how to get them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import nearest
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats: TypeAlias = NDArray[np.float64]
Forecaster: TypeAlias = Callable[[Floats, int, int, np.random.Generator], Floats]
MOST_LAGS = 10


# -- adapters of forecasters ---------------------------------------------------------------------------------------


def each(forecast: Callable[[Floats, int, int, np.random.Generator], Floats]) -> Forecaster:
    """Each variable [C] by itself, to paths [S, H] each."""

    def forecaster(context: Floats, horizon: int, samples: int, draws: np.random.Generator) -> Floats:
        return np.stack([forecast(one, horizon, samples, draws) for one in context.T], axis=-1)

    return forecaster


def logs(forecaster: Forecaster) -> Forecaster:
    """On logarithms. What would be a thousand times the largest value of the context is cut there."""

    def logged(context: Floats, horizon: int, samples: int, draws: np.random.Generator) -> Floats:
        if (context < 0).any():
            raise ValueError("a negative value has no logarithm")
        positive = np.where(context > 0, context, np.inf).min(0)  # [D]
        shift = np.where((context == 0).any(0) & np.isfinite(positive), positive / 2, 0.0)
        shift = np.where((context == 0).all(0), 1.0, shift)
        most = np.log(1e3 * (context.max(0) + shift))
        made = forecaster(np.log(context + shift), horizon, samples, draws)
        return np.maximum(np.exp(np.minimum(made, most)) - shift, 0)

    return logged


# -- naive ones with intervals -------------------------------------------------------------------------------------


def random_walk(context: Floats, horizon: int, samples: int, draws: np.random.Generator) -> Floats:
    """The last value, and the context's changes from step to step drawn at random, less their mean."""
    changes = np.diff(context, axis=0)
    changes = changes - changes.mean(0)
    drawn = changes[draws.integers(len(changes), size=(samples, horizon))]
    return context[-1] + drawn.cumsum(1)


# -- statistics ----------------------------------------------------------------------------------------------------


def nixtla(name: str) -> Forecaster:
    """A model of statsforecast that chooses itself, simulated with normal errors."""

    def forecast(series: Floats, horizon: int, samples: int, draws: np.random.Generator) -> Floats:
        from statsforecast import models

        model: Any = getattr(models, name)(season_length=1)
        seed = int(draws.integers(2**31))
        return np.asarray(model.simulate(h=horizon, n_paths=samples, y=series, seed=seed), dtype=float)

    return each(forecast)


def autoregression(series: Floats, horizon: int, samples: int, draws: np.random.Generator) -> Floats:
    """An autoregression whose order AIC chooses, simulated with its own errors."""
    from statsmodels.tsa.ar_model import AutoReg, ar_select_order

    most = max(1, min(MOST_LAGS, len(series) // 4))
    lags = ar_select_order(series, most, ic="aic").ar_lags or 0
    fitted = AutoReg(series, lags).fit()
    constant, weights = fitted.params[0], np.asarray(fitted.params[1:])
    return continued(series[:, None], constant, weights[:, None], fitted.resid, horizon, samples, draws)[..., 0]


def continued(
    context: Floats, constant: Any, weights: Floats, errors: Any, horizon: int, samples: int, draws: np.random.Generator
) -> Floats:
    """Paths [S, H, D] of a linear map [order · D, D] of the last steps, latest first, with its own errors."""
    errors, variables = np.asarray(errors).reshape(-1, context.shape[1]), context.shape[1]
    order = len(weights) // variables
    recent = np.tile(context[len(context) - order :][::-1].ravel(), (samples, 1))  # [S, order · D]
    made = np.empty((samples, horizon, variables))
    for step in range(horizon):
        made[:, step] = constant + recent @ weights + errors[draws.integers(len(errors), size=samples)]
        recent = np.column_stack([made[:, step], recent])[:, : order * variables]
    return made


def vector_autoregression(context: Floats, horizon: int, samples: int, draws: np.random.Generator) -> Floats:
    """All variables together; AIC chooses the order; simulated with its own errors."""
    from statsmodels.tsa.api import VAR

    steps, variables = context.shape
    if variables == 1:
        return each(autoregression)(context, horizon, samples, draws)
    most = max(1, min(MOST_LAGS, (steps - 5) // (2 * variables + 1)))
    fitted = VAR(context).fit(maxlags=most, ic="aic", trend="c")
    return continued(context, fitted.params[0], fitted.params[1:], fitted.resid, horizon, samples, draws)


def gaussian_process(series: Floats, horizon: int, samples: int, draws: np.random.Generator) -> Floats:
    """Of time: a smooth part, a quasi-periodic one, and noise, their sizes and lengths by likelihood."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, ExpSineSquared, WhiteKernel

    steps = len(series)
    smooth = ConstantKernel(0.5) * RBF(steps / 4, (1, 10 * steps))
    cycle = ConstantKernel(0.5) * ExpSineSquared(1.0, steps / 5, periodicity_bounds=(2, steps)) * RBF(steps, (2, 1e4))
    kernel = smooth + cycle + WhiteKernel(0.1, (1e-6, 10))
    seed = int(draws.integers(2**31))
    model = GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=1, random_state=seed)
    model.fit(np.arange(steps)[:, None], series)
    return model.sample_y(np.arange(steps, steps + horizon)[:, None], samples, random_state=seed).T


# -- models of populations -----------------------------------------------------------------------------------------


def state_space(step: Callable[[Floats, Floats], Floats], slope: Callable[[Floats, Floats], Floats]) -> Forecaster:
    """A law n' = step(n, parameters) of a logarithm, with process and observation noise, by an extended Kalman filter.

    Both noises and the two parameters maximise the likelihood; paths begin from the filter's last state.
    """

    def filtered(unknown: Floats, series: Floats) -> tuple[float, float, float]:
        """Minus the log-likelihood, and the last state's mean and variance."""
        law, (process, observed) = unknown[:2], np.exp(np.clip(unknown[2:], -20, 10))
        mean, variance, total = series[0], observed, 0.0
        for value in series[1:]:
            gain = float(slope(mean, law))
            mean, variance = float(step(mean, law)), gain * gain * variance + process
            error, spread = value - mean, variance + observed
            if not np.isfinite(error + spread) or abs(error) > 1e6:
                return 1e12, mean, variance
            total += 0.5 * (np.log(2 * np.pi * spread) + error * error / spread)
            mean, variance = mean + variance / spread * error, variance * observed / spread
        return total, mean, variance

    def forecast(series: Floats, horizon: int, samples: int, draws: np.random.Generator) -> Floats:
        level, noise = series.mean(), np.log(max(np.diff(series).var(), 1e-6) / 2)
        starts = [(0.5, level, noise, noise), (1.5, level, noise, noise - 2), (0.1, level, noise - 2, noise)]
        found = [
            minimize(lambda unknown: filtered(unknown, series)[0], start, method="Nelder-Mead") for start in starts
        ]
        best = min(found, key=lambda one: one.fun).x
        _, mean, variance = filtered(best, series)
        process, observed = np.exp(np.clip(best[2:], -20, 10))
        state = mean + np.sqrt(variance) * draws.standard_normal(samples)
        made = np.empty((samples, horizon))
        for place in range(horizon):
            state = step(state, best[:2]) + np.sqrt(process) * draws.standard_normal(samples)
            state = np.clip(state, series.min() - 20, series.max() + 20)
            made[:, place] = state + np.sqrt(observed) * draws.standard_normal(samples)
        return made

    return each(forecast)


# growth r and level K of the logarithm: Ricker n + r (1 - exp(n - K)), Gompertz n + r (K - n)
RICKER = state_space(
    lambda n, law: n + law[0] * (1 - np.exp(np.clip(n - law[1], -50, 50))),
    lambda n, law: 1 - law[0] * np.exp(np.clip(n - law[1], -50, 50)),
)
GOMPERTZ = state_space(lambda n, law: n + law[0] * (law[1] - n), lambda n, law: 1 - law[0])


# -- nonlinear -----------------------------------------------------------------------------------------------------


def neighbours(ways: dict[float | None, nearest.Map]) -> Forecaster:
    """By the best of these ways, each variable in its standard deviations."""

    def forecast(context: Floats, horizon: int, samples: int, draws: np.random.Generator) -> Floats:
        size = context.std(0) + np.finfo(float).tiny
        scaled = (context - context.mean(0)) / size
        fitted = nearest.choose(scaled, ways)
        return nearest.paths(scaled, fitted, horizon, samples, draws) * size + context.mean(0)

    return forecast


SIMPLEX = neighbours({None: nearest.simplex})
S_MAP = neighbours({theta: nearest.smap(theta) for theta in nearest.THETAS})


def sindy(context: Floats, horizon: int, samples: int, draws: np.random.Generator) -> Floats:
    """A sparse map of second degree from a step to the next, of one variable from two steps, with its own errors."""
    import pysindy

    size, mean = context.std(0) + np.finfo(float).tiny, context.mean(0)
    scaled = (context - mean) / size
    variables = context.shape[1]
    state = scaled if variables > 1 else np.column_stack([scaled[1:], scaled[:-1]])
    model = pysindy.DiscreteSINDy(
        optimizer=pysindy.STLSQ(threshold=0.05, alpha=0.05), feature_library=pysindy.PolynomialLibrary(2)
    )
    model.fit(state, t=1)
    library, weights = model.feature_library, model.coefficients()  # [E, terms]
    errors = state[1:] - np.asarray(library.transform(state[:-1])) @ weights.T
    low, high = state.min(0), state.max(0)
    recent = np.tile(state[-1], (samples, 1))
    made = np.empty((samples, horizon, variables))
    for step in range(horizon):
        found = np.asarray(library.transform(recent)) @ weights.T + errors[draws.integers(len(errors), size=samples)]
        found = np.clip(found, 2 * low - high, 2 * high - low)
        recent = found if variables > 1 else np.column_stack([found[:, 0], recent[:, 0]])
        made[:, step] = recent[:, :variables]
    return made * size + mean


def fracast(context: Floats, horizon: int, samples: int, draws: np.random.Generator) -> Floats:
    """A foundation model of 85,001 parameters; a path is one level of its quantiles at all steps."""
    from fracast import FracastModel

    model = _fracast.setdefault("model", None) or FracastModel.from_pretrained()
    _fracast["model"] = model
    levels = (np.arange(samples) + 0.5) / samples
    made = np.empty((samples, horizon, context.shape[1]))
    for variable, series in enumerate(context.T):
        quantiles = np.asarray(model.forecast(series.astype(np.float32), horizon=horizon), dtype=float)  # [H, Q]
        for step, row in enumerate(quantiles):
            made[:, step, variable] = np.interp(levels, model.quantiles, np.sort(row))
    return made


_fracast: dict[str, Any] = {}

FORECASTERS: dict[str, Forecaster] = {
    "random walk": random_walk,
    "random walk, logs": logs(random_walk),
    "AutoARIMA": nixtla("AutoARIMA"),
    "AutoARIMA, logs": logs(nixtla("AutoARIMA")),
    "AutoETS": nixtla("AutoETS"),
    "AutoTheta": nixtla("AutoTheta"),
    "AutoCES": nixtla("AutoCES"),
    "AR, logs": logs(each(autoregression)),
    "VAR": vector_autoregression,
    "VAR, logs": logs(vector_autoregression),
    "Ricker": logs(RICKER),
    "Gompertz": logs(GOMPERTZ),
    "simplex": SIMPLEX,
    "simplex, logs": logs(SIMPLEX),
    "S-map": S_MAP,
    "S-map, logs": logs(S_MAP),
    "SINDy": sindy,
    "SINDy, logs": logs(sindy),
    "Gaussian process, logs": logs(each(gaussian_process)),
    "fracast": fracast,
}


def forecast(name: str, context: Floats, horizon: int, samples: int, seed: int) -> Floats:
    """Paths [S, H, D], without the warnings of fits that did not converge."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return FORECASTERS[name](context, horizon, samples, np.random.default_rng(seed))

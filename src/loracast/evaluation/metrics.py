"""Scores of sample paths against what happened.

Shapes
    N  windows            S  sample paths of a window    H  steps of the horizon    D  variables
    G  distinct series (G <= N)                          V  values (window, step, variable) that can be scored
    L  levels of central intervals                       R  those of them with the same number of valid samples

From values to one figure, always in this order
    1. steps of a window     their mean, by variable; missing truth is left out; the energy score is one of all steps
                             and enters after this
    2. windows of a series   their mean, by variable: a series with many windows weighs no more than one with few
    3. variables             their mean (the overall figures only)
    4. series                their mean, and their median under the key `..._median`
RMSE is the root of a series' and variable's MSE, taken between 2 and 3. R² and WQL are pooled and skip this order.

"Seed units" divide each error by a tenth of the 99th percentile of its variable over the whole window, context and
future: a unit that knows the future, for reporting only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loracast.errors import DataError
from loracast.evaluation.metric_list import METRICS, FloatArray, Values, Windows
from loracast.statistics import observed_mean

Samples: TypeAlias = Annotated[FloatArray, "N S H D"]
Truth: TypeAlias = Annotated[FloatArray, "N H D"]
ByVariable: TypeAlias = Annotated[FloatArray, "D"]

AVERAGED = tuple(one.name for one in METRICS if one.help and not one.pooled)  # means and medians over series
POOLED = tuple(one.name for one in METRICS if one.pooled)


@dataclass(frozen=True, eq=False)
class Scores:
    """What `score` found, by series and variable; `row` and `per_series` reduce it."""

    names: tuple[str, ...]
    series: tuple[str, ...]
    by_series: dict[str, FloatArray]  # each of AVERAGED: [G, D], NaN where nothing could be scored
    pooled: dict[str, FloatArray]  # each of POOLED: [D]
    scored_windows: Annotated[NDArray[np.bool_], "N D"]  # at least one value was scored
    valid_share: ByVariable
    n_unscored: Annotated[NDArray[np.int64], "D"]

    def row(self) -> dict[str, Any]:
        """One flat row, ready for JSON; what is not defined is None.

        Keys: each of AVERAGED as the mean over series, with `_median` as the median over series, those of POOLED,
        `valid_share` (share of sample steps that parsed), `n_series` and `n_windows` (those with at least one scored
        value), `n_scaled` (series with a MASE), `n_unscored` (observed values without one valid sample: in no figure,
        so read it beside them), and `by_variable`, the same keys for each variable's name.
        """
        by_variable = {name: self._summary([index]) for index, name in enumerate(self.names)}
        return self._summary(list(range(len(self.names)))) | {"by_variable": by_variable}

    def per_series(self) -> list[dict[str, Any]]:
        """One record a series, in order of appearance: `series`, `mae`, `mae_seed_units`, `crps` and `by_variable`."""
        metrics = ("mae", "mae_seed_units", "crps")
        overall = {metric: observed_mean(self.by_series[metric], axis=1) for metric in metrics}  # each [G]
        return [
            {"series": series}
            | {metric: _json_number(overall[metric][group]) for metric in metrics}
            | {
                "by_variable": {
                    name: {metric: _json_number(self.by_series[metric][group, index]) for metric in metrics}
                    for index, name in enumerate(self.names)
                }
            }
            for group, series in enumerate(self.series)
        ]

    def _summary(self, variables: list[int]) -> dict[str, Any]:
        means, medians = {}, {}
        for metric in AVERAGED:
            values = observed_mean(self.by_series[metric][:, variables], axis=1)  # [G]
            means[metric] = _json_number(observed_mean(values, axis=0))
            medians[f"{metric}_median"] = _json_number(_observed_median(values))
        scored_series = ~np.isnan(self.by_series["mae"][:, variables]).all(axis=1)  # [G]
        return {
            **means,
            **{name: _json_number(observed_mean(found[variables], axis=0)) for name, found in self.pooled.items()},
            **medians,
            "valid_share": _json_number(observed_mean(self.valid_share[variables], axis=0)),
            "n_series": int(scored_series.sum()),
            "n_windows": int(self.scored_windows[:, variables].any(axis=1).sum()),
            "n_scaled": int((~np.isnan(self.by_series["mase"][:, variables])).any(axis=1).sum()),
            "n_unscored": int(self.n_unscored[variables].sum()),
        }


def score(
    samples: ArrayLike,
    truth: ArrayLike,
    *,
    seed_unit: ArrayLike,
    names: Sequence[str],
    series: Sequence[str],
    scale: ArrayLike | None = None,
    point: Literal["median", "mean"] = "median",
) -> Scores:
    """Scores sample paths; a point forecast is one path (S = 1).

    samples [N, S, H, D]: NaN where a step did not parse (then in every variable); its other samples judge the step.
    truth [N, H, D]: NaN where missing; no forecast is judged there.
    seed_unit [N, D]: 99th percentile of the window's context and future / 10. Where it is not positive, a window
        has no score in seed units.
    names [D], series [N]: the variables' names, and the id of the series each window comes from.
    scale [N, D]: of MASE and SQL, as `seasonal_scale` gives it; where it is not positive, or not given, they have no
        value.
    point: what stands for the samples in MAE, MSE, RMSE and R²; the median minimises the expected MAE, the mean MSE.

    CRPS is that of the samples' empirical distribution, E|X - y| - E|X - X'| / 2 over all pairs of samples, each with
    itself too (Gneiting & Raftery 2007, eq. 21), by the quantile decomposition, O(S log S). The fair estimator, without
    bias at any finite S, is not defined for one path; this one is then the absolute error, so that point forecasts
    stand in the same table. Its bias, E|X - X'| / 2S for independent X and X', works against forecasters with few
    paths.

    energy is the energy score of a variable's whole path over the horizon, E||X - y|| - E||X - X'|| / 2 with the
    Euclidean norm over steps and the same pairs (eq. 22 there, beta = 1): unlike the CRPS, it sees how steps depend on
    each other. For one path it is the norm of the error. Steps without truth are left out of the norm, and so are paths
    with an invalid step among the others; without a whole path the window has no energy score, though its other scores
    may be defined.

    coverage_80 is the share of the truth within the central 80% of the samples, by its rank among them (see `ranks`);
    None if S = 1. A truth like one more sample scores 0.8 on average, however few the samples are. coverage_50 and
    coverage_95 are the same of the central 50% and 95%.

    mae_one_path is the mean over paths of each path's own MAE: what a forecaster that draws one path would score.

    smape is the mean of 2 |y - f| / (|y| + |f|), from 0 to 2; 0 where both are 0. mase is MAE / scale (Hyndman &
    Koehler 2006). The quantile loss of a level q is 2 max(q (y - f), (q - 1) (y - f)), f being the samples' quantile
    at the place q (S + 1) of them;
    sql is its mean over QUANTILES / scale. wql, pooled as R² is, is the sum of those means over the sum of |y|
    (Gasthaus et al. 2019). Definitions and factors of two are those of fev and GluonTS.

    R² is 1 - SSE / SST by variable, pooled over the scored values of all windows, SST about their mean: easier than R²
    by series, because series that differ in level add to SST. It is None if the truth is constant.

    Raises DataError if shapes disagree or a value is infinite.
    """
    samples, truth, seed_unit = (np.asarray(array, dtype=np.float64) for array in (samples, truth, seed_unit))
    _check(samples, truth, seed_unit, names, series)

    error, values = score_values(samples, truth, point)  # [N, H, D], and each metric [N, H, D]
    scored = ~np.isnan(error)  # [N, H, D]

    means = {metric: observed_mean(value, axis=1) for metric, value in values.items()}  # each [N, D]
    unit = np.where(seed_unit > 0, seed_unit, np.nan)  # [N, D]
    given = np.full(seed_unit.shape, np.nan) if scale is None else np.asarray(scale, dtype=np.float64)
    windows = Windows(means, samples, truth, unit, np.where(given > 0, given, np.nan))
    by_window = means | {one.name: one.of_windows(windows) for one in METRICS if one.of_windows}
    ids = tuple(dict.fromkeys(series))
    members = [np.flatnonzero([window_id == one for window_id in series]) for one in ids]
    by_series = {
        metric: np.stack([observed_mean(window[rows], axis=0) for rows in members])  # [G, D]
        for metric, window in by_window.items()
    }
    by_series |= {one.name: one.of_series(by_series) for one in METRICS if one.of_series}
    loss = values["quantile_loss"]
    return Scores(
        names=tuple(names),
        series=ids,
        by_series={name: by_series[name] for name in AVERAGED},
        pooled={one.name: one.pooled(error, loss, truth) for one in METRICS if one.pooled},
        scored_windows=np.any(scored, axis=1),
        valid_share=np.mean(~np.isnan(samples), axis=(0, 1, 2)),
        n_unscored=np.sum(~np.isnan(truth) & ~scored, axis=(0, 1)),
    )


def score_values(
    samples: Samples, truth: Truth, point: Literal["median", "mean"] = "median"
) -> tuple[Truth, dict[str, FloatArray]]:
    """Point error of each value, and what `score` takes the means of, all [N, H, D]; NaN where it is not scored.

    Arguments as of `score`, which are not checked here.
    """
    scored = ~np.isnan(truth) & ~np.isnan(samples).all(axis=1)  # [N, H, D]
    ensembles = np.sort(np.moveaxis(samples, 1, -1)[scored], axis=-1)  # [V, S], ascending, NaN last
    outcomes = truth[scored]  # [V]
    counts = (~np.isnan(ensembles)).sum(axis=-1)  # [V], from 1 to S
    measured = [one for one in METRICS if one.of_values]
    found = {one.name: np.full(outcomes.shape, np.nan) for one in measured}  # [V] each
    error = np.full(outcomes.shape, np.nan)
    # Values with the same number of valid samples make one dense array: a single turn unless something did not parse.
    for count in np.unique(counts):
        rows = counts == count
        ensemble, outcome = ensembles[rows, :count], outcomes[rows]  # [R, count], [R]
        forecast = np.median(ensemble, axis=-1) if point == "median" else np.mean(ensemble, axis=-1)
        error[rows] = forecast - outcome
        values = Values(ensemble, outcome, forecast, samples.shape[1] == 1)
        for one in measured:
            assert one.of_values is not None
            found[one.name][rows] = one.of_values(values)

    def placed(values: FloatArray) -> FloatArray:
        array = np.full(truth.shape, np.nan)
        array[scored] = values
        return array

    return placed(error), {metric: placed(value) for metric, value in found.items()}


def seasonal_scale(
    contexts: Sequence[Annotated[FloatArray, "_ D"]], seasons: Sequence[int]
) -> Annotated[FloatArray, "N D"]:
    """The scale [N, D] of MASE: the mean of |x[t] - x[t - season]| over each context [C, D], missing values left out.

    NaN where nothing is left, and where a context is no longer than its season.
    """
    changes = [np.abs(context[season:] - context[:-season]) for context, season in zip(contexts, seasons)]
    return np.stack([observed_mean(change, axis=0) for change in changes])


def _observed_median(values: FloatArray) -> float:
    present = values[~np.isnan(values)]
    return float(np.median(present)) if present.size else float("nan")


def _json_number(value: ArrayLike) -> float | None:
    """A Python float, or None for what JSON has no number for."""
    number = float(np.asarray(value))
    return number if np.isfinite(number) else None


def _check(
    samples: FloatArray, truth: FloatArray, seed_unit: FloatArray, names: Sequence[str], series: Sequence[str]
) -> None:
    if samples.ndim != 4 or 0 in samples.shape:
        raise DataError(
            f"samples have shape {samples.shape}; give [windows, samples, steps, variables], none of them 0"
        )
    windows, _, steps, variables = samples.shape
    expected = {
        "truth": (truth.shape, (windows, steps, variables)),
        "seed_unit": (seed_unit.shape, (windows, variables)),
        "names": ((len(names),), (variables,)),
        "series": ((len(series),), (windows,)),
    }
    for argument, (shape, wanted) in expected.items():
        if shape != wanted:
            raise DataError(f"{argument} has shape {shape}; samples of shape {samples.shape} need {wanted}")
    for argument, array in (("samples", samples), ("truth", truth)):
        if np.isinf(array).any():
            place = tuple(int(index) for index in np.argwhere(np.isinf(array))[0])
            raise DataError(f"{argument} is infinite at {place}; mark what is invalid or missing with NaN")

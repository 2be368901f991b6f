"""Every metric, once: its name, what readers are shown of it, and its function. To add one is to add an entry.

Scores, tables, the report's page and what the console prints all go by this list.

Shapes: N windows, S sample paths, H steps, D variables, G series, R values with the same number of valid samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from loracast.ranks import covered

FloatArray = NDArray[np.float64]
QUANTILES = np.arange(1, 10) / 10  # over whose levels the quantile losses are means
LEVELS = (50, 80, 95)  # percent, of the central intervals whose coverage is measured


@dataclass(frozen=True)
class Values:
    """Values that are judged together.

    Attributes:
        ensemble: [R, S] their valid samples, ascending.
        outcome: [R] what happened.
        forecast: [R] what stands for the samples, their median or mean.
        point: whether the forecast has one path only, so that it has no interval.
    """

    ensemble: Annotated[FloatArray, "R S"]
    outcome: Annotated[FloatArray, "R"]
    forecast: Annotated[FloatArray, "R"]
    point: bool


@dataclass(frozen=True)
class Windows:
    """Windows that are judged together.

    Attributes:
        means: [N, D] of each metric of values, over the steps of a window.
        samples: [N, S, H, D]; truth: [N, H, D].
        unit: [N, D] of seed units; scale: [N, D] of MASE; NaN where there is none.
    """

    means: dict[str, FloatArray]
    samples: FloatArray
    truth: FloatArray
    unit: FloatArray
    scale: FloatArray


@dataclass(frozen=True)
class Metric:
    """One metric. Exactly one of the functions gives it.

    Attributes:
        name: its key in scores, tables and files.
        title: the heading of its column.
        help: what it is, as a clause for readers; a metric without one is only an intermediate result.
        unit: "data", "data²", "share" (of 1, shown in percent) or "" for a plain number.
        better: "lower", "higher" or "near" its level.
        of_values: [R] of `Values`, one number a value; then averaged over steps, windows and series.
        of_windows: [N, D] of `Windows`, one number a window and variable; then averaged over windows and series.
        of_series: [G, D] of the metrics by series.
        pooled: [D] of all values at once: errors, quantile losses and truth, each [N, H, D].
        console: whether `loracast evaluate` prints it; study: whether a study's tables and page have it.
        with_median: whether these also have the median over series.
    """

    name: str
    title: str
    help: str = ""
    unit: Literal["data", "data²", "share", ""] = "data"
    better: Literal["lower", "higher", "near"] = "lower"
    of_values: Callable[[Values], FloatArray] | None = None
    of_windows: Callable[[Windows], FloatArray] | None = None
    of_series: Callable[[dict[str, FloatArray]], FloatArray] | None = None
    pooled: Callable[[FloatArray, FloatArray, FloatArray], FloatArray] | None = None
    console: bool = False
    study: bool = False
    with_median: bool = False


def _smape(values: Values) -> FloatArray:
    size = np.abs(values.forecast) + np.abs(values.outcome)
    return 2 * np.abs(values.forecast - values.outcome) / np.where(size > 0, size, 1)


def _crps(values: Values) -> FloatArray:
    from scoringrules import crps_ensemble  # half a second, and only evaluation needs it

    found = crps_ensemble(values.outcome, values.ensemble, estimator="qd", sorted_ensemble=True, backend="numpy")
    return np.asarray(found, dtype=np.float64)


def _quantile_loss(values: Values) -> FloatArray:
    above = values.outcome - np.quantile(values.ensemble, QUANTILES, axis=-1, method="weibull")  # [9, R]
    levels = QUANTILES[:, None]
    return 2 * np.maximum(levels * above, (levels - 1) * above).mean(0)


def _covered(level: int) -> Callable[[Values], FloatArray]:
    def within(values: Values) -> FloatArray:
        if values.point:
            return np.full(len(values.outcome), np.nan)
        return covered(values.ensemble, values.outcome, np.array([level / 100]))[:, 0]

    return within


def _energy(windows: Windows) -> FloatArray:
    """The energy scores of whole paths; NaN where there is none."""
    from scoringrules import es_ensemble

    samples, truth = windows.samples, windows.truth
    energy = np.full((truth.shape[0], truth.shape[2]), np.nan)
    for window, variable in np.ndindex(energy.shape):  # one at a time, because its pairs of paths take [S, S, H]
        steps = ~np.isnan(truth[window, :, variable])  # [H]
        paths = samples[window, ..., variable][:, steps]  # [S, observed steps]
        whole = paths[~np.isnan(paths).any(axis=1)]
        if whole.size:
            energy[window, variable] = es_ensemble(truth[window, steps, variable], whole, backend="numpy")
    return energy


def _pooled_r2(error: FloatArray, loss: FloatArray, truth: FloatArray) -> FloatArray:
    """1 - SSE / SST of the scored values by variable; NaN for a constant truth."""
    r2 = np.full(truth.shape[-1], np.nan)
    for variable in range(len(r2)):
        rows = ~np.isnan(error[..., variable])
        outcomes = truth[..., variable][rows]
        # Compared, not subtracted from their mean: rounding gives the mean of equal values a distance from them.
        if outcomes.size and outcomes.min() < outcomes.max():
            total = np.sum((outcomes - outcomes.mean()) ** 2)
            r2[variable] = 1.0 - np.sum(error[..., variable][rows] ** 2) / total
    return r2


def _pooled_wql(error: FloatArray, loss: FloatArray, truth: FloatArray) -> FloatArray:
    """The sum of the quantile losses over that of |truth| where scored."""
    size = np.where(np.isnan(loss), np.nan, np.abs(truth))
    total = np.nansum(size, axis=(0, 1))  # [D]
    return np.divide(np.nansum(loss, axis=(0, 1)), total, out=np.full(total.shape, np.nan), where=total > 0)


METRICS = (
    Metric(
        *("mae", "MAE", "mean absolute error of the median, in the data's units"),
        of_values=lambda values: np.abs(values.forecast - values.outcome),
        console=True,
        study=True,
        with_median=True,
    ),
    Metric(
        *("mae_one_path", "one path", "that of single paths"),
        of_values=lambda values: np.abs(values.ensemble - values.outcome[:, None]).mean(-1),
        console=True,
        study=True,
    ),
    Metric(
        *("mse", "MSE", "mean squared error of the median", "data²"),
        of_values=lambda values: (values.forecast - values.outcome) ** 2,
        study=True,
    ),
    Metric("rmse", "RMSE", "root of a series' MSE", of_series=lambda found: np.sqrt(found["mse"]), study=True),
    Metric("quantile_loss", "quantile loss", of_values=_quantile_loss),
    Metric(
        *("mase", "MASE", "MAE over the mean change from one season to the next in the context", ""),
        of_windows=lambda windows: windows.means["mae"] / windows.scale,
        console=True,
    ),
    Metric(
        *("sql", "SQL", "mean quantile loss over the scale of MASE", ""),
        of_windows=lambda windows: windows.means["quantile_loss"] / windows.scale,
    ),
    Metric("smape", "sMAPE", "error relative to their sizes, 0 to 2", "", of_values=_smape, console=True),
    Metric("r2", "R²", "1 is perfect, 0 as the mean", "", "higher", pooled=_pooled_r2, console=True, study=True),
    Metric(
        *("crps", "CRPS", "error of the whole distribution, in the data's units"),
        of_values=_crps,
        console=True,
        study=True,
    ),
    Metric("wql", "WQL", "the same relative to the data's size", "", pooled=_pooled_wql, console=True),
    Metric("energy", "energy score", "error of whole paths, which sees how steps go together", of_windows=_energy),
    *(
        Metric(
            *(
                f"coverage_{level}",
                f"{level}% coverage",
                f"share of the truth within the central {level}% of the paths, by its rank",
            ),
            *("share", "near"),
            of_values=_covered(level),
            console=level == 80,
            study=level == 80,
        )
        for level in LEVELS
    ),
    Metric(
        *("mae_seed_units", "MAE, seed units", "MAE over a tenth of the window's 99th percentile", ""),
        of_windows=lambda windows: windows.means["mae"] / windows.unit,
        study=True,
        with_median=True,
    ),
    Metric(
        *("mae_one_path_seed_units", "one path, seed units", "that of single paths", ""),
        of_windows=lambda windows: windows.means["mae_one_path"] / windows.unit,
        study=True,
    ),
    Metric(
        *("mse_seed_units", "MSE, seed units", "MSE over the square of that unit", ""),
        of_windows=lambda windows: windows.means["mse"] / windows.unit**2,
    ),
    Metric(
        *("rmse_seed_units", "RMSE, seed units", "root of a series' MSE in that unit", ""),
        of_series=lambda found: np.sqrt(found["mse_seed_units"]),
    ),
    Metric(
        *("crps_seed_units", "CRPS, seed units", "CRPS over that unit", ""),
        of_windows=lambda windows: windows.means["crps"] / windows.unit,
    ),
)


def study_columns() -> dict[str, tuple[str, Metric]]:
    """The columns of scores in a study's tables, with heading and metric, also those of medians over series."""
    columns: dict[str, tuple[str, Metric]] = {}
    for metric in METRICS:
        if metric.study:
            columns[metric.name] = metric.title, metric
            if metric.with_median:
                columns[f"{metric.name}_median"] = f"{metric.title}, median series", metric
    return columns


def explanation() -> str:
    """What the metrics on the console are, in a few sentences."""
    sentences = []
    for better, end in (("lower", "All of these are better when lower."), ("near", ""), ("higher", "")):
        listed = [f"{one.title}: {one.help}" for one in METRICS if one.console and one.better == better]
        listed = [f"{text}, best near its level" for text in listed] if better == "near" else listed
        sentences.append(f"{'; '.join(listed)}. {end}".strip())
    return " ".join(sentences)

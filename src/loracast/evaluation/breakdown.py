"""What lies behind the scores of a backtest, as tables: step by step, quantile by quantile, window by window.

Shapes
    N  windows       S  sample paths of a window    H  steps of the horizon    D  variables
    F  forecasters   L  nominal levels              B  bins of a PIT           K  windows of a fan chart
    C  steps of a context
    V  values (window, step, variable) that can be scored
    R  those of them with the same number of valid samples

Forecasts come as samples [N, S, H, D] by forecaster, a point forecast as one path (S = 1). As in `metrics`, samples are
NaN where a step did not parse, and its other samples judge the step; nothing is judged where the truth is NaN or no
sample is valid. Figures of which nothing is left are NaN.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loracast.evaluation.metrics import Samples, Truth, score_values
from loracast.ranks import covered, places, reached
from loracast.series import Window
from loracast.statistics import observed_mean, path_quantiles, percentile

FloatArray = NDArray[np.float64]

NOMINAL = np.arange(1, 20) / 20  # [L]
PIT_EDGES = np.arange(11) / 10  # [B + 1]
FAN_PERCENTS = (10, 25, 50, 75, 90)
FAN_WINDOWS = 6


def by_step(samples: Mapping[str, FloatArray], truth: Truth, names: Sequence[str]) -> pd.DataFrame:
    """MAE of the median and CRPS by step and variable: `forecaster`, `step` (from 1), `variable`, `mae`, `crps`.

    samples: [N, S, H, D] by forecaster; truth: [N, H, D]; names: [D]. Each figure is the mean over windows.
    """
    values = [score_values(paths, truth)[1] for paths in samples.values()]  # F times, each metric [N, H, D]
    means = {metric: [observed_mean(one[metric], axis=0) for one in values] for metric in ("mae", "crps")}
    labels = {"forecaster": list(samples), "step": range(1, truth.shape[1] + 1), "variable": names}
    return _table(labels, means)  # of F times [H, D]


def coverage(samples: Mapping[str, FloatArray], truth: Truth, names: Sequence[str]) -> pd.DataFrame:
    """The share of the truth within central intervals of 5% to 95%: `forecaster`, `variable`, `nominal`, `coverage`.

    Samples, truth and names as in `by_step`; forecasters with one path have no interval and are left out. The truth is
    within an interval by its rank among the paths (see `ranks`), so that a truth like one more path has the nominal
    share, however few they are. The share is the mean over windows of the mean over steps: where all series have as
    many windows, this is `coverage_50`, `_80` and `_95` of `metrics.score` at these levels.
    """
    samples = _with_intervals(samples)
    covered = [_covered(paths, truth) for paths in samples.values()]  # F times [L, N, H, D]
    shares = [observed_mean(observed_mean(one, axis=2), axis=1).T for one in covered]  # F times [D, L]
    return _table({"forecaster": list(samples), "variable": names, "nominal": NOMINAL}, {"coverage": shares})


def pit(samples: Mapping[str, FloatArray], truth: Truth, names: Sequence[str]) -> pd.DataFrame:
    """Histograms of the truth's place among the samples: `forecaster`, `variable`, `bin` (centre), `density` (mean 1).

    Samples, truth and names as in `by_step`; forecasters with one path are left out. All values weigh the same.

    A truth stands for all places that its rank may have (see `ranks`): if it is like one more sample, the expected
    histogram is flat for every n. The shares of samples below it alone would not be: 21 of them, 0 to 20 in 20, cannot
    fill 10 bins evenly.
    """
    samples = _with_intervals(samples)
    centres = (PIT_EDGES[:-1] + PIT_EDGES[1:]) / 2  # [B]
    densities = [len(centres) * _places(paths, truth) for paths in samples.values()]  # F times [D, B]
    return _table({"forecaster": list(samples), "variable": names, "bin": centres}, {"density": densities})


def fans(samples: Mapping[str, FloatArray], windows: Sequence[Window]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What fan charts of up to six windows show: the forecasters' quantiles, and the values before and after.

    samples: [N, S, H, D] by forecaster; windows: the N windows, of one shape.

    Of six equal groups of windows, by the last forecaster's mean absolute error, the middle one is taken, in order of
    error: good and bad ones alike. Windows in which it cannot be scored are in no group.

    First table: `forecaster`, `series`, `variable`, `step`, `q10`, `q25`, `q50`, `q75`, `q90`. Second: `series`,
    `variable`, `step`, `part` ("context" or "future"), `value`. Steps count from 1 in the context and go on, from C + 1
    to C + H, in the future. `series` is the id of the series, or of the window where any series has several.
    """
    names, context = windows[0].series.names, windows[0].context
    whole = np.stack([window.values for window in windows])  # [N, C + H, D]
    chosen = _low_to_high(_errors(list(samples.values())[-1], whole[:, context:]))  # [K]

    ids = [window.series.id for window in windows]
    labels = ids if len(set(ids)) == len(ids) else [window.id for window in windows]
    rows = {"series": [labels[window] for window in chosen], "variable": names}
    steps = np.arange(1, whole.shape[1] + 1)  # [C + H]
    levels = [percent / 100 for percent in FAN_PERCENTS]
    found = [
        path_quantiles(np.moveaxis(paths[chosen], 1, 2), levels) for paths in samples.values()
    ]  # [5, K, H, D] each
    quantiles = _table(
        {"forecaster": list(samples), **rows, "step": steps[context:]},
        {f"q{percent}": [one[row].swapaxes(1, 2) for one in found] for row, percent in enumerate(FAN_PERCENTS)},
    )
    values = _table({**rows, "step": steps}, {"value": whole[chosen].swapaxes(1, 2)})
    values.insert(3, "part", np.where(values["step"] > context, "future", "context"))
    return quantiles, values


def _covered(samples: Samples, truth: Truth) -> Annotated[FloatArray, "L N H D"]:
    """Samples [N, S, H, D], truth [N, H, D] -> [L, N, H, D]: the share within the central interval; else NaN."""
    return np.moveaxis(covered(np.moveaxis(samples, 1, -1), truth, NOMINAL), -1, 0)


def _places(samples: Samples, truth: Truth) -> Annotated[FloatArray, "D B"]:
    """Samples [N, S, H, D], truth [N, H, D] -> [D, B]: the share of the truth in each bin, by its place."""
    below = reached(*places(np.moveaxis(samples, 1, -1), truth), PIT_EDGES)  # [N, H, D, B + 1]
    shares = np.moveaxis(np.diff(below, axis=-1), 2, 0)  # [D, N, H, B]
    return observed_mean(shares.reshape(len(shares), -1, shares.shape[-1]), axis=1)


def _errors(samples: Samples, truth: Truth) -> Annotated[FloatArray, "N"]:
    """Samples [N, S, H, D], truth [N, H, D] -> the medians' mean absolute error [N] of each window, over variables."""
    median = percentile(np.moveaxis(samples, 1, 2), 50)  # [N, H, D]
    return observed_mean(observed_mean(np.abs(median - truth), axis=1), axis=1)


def _low_to_high(errors: Annotated[FloatArray, "N"]) -> Annotated[NDArray[np.int64], "K"]:
    """The middle windows [K] of FAN_WINDOWS equal groups by error [N], of fewer groups if there are fewer windows."""
    ranked = np.argsort(errors)[: np.count_nonzero(~np.isnan(errors))]  # NaN come last
    groups = min(FAN_WINDOWS, len(ranked))
    return ranked[[int((group + 0.5) * len(ranked) / groups) for group in range(groups)]]


def _with_intervals(samples: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    return {name: paths for name, paths in samples.items() if paths.shape[1] > 1}


def _table(labels: Mapping[str, Sequence[Any] | NDArray[Any]], values: Mapping[str, Any]) -> pd.DataFrame:
    """One row a combination of labels, the last changing fastest; each of `values` has one axis a label, in order."""
    rows = pd.MultiIndex.from_product(list(labels.values()), names=list(labels))
    return pd.DataFrame({name: np.ravel(array) for name, array in values.items()}, index=rows).reset_index()

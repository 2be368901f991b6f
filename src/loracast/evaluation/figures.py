"""Pictures of a backtest.

Shapes: N windows, H steps of horizon, D variables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from loracast.evaluation.backtest import Backtest
from loracast.evaluation.metrics import observed_mean
from loracast.forecast import draw_fan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("tab:orange", "tab:blue", "tab:green")  # of forecasters
FAN = ("80% of paths", "50% of paths", "median")  # as `draw_fan` labels them


def before_and_after(result: Backtest, most: int = 3) -> Figure:
    """A row a window and a column a forecaster and variable: context, fan, truth and the median's mean absolute error.

    Of `most` equal groups of windows, by the last forecaster's error, the middle one is shown: good and bad ones alike.
    """
    from matplotlib.figure import Figure

    forecasts = list(result.forecasts.values())
    variables = forecasts[0].names
    truth = np.stack([window.future_values for window in result.windows])  # [N, H, D]
    errors = [observed_mean(np.abs(forecast.median() - truth), axis=1) for forecast in forecasts]  # each [N, D]
    levels = [forecast.quantiles([0.1, 0.25, 0.5, 0.75, 0.9]) for forecast in forecasts]  # each [N, 5, H, D]
    rows = min(most, len(truth))
    middles = (np.arange(rows) + 0.5) * len(truth) / rows
    chosen = np.argsort(observed_mean(errors[-1], axis=1))[middles.astype(int)]
    columns = [(variable, index) for variable in range(len(variables)) for index in range(len(forecasts))]

    figure = Figure(figsize=(3.2 * len(columns), 2.2 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, len(columns), squeeze=False)
    for row, window in enumerate(chosen):
        for place, (variable, index) in enumerate(columns):
            axis, forecast, colour = axes[row, place], forecasts[index], COLOURS[index % len(COLOURS)]
            draw_fan(axis, forecast, window, variable, levels[index][window, :, :, variable], list(truth), colour)
            seen = np.concatenate([forecast.context_values(window)[:, variable], truth[window, :, variable]])
            low, high = np.nanmin(seen), np.nanmax(seen)
            room = 0.2 * (high - low) or 1.0
            axis.set_ylim(0 if 0 <= low < room else low - room, high + room)  # the same for before and after
            axis.tick_params(labelleft=index == 0)
            axis.set_title(f"MAE {errors[index][window, variable]:.3g}", loc="right", fontsize="small", color="0.35")
            if row == 0:
                axis.set_title(f"{variables[variable]}, {list(result.forecasts)[index]}", loc="left", color=colour)
            if row == rows - 1:
                axis.set_xlabel("step" if forecast.time[window] is None else "time")
        axes[row, 0].set_ylabel(f"series {result.windows[window].series.id}")
    entries: dict[str, Any] = {}
    for name, axis in zip(result.forecasts, axes[0]):
        drawn = dict(zip(*axis.get_legend_handles_labels()[::-1]))
        entries |= {label: drawn[label] for label in ("context", "truth")}
        entries[f"{name}: median, 50% and 80% of paths"] = tuple(drawn[label] for label in FAN)
    figure.legend(
        *(list(entries.values()), list(entries)), loc="outside lower center", ncols=len(entries), frameon=False
    )
    return figure

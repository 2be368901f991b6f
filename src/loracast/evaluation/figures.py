"""Pictures of a backtest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from loracast.evaluation.backtest import Backtest
from loracast.forecast import draw_fan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("tab:orange", "tab:blue", "tab:green")


def before_and_after(result: Backtest, most: int = 3) -> Figure:
    """A row a window and a column a forecaster and variable: context, fan and truth.

    The windows are those at the quartiles of the last forecaster's error, so that good and bad ones are shown alike.
    """
    from matplotlib.figure import Figure

    names = list(result.forecasts)
    forecasts = [result.forecasts[name] for name in names]
    truth = [window.future_values for window in result.windows]
    errors = np.nanmean(np.abs(forecasts[-1].median() - np.stack(truth)), axis=(1, 2))  # [N]
    rows = min(most, len(truth))
    chosen = np.argsort(errors)[np.linspace(0, len(errors) - 1, rows + 2).round().astype(int)[1:-1]]
    variables = forecasts[0].names
    columns = [(index, column) for column in range(len(variables)) for index in range(len(names))]
    figure = Figure(figsize=(3.4 * len(columns), 2.3 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, len(columns), squeeze=False, sharey=False)
    for row, window in enumerate(chosen):
        for place, (index, column) in enumerate(columns):
            axis, forecast = axes[row, place], forecasts[index]
            levels = forecast.quantiles([0.1, 0.25, 0.5, 0.75, 0.9])[window, :, :, column]
            draw_fan(axis, forecast, window, column, levels, truth, COLOURS[index % len(COLOURS)])
            seen = np.concatenate([forecast.contexts[window].values[:, column], truth[window][:, column]])
            low, high = np.nanmin(seen), np.nanmax(seen)
            room = 0.25 * (high - low) or 1.0
            axis.set_ylim(low - room, high + room)  # the same for before and after
            if row == 0:
                axis.set_title(f"{variables[column]}, {names[index]}")
            if row == rows - 1:
                axis.set_xlabel("step" if forecast.time[window] is None else "time")
        axes[row, 0].set_ylabel(f"series {result.windows[window].series.id}")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize="small")
    return figure

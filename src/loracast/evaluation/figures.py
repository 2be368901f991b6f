"""Pictures of a backtest.

Shapes: N windows, H steps of horizon, D variables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loracast.baselines import BASELINES
from loracast.charts.fan import LABELS, LEVELS
from loracast.evaluation.backtest import Backtest
from loracast.forecast import draw_fan
from loracast.statistics import observed_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("tab:orange", "tab:blue", "tab:green")  # of forecasters
PLACES = ("the middle one", "one at three quarters", "the worst")  # of windows, by their error


def before_and_after(result: Backtest, most: int = 3) -> Figure:
    """Where forecasters miss: fans of single windows, and below them the errors of all windows by step.

    The first forecaster, the untouched model, chooses what is shown, so that the picture does not favour tuning by its
    choice: the windows whose error is in the middle, at three quarters, and the largest, and of each the variable that
    it misses most. A row has the window's fans side by side on one scale, and the distances of their medians from the
    truth. Errors are compared in standard deviations of each variable over its window.

    Args:
        most: windows that are shown, 1 to 3; with fewer than 3, the middle one is left out first. All of so few are.
    """
    from matplotlib.figure import Figure

    names, forecasts = list(result.forecasts), list(result.forecasts.values())
    targets = result.windows[0].series.target_columns
    truth = np.stack([window.future_values[:, targets] for window in result.windows])  # [N, H, D]
    unit = _deviations(np.stack([window.values[:, targets] for window in result.windows]))  # [N, D]
    distances = [np.abs(forecast.median() - truth) for forecast in forecasts]  # each [N, H, D]
    first = np.nan_to_num(observed_mean(distances[0], axis=1) / unit)  # [N, D]; 0 where nothing was observed
    chosen = _chosen(first.mean(1), most)
    columns = len(forecasts) + 1

    figure = Figure(figsize=(3.4 * columns, 1.9 * len(chosen) + 2.6), layout="constrained")
    grid = figure.add_gridspec(len(chosen) + 1, columns)
    for row, window in enumerate(chosen):
        variable = int(first[window].argmax())
        seen = np.concatenate([forecasts[0].context_values(window)[:, variable], truth[window, :, variable]])
        low, high = np.nanmin(seen), np.nanmax(seen)
        room = 0.2 * (high - low) or 1.0
        for index, forecast in enumerate(forecasts):
            axis, colour = figure.add_subplot(grid[row, index]), COLOURS[index % len(COLOURS)]
            levels = forecast.quantiles(LEVELS)[window, :, :, variable]  # [5, H]
            draw_fan(axis, forecast, window, variable, levels, list(truth), colour)
            axis.set_ylim(0 if 0 <= low < room else low - room, high + room)  # the same for all forecasters
            axis.tick_params(labelleft=index == 0)
            error = observed_mean(distances[index], axis=1)[window, variable]
            axis.set_title(f"MAE {error:.3g}", loc="right", fontsize="small", color="0.35")
            if row == 0:
                axis.set_title(names[index], loc="left", color=colour)
            if index == 0:
                axis.set_ylabel(f"{forecast.names[variable]}\n{_label(result, window)}", fontsize="small")
            if row == len(chosen) - 1:
                axis.set_xlabel("step" if forecast.time[window] is None else "time")
        axis = figure.add_subplot(grid[row, -1])
        _draw_errors(axis, [one[window, :, variable] for one in distances], names)
        if row == 0:
            axis.set_title("|median − truth|", loc="left", color="0.35")
        if row == len(chosen) - 1:
            axis.set_xlabel("step of the forecast")
    best, baseline = _best_baseline(result)
    whole = [*distances, np.abs(baseline - truth)]
    axis = figure.add_subplot(grid[-1, :])
    scaled = [(one / unit[:, None]).swapaxes(0, 1).reshape(truth.shape[1], -1) for one in whole]  # each [H, N·D]
    _draw_errors(axis, [observed_mean(one, axis=1) for one in scaled], [*names, best])
    axis.set_title(f"all {len(truth)} windows: mean error in standard deviations", loc="left", color="0.35")
    axis.set_xlabel("step of the forecast")
    _add_legend(figure, names, best)
    some = f"by the error of {names[0]}: {', '.join(PLACES[-len(chosen) :])}"
    shown = f"Of {len(truth)} windows, {some}" if len(truth) > len(chosen) else "All windows"
    figure.suptitle(f"{shown}; of each, the variable that {names[0]} misses most", fontsize="small", x=0.01, ha="left")
    return figure


def _label(result: Backtest, window: int) -> str:
    """Which window this is; where it starts is only told where its series has several."""
    shown = result.windows[window]
    several = sum(one.series is shown.series for one in result.windows) > 1
    return f"series {shown.series.id}" + (f"\nfrom step {shown.start + 1}" if several else "")


def _chosen(errors: NDArray[np.float64], most: int) -> list[int]:
    """The windows with the middle error, one at three quarters, and the largest: the last `most` of these, or all."""
    order = np.argsort(errors, kind="stable")
    if len(order) <= most:
        return order.tolist()
    places = [(len(order) - 1) // 2, round(0.75 * (len(order) - 1)), len(order) - 1]
    return [int(order[place]) for place in sorted(set(places))[-most:]]


def _deviations(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The standard deviations [N, D] of windows [N, W, D]; 1 for a variable that does not vary."""
    mean = observed_mean(values, axis=1)[:, None]
    deviations = np.sqrt(np.nan_to_num(observed_mean((values - mean) ** 2, axis=1)))
    return np.where(deviations > 0, deviations, 1.0)


def _best_baseline(result: Backtest) -> tuple[str, NDArray[np.float64]]:
    """The baseline with the least mean absolute error, and its forecasts [N, H, D]."""
    maes = {name: result.scores[name].row()["mae"] for name in BASELINES}
    best = min(maes, key=lambda name: np.inf if maes[name] is None else maes[name])
    targets = result.windows[0].series.target_columns
    paths = [BASELINES[best](window.context_values[:, targets], window.horizon) for window in result.windows]
    return best, np.stack(paths)


def _draw_errors(axis: Any, errors: list[NDArray[np.float64]], names: list[str]) -> None:
    """A line a forecaster: errors [H] by step; those of a baseline, the last one, are grey."""
    for index, (error, name) in enumerate(zip(errors, names)):
        steps = np.arange(1, len(error) + 1)
        if name in BASELINES:
            axis.plot(steps, error, color="0.6", linewidth=1, linestyle="--", label=name)
        else:
            axis.plot(steps, error, color=COLOURS[index % len(COLOURS)], linewidth=1.4, label=name)
    axis.set_ylim(bottom=0)
    axis.spines[["top", "right"]].set_visible(False)


def _add_legend(figure: Figure, names: list[str], best: str) -> None:
    entries: dict[str, Any] = {}
    for name, axis in zip(names, figure.axes):
        drawn = dict(zip(*axis.get_legend_handles_labels()[::-1]))
        entries |= {label: drawn[label] for label in ("context", "truth")}
        entries[f"{name}: median, 50% and 80%"] = tuple(drawn[label] for label in LABELS)
    entries[f"{best} (best baseline)"] = figure.axes[-1].get_lines()[-1]
    figure.legend(
        *(list(entries.values()), list(entries)),
        loc="outside lower center",
        ncols=min(3, len(entries)),
        frameon=False,
        fontsize="small",
    )

"""A picture of a forecast with what was asked of it: thresholds on the fans, and the chance by time below them.

Shapes: S sample paths, H steps, D variables, E events.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from loracast.charts.fan import LEVELS
from loracast.events import Extreme, FirstTime, Outcome, interval, judge, read_event, thresholds
from loracast.forecast import Forecast, draw_fan, time_ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 4  # events that are drawn
INK = "tab:red"
LETTERS = 10.5  # of a title in an inch


def draw_events(forecast: Forecast, found: Sequence[Outcome], row: int = 0) -> Figure:
    """The fans of one series with the thresholds of events, and a panel an event.

    A panel shows the chance that the event has happened by each step, with the 90% interval of that chance by the
    number of paths; of an extreme, how it is spread over the paths.

    Args:
        found: outcomes of `forecast.events`; those of the series are drawn, four at most.
        row: the series.
    """
    from matplotlib.figure import Figure

    asked = [one for one in found if one.id == forecast.ids[row]]
    mine = asked[:MOST]
    variables = len(forecast.names)
    wide = max(variables, len(mine))
    figure = Figure(figsize=(max(5.4, 4.2 * wide), 2.9 + 3.1 * bool(mine)), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(1, 1.05)) if mine else [figure]
    axes = parts[0].subplots(1, variables, squeeze=False)[0]
    levels = forecast.quantiles(LEVELS)[row]  # [5, H, D]
    for column, (axis, name) in enumerate(zip(axes, forecast.names)):
        draw_fan(axis, forecast, row, column, levels[:, :, column], None)
        axis.set_title(name, loc="left", fontsize="medium")
        axis.set_xlabel("step" if forecast.time[row] is None else "time", fontsize="small")
    for one in mine:
        for column, value in thresholds(read_event(one.event, forecast.names)):
            axes[column].axhline(value, color=INK, linewidth=1, linestyle=(0, (4, 2)))
    handles, labels = axes[0].get_legend_handles_labels()
    parts[0].legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize="small")
    if mine:
        if len(asked) > len(mine):
            parts[1].supxlabel(f"{len(mine)} of {len(asked)} events are drawn", fontsize="small")
        for axis, one in zip(parts[1].subplots(1, len(mine), squeeze=False)[0], mine):
            _panel(axis, forecast, one, row, width=int(LETTERS * figure.get_figwidth() / len(mine)))
    return figure


def _panel(axis: Any, forecast: Forecast, one: Outcome, row: int, width: int) -> None:
    """One event below the fans."""
    event = read_event(one.event, forecast.names)
    axis.set_title(textwrap.fill(one.sentence, width), loc="left", fontsize="small")
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize="small")
    if not one.paths:
        return
    if isinstance(event, Extreme):
        values, whole = judge(event, forecast.paths).values, forecast.paths.whole[row]
        counted = np.array([]) if values is None else values[row][whole & np.isfinite(values[row])]
        axis.hist(counted, bins=min(30, max(5, len(counted) // 5)), color="0.75")
        for value, style in zip(one.values or (), (":", "-", ":")):
            if np.isfinite(value):
                axis.axvline(value, color=INK, linestyle=style, linewidth=1.3)
        axis.set_xlabel(one.event, fontsize="small")
        axis.set_ylabel("paths", fontsize="small")
        return
    time = forecast.time[row]
    time = np.arange(1, len(one.by_step) + 1) if time is None else time
    bands = np.array([interval(round(share * one.paths), one.paths) for share in one.by_step])  # [H, 2]
    axis.fill_between(time, 100 * bands[:, 0], 100 * bands[:, 1], step="mid", color=INK, alpha=0.2, linewidth=0)
    axis.step(time, 100 * one.by_step, where="mid", color=INK, linewidth=1.5)
    axis.set_ylim(0, 102)
    axis.set_ylabel("chance so far, %" if not isinstance(event, FirstTime) else "happened by then, %", fontsize="small")
    axis.set_xlabel("step of the forecast" if forecast.time[row] is None else "time", fontsize="small")
    time_ticks(axis, time)

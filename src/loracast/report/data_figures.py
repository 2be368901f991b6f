"""Figures of a study's data: example series, and what kind of dynamics there is.

Every function reads the tables that its first line names and returns None where nothing can be drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from loracast.charts.marks import Axis, Bars, Figure, Line, Panel, numbers
from loracast.charts.palette import ordered_role
from loracast.report.reading import Findings, distinct, where
from loracast.report.wording import shortened
from loracast.statistics import percentile

SUBSETS = ("train", "validation", "test")
KINDS = ("oscillating", "damped", "collapsing")
MOST_SERIES = 12
SAME_SCALE = 10  # variables whose sizes differ by more than this factor are drawn relative to their own


def series_figure(study: Findings) -> Figure | None:
    """example_values: a panel a series, a line a variable."""
    if not study.has("example_values"):
        return None
    values = study.tables["example_values"]
    sizes = {name: _size(values.pipe(where, variable=name)["value"].to_numpy(float)) for name in study.names}
    relative = max(sizes.values()) > SAME_SCALE * min(sizes.values())
    panels, label = [], "step"
    for series, subset in values.pipe(distinct, "series", "subset")[:MOST_SERIES]:
        rows = values.pipe(where, series=series, subset=subset)
        lines = []
        for index, name in enumerate(study.names):
            chosen = rows.pipe(where, variable=name)
            label, places = _places(chosen)
            heights = chosen["value"].to_numpy(float) / (sizes[name] if relative else 1.0)
            lines.append(Line(numbers(places), numbers(heights), ordered_role(index), name))
        panels.append(Panel(f"{shortened(series)} ({subset})", Axis(label), Axis(), tuple(lines), height=180))
    scale = "Each variable is divided by the 99th percentile of its size, as they differ much. " if relative else ""
    return Figure(
        name="series",
        title="Examples of the series",
        caption=f"Observed values of {len(panels)} series; a break in a line is a missing value. {scale}"
        "Above each: the series' name and, in brackets, what it is used for. Only training series are ever tuned on.",
        source="tables/example_values.csv",
        panels=tuple(panels),
        columns=4,
    )


def dynamics_figure(study: Findings) -> Figure | None:
    """dynamics: shares of kinds by subset, and histograms of periods and phase lags."""
    if not study.has("dynamics"):
        return None
    table = study.tables["dynamics"]
    panels = [_kinds(table), _histogram(table["period"].to_numpy(float), "Period of a series", "period")]
    if len(study.names) > 1:
        first, second = (shortened(name) for name in study.names[:2])
        panels.append(
            _histogram(table["lag_share"].to_numpy(float), f"Lag of {second} behind {first}", "share of a period")
        )
    return Figure(
        name="dynamics",
        title="Kinds of dynamics, periods and lags",
        caption="First: how many series of each subset oscillate, are damped or collapse; if the subsets differed "
        "much, validation would be a poor guide to the test. The histograms count the series of all subsets that "
        "have a period: its length, in the time of the data, and by which share of it the second variable follows "
        "the first.",
        source="tables/dynamics.csv",
        panels=tuple(panel for panel in panels if panel),
        columns=3,
    )


def _kinds(table: DataFrame) -> Panel:
    subsets = in_order(table["subset"].tolist(), SUBSETS)
    parts = [table.pipe(where, subset=subset) for subset in subsets]
    below = np.zeros(len(subsets))
    bars = []
    for index, kind in enumerate(in_order(table["kind"].tolist(), KINDS)):
        lengths = np.array([100 * len(part.pipe(where, kind=kind)) / len(part) for part in parts])
        places = numbers(range(len(subsets)))
        bars.append(Bars(places, numbers(lengths), ordered_role(index), kind, starts=numbers(below), width=0.6))
        below = below + lengths
    return Panel("Kinds of series", Axis(ticks=tuple(subsets)), Axis("% of series", limits=(0, 100)), tuple(bars))


def _histogram(values: NDArray[np.float64], title: str, label: str) -> Panel | None:
    seen = values[np.isfinite(values)]
    if not len(seen):
        return None
    counts, edges = np.histogram(seen, bins=int(np.clip(np.sqrt(2 * len(seen)), 5, 30)))
    width = float(edges[1] - edges[0])
    bars = Bars(numbers((edges[:-1] + edges[1:]) / 2), numbers(counts), "tuned", width=0.92 * width)
    return Panel(title, Axis(label), Axis("series"), (bars,))


def _places(rows: DataFrame) -> tuple[str, list[float]]:
    """What the x axis is, and where the values stand on it: times where they are numbers, or else steps."""
    try:
        return "time", [float(row["time"]) for row in rows.to_dict("records")]
    except (KeyError, ValueError):
        return "step", rows["step"].tolist()


def _size(values: NDArray[np.float64]) -> float:
    """The 99th percentile of the absolute values, and 1 where there is none above zero."""
    size = percentile(np.abs(values)[:, None], 99)[0] if np.isfinite(values).any() else 0.0
    return float(size) or 1.0


def in_order(values: Sequence[str], known: Sequence[str]) -> list[str]:
    """The distinct values: known ones first, in their order, then others as they appear."""
    seen = dict.fromkeys(values)
    return [name for name in known if name in seen] + [name for name in seen if name not in known]

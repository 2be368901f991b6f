"""Figures of the search for settings: heat maps of error and loss, and how far each run was allowed to go."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from loracast.charts.marks import Axis, Bars, Figure, Heat, Panel, numbers
from loracast.report.reading import Findings, distinct, where
from loracast.report.wording import decimals_text, number

WIDE_RANGE = 3.0  # from this ratio on, colours are logarithmic
DIVERGED = "diverged"
PRUNED = "pruned"  # what search.csv says of a run that was stopped because others were better
METHODS = {"grid": "full grid", "halving": "successive halving"}


def method_name(method: str) -> str:
    return METHODS.get(method, method)


def search_figures(study: Findings) -> list[Figure]:
    """search: heat maps of error and loss over learning rate and rank, and how far each run was allowed to go."""
    if not study.has("search"):
        return []
    table = study.tables["search"]
    cells = (
        "One cell a run: learning rate across, rank upwards, a panel for each search method and number of decimals, "
        "which has colours of its own; dark is better. Colour and number: "
    )
    figures = [
        _heat_figure(
            table,
            column="mae",
            name="search-error",
            title="Search: error by learning rate and rank",
            label="MAE",
            caption=cells + "mean absolute error on the validation windows. A run that was stopped early was never "
            "forecast with; its cell has a cross and the step at which it was stopped.",
        ),
        _heat_figure(
            table,
            column="nats",
            name="search-loss",
            title="Search: validation loss by learning rate and rank",
            label="nats a value",
            caption=cells + "validation loss in nats for each value of a series, as a density, so that it may be "
            "negative. Unlike the loss of a token it can be compared between numbers of decimals. Stopped runs are "
            "shown as they were when they were stopped.",
        ),
        _pruned_figure(table),
    ]
    return [figure for figure in figures if figure]


def _heat_figure(table: DataFrame, *, column: str, name: str, title: str, label: str, caption: str) -> Figure | None:
    if not np.isfinite(table[column].to_numpy(float)).any():
        return None
    rates = sorted(table["learning_rate"].unique().tolist())
    ranks = sorted(table["rank"].unique().tolist(), reverse=True)
    panels = []
    for method, decimals in table.pipe(distinct, "method", "decimals"):
        rows = table.pipe(where, method=method, decimals=decimals).to_dict("records")
        low, high = _limits(table.pipe(where, decimals=decimals)[column].to_numpy(float))
        cells = {(row["rank"], row["learning_rate"]): row for row in rows}
        empty = {column: math.nan, "stopped": ""}
        grid = [[cells.get((rank, rate), empty) for rate in rates] for rank in ranks]
        heat = Heat(
            values=tuple(numbers(cell[column] for cell in row) for row in grid),
            texts=tuple(tuple(_cell_text(cell, column) for cell in row) for row in grid),
            low=low,
            high=high,
            log=high > WIDE_RANGE * low > 0,  # a loss of a value is a density's and may be negative
            label=label,
        )
        panels.append(
            Panel(
                f"{method_name(method)}, {decimals_text(decimals)}",
                Axis("learning rate", ticks=tuple(number(rate) for rate in rates)),
                Axis("rank", ticks=tuple(f"{rank:g}" for rank in ranks)),
                (heat,),
                height=110 + 40 * len(ranks),
            )
        )
    return Figure(name, title, caption, "tables/search.csv", tuple(panels), columns=2)


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    """What the colours reach from and to; of one value alone, a little around it."""
    seen = values[np.isfinite(values)]
    if not len(seen):
        return 0.0, 1.0
    low, high = float(seen.min()), float(seen.max())
    return (low, high) if low < high else (low - 0.01 * abs(low) - 1e-9, high + 0.01 * abs(high) + 1e-9)


def _cell_text(cell: dict[str, Any], column: str) -> str:
    if math.isfinite(cell[column]):
        return f"{cell[column]:#.3g}".replace("-", "−")
    return f"× {cell['steps']:.0f}" if cell["stopped"] in (PRUNED, DIVERGED) else ""


def _pruned_figure(table: DataFrame) -> Figure | None:
    """A lying bar a run of every method that stopped some: the steps it was given."""
    panels = []
    for method in table["method"].unique().tolist():
        rows = table.pipe(where, method=method).sort_values(["steps", "nats"], ascending=[False, True], kind="stable")
        stopped = np.array([row["stopped"] == PRUNED for row in rows.to_dict("records")])
        if not stopped.any():
            continue
        places = np.arange(len(rows))
        planned = Bars(numbers(places), numbers(rows["planned_steps"]), "grid", "planned", lying=True, alpha=1)
        bars = [planned]
        for chosen, role, label in ((~stopped, "tuned", "ran to the end"), (stopped, "search", "stopped early")):
            lengths = numbers(rows["steps"].to_numpy(float)[chosen])
            bars.append(Bars(numbers(places[chosen]), lengths, role, label, width=0.6, lying=True))
        ticks = tuple(
            f"{number(row['learning_rate'])} / {row['rank']:g} / {row['decimals']:g}" for row in rows.to_dict("records")
        )
        height = 90 + 20 * len(ticks)
        title = f"{method_name(method)}: learning rate / rank / decimals"
        panels.append(Panel(title, Axis("optimiser steps"), Axis(ticks=ticks), tuple(bars), height))
    if not panels:
        return None
    return Figure(
        name="search-stopped",
        title="Search: which runs were stopped, and when",
        caption="Each run by its learning rate, rank and decimals; the longest first, of equally long ones the best. "
        "Successive halving gives all runs a few steps, keeps the better part, gives those more, and so on.",
        source="tables/search.csv",
        panels=tuple(panels),
        columns=1 if len(panels) == 1 else 2,
    )

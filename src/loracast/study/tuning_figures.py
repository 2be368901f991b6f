"""Figures of what is tuned and chosen on training and validation series: baseline, default, search, context, curves.

Every function reads the tables that its first line names and returns None where nothing can be drawn.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loracast.study.charts import Axis, Bars, Dots, Figure, Heat, Line, Panel, numbers
from loracast.study.palette import ordered_role, role_of
from loracast.study.reading import Curve, Findings, Table
from loracast.study.wording import number, shortened

ROW_HEIGHT = 24  # pixels of a lying bar
WIDE_RANGE = 3.0  # from this ratio on, colours are logarithmic
PRUNED = "pruned"  # what search.csv says of a run that was stopped because others were better
DASHES = ("solid", "dash", "dot")
METHODS = {"grid": "full grid", "halving": "successive halving"}


def baseline_figure(study: Findings) -> Figure | None:
    """baseline: errors of the untouched model, by decimals and constraint, and of the naive forecasters."""
    if not study.has("baseline"):
        return None
    table = study.tables["baseline"]
    model = Table(tuple(row for row in table.rows if math.isfinite(row["decimals"])))
    panels = [_lying(table, "mae", "Error", "MAE, lower is better")]
    if len(model):
        panels.append(_lying(model, "valid_share", "Well-formed text", "% of forecast steps that can be read", 100))
    return Figure(
        name="baseline",
        title="Forecasts before any tuning",
        caption="Left: mean absolute error on the validation windows. Right: the share of forecast steps that the model "
        "wrote so that they can be read as numbers. Constrained sampling only lets the model write what can be read, "
        "so that its share is 100% by construction; without the constraint the model has to know the format.",
        source="tables/baseline.csv",
        panels=tuple(panels),
    )


def default_figure(study: Findings) -> Figure | None:
    """default and its run's log: loss by step, and the error before and after."""
    if not study.has("default"):
        return None
    row = study.tables["default"].rows[0]
    heights = numbers([untouched_error(study, row), row["mae"]])
    bars = (
        Bars((0.0,), heights[:1], "zero-shot", width=0.6),
        Bars((1.0,), heights[1:], "tuned", width=0.6),
    )
    panels = [Panel("Error on validation windows", Axis(ticks=("untouched", "tuned")), Axis("MAE"), bars)]
    if row["run"] in study.curves:
        curve = study.curves[row["run"]]
        lines = (*_training(curve, "default", "training"), *_validation(curve, "second", "validation", "solid"))
        panels.insert(0, Panel("Loss of the default run", Axis("step"), Axis("loss a token, nats"), lines))
    return Figure(
        name="default",
        title="LoRA with the default settings",
        caption="Left: the loss of the training batches (faint) and its running mean, and the loss on held-out windows; "
        "the adapter of the lowest validation loss (diamond) is kept. Right: mean absolute error on the validation "
        "windows, of the untouched model and with that adapter.",
        source="tables/default.csv, runs/*/metrics.jsonl",
        panels=tuple(panels),
    )


def search_figures(study: Findings) -> list[Figure]:
    """search: heat maps of error and loss over learning rate and rank, and how far each run was allowed to go."""
    if not study.has("search"):
        return []
    table = study.tables["search"]
    cells = (
        "One cell a run: learning rate across, rank upwards, a panel for each search method and number of decimals. "
    )
    figures = [
        _heat_figure(
            table,
            column="mae",
            name="search-error",
            title="Search: error by learning rate and rank",
            label="MAE",
            caption=cells
            + "Colour and number: mean absolute error on the validation windows, dark is better. A run that "
            "was stopped early was never forecast with; its cell says after how many steps it was stopped.",
        ),
        _heat_figure(
            table,
            column="nats",
            name="search-loss",
            title="Search: validation loss by learning rate and rank",
            label="nats a value",
            caption=cells
            + "Colour and number: validation loss in nats for each value of a series, dark is better. Unlike "
            "the loss of a token it can be compared between numbers of decimals. Stopped runs are shown as they were "
            "when they were stopped.",
        ),
        _pruned_figure(table),
    ]
    return [figure for figure in figures if figure]


def context_figure(study: Findings) -> Figure | None:
    """context: error and cost by the length of the window."""
    if not study.has("context"):
        return None
    table = study.tables["context"].sorted(lambda row: row["tokens"])
    tokens = numbers(table.numbers("tokens"))
    panels = []
    for column, label, role, log in (
        ("mae", "MAE", "tuned", False),
        ("crps", "CRPS", "tuned", False),
        (study.convention, "FLOPs of the run", "zero-shot", True),
    ):
        heights = numbers(table.numbers(column))
        names = tuple(f"{row['run']}: {row['window_steps']:.0f} steps" for row in table.rows)
        marks = (Line(tokens, heights, role), Dots(tokens, heights, role, size=8, names=names))
        known = [height for height in heights if math.isfinite(height)]
        limits = (0.0, 1.15 * max(known)) if known and not log else None
        panels.append(Panel(label, Axis("tokens of a training window"), Axis(label, log=log, limits=limits), marks))
    return Figure(
        name="context",
        title="Length of the training window",
        caption="The chosen settings, tuned on windows of different lengths: error and CRPS on the same validation windows, "
        f"and what each run cost ({study.convention} convention). Longer windows show more of a series and cost more.",
        source="tables/context.csv",
        panels=tuple(panels),
        columns=3,
    )


def curves_figure(study: Findings) -> Figure | None:
    """default, context, final, search and the runs' logs: loss by step of every tuning run."""
    main = _main_runs(study)
    training, validation = [], []
    for run, (role, dash) in main.items():
        if run in study.curves:
            training += _training(study.curves[run], role, run, dash)
            validation += _validation(study.curves[run], role, run, dash)
    faint = []
    if study.has("search"):
        for method, run in study.tables["search"].distinct("method", "run"):
            if run in study.curves:
                role = ordered_role(list(METHODS).index(method) if method in METHODS else 2)
                curve = study.curves[run]
                label = f"search: {METHODS.get(method, method)}"
                places, heights = numbers(curve.validation_steps), numbers(curve.validation)
                faint.append(Line(places, heights, role, label, 1.1, alpha=0.55))
    loss = Axis("loss a token, nats", log=True)
    panels = [
        Panel("Training loss", Axis("step"), loss, tuple(training), height=300),
        Panel("Validation loss", Axis("step"), loss, tuple(validation), height=300),
        Panel("Validation loss of the search", Axis("step"), loss, tuple(faint), height=300),
    ]
    panels = [panel for panel in panels if panel.marks]
    if not panels:
        return None
    return Figure(
        name="curves",
        title="Training and validation curves",
        caption="Loss of a token by optimiser step, on a logarithmic scale. Faint: single batches; strong: their running "
        "mean. A diamond marks the step whose adapter is kept. Runs with other numbers of decimals or other windows "
        "write other text, so compare the shapes of their curves rather than their levels.",
        source="runs/*/metrics.jsonl",
        panels=tuple(panels),
        columns=3,
    )


def untouched_error(study: Findings, row: dict[str, Any]) -> float:
    """The untouched model's error on the windows that a run was judged on, NaN where it was not measured."""
    if not study.has("baseline"):
        return math.nan
    same = {"forecaster": "zero-shot", "decimals": row["decimals"], "constrained": "True"}
    return next((found["mae"] for found in study.tables["baseline"].where(**same).rows), math.nan)


def baseline_name(row: dict[str, Any]) -> str:
    """A row of baseline.csv in words: zero-shot, 2 decimals, constrained."""
    parts = [row["forecaster"]]
    if math.isfinite(row["decimals"]):
        parts.append(f"{row['decimals']:.0f} decimals")
    if row["constrained"]:
        parts.append("constrained" if row["constrained"] == "True" else "free")
    return ", ".join(parts)


def _lying(table: Table, column: str, title: str, label: str, factor: float = 1.0) -> Panel:
    """A lying bar a row; free sampling is paler than constrained."""
    bars = []
    for place, row in enumerate(table.rows):
        alpha = 0.45 if row["constrained"] == "False" else 0.9
        lengths = numbers([factor * row[column]])
        bars.append(Bars((float(place),), lengths, role_of(row["forecaster"]), width=0.7, lying=True, alpha=alpha))
    ticks = tuple(shortened(baseline_name(row), 36) for row in table.rows)
    return Panel(title, Axis(label), Axis(ticks=ticks), tuple(bars), height=90 + ROW_HEIGHT * len(ticks))


def _heat_figure(table: Table, *, column: str, name: str, title: str, label: str, caption: str) -> Figure | None:
    values = table.numbers(column)
    seen = values[np.isfinite(values) & (values > 0)]
    if not len(seen):
        return None
    low, high = float(seen.min()), float(seen.max())
    log = high > WIDE_RANGE * low
    rates = sorted(table.distinct("learning_rate"))
    ranks = sorted(table.distinct("rank"), reverse=True)
    panels = []
    for method, decimals in table.distinct("method", "decimals"):
        rows = table.where(method=method, decimals=decimals).rows
        cells = {(row["rank"], row["learning_rate"]): row for row in rows}
        empty = {column: math.nan, "stopped": ""}
        grid = [[cells.get((rank, rate), empty) for rate in rates] for rank in ranks]
        heat = Heat(
            values=tuple(numbers(cell[column] for cell in row) for row in grid),
            texts=tuple(tuple(_cell_text(cell, column) for cell in row) for row in grid),
            low=low,
            high=high,
            log=log,
            label=label,
        )
        panels.append(
            Panel(
                f"{METHODS.get(method, method)}, {decimals:.0f} decimals",
                Axis("learning rate", ticks=tuple(f"{rate:g}" for rate in rates)),
                Axis("rank", ticks=tuple(f"{rank:g}" for rank in ranks)),
                (heat,),
                height=110 + 40 * len(ranks),
            )
        )
    return Figure(name, title, caption, "tables/search.csv", tuple(panels), columns=2)


def _cell_text(cell: dict[str, Any], column: str) -> str:
    if math.isfinite(cell[column]):
        return f"{cell[column]:.3g}"
    return f"stopped at {cell['steps']:.0f}" if cell["stopped"] == PRUNED else ""


def _pruned_figure(table: Table) -> Figure | None:
    """A lying bar a run of every method that stopped some: the steps it was given."""
    panels = []
    for method in table.distinct("method"):
        rows = table.where(method=method).sorted(lambda row: (-row["steps"], row["nats"]))
        stopped = np.array([row["stopped"] == PRUNED for row in rows.rows])
        if not stopped.any():
            continue
        places = np.arange(len(rows))
        planned = Bars(numbers(places), numbers(rows.numbers("planned_steps")), "grid", "planned", lying=True, alpha=1)
        bars = [planned]
        for chosen, role, label in ((~stopped, "tuned", "ran to the end"), (stopped, "search", "stopped early")):
            lengths = numbers(rows.numbers("steps")[chosen])
            bars.append(Bars(numbers(places[chosen]), lengths, role, label, width=0.6, lying=True))
        ticks = tuple(
            f"{row['learning_rate']:g} · rank {row['rank']:g} · {row['decimals']:g} decimals · {number(row['nats'])}"
            for row in rows.rows
        )
        height = 90 + 20 * len(ticks)
        title = METHODS.get(method, str(method))
        panels.append(Panel(title, Axis("optimiser steps"), Axis(ticks=ticks), tuple(bars), height))
    if not panels:
        return None
    return Figure(
        name="search-stopped",
        title="Search: which runs were stopped, and when",
        caption="Each run by learning rate, rank, decimals and its last validation loss (nats a value), longest runs first. "
        "Successive halving gives all runs a few steps, keeps the better part, gives those more, and so on.",
        source="tables/search.csv",
        panels=tuple(panels),
        columns=1 if len(panels) == 1 else 2,
    )


def _main_runs(study: Findings) -> dict[str, tuple[str, str]]:
    """Role and dash of the runs that are not of the search; the last stage that names a run decides."""
    runs = {}
    for stage in ("default", "context", "final"):
        if study.has(stage):
            for index, run in enumerate(study.tables[stage].column("run")):
                runs[run] = (stage, DASHES[index % len(DASHES)])
    return runs


def _training(curve: Curve, role: str, label: str, dash: str = "solid") -> list[Line]:
    """Single batches, faint, and their running mean over a twentieth of the run."""
    if not curve.train:
        return []
    places = numbers(curve.train_steps)
    mean = _running_mean(np.array(curve.train), max(1, len(curve.train) // 20))
    return [
        Line(places, numbers(curve.train), role, width=0.8, alpha=0.3),
        Line(places, numbers(mean), role, label, width=1.8, dash=dash),
    ]


def _validation(curve: Curve, role: str, label: str, dash: str) -> list[Line | Dots]:
    """The curve and its lowest point."""
    losses = np.array(curve.validation)
    if not np.isfinite(losses).any():
        return []
    best = int(np.argmin(np.where(np.isfinite(losses), losses, np.inf)))
    places, heights = numbers(curve.validation_steps), numbers(losses)
    lowest = Dots(places[best : best + 1], heights[best : best + 1], role, symbol="diamond", size=9)
    return [Line(places, heights, role, label, width=1.8, dash=dash), lowest]


def _running_mean(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """The mean over `width` neighbours, fewer at the ends; what is not finite is left out."""
    known = np.isfinite(values)
    window = np.ones(min(width, len(values)))
    total = np.convolve(np.where(known, values, 0.0), window, mode="same")
    count = np.convolve(known, window, mode="same")
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0.5)

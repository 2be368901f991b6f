"""Figures of what is tuned and judged on training and validation series: baseline, default, context, curves.

Every function reads the tables that its first line names and returns None where nothing can be drawn.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from loracast.charts.marks import Axis, Bars, Dots, Figure, Line, Panel, numbers
from loracast.charts.palette import ordered_role, role_of
from loracast.report.reading import Curve, Findings, distinct, where
from loracast.report.search_figures import METHODS, method_name
from loracast.report.wording import decimals_text, shortened

ROW_HEIGHT = 38  # pixels of a forecaster
BAR = 0.38  # width of a lying bar
SAMPLING = {  # by the column `constrained`: where the bar lies, its opacity, what the legend calls it
    "True": (-0.2, 0.9, "constrained sampling"),
    "False": (0.2, 0.45, "free sampling"),
    "": (0.0, 0.9, ""),
}
DASHES = ("solid", "dash", "dot")


def baseline_figure(study: Findings) -> Figure | None:
    """baseline: errors of the untouched model, by decimals and constraint, and of the naive forecasters."""
    if not study.has("baseline"):
        return None
    table = study.tables["baseline"]
    model = table.loc[np.isfinite(table["decimals"])]
    panels = [_lying(table, "mae", "Error", "MAE")]
    if len(model):
        panels.append(_lying(model, "valid_share", "Well-formed text", "% of steps that can be read", 100))
    return Figure(
        name="baseline",
        title="Forecasts before any tuning",
        caption="First: mean absolute error on the validation windows. Second: the share of steps that the model "
        "wrote so that they can be read as numbers. Constrained sampling only lets the model write what can be "
        "read, so that its share is 100% by construction; with free sampling the model has to know the format. No "
        "bar: nothing could be read.",
        source="tables/baseline.csv",
        panels=tuple(panels),
    )


def default_figure(study: Findings) -> Figure | None:
    """default and its run's log: loss by step, and the error before and after."""
    if not study.has("default"):
        return None
    row = study.tables["default"].to_dict("records")[0]
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
        caption="First: the loss of the training batches (faint), its running mean, and the loss on held-out "
        "windows; the adapter of the lowest validation loss (diamond) is kept. Second: mean absolute error on the "
        "validation windows, of the untouched model and with that adapter.",
        source="tables/default.csv, runs/*/metrics.jsonl",
        panels=tuple(panels),
    )


def context_figure(study: Findings) -> Figure | None:
    """context: error and cost by the length of the window."""
    if not study.has("context"):
        return None
    table = study.tables["context"].sort_values("tokens", kind="stable")
    tokens = numbers(table["tokens"])
    panels = []
    for column, label, role, log in (
        ("mae", "MAE", "tuned", False),
        ("crps", "CRPS", "tuned", False),
        (study.convention, "FLOPs of the run", "zero-shot", True),
    ):
        heights = numbers(table[column])
        names = tuple(f"{row['run']}: {row['window_steps']:.0f} steps" for row in table.to_dict("records"))
        marks = (Line(tokens, heights, role), Dots(tokens, heights, role, size=8, names=names))
        known = [height for height in heights if math.isfinite(height)]
        limits = (0.0, 1.15 * max(known)) if known and not log else None
        panels.append(Panel(label, Axis("tokens of a training window"), Axis(label, log=log, limits=limits), marks))
    return Figure(
        name="context",
        title="Length of the training window",
        caption="The chosen settings, tuned on windows of different lengths: error and CRPS on the same validation "
        f"windows, and what each run cost ({study.convention} convention). Longer windows show more of a series and "
        "cost more.",
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
        for method, run in study.tables["search"].pipe(distinct, "method", "run"):
            if run in study.curves:
                role = ordered_role(list(METHODS).index(method) if method in METHODS else 2)
                curve = study.curves[run]
                label = f"search: {method_name(method)}"
                places, heights = numbers(curve.validation_steps), numbers(curve.validation)
                faint.append(Line(places, heights, role, label, 1.1, alpha=0.7))
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
        caption="Loss of a token by optimiser step, on a logarithmic scale. Faint: single batches; strong: their "
        "running mean. A diamond marks the step whose adapter is kept. Runs with other numbers of decimals or other "
        "windows write other text, so compare the shapes of their curves rather than their levels.",
        source="runs/*/metrics.jsonl",
        panels=tuple(panels),
        columns=3,
    )


def untouched_error(study: Findings, row: dict[str, Any]) -> float:
    """The untouched model's error on the windows that a run was judged on, NaN where it was not measured."""
    if not study.has("baseline"):
        return math.nan
    same = {"forecaster": "zero-shot", "layout": row["layout"], "decimals": row["decimals"], "constrained": "True"}
    return next((found["mae"] for found in study.tables["baseline"].pipe(where, **same).to_dict("records")), math.nan)


def _lying(table: DataFrame, column: str, title: str, label: str, factor: float = 1.0) -> Panel:
    """Lying bars: one a forecaster and number of decimals, two where it was sampled both ways."""
    names = table.pipe(distinct, "forecaster", "layout", "decimals")
    written = [str(name) for name in names]  # NaN, of baselines, equals itself only so
    bars = []
    for row in table.to_dict("records"):
        place = written.index(str((row["forecaster"], row["layout"], row["decimals"])))
        shift, alpha, key = SAMPLING[row["constrained"]]
        lengths = numbers([factor * row[column]])
        bars.append(Bars((place + shift,), lengths, role_of(row["forecaster"]), key, BAR, lying=True, alpha=alpha))
    ticks = tuple(_forecaster_name(*name) for name in names)
    return Panel(title, Axis(label), Axis(ticks=ticks), tuple(bars), height=90 + ROW_HEIGHT * len(ticks))


def _forecaster_name(forecaster: str, layout: str, decimals: float) -> str:
    return shortened(forecaster) + (f", {decimals_text(decimals, layout)}" if math.isfinite(decimals) else "")


def _main_runs(study: Findings) -> dict[str, tuple[str, str]]:
    """Role and dash of the runs that are not of the search; the last stage that names a run decides."""
    runs = {}
    for stage in ("default", "context", "final"):
        if study.has(stage):
            for index, run in enumerate(study.tables[stage]["run"].tolist()):
                runs[run] = (stage, DASHES[index % len(DASHES)])
    return runs


def _training(curve: Curve, role: str, label: str, dash: str = "solid") -> list[Line]:
    """Single batches, faint, and their running mean over a twentieth of the run."""
    if not curve.train:
        return []
    places = numbers(curve.train_steps)
    mean = _running_mean(np.array(curve.train), max(1, len(curve.train) // 20))
    return [
        Line(places, numbers(curve.train), role, label, width=0.8, alpha=0.3),
        Line(places, numbers(mean), role, label, width=1.8, dash=dash),
    ]


def _validation(curve: Curve, role: str, label: str, dash: str) -> list[Line | Dots]:
    """The curve and its lowest point."""
    losses = np.array(curve.validation)
    if not np.isfinite(losses).any():
        return []
    best = int(np.argmin(np.where(np.isfinite(losses), losses, np.inf)))
    places, heights = numbers(curve.validation_steps), numbers(losses)
    lowest = Dots(places[best : best + 1], heights[best : best + 1], role, label, "diamond", size=9)
    return [Line(places, heights, role, label, width=1.8, dash=dash), lowest]


def _running_mean(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """The mean over `width` neighbours, fewer at the ends; what is not finite is left out."""
    known = np.isfinite(values)
    window = np.ones(min(width, len(values)))
    total = np.convolve(np.where(known, values, 0.0), window, mode="same")
    count = np.convolve(known, window, mode="same")
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0.5)

"""Figures of the test: fans, errors by step and by series, calibration.

Every function reads the tables that its first line names and returns None or an empty list where nothing can be drawn.
"""

from __future__ import annotations

import math

import numpy as np
from pandas import DataFrame

from loracast.baselines import BASELINES
from loracast.charts.fan import Fan
from loracast.charts.marks import Axis, Bars, Box, Dots, Figure, Line, Mark, Panel, numbers
from loracast.charts.palette import role_of
from loracast.report.data_figures import in_order
from loracast.report.reading import Findings, where
from loracast.report.wording import listed, number, shortened
from loracast.statistics import observed_mean

FORECASTERS = ("zero-shot", "tuned", *BASELINES)
FAINTEST = 1e-5  # errors below this share of the largest are drawn at it: a logarithmic axis has no zero
SYMBOLS = {"zero-shot": "circle", "tuned": "diamond"}


def fan_figures(study: Findings) -> list[Figure]:
    """fans, fan_values: a figure a variable, a pair of panels a window."""
    if not study.has("fans", "fan_values"):
        return []
    fans, values = study.tables["fans"], study.tables["fan_values"]
    names = in_order(fans["forecaster"].tolist(), FORECASTERS)
    figures = []
    for index, variable in enumerate(study.names):
        panels = []
        for series in values["series"].unique().tolist():
            seen = values.pipe(where, series=series, variable=variable)
            drawn = fans.pipe(where, series=series, variable=variable)
            if len(seen):
                panels += [_fan(seen, drawn.pipe(where, forecaster=name), series, name) for name in names]
        if not panels:
            continue
        figures.append(
            Figure(
                name=f"fans-{index + 1}",
                title=f"Forecasts of {variable} before and after tuning",
                caption=f"Test windows from small to large errors, each drawn for {listed(names)}. A line is the "
                "median of the sampled futures, the darker area holds the middle 50% of them, the paler one 80%. "
                "The scale is the same in all panels of a window; a fan may leave it. MAE: mean absolute error of "
                "the median drawn.",
                source="tables/fans.csv, tables/fan_values.csv",
                panels=tuple(panels),
                columns={1: 3, 2: 4}.get(len(names), 3),
            )
        )
    return figures


def _fan(seen: DataFrame, fan: DataFrame, series: str, forecaster: str) -> Panel:
    """Context, truth and fan of one window and variable; all lines begin where the context ends."""
    context, future = seen.pipe(where, part="context"), seen.pipe(where, part="future")
    columns = ["q10", "q25", "q50", "q75", "q90"]
    shown = Fan.of(
        context["step"].to_numpy(float),
        context["value"].to_numpy(float),
        fan["step"].to_numpy(float),
        fan[columns].to_numpy(float).T,
        (future["step"].to_numpy(float), future["value"].to_numpy(float)),
    )
    marks = shown.marks(role_of(forecaster), f"{forecaster}: median, 50% and 80% of paths")
    truth = dict(zip(future["step"].tolist(), future["value"].tolist()))
    errors = np.array([abs(row["q50"] - truth.get(row["step"], math.nan)) for row in fan.to_dict("records")])
    error = number(float(f"{observed_mean(errors, axis=0):.3g}"))
    values = seen["value"].to_numpy(float)[np.isfinite(seen["value"].to_numpy(float))]
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    room = 0.2 * (high - low) or 1.0
    limits = (0.0 if 0 <= low < room else float(low - room), float(high + room))
    title = f"{shortened(series, 14)} · {forecaster} · MAE {error}"
    return Panel(title, Axis("step"), Axis(limits=limits), marks, height=190)


def steps_figure(study: Findings) -> Figure | None:
    """test_steps: error and CRPS by step of the horizon, a line a forecaster."""
    if not study.has("test_steps"):
        return None
    table = study.tables["test_steps"]
    panels = []
    for metric in ("mae", "crps"):
        for variable in study.names:
            rows = table.pipe(where, variable=variable)
            lines = []
            for name in in_order(rows["forecaster"].tolist(), FORECASTERS):
                chosen = rows.pipe(where, forecaster=name)
                places, heights = numbers(chosen["step"]), numbers(chosen[metric])
                lines.append(Line(places, heights, role_of(name), name, 1.8))
            title = f"{metric.upper()} of {shortened(variable)}"
            panels.append(Panel(title, Axis("step of the horizon"), Axis(log=True), tuple(lines)))
    return Figure(
        name="steps",
        title="Error by step of the forecast",
        caption="How errors grow the further a forecast looks ahead: the mean over the test windows, on a logarithmic "
        "scale. The CRPS of a forecaster that gives one path, as the baselines do, is its absolute error.",
        source="tables/test_steps.csv",
        panels=tuple(panels),
        columns=min(max(2, len(study.names)), 4),
    )


def error_figures(study: Findings) -> list[Figure]:
    """test_series: how the errors of the series are distributed, three ways."""
    if not study.has("test_series"):
        return []
    table = study.tables["test_series"]
    variables = [variable for variable in study.names if len(table.pipe(where, variable=variable))]
    captions = {
        "distribution": (
            "Distribution of the errors",
            "For each error, the share of test series whose error is at most that: a curve further left and higher up "
            "is better. Mean absolute error of a series, on a logarithmic scale.",
        ),
        "boxes": (
            "Errors of the series by variable",
            "A box holds the middle half of the test series, its line their median; whiskers reach the last series "
            "within 1.5 box lengths, dots are series beyond. Mean absolute error of a series, on a logarithmic scale.",
        ),
        "sorted": (
            "Error of every test series",
            "The test series, sorted by their error after tuning, with the errors of the untouched model and of the "
            "best baseline above or below: where the diamond is lowest, tuning helped. Mean absolute error, on a "
            "logarithmic scale. Point at a dot for the series' name.",
        ),
    }
    draw = {"distribution": _distribution, "boxes": _boxes, "sorted": _sorted}
    edge = f" Errors below 1/{1 / FAINTEST:,.0f} of the largest are drawn at that."
    return [
        Figure(
            name=f"errors-{name}",
            title=title,
            caption=caption + (edge if (table["mae"].to_numpy(float) < _edge(table)).any() else ""),
            source="tables/test_series.csv",
            panels=tuple(draw[name](table.pipe(where, variable=variable), variable) for variable in variables),
            columns=min(max(2, len(variables)), 3),
        )
        for name, (title, caption) in captions.items()
    ]


def _distribution(table: DataFrame, variable: str) -> Panel:
    lines = []
    for name in in_order(table["forecaster"].tolist(), FORECASTERS):
        errors = np.sort([error for error in _visible(table, name).values() if math.isfinite(error)])
        steps = 100 * np.arange(len(errors) + 1) / max(1, len(errors))
        places, heights = np.repeat(errors, 2), np.repeat(steps, 2)[1:-1]  # a step up at each error
        lines.append(Line(numbers(places), numbers(heights), role_of(name), name, 1.8))
    return Panel(
        shortened(variable), Axis("MAE of a series", log=True), Axis("% of series", limits=(0, 102)), tuple(lines)
    )


def _boxes(table: DataFrame, variable: str) -> Panel:
    names = in_order(table["forecaster"].tolist(), FORECASTERS)
    boxes = [Box(place, numbers(_visible(table, name).values()), role_of(name)) for place, name in enumerate(names)]
    return Panel(shortened(variable), Axis("MAE of a series", log=True), Axis(ticks=tuple(names)), tuple(boxes))


def _sorted(table: DataFrame, variable: str) -> Panel:
    names = in_order(table["forecaster"].tolist(), FORECASTERS)
    errors = {name: _visible(table, name) for name in names}
    medians = {name: np.median([*errors[name].values()]) for name in names}
    baselines = sorted((name for name in names if name not in SYMBOLS), key=lambda name: medians[name])
    shown = [*baselines[:1], *(name for name in names if name in SYMBOLS)]
    first = "tuned" if "tuned" in names else shown[-1]
    order = sorted(errors[first], key=lambda series: errors[first][series])
    places = numbers(range(1, len(order) + 1))
    dots: list[Mark] = []
    for name in shown:
        heights = numbers(errors[name].get(series, math.nan) for series in order)
        dots.append(Dots(places, heights, role_of(name), name, SYMBOLS.get(name, "x"), 6, tuple(order)))
    return Panel(shortened(variable), Axis("test series, sorted"), Axis("MAE of a series", log=True), tuple(dots))


def _visible(table: DataFrame, forecaster: str) -> dict[str, float]:
    """A forecaster's errors by series; those too small for a logarithmic axis are raised to its edge."""
    rows, edge = table.pipe(where, forecaster=forecaster).to_dict("records"), _edge(table)
    return {row["series"]: max(row["mae"], edge) for row in rows}


def _edge(table: DataFrame) -> float:
    return FAINTEST * float(np.nanmax(table["mae"].to_numpy(float), initial=0.0))


def calibration_figure(study: Findings) -> Figure | None:
    """calibration: share of the truth within central intervals, against what they promise."""
    if not study.has("calibration"):
        return None
    table = study.tables["calibration"]
    panels = []
    for variable in study.names:
        rows = table.pipe(where, variable=variable)
        marks: list[Mark] = [Line((0.0, 100.0), (0.0, 100.0), "muted", "exact", 1.2, dash="dash")]
        for name in in_order(rows["forecaster"].tolist(), FORECASTERS):
            chosen = rows.pipe(where, forecaster=name)
            places, heights = (
                numbers(100 * chosen["nominal"]),
                numbers(100 * chosen["coverage"]),
            )
            marks += [
                Line(places, heights, role_of(name), name, 1.8),
                Dots(places, heights, role_of(name), name, size=5),
            ]
        across, up = Axis("promised, %", limits=(0, 100)), Axis("found, %", limits=(0, 100))
        panels.append(Panel(shortened(variable), across, up, tuple(marks), height=300))
    return Figure(
        name="calibration",
        title="Calibration of the intervals",
        caption="A central interval of, say, 80% promises to hold 80% of what happens. On the dashed line it does; "
        "below it the forecaster is too sure of itself, above it too careful. All values of the test windows.",
        source="tables/calibration.csv",
        panels=tuple(panels),
        columns=min(max(2, len(study.names)), 3),
    )


def pit_figure(study: Findings) -> Figure | None:
    """pit: where what happened lies among the sampled values."""
    if not study.has("pit"):
        return None
    table = study.tables["pit"]
    panels = []
    highest = max(1.0, float(np.nanmax(table["density"].to_numpy(float))))
    for variable in study.names:
        rows = table.pipe(where, variable=variable)
        for name in in_order(rows["forecaster"].tolist(), FORECASTERS):
            chosen = rows.pipe(where, forecaster=name)
            places, heights = numbers(chosen["bin"]), numbers(chosen["density"])
            bars = Bars(places, heights, role_of(name), name, 0.94 / len(chosen))
            flat = Line((0.0, 1.0), (1.0, 1.0), "ink", "exact", 1.2, dash="dash")
            up = Axis("density", limits=(0, 1.05 * highest))
            across = Axis("place among the samples", limits=(0, 1))
            panels.append(Panel(f"{shortened(variable)} · {name}", across, up, (bars, flat), height=220))
    return Figure(
        name="pit",
        title="Where the truth falls among the sampled values (PIT)",
        caption="For each value that happened, its place among the sampled values: 0 is below all of them, 1 above. If "
        "the truth were like one more sample, all bars would end at the dashed line. Bars that rise at both ends: too "
        "sure; a hump in the middle: too careful; a slope: forecasts that lie too low (rising) or too high (falling).",
        source="tables/pit.csv",
        panels=tuple(panels),
        columns=4 if len(panels) > 3 else max(2, len(panels)),
    )

"""Draws figures twice from one definition: as Plotly's JSON for the page, and with matplotlib as a PNG.

Titles and labels may hold anything; what Plotly or matplotlib would read as more than text is escaped here. Neither
draws a legend inside a panel: the page has one above all panels of a figure, and the PNG one below them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cbook import boxplot_stats
from matplotlib.figure import Figure as Canvas
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from loracast.charts.marks import (
    Axis,
    Band,
    Bars,
    Box,
    Dots,
    Figure,
    Heat,
    Labelled,
    Line,
    Mark,
    Numbers,
    Panel,
    log_limits,
    log_ticks,
    numbers,
)
from loracast.charts.palette import COLOURS, rgba
from loracast.files import atomic_path

SCALE = "viridis"
SYMBOLS = {"circle": "o", "diamond": "D", "x": "X"}
DASHES = {"solid": "-", "dash": "--", "dot": ":"}
DOTS_PER_INCH = 110
LETTER_INCHES = 0.068  # of the legend
LONG_TICKS = 36  # letters of an x axis's categories that fit side by side
COLUMN_INCHES = {1: 8.0, 2: 4.6, 3: 3.8, 4: 3.2}  # width of a panel by the figure's columns

# -- Plotly ------------------------------------------------------------------------------------------------------


def to_plotly(panel: Panel) -> dict[str, Any]:
    """`data` and `layout` of a panel, ready for `Plotly.newPlot`, in the colours on light."""
    traces = [trace for mark in panel.marks for trace in _traces(mark, panel)]
    layout = {
        "title": {"text": plotly_text(panel.title), "font": {"size": 13}, "xref": "container", "yref": "container",
                  "x": 0, "y": 1, "yanchor": "top", "pad": {"t": 6}},
        "xaxis": _plotly_axis(panel, "x"),
        "yaxis": _plotly_axis(panel, "y"),
        "font": {"size": 12, "color": rgba("muted"), "family": "system-ui, sans-serif"},
        "hoverlabel": {"bgcolor": rgba("paper"), "bordercolor": rgba("muted"), "font": {"color": rgba("ink")}},
        "margin": {"l": 48, "r": 12, "t": 30, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "barmode": "overlay",  # bars have places of their own
        "hovermode": "closest",
        "annotations": [note for mark in panel.marks if isinstance(mark, Heat) for note in _cell_notes(mark)],
    }  # fmt: skip
    return {"data": traces, "layout": layout}


def _plotly_axis(panel: Panel, along: str) -> dict[str, Any]:
    axis = panel.x if along == "x" else panel.y
    drawn: dict[str, Any] = {
        "title": {"text": plotly_text(axis.label), "standoff": 6},
        "gridcolor": rgba("grid"),
        "linecolor": rgba("muted", 0.5),
        "tickcolor": rgba("muted", 0.5),
        "showline": True,
        "zeroline": False,
        "automargin": True,
        "exponentformat": "power",
    }
    if axis.log:
        low, high = log_limits(panel, along)
        places, texts = log_ticks(low, high)
        drawn |= {"type": "log", "range": [math.log10(low), math.log10(high)]}
        return drawn | {"tickvals": list(places), "ticktext": list(texts)}
    if axis.ticks:
        drawn |= {"tickvals": list(range(len(axis.ticks))), "ticktext": [plotly_text(text) for text in axis.ticks]}
        drawn |= {"showgrid": False, "range": list(_category_limits(axis, along))}
    elif axis.limits:
        drawn["range"] = list(axis.limits)
    return drawn


def _traces(mark: Mark, panel: Panel) -> list[dict[str, Any]]:
    name = plotly_text(mark.label) if isinstance(mark, Labelled) else ""
    match mark:
        case Line():
            line = {"color": rgba(mark.role, mark.alpha), "width": mark.width, "dash": mark.dash}
            place = {"x": _nulls(mark.x), "y": _nulls(mark.y)}
            return [{"type": "scatter", "mode": "lines", "name": name, "line": line, **place, **_hover(name)}]
        case Band():
            edge = {"type": "scatter", "mode": "lines", "name": name, "hoverinfo": "skip", "line": {"width": 0},
                    "x": _nulls(mark.x)}  # fmt: skip
            fill = {"fill": "tonexty", "fillcolor": rgba(mark.role, mark.alpha)}
            return [{**edge, "y": _nulls(mark.low)}, {**edge, "y": _nulls(mark.high), **fill}]
        case Dots():
            marker = {"color": rgba(mark.role), "size": mark.size, "symbol": mark.symbol}
            place = {"x": _nulls(mark.x), "y": _nulls(mark.y)}
            texts = {"text": [plotly_text(text) for text in mark.names]} if mark.names else {}
            hover = _hover(name, "%{text}<br>" if mark.names else "")
            return [{"type": "scatter", "mode": "markers", "name": name, "marker": marker, **place, **texts, **hover}]
        case Bars():
            along, across = ("y", "x") if mark.lying else ("x", "y")
            trace = {"type": "bar", "name": name, "orientation": "h" if mark.lying else "v", "width": mark.width}
            trace |= {along: _nulls(mark.places), across: _nulls(mark.lengths)}
            trace |= {"marker": {"color": rgba(mark.role, mark.alpha), "line": {"width": 0}}}
            trace |= {"base": list(mark.starts)} if mark.starts else {}
            ticks = (panel.y if mark.lying else panel.x).ticks
            # Written out, as Plotly knows neither the category of a place nor the length of a bar upon another.
            texts = [plotly_text(ticks[round(place)]) if ticks else f"{place:.4g}" for place in mark.places]
            texts = [f"{text}: {length:.4g}" for text, length in zip(texts, mark.lengths)]
            return [{**trace, "hovertext": texts, "hovertemplate": f"%{{hovertext}}<extra>{name}</extra>"}]
        case Box():
            return _box_traces(mark, panel)
        case Heat():
            return [_heat_trace(mark)]


def _box_traces(mark: Box, panel: Panel) -> list[dict[str, Any]]:
    found = _box_parts(mark)
    names = {"q1": "q1", "median": "med", "q3": "q3", "lowerfence": "whislo", "upperfence": "whishi"}
    parts = {name: _nulls([found[part]]) for name, part in names.items()}
    colours = {"line": {"color": rgba(mark.role), "width": 1.4}, "fillcolor": rgba(mark.role, 0.25)}
    box = {"type": "box", "orientation": "h", "y": [mark.place], "width": mark.width, "hoverinfo": "x"}
    places = (mark.place,) * len(found["fliers"])
    beyond = _traces(Dots(numbers(found["fliers"]), places, mark.role, size=4), panel)
    return [{**box, **parts, **colours}, *beyond]


def _heat_trace(mark: Heat) -> dict[str, Any]:
    low, high = _scaled(mark, mark.low), _scaled(mark, mark.high)
    bar: dict[str, Any] = {
        "thickness": 10,
        "title": {"text": plotly_text(mark.label), "side": "right"},
        "outlinewidth": 0,
    }
    if mark.log:
        places, texts = log_ticks(mark.low, mark.high)
        bar |= {"tickvals": [math.log10(place) for place in places], "ticktext": list(texts)}
    scale = [[place, f"rgb{_scale_colour(place)}"] for place in np.linspace(0, 1, 11).round(1).tolist()]
    return {
        "type": "heatmap",
        "z": [_nulls(_scaled(mark, value) for value in row) for row in mark.values],
        "hoverinfo": "z",
        "zmin": low,
        "zmax": high,
        "colorscale": scale,
        "colorbar": bar,
        "xgap": 2,
        "ygap": 2,
    }


def _cell_notes(mark: Heat) -> list[dict[str, Any]]:
    """Each cell's text in a colour that can be read on the cell's, which Plotly's own texts do not always have."""
    return [
        {"x": column, "y": row, "text": plotly_text(text), "showarrow": False, "font": {"size": 10, "color": colour}}
        for row, column, text, colour in _cell_texts(mark, rgba("ink"))
    ]


def plotly_text(text: str) -> str:
    """A text as Plotly writes it out unchanged: it reads HTML, and looks for mathematics between two dollars."""
    return escape(text).replace("$", "&#36;")


def _hover(name: str, before: str = "") -> dict[str, str]:
    return {"hovertemplate": f"{before}%{{x:.4g}}, %{{y:.4g}}<extra>{name}</extra>"}


def _nulls(values: Any) -> list[float | None]:
    """JSON has no NaN and no infinity."""
    return [value if math.isfinite(value) else None for value in values]


# -- matplotlib --------------------------------------------------------------------------------------------------


def write_png(figure: Figure, path: str | Path) -> None:
    """Draws a figure in the colours on light and writes it."""
    with atomic_path(path) as temporary:
        to_matplotlib(figure).savefig(temporary, format="png", dpi=DOTS_PER_INCH)


def to_matplotlib(figure: Figure) -> Canvas:
    """All panels of a figure, row by row, under its title and one legend."""
    columns = min(figure.columns, len(figure.panels))
    rows = math.ceil(len(figure.panels) / columns)
    heights = [max(panel.height for panel in figure.panels[row * columns :][:columns]) / 85 for row in range(rows)]
    keys = figure.keys()
    size = (columns * COLUMN_INCHES[figure.columns], sum(heights) + 0.45 + 0.3 * bool(keys))
    canvas = Canvas(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08), facecolor=COLOURS["paper"][0])
    FigureCanvasAgg(canvas)
    axes = canvas.subplots(rows, columns, squeeze=False, height_ratios=heights).ravel()
    for axis, panel in zip(axes, figure.panels):
        _draw_panel(axis, panel)
    for axis in axes[len(figure.panels) :]:
        axis.set_axis_off()
    canvas.suptitle(_plain(figure.title), fontsize="large", color=COLOURS["ink"][0])
    if keys:
        handles: list[Any] = [tuple(_handle(mark) for mark in marks) for marks in keys.values()]
        widths = [LETTER_INCHES * len(label) + 0.6 for label in keys]
        columns = len(keys) if sum(widths) < size[0] else max(1, int(size[0] / max(widths)))
        canvas.legend(handles, [_plain(label) for label in keys], loc="outside lower center", frameon=False,
                      ncols=columns, fontsize="small")  # fmt: skip
    return canvas


def _draw_panel(axis: Any, panel: Panel) -> None:
    for mark in panel.marks:
        _draw_mark(axis, mark)
    axis.set_title(_plain(panel.title), loc="left", fontsize="medium", color=COLOURS["ink"][0])
    for along, definition in (("x", panel.x), ("y", panel.y)):
        direction = axis.xaxis if along == "x" else axis.yaxis
        set_limits = axis.set_xlim if along == "x" else axis.set_ylim
        if definition.log:
            low, high = log_limits(panel, along)
            (axis.set_xscale if along == "x" else axis.set_yscale)("log")
            set_limits(low, high)
            places, texts = log_ticks(low, high)
            direction.set_ticks(places, texts)
            direction.set_minor_locator(NullLocator())
        elif definition.ticks:
            direction.set_ticks(range(len(definition.ticks)), [_plain(text) for text in definition.ticks])
            if along == "x" and sum(map(len, definition.ticks)) > LONG_TICKS:
                axis.tick_params(axis="x", labelrotation=20)
            set_limits(*_category_limits(definition, along))
        elif definition.limits:
            set_limits(*definition.limits)
        if not definition.ticks:
            direction.grid(color=COLOURS["grid"][0], linewidth=0.7)
        direction.label.set_text(_plain(definition.label))
    axis.set_axisbelow(True)
    axis.tick_params(colors=COLOURS["muted"][0], labelsize="small")
    axis.spines[["top", "right"]].set_visible(False)


def _draw_mark(axis: Any, mark: Mark) -> None:
    match mark:
        case Line():
            axis.plot(mark.x, mark.y, **_line_style(mark))
        case Band():
            axis.fill_between(mark.x, mark.low, mark.high, **_area_style(mark.role, mark.alpha))
        case Dots():
            axis.plot(mark.x, mark.y, **_dot_style(mark))
        case Bars():
            draw = axis.barh if mark.lying else axis.bar
            starts = mark.starts or (0.0,) * len(mark.places)
            draw(mark.places, mark.lengths, mark.width, starts, **_area_style(mark.role, mark.alpha))
        case Box():
            _draw_box(axis, mark)
        case Heat():
            _draw_heat(axis, mark)


def _draw_box(axis: Any, mark: Box) -> None:
    # By hand: the names of the options that make matplotlib's own boxes lie change between its versions.
    found = _box_parts(mark)
    colour, half = COLOURS[mark.role][0], mark.width / 2
    axis.barh(mark.place, found["q3"] - found["q1"], mark.width, found["q1"], color=(colour, 0.25), edgecolor=colour)
    axis.hlines([mark.place] * 2, [found["whislo"], found["q3"]], [found["q1"], found["whishi"]], color=colour)
    axis.vlines([found["whislo"], found["whishi"]], mark.place - half / 2, mark.place + half / 2, color=colour)
    axis.vlines(found["med"], mark.place - half, mark.place + half, color=colour)
    axis.plot(found["fliers"], [mark.place] * len(found["fliers"]), "o", markersize=3, color=colour)


def _draw_heat(axis: Any, mark: Heat) -> None:
    values = np.array([[_scaled(mark, value) for value in row] for row in mark.values])
    low, high = _scaled(mark, mark.low), _scaled(mark, mark.high)
    image = axis.pcolormesh(
        np.arange(values.shape[1]),
        np.arange(values.shape[0]),
        np.ma.masked_invalid(values),
        cmap=SCALE,
        vmin=low,
        vmax=high,
        edgecolors="white",
        linewidth=2,
    )
    bar = axis.figure.colorbar(image, ax=axis, label=_plain(mark.label))
    bar.outline.set_visible(False)
    if mark.log:
        places, texts = log_ticks(mark.low, mark.high)
        bar.set_ticks([math.log10(place) for place in places], labels=list(texts))
    for row, column, text, colour in _cell_texts(mark, COLOURS["ink"][0]):
        axis.text(column, row, _plain(text), ha="center", va="center", fontsize="small", color=colour)


def _handle(mark: Labelled) -> Line2D | Patch:
    """What stands for a mark in the legend."""
    match mark:
        case Line():
            return Line2D([], [], **_line_style(mark))
        case Dots():
            return Line2D([], [], **_dot_style(mark))
        case Band() | Bars():
            return Patch(**_area_style(mark.role, mark.alpha))


def _line_style(mark: Line) -> dict[str, Any]:
    style = {"color": COLOURS[mark.role][0], "linewidth": mark.width, "linestyle": DASHES[mark.dash]}
    return style | {"alpha": mark.alpha}


def _area_style(role: str, alpha: float) -> dict[str, Any]:
    return {"color": COLOURS[role][0], "alpha": alpha, "linewidth": 0}


def _dot_style(mark: Dots) -> dict[str, Any]:
    style = {"linestyle": "none", "marker": SYMBOLS[mark.symbol], "markersize": 0.8 * mark.size}
    return style | {"color": COLOURS[mark.role][0], "markeredgewidth": 0}


def _plain(text: str) -> str:
    return text.replace("$", r"\$")


# -- both --------------------------------------------------------------------------------------------------------


def _box_parts(mark: Box) -> dict[str, Any]:
    """Quartiles, whiskers and points beyond, as matplotlib finds and names them."""
    return boxplot_stats([value for value in mark.values if math.isfinite(value)])[0]


def _category_limits(axis: Axis, along: str) -> Numbers:
    """Room for all categories; along y the first stands at the top."""
    limits = (-0.6, len(axis.ticks) - 0.4)
    return limits if along == "x" else limits[::-1]


def _scaled(mark: Heat, value: float) -> float:
    if mark.log:
        return math.log10(value) if value > 0 else math.nan
    return value


def _cell_texts(mark: Heat, on_page: str) -> Iterator[tuple[int, int, str, str]]:
    """Row, column, text and colour of every cell with a text; `on_page` is the colour where a cell has no value."""
    low, high = _scaled(mark, mark.low), _scaled(mark, mark.high)
    for row, (values, texts) in enumerate(zip(mark.values, mark.texts)):
        for column, (value, text) in enumerate(zip(values, texts)):
            colour = on_page
            if math.isfinite(value):
                share = (_scaled(mark, value) - low) / ((high - low) or 1.0)
                luminance = np.dot((0.2126, 0.7152, 0.0722), (np.array(_scale_colour(share)) / 255) ** 2.2)
                colour = "black" if luminance > 0.18 else "white"  # where both contrast as much, as WCAG reckons
            if text:
                yield row, column, text, colour


def _scale_colour(share: float) -> tuple[int, int, int]:
    red, green, blue, _ = (round(255 * part) for part in colormaps[SCALE](share))
    return red, green, blue

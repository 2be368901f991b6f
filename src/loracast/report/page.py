"""The pieces of a report's page: tables, figures, tiles, sections. All text that comes from data is escaped here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from pandas import DataFrame

from loracast.charts.drawing import plotly_text, to_plotly
from loracast.charts.marks import Band, Bars, Dots, Figure, Labelled, Line
from loracast.charts.palette import css_variables, light_to_dark
from loracast.errors import ConfigError, install_advice
from loracast.report.reading import least
from loracast.report.wording import NOTHING

SHAPES = {
    "circle": '<circle cx="13" cy="7" r="4" style="{style}"/>',
    "diamond": '<path d="M13 2l5 5-5 5-5-5z" style="{style}"/>',
    "x": '<path d="M9 4l2-2 2 3 2-3 2 2-3 3 3 3-2 2-2-3-2 3-2-2 3-3z" style="{style}"/>',
}
STROKES = {"solid": "none", "dash": "6 4", "dot": "2 3"}


@dataclass(frozen=True)
class Column:
    """A column of a table on the page; without `write` it holds text."""

    name: str
    heading: str
    write: Callable[[float], str] | None = None


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def heading(text: str, level: int = 3) -> str:
    return f"<h{level}>{escape(text)}</h{level}>"


def glossary(terms: Mapping[str, str]) -> str:
    """One paragraph in which each term stands out."""
    entries = " ".join(f"<b>{escape(term)}</b> {escape(meaning)}" for term, meaning in terms.items())
    return f'<p class="glossary">{entries}</p>'


def section(name: str, title: str, parts: Iterable[str]) -> str:
    return f'<section id="{name}">\n<h2>{escape(title)}</h2>\n' + "\n".join(filter(None, parts)) + "\n</section>"


def tiles(entries: Iterable[tuple[str, str, str]]) -> str:
    """A row of figures: value, what it is, and the role whose colour it bears."""
    cells = "".join(
        f'<div class="tile" style="--colour: var(--{role})"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for value, name, role in entries
    )
    return f'<div class="tiles">{cells}</div>'


def listing(text: str) -> str:
    """Text as it is, in a box of its own that scrolls."""
    return f'<pre tabindex="0">{escape(text)}</pre>'


def table(rows: DataFrame, columns: Iterable[Column], source: str, best: str = "") -> str:
    """A table that scrolls in its own box; the row with the lowest value of the column `best` is set in bold."""
    shown = [column for column in columns if column.name in rows and _filled(rows[column.name].tolist())]
    lowest = least(rows, best) if best else None
    lines = []
    for label, row in zip(rows.index, rows.to_dict("records")):
        cells = "".join(_cell("td", column, _written(row[column.name], column)) for column in shown)
        lines.append(f"<tr{_class('best', label == lowest)}>{cells}</tr>")
    head = "".join(_cell("th", column, column.heading) for column in shown)
    body = "\n".join(lines)
    return (
        f'<div class="scroll" tabindex="0"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>'
        f'</table></div>\n<p class="source">Table: <code>{escape(source)}</code></p>'
    )


def _cell(tag: str, column: Column, text: str) -> str:
    return f"<{tag}{_class('number', column.write is not None)}>{escape(text)}</{tag}>"


def _class(name: str, holds: bool) -> str:
    return f' class="{name}"' if holds else ""


def _written(value: Any, column: Column) -> str:
    return column.write(value) if column.write else value or NOTHING


def _filled(values: list[Any]) -> bool:
    return any(value != "" and value == value for value in values)  # NaN is the one that does not equal itself


def figure_html(figure: Figure, number: int) -> str:
    """A figure's frame: title, legend, an empty place a panel, caption. The page's script draws into the places."""
    keys = "".join(
        f'<button type="button" aria-pressed="true" data-label="{escape(plotly_text(label))}">'
        f'<svg viewBox="0 0 26 14" aria-hidden="true">{"".join(map(_swatch, marks))}</svg>{escape(label)}</button>'
        for label, marks in figure.keys().items()
    )
    places = "".join(
        f'<div class="panel" data-index="{index}" style="height: {panel.height}px"></div>'
        for index, panel in enumerate(figure.panels)
    )
    return (
        f'<figure id="figure-{figure.name}" data-name="{figure.name}">\n'
        f"<h3>Figure {number}. {escape(figure.title)}</h3>\n"
        + (f'<div class="keys">{keys}</div>\n' if keys else "")
        + f'<div class="panels" style="--columns: {figure.columns}">{places}</div>\n'
        f"<noscript>Drawn by JavaScript here; the same picture is in figures/{figure.name}.png.</noscript>\n"
        f"<figcaption>{escape(figure.caption)} "
        f'<span class="source">Picture: <code>figures/{figure.name}.png</code>. '
        f"Data: <code>{escape(figure.source)}</code></span></figcaption>\n</figure>"
    )


def _swatch(mark: Labelled) -> str:
    match mark:
        case Line():
            stroke = f"stroke: var(--{mark.role}); stroke-width: {max(mark.width, 1.5):g}; opacity: {mark.alpha:g}"
            return f'<path d="M1 7h24" style="{stroke}; stroke-dasharray: {STROKES[mark.dash]}"/>'
        case Dots():
            return SHAPES[mark.symbol].format(style=f"fill: var(--{mark.role})")
        case Band() | Bars():
            return (
                f'<rect x="3" y="1" width="20" height="12" style="fill: var(--{mark.role}); opacity: {mark.alpha:g}"/>'
            )


def whole_page(title: str, content: str, figures: Iterable[Figure]) -> str:
    """The page as one file: style, script, Plotly and the data of all figures within."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ConfigError([f"the report needs plotly; {install_advice('study')}"]) from error
    folder = files("loracast.report")
    style = (
        f":root {{ color-scheme: light dark; {css_variables(dark=False)} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {css_variables(dark=True)} }} }}\n"
    )
    drawn = {figure.name: [to_plotly(panel) for panel in figure.panels] for figure in figures}
    return Template((folder / "report.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        style=style + (folder / "report.css").read_text(encoding="utf-8"),
        content=content,
        plotly=get_plotlyjs(),
        figures=_json(drawn),
        twins=_json(light_to_dark()),
        script=(folder / "report.js").read_text(encoding="utf-8"),
    )


def _json(data: object) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")

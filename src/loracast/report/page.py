"""The pieces of a report's page: tables, figures, tiles, sections. The templates escape what comes from data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pandas import DataFrame

from loracast.charts.drawing import plotly_text, to_plotly
from loracast.charts.marks import Dots, Figure, Labelled, Line
from loracast.charts.palette import css_variables, light_to_dark
from loracast.errors import ConfigError, install_advice
from loracast.report.reading import least
from loracast.report.wording import NOTHING

STROKES = {"solid": "none", "dash": "6 4", "dot": "2 3"}
TEMPLATES = Environment(
    loader=PackageLoader("loracast.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
PIECES: Any = TEMPLATES.get_template("pieces.html").module


@dataclass(frozen=True)
class Column:
    """A column of a table on the page; without `write` it holds text."""

    name: str
    heading: str
    write: Callable[[float], str] | None = None


def paragraph(text: str, kind: str = "") -> Markup:
    return PIECES.paragraph(text, kind)


def heading(text: str, level: int = 3) -> Markup:
    return PIECES.heading(text, level)


def glossary(terms: Mapping[str, str]) -> Markup:
    """One paragraph in which each term stands out."""
    return PIECES.glossary(terms)


def section(name: str, title: str, parts: Iterable[str]) -> Markup:
    return PIECES.section(name, title, [*parts])


def tiles(entries: Iterable[tuple[str, str, str]]) -> Markup:
    """A row of figures: value, what it is, and the role whose colour it bears."""
    return PIECES.tiles([*entries])


def listing(text: str) -> Markup:
    """Text as it is, in a box of its own that scrolls."""
    return PIECES.listing(text)


def source(name: str) -> Markup:
    """The table that something was made of."""
    return PIECES.source(name)


def table(rows: DataFrame, columns: Iterable[Column], name: str, best: str = "") -> Markup:
    """A table that scrolls in its own box; the row with the lowest value of the column `best` is set in bold."""
    shown = [column for column in columns if column.name in rows and _filled(rows[column.name].tolist())]
    lowest = least(rows, best) if best else None
    lines = [
        ([(_written(row[column.name], column), column.write is not None) for column in shown], label == lowest)
        for label, row in zip(rows.index, rows.to_dict("records"))
    ]
    return PIECES.table([(column.heading, column.write is not None) for column in shown], lines, name)


def _written(value: Any, column: Column) -> str:
    return column.write(value) if column.write else value or NOTHING


def _filled(values: list[Any]) -> bool:
    return any(value != "" and value == value for value in values)  # NaN is the one that does not equal itself


def figure_html(figure: Figure, number: int) -> Markup:
    """A figure's frame, into which the page's script draws."""
    keys = [(label, plotly_text(label), [_swatch(mark) for mark in marks]) for label, marks in figure.keys().items()]
    return PIECES.figure(figure, number, keys)


def _swatch(mark: Labelled) -> tuple[str, Labelled, str]:
    """What stands for a mark in a legend: its shape, the mark and, for a line, its dashes."""
    if isinstance(mark, Line):
        return "line", mark, STROKES[mark.dash]
    return (mark.symbol if isinstance(mark, Dots) else "area"), mark, ""


def whole_page(title: str, content: Markup, figures: Iterable[Figure]) -> str:
    """The page as one file: style, script, Plotly and the data of all figures within."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ConfigError([f"the report needs plotly; {install_advice('study')}"]) from error
    style = (
        f":root {{ color-scheme: light dark; {css_variables(dark=False)} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {css_variables(dark=True)} }} }}\n"
    )
    drawn = {figure.name: [to_plotly(panel) for panel in figure.panels] for figure in figures}
    return TEMPLATES.get_template("page.html").render(
        title=title,
        style=Markup(style + _text("page.css")),
        content=content,
        plotly=Markup(get_plotlyjs()),
        figures=_json(drawn),
        twins=_json(light_to_dark()),
        script=Markup(_text("page.js")),
    )


def _text(name: str) -> str:
    """A file beside the templates, which is none itself."""
    assert TEMPLATES.loader is not None
    return TEMPLATES.loader.get_source(TEMPLATES, name)[0]


def _json(data: object) -> Markup:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))

"""The report of a study: one HTML page that needs no network, and its figures as PNG files."""

from __future__ import annotations

import math
from pathlib import Path

from markupsafe import Markup

from loracast.charts.drawing import write_png
from loracast.charts.marks import Figure
from loracast.charts.palette import role_of
from loracast.files import write_text
from loracast.report import page
from loracast.report.reading import Findings, read_findings, where
from loracast.report.sections import MAKING, SECTIONS, change, spent, spent_sentence
from loracast.report.wording import flops, number, percent

GLOSSARY = {
    "MAE": "is the mean absolute error of the forecast's median, in the units of the data: the mean over the steps of "
    "a window, then over the windows of a series, over the variables, and over the series.",
    "Seed units": "divide an error by a tenth of the 99th percentile of its variable over the whole window, so that "
    "variables of different size can be averaged; they know the future, and are for reporting only.",
    "CRPS": "judges all sampled futures at once and not only their median; of a single one it is the absolute error.",
    "80% coverage": "is the share of what happened that lies within the middle 80% of the sampled values: 80% is "
    "right, less is too sure, more too careful.",
    "The loss": "is the mean surprise at a token, in nats; lower is better.",
    "FLOPs": "are counted in two conventions: published counts every addition, multiplication and division as 1, every "
    "exponential, root and the like as 10, and a backward pass as twice its forward pass; executed counts 2·m·n·k "
    "for every matrix product that is executed, and nothing else.",
}
TUNED = ("zero-shot", "tuned")  # before and after


def write_report(directory: str | Path) -> Path:
    """Writes DIR/report.html and DIR/figures/*.png from what a study's folder holds; returns the page's path.

    Stages that are still to come are left out and named at the top. The same folder always makes the same bytes.
    Raises DataError where the folder is none of a study, ConfigError where plotly is missing.
    """
    study = read_findings(directory)
    written, figures = [], []
    for part in SECTIONS:
        if study.has(part.table):
            pieces = []
            for piece in part.write(study):
                if isinstance(piece, Figure):
                    figures.append(piece)
                    piece = page.figure_html(piece, len(figures))
                pieces.append(piece)
            written.append(page.section(part.name, part.title, pieces))
    making = page.section(MAKING.name, MAKING.title, [piece for piece in MAKING.write(study) if isinstance(piece, str)])
    content = Markup("\n").join([*_opening(study), *written, making])
    text = page.whole_page(f"Study {study.settings['name']}", content, figures)
    for figure in figures:
        write_png(figure, study.directory / "figures" / f"{figure.name}.png")
    path = study.directory / "report.html"
    write_text(path, text)
    return path


def _opening(study: Findings) -> list[str]:
    """Name, main result, what is still to come, and how to read the numbers."""
    parts = [page.heading(f"Study {study.settings['name']}", 1), page.paragraph(_headline(study), "headline")]
    planned = {stage["stage"]: stage["runs"] for stage in study.settings["plan"]}  # a protocol may leave stages out
    missing = [part.title for part in SECTIONS if not study.has(part.table) and planned.get(part.name) != 0]
    if missing:
        parts.append(page.paragraph(f"This study is not finished. Still to come: {'; '.join(missing)}.", "missing"))
    if sentence := spent_sentence(study):
        parts.append(page.paragraph(sentence))
    return [*parts, _tiles(study), page.glossary(GLOSSARY)]


def _errors(study: Findings) -> dict[str, float]:
    """The test's overall mean absolute error of each forecaster, NaN where nothing could be scored."""
    if not study.has("test"):
        return {}
    return {
        row["forecaster"]: row["mae"] for row in study.tables["test"].pipe(where, variable="all").to_dict("records")
    }


def _best_baseline(errors: dict[str, float]) -> str | None:
    known = {name: error for name, error in errors.items() if name not in TUNED and math.isfinite(error)}
    return min(known, key=lambda name: known[name], default=None)


def _headline(study: Findings) -> str:
    errors = _errors(study)
    if not all(name in errors for name in TUNED):
        return "The test of this study is still to come."
    before, after = (errors[name] for name in TUNED)
    windows = study.tables["test"]["n_windows"].to_numpy(float).max()
    text = "" if after < before else "Tuning did not help. "
    text += f"On {number(windows)} test windows, the tuned model has a mean absolute error of {number(after)}, against "
    text += f"{number(before)} zero-shot ({change(before, after)})"
    if (best := _best_baseline(errors)) is not None:
        text += f" and {number(errors[best])} for the best baseline, {best}"
    return f"{text}."


def _tiles(study: Findings) -> str:
    errors = _errors(study)
    entries = [(number(errors[name]), f"MAE, {name}", name) for name in reversed(TUNED) if name in errors]
    if (best := _best_baseline(errors)) is not None:
        entries.append((number(errors[best]), f"MAE, best baseline: {best}", role_of(best)))
    if (total := spent(study)) is not None:
        share = percent(total / float(study.settings["budget"]))
        entries.append((flops(total), f"FLOPs ({study.convention}), {share} of the budget", "ink"))
    return page.tiles(entries) if entries else ""

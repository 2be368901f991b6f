"""Draws docs/figures from the result of accuracy.py, and writes the tables of docs/accuracy.md.

    python benchmarks/accuracy_figures.py

What lies in the page between `<!-- accuracy -->` and `<!-- end of accuracy -->` becomes figures and tables of the cells
that there are; what has no result yet is left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from accuracy import BEYOND, OUTPUT, SHORT_HORIZON
from tables import between_markers, caption, shown, table

from loracast.baselines import BASELINES
from loracast.charts.drawing import write_png
from loracast.charts.marks import Axis, Bars, Dots, Figure, Line, Mark, Panel, numbers
from loracast.evaluation.backtest import TUNED, ZERO_SHOT
from loracast.report.data_figures import KINDS
from loracast.report.wording import duration, flops, percent

DOCS = Path(__file__).parents[1] / "docs"
BEST = "best baseline"
RAW = f"{TUNED}, raw"
LOOKS = {ZERO_SHOT: (ZERO_SHOT, "circle"), TUNED: (TUNED, "diamond"), BEST: ("best-period", "x")}  # role and symbol
AXES = {  # the part of a cell's name before its value, and what grows along the axis
    "series": "series tuned on",
    "steps": "LoRA steps",
    "rank": "LoRA rank",
    "context": f"steps of context ({SHORT_HORIZON} forecast)",
    "digits": "digits of a number",
}
SETS = {  # what lies beyond the data of the tuning
    "simulated": "new series of the same equations and parameters",
    "growth": "faster growth of the prey",
    "capacity": "more food",
    "noise-5": "observation noise of 5%, in the truth, too",
    "noise-20": "observation noise of 20%",
    "missing": "every second step of the context missing",
    "lotka-volterra": "closed cycles of Lotka and Volterra",
}
SIZES = "parameters of the model"
LOG_MAE = Axis("MAE", log=True)
COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "mae": ("MAE", shown),
    "mae_seed_units": ("seed units", shown),
    "crps": ("CRPS", shown),
    "energy": ("energy", shown),
    "coverage_50": ("50% coverage", percent),
    "coverage_80": ("80% coverage", percent),
    "coverage_95": ("95% coverage", percent),
    "r2": ("R²", "{:.4f}".format),
}

Cells = dict[str, dict[str, Any]]


def rows_of(cell: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows by forecaster; the baseline with the least MAE comes once more as the best."""
    rows = {row["forecaster"]: row for row in cell["rows"]}
    return rows | {BEST: min((rows[name] for name in BASELINES), key=lambda row: row["mae"])}


def shared(cell: dict[str, Any], name: str) -> pd.DataFrame:
    """One of the main cell's tables, with the untouched model, the tuned one and the best baseline alone."""
    names = {ZERO_SHOT: ZERO_SHOT, TUNED: TUNED, rows_of(cell)[BEST]["forecaster"]: BEST}
    found = pd.DataFrame(cell[name])
    return found[found["forecaster"].isin(list(names))].replace({"forecaster": names})


# -- figures ---------------------------------------------------------------------------------------------------------


def errors_figure(cells: Cells) -> Figure | None:
    """main: errors by step of the horizon and by kind of dynamics."""
    if not (main := cells.get("main")):
        return None
    steps = shared(main, "by_step").groupby(["forecaster", "step"])[["mae", "crps"]].mean()  # over variables
    panels = []
    for metric in ("mae", "crps"):
        marks = []
        for name, (role, _) in LOOKS.items():
            line = steps.loc[name][metric]
            marks.append(Line(numbers(line.index), numbers(line), role, name, 1.8))
        panels.append(Panel(metric.upper(), Axis("step of the horizon"), Axis(log=True), tuple(marks)))
    kinds = shared(main, "by_dynamics").set_index(["kind", "forecaster"])
    rows = {
        f"{kind}, {kinds.loc[kind]['series'].iloc[0]}": kinds.loc[kind]["mae"].to_dict()
        for kind in KINDS
        if kind in kinds.index
    }
    panels.append(compared("MAE by dynamics and number of series", rows, LOG_MAE))
    return Figure(
        name="errors",
        title="Errors by step of the forecast and by kind of dynamics",
        caption="Means over the test series and both species, on logarithmic scales. The CRPS of a baseline, which "
        f"gives one path, is its absolute error. Best baseline: {rows_of(main)[BEST]['forecaster']}.",
        source=OUTPUT.name,
        panels=tuple(panels),
        columns=3,
    )


def learned_figure(cells: Cells) -> Figure | None:
    """series, steps, rank, context, digits and base: MAE along each axis."""
    along: dict[str, dict[str, dict[str, Any]]] = {}
    for prefix, label in AXES.items():
        parts = {name: name.partition("-") for name in cells}
        found = {value: cells[name] for name, (first, _, value) in parts.items() if first == prefix}
        along[label] = {value: found[value] for value in sorted(found, key=_size)}
    bases = [cell for name, cell in cells.items() if name.startswith("base-")]
    bases.sort(key=lambda cell: cell["model"]["parameters"])
    along[SIZES] = {f"{cell['model']['parameters'] / 1e6:.3g} M": cell for cell in bases}
    drawn = {label: {value: rows_of(cell) for value, cell in found.items()} for label, found in along.items() if found}
    if not drawn:
        return None
    seen = [rows[name]["mae"] for found in drawn.values() for rows in found.values() for name in LOOKS]
    limits = (0.9 * min(seen), 1.1 * max(seen))  # the same for all panels
    panels = []
    for label, found in drawn.items():
        marks: list[Mark] = []
        for name, (role, symbol) in LOOKS.items():
            places, heights = numbers(range(len(found))), numbers(rows[name]["mae"] for rows in found.values())
            marks += [Line(places, heights, role, name, 1.6), Dots(places, heights, role, name, symbol, 7)]
        y = Axis("MAE" if len(panels) % 3 == 0 else "", log=True, limits=limits)
        panels.append(Panel("", Axis(label, ticks=tuple(found)), y, tuple(marks), height=230))
    remarks = {
        AXES["steps"]: "Along the steps all else is as in the main cell.",
        AXES["context"]: f"Along the context the last {SHORT_HORIZON} steps are forecast, the same for each.",
        AXES["digits"]: "The model was made for three digits.",
    }
    said = [f"Adapters are tuned for {steps:,} steps." for steps in _axis_steps(cells)]
    said += [remark for label, remark in remarks.items() if label in drawn]
    return Figure(
        name="learned",
        title="What the error depends on",
        caption=" ".join(["MAE on the test series, on one logarithmic scale.", *said]),
        source=OUTPUT.name,
        panels=tuple(panels),
        columns=3,
    )


def calibration_figure(cells: Cells) -> Figure | None:
    """main: coverage against what is promised, and PIT."""
    if not (main := cells.get("main")) or not main["coverage"]["forecaster"]:
        return None
    covered = shared(main, "coverage").groupby(["forecaster", "nominal"])["coverage"].mean()  # over variables
    places = shared(main, "pit").groupby(["forecaster", "bin"])["density"].mean()
    marks: list[Mark] = [Line((0, 100), (0, 100), "muted", "exact", 1.2, dash="dash")]
    bars = []
    for name in (ZERO_SHOT, TUNED):
        role, symbol = LOOKS[name]
        across, up = numbers(100 * covered[name].index), numbers(100 * covered[name])
        marks += [Line(across, up, role, name, 1.6), Dots(across, up, role, name, symbol, 5)]
        heights = Bars(numbers(places[name].index), numbers(places[name]), role, name, 0.94 / len(places[name]))
        flat = Line((0, 1), (1, 1), "muted", "exact", 1.2, dash="dash")
        density = Axis("density", limits=(0, 1.05 * max(1, places.max())))
        across = Axis("place of the truth among the paths", limits=(0, 1))
        bars.append(Panel(f"PIT, {name}", across, density, (heights, flat)))
    promised, found = Axis("promised, %", limits=(0, 100)), Axis("found, %", limits=(0, 100))
    return Figure(
        name="calibration",
        title="Calibration",
        caption="First: the share of the truth within central intervals, against what they promise; below the dashed "
        "line they are too narrow. Then: the place of the truth among the sampled values; flat if the truth is like "
        "one more sample, high at both ends where the paths keep too close together. Both species together.",
        source=OUTPUT.name,
        panels=(Panel("Coverage of central intervals", promised, found, tuple(marks)), *bars),
        columns=3,
    )


def beyond_figure(cells: Cells) -> Figure | None:
    """main, the cells beyond its data, and lynx-hare: MAE by test set."""
    names = [name for name in BEYOND if name in cells]
    panels, said = [], []
    if names:
        said.append(f"With the adapter of the main cell: {'; '.join(SETS[name] for name in names)}.")
        sets = {"as tuned on": "main"} | {name: name for name in names}
        maes = {label: _maes(cells[name]) for label, name in sets.items() if name in cells}
        panels.append(compared("Simulated", maes, LOG_MAE))
    if "lynx-hare" in cells:
        said.append(
            "For hare and lynx an adapter is tuned on the years before 1900; decades from 1900 on are forecast."
        )
        maes = {"lynx-hare": _maes(cells["lynx-hare"])}
        across = Axis("MAE, thousand pelts", limits=(0, 1.1 * max(maes["lynx-hare"].values())))
        panels.append(compared("Real", maes, across, height=120))
    if not panels:
        return None
    return Figure(
        name="beyond",
        title="Beyond the data of the tuning",
        caption=" ".join(["MAE on series unlike those of the tuning.", *said]),
        source=OUTPUT.name,
        panels=tuple(panels),
        columns=1,
    )


def compared(title: str, rows: dict[str, dict[str, float]], across: Axis, height: int = 260) -> Panel:
    """A row a label, a dot a forecaster, and a thin line from the least to the largest."""
    marks: list[Mark] = []
    for place, maes in enumerate(rows.values()):
        marks.append(Line((min(maes.values()), max(maes.values())), (place, place), "grid", width=2.5))
    for name, (role, symbol) in LOOKS.items():
        places = numbers(maes[name] for maes in rows.values())
        marks.append(Dots(places, numbers(range(len(rows))), role, name, symbol, 9))
    return Panel(title, across, Axis(ticks=tuple(rows)), tuple(marks), height)


def _axis_steps(cells: Cells) -> list[int]:
    """The different steps of the cells along axes other than that of steps."""
    prefixes = {*AXES, "base"} - {"steps"}
    return sorted({cell["tuning"]["steps"] for name, cell in cells.items() if name.partition("-")[0] in prefixes})


def _size(value: str) -> float:
    """A cell's value as a number; `unlimited` comes last."""
    return float(value) if value.isdecimal() else math.inf


def _maes(cell: dict[str, Any]) -> dict[str, float]:
    rows = rows_of(cell)
    return {name: rows[name]["mae"] for name in LOOKS}


FIGURES = (errors_figure, calibration_figure, learned_figure, beyond_figure)


# -- the page --------------------------------------------------------------------------------------------------------


def main_table(cell: dict[str, Any]) -> str:
    """A row a forecaster of the main cell; metrics that a result does not have are left out."""
    columns = {key: column for key, column in COLUMNS.items() if any(key in row for row in cell["rows"])}
    rows = ([row["forecaster"], *_cells(row, columns)] for row in cell["rows"])
    return table(["", *(label for label, _ in columns.values())], rows)


def cells_table(cells: Cells) -> str:
    """A row a cell."""
    held, rows = {"coverage_80": COLUMNS["coverage_80"]}, []
    for name, cell in cells.items():
        found, tuning = rows_of(cell), cell["tuning"]
        best = found[BEST]
        rows.append(
            [
                name,
                found[ZERO_SHOT]["mae"],
                found[TUNED]["mae"],
                f"{shown(best['mae'])} ({best['forecaster']})",
                found[TUNED]["crps"],
                *(_cells(row, held)[0] for row in (found[TUNED], found.get(RAW, {}))),
                flops(tuning["flops"]["executed"]["total"]),
                duration(tuning["seconds"]),
            ]
        )
    columns = ("zero-shot", "tuned", BEST, "tuned, CRPS", "80% coverage", "as drawn", "FLOPs of tuning", "time")
    return table(["MAE", *columns], rows)


def _cells(row: dict[str, Any], columns: dict[str, tuple[str, Callable[[Any], str]]]) -> list[str]:
    return ["–" if row.get(key) is None else written(row[key]) for key, (_, written) in columns.items()]


def origins(cells: Iterable[dict[str, Any]]) -> str:
    """On what the cells were measured; usually the same for all."""
    return " ".join(dict.fromkeys(caption(cell) for cell in cells))


def section(cells: Cells, figures: list[Figure]) -> str:
    parts = [main_table(cells["main"])] if "main" in cells else []
    parts += [f"![{figure.title}](figures/{figure.name}.png)\n\n{figure.caption}" for figure in figures]
    parts += [cells_table(cells), origins(cells.values())]
    return "\n\n".join(parts)


def write(cells: Cells, docs: Path) -> None:
    """Draws the figures and fills in the page."""
    figures = [figure for draw in FIGURES if (figure := draw(cells))]
    for figure in figures:
        write_png(figure, docs / "figures" / f"{figure.name}.png")
    page = docs / "accuracy.md"
    text = between_markers(page.read_text(encoding="utf-8"), "accuracy", [section(cells, figures)])
    page.write_text(text, encoding="utf-8")


def main() -> None:
    write(json.loads(OUTPUT.read_text(encoding="utf-8"))["cells"], DOCS)


if __name__ == "__main__":
    main()

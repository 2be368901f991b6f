"""Draws docs/figures/language.png from the result of language_model.py, and writes the table of its cells.

    python benchmarks/language_figures.py

What lies in docs/language-models.md between `<!-- language -->` and `<!-- end of language -->` becomes the figure and a
table of the cells that there are; between `<!-- recipe -->` and `<!-- end of recipe -->`, the scores of the recipe.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from language_model import BUDGETS, OUTPUT, RECIPE
from language_model import cells as known_cells
from tables import between_markers, caption, shown, table

from loracast.charts.drawing import write_png
from loracast.charts.marks import Axis, Band, Bars, Dots, Figure, Line, Mark, Panel, numbers
from loracast.evaluation.backtest import TUNED, ZERO_SHOT
from loracast.report.wording import flops, percent

PAGE = Path(__file__).parents[1] / "docs" / "language-models.md"
KINDS = {  # name: role and what is drawn beside it
    "smollm2": ("tuned", "SmolLM2"),
    "shuffled": ("zero-shot", "its weights shuffled"),
    "scratch": ("last-value", "its shape from random weights, all trained"),
    "bundled": ("best-period", "bundled model"),
}
SERIES = {"series-7": 7, "series-70": 70, "smollm2-2.4e16": 700}
LAYERS = {"layers-0-10": "first ten", "layers-10-20": "middle ten", "layers-20-30": "last ten", "smollm2-2.4e16": "all"}
STYLES = {  # untouched
    "zero-fixed-2": "12,34;",
    "zero-fixed-3": "123,456;",
    "zero-fixed-4": "1234,5678;",
    "zero-decimal-1": "1.2,3.4;",
    "zero-decimal-2": "1.23,4.56;",
    "zero-decimal-3": "1.234,5.678;",
    "zero-joint": "one scale for both",
    "zero-sentence": "after a sentence",
    "zero-spaces": "1 2 3, 4 5 6;",
    "zero-temperature-0.5": "temperature 0.5",
    "zero-temperature-0.75": "temperature 0.75",
    "zero-temperature-1.25": "temperature 1.25",
}
JUDGED = {  # what the recipe's cells forecast with, by cell
    "last value": ("recipe", "last-value"),
    "context mean": ("recipe", "context-mean"),
    "best period repeated": ("recipe", "best-period"),
    "untouched, on the scale that it chooses": ("recipe", ZERO_SHOT),
    "rank 8 on q and v, AdamW at 1e-4, decimals, as published": ("recipe-as-published", TUNED),
    "**the recipe**, seeds 0, 1 and 2": ("recipe", TUNED),
}
PARTS = {"test": "150 published test series", "simulated": "150 new simulated series"}
LOG_MAE = Axis("MAE, validation series", log=True)

Cells = dict[str, dict[str, Any]]


def mae(cell: dict[str, Any], part: str = "validation") -> float:
    """That of what the cell is about: the tuned model, or the untouched one where nothing is tuned."""
    about = TUNED if "losses" in cell else ZERO_SHOT
    return next((row["mae"] for row in cell["rows"].get(part, ()) if row["forecaster"] == about), float("nan"))


def seeds(cells: Cells, name: str) -> list[float]:
    """The errors of a cell and of its further seeds."""
    return [mae(cell) for found, cell in cells.items() if found == name or found.startswith(f"{name}-seed-")]


def flops_panel(cells: Cells) -> Panel | None:
    marks: list[Mark] = []
    for kind, (role, label) in KINDS.items():
        found = {float(budget): seeds(cells, f"{kind}-{budget}") for budget in BUDGETS}
        if kind == "smollm2" and (whole := seeds(cells, "recipe")):
            found[cells["recipe"]["flops"]["published"]["total"]] = whole
        found = {budget: errors for budget, errors in found.items() if errors}
        if not found:
            continue
        across, middle = numbers(found), numbers(map(np.median, found.values()))
        marks.append(Band(across, numbers(map(min, found.values())), numbers(map(max, found.values())), role, label))
        marks += [Line(across, middle, role, label), Dots(across, middle, role, label, size=7)]
    return Panel("By FLOPs of tuning", Axis("FLOPs (published)", log=True), LOG_MAE, tuple(marks)) if marks else None


def along_panel(cells: Cells) -> Panel | None:
    found = {count: mae(cells[name]) for name, count in SERIES.items() if name in cells}
    marks = (
        Line(numbers(found), numbers(found.values()), "tuned"),
        Dots(numbers(found), numbers(found.values()), "tuned"),
    )
    return Panel("By training series", Axis("series", log=True), LOG_MAE, marks) if found else None


def bars_panel(cells: Cells, names: dict[str, str], title: str, role: str) -> Panel | None:
    found = {label: mae(cells[name]) for name, label in names.items() if name in cells}
    bars = Bars(numbers(range(len(found))), numbers(found.values()), role, lying=True)
    return Panel(title, Axis("MAE, validation series"), Axis(ticks=tuple(found)), (bars,)) if found else None


def figure(cells: Cells) -> Figure:
    panels = (
        flops_panel(cells),
        along_panel(cells),
        bars_panel(cells, LAYERS, "By layers that have adapters", "tuned"),
        bars_panel(cells, STYLES, "Untouched, by how numbers are written", "zero-shot"),
    )
    return Figure(
        name="language",
        title="What language is worth",
        caption="MAE on the 150 validation series of predator and prey. First: the same recipe at other FLOPs; where "
        "there are three seeds, a band from the least to the largest and a line through the middle. Second and third: "
        "2.4e16 FLOPs. Fourth: nothing is tuned; 123,456; is what the recipe writes. In the table the loss is that "
        "after the last step, and errors are those of the step with the least loss, or of the untouched model.",
        source=OUTPUT.name,
        panels=tuple(panel for panel in panels if panel),
        columns=2,
    )


def cells_table(cells: Cells) -> str:
    """A row a cell, in the benchmark's order, which is not that in which they ended."""
    rows = []
    for name in dict.fromkeys([*known_cells(RECIPE), *cells]):
        if name not in cells:
            continue
        cell = cells[name]
        about = TUNED if "losses" in cell else ZERO_SHOT
        row = next((one for one in cell["rows"].get("validation", ()) if one["forecaster"] == about), {})
        rows.append(
            [
                name,
                f"{cell['losses'][-1][1]:.3f}" if "losses" in cell else "–",
                shown(row["mae"]) if row else "–",
                shown(row["crps"]) if row else "–",
                percent(row["coverage_80"]) if row else "–",
                *(shown(mae(cell, part)) if part in cell["rows"] else "–" for part in ("test", "simulated")),
                flops(cell["flops"]["published"]["total"]) if "flops" in cell else "–",
            ]
        )
    heads = ("validation loss", "MAE", "CRPS", "80% coverage", "MAE, test", "MAE, simulated", "FLOPs (published)")
    return table(["cell", *heads], rows)


def spread(values: list[float | None], wrote: Callable[[float], str] = shown) -> str:
    """The least and the most of what several seeds have, or what they all have."""
    found = sorted(value for value in values if value is not None)
    return "–".join(dict.fromkeys(wrote(value) for value in (found[:1] + found[-1:]))) or "–"


def judged_table(cells: Cells, part: str) -> str:
    """What the recipe, the model as it comes and the baselines have on a part that no choice has seen."""
    lines = []
    for label, (name, about) in JUDGED.items():
        same = [cell for found, cell in cells.items() if found == name or found.startswith(f"{name}-seed-")]
        scores = [row for cell in same for row in cell["rows"][part] if row["forecaster"] == about]
        paths = about in (ZERO_SHOT, TUNED)
        units = spread([row["mae_seed_units"] for row in scores])
        single = spread([row["mae_one_path_seed_units"] for row in scores])
        costs = [[cell["flops"][way]["total"] for cell in same] for way in ("published", "executed")]
        lines.append(
            [
                label,
                spread([row["mae"] for row in scores]),
                spread([row["mae_one_path"] for row in scores]) if paths else "–",
                f"{units} / {single}" if paths else units,
                spread([row["crps"] for row in scores]),
                spread([row["coverage_80"] for row in scores], percent),
                " / ".join(spread(cost, flops) for cost in costs) if about == TUNED else "–",
            ]
        )
    heads = ("MAE", "one path's MAE", "seed units: median / one path", "CRPS", "80% coverage")
    return table([PARTS[part], *heads, "FLOPs of tuning: published / executed"], lines)


def write(cells: Cells, page: Path) -> None:
    """Draws the figure and fills in the page."""
    drawn = figure(cells)
    write_png(drawn, page.parent / "figures" / f"{drawn.name}.png")
    origin = " ".join(dict.fromkeys(caption(cell) for cell in cells.values()))
    parts = (f"![{drawn.title}](figures/{drawn.name}.png)\n\n{drawn.caption}", cells_table(cells), origin)
    text = between_markers(page.read_text(encoding="utf-8"), "language", parts)
    if "recipe" in cells and "recipe-as-published" in cells:
        text = between_markers(
            text, "recipe", [*(judged_table(cells, part) for part in PARTS), caption(cells["recipe"])]
        )
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(json.loads(OUTPUT.read_text(encoding="utf-8"))["cells"], PAGE)

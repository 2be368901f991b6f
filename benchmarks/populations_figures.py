"""Tables and a figure of the populations' benchmark, for docs/populations.md.

    python benchmarks/populations_figures.py

Scores of a series are means over its origins, divided by those of the last value on the same origins; over series their
geometric mean, and its 95% interval by a bootstrap over series. Ranks are those of the CRPS among all forecasters,
series by series.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from populations import HORIZONS, NAIVE, OURS, OUTPUT
from tables import caption, table

from loracast.charts.drawing import write_png
from loracast.charts.marks import Axis, Dots, Figure, Line, Mark, Panel, numbers
from loracast.statistics import percentile

Floats = NDArray[np.float64]
PAGE = Path(__file__).parents[1] / "docs" / "populations.md"
DRAWS = 2000
LEAST_ORIGINS = 3  # of a series at a horizon, below which it is not judged there


def by_series(result: dict[str, Any], horizon: int) -> dict[str, dict[str, dict[str, float]]]:
    """{forecaster: {series: {crps, mae, coverage, …}}}, means over the origins that have this horizon."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, one in result["forecasters"].items():
        rows: dict[str, list[dict[str, Any]]] = {}
        for row in one["rows"]:
            if str(horizon) in row:
                rows.setdefault(row["series"], []).append(row[str(horizon)])
        found[name] = {
            series: {
                "crps": float(np.mean([np.mean(row["crps"]) for row in chosen])),
                "mae": float(np.mean([np.mean(np.abs(row["error"])) for row in chosen])),
                "coverage": float(np.mean([row["covered"][1] for row in chosen])),
                "squared": float(np.sum([np.sum(np.square(row["error"])) for row in chosen])),
                "spread": float(_spread([row["truth"] for row in chosen])),
            }
            for series, chosen in rows.items()
            if len(chosen) >= LEAST_ORIGINS
        }
    return found


def _spread(truths: list[list[float]]) -> float:
    """The sum of squares of the truth about its mean, of each variable."""
    if len({len(one) for one in truths}) > 1:
        return float("nan")
    array = np.array(truths)
    return float(((array - array.mean(0)) ** 2).sum())


def scaled(found: dict[str, dict[str, dict[str, float]]], score: str, series: list[str]) -> dict[str, Floats]:
    """Logarithms [G] of each forecaster's scores over the last value's."""
    naive = np.array([found[NAIVE][one]["mae"] for one in series])
    return {name: np.log([rows[one][score] for one in series]) - np.log(naive) for name, rows in found.items()}


def interval(values: Floats) -> tuple[float, float, float]:
    """The mean of [G] and its 95% interval by a bootstrap."""
    draws = np.random.default_rng(0).integers(len(values), size=(DRAWS, len(values)))
    means = values[draws].mean(1)[:, None]
    return float(values.mean()), float(percentile(means, 2.5)[0]), float(percentile(means, 97.5)[0])


def judged(found: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Series that all forecasters have and whose last value is not always right."""
    series = [one for one, scores in found[NAIVE].items() if scores["mae"] > 0]
    return [one for one in series if all(one in rows and rows[one]["crps"] > 0 for rows in found.values())]


def ranks(found: dict[str, dict[str, dict[str, float]]], series: list[str]) -> dict[str, Floats]:
    """The rank [G] of each forecaster's CRPS, from 1; equal ones share theirs."""
    array = np.array([[rows[one]["crps"] for one in series] for rows in found.values()])  # [F, G]
    below = (array[:, None] > array[None]).sum(1)
    equal = (array[:, None] == array[None]).sum(1)
    return dict(zip(found, below + (equal + 1) / 2))


def horizon_table(result: dict[str, Any], horizon: int) -> str:
    found = by_series(result, horizon)
    series = judged(found)
    crps, mae, placed = scaled(found, "crps", series), scaled(found, "mae", series), ranks(found, series)
    rows = []
    for name in sorted(found, key=lambda name: crps[name].mean()):
        middle, low, high = np.exp(interval(crps[name]))
        wins = int((crps[OURS] < crps[name]).sum()) if OURS in crps and name != OURS else None
        coverage = np.mean([found[name][one]["coverage"] for one in series])
        rows.append(
            [
                f"**{name}**" if name.startswith("loracast") else name,
                f"{middle:.3f} ({low:.3f}–{high:.3f})",
                f"{np.exp(mae[name].mean()):.3f}",
                f"{placed[name].mean():.1f}",
                "–" if np.isnan(coverage) else f"{coverage:.0%}",
                "–" if wins is None else f"{wins} : {len(series) - wins}",
            ]
        )
    heads = ("CRPS over the last value's error", "MAE over it", "mean rank", "80% coverage", "loracast wins : loses")
    title = f"**{horizon} step{'s' * (horizon > 1)} ahead, {len(series)} series**"
    return f"{title}\n\n{table(['', *heads], rows)}"


def one_step_r2(result: dict[str, Any]) -> str:
    found = by_series(result, 1)
    rows = []
    for name, scores in found.items():
        each = [1 - one["squared"] / one["spread"] for one in scores.values() if one["spread"] > 0]
        rows.append([name, f"{np.median(each):.3f}", f"{np.mean(np.array(each) > 0):.0%}"])
    rows.sort(key=lambda row: -float(row[1]))
    return table(["one step ahead", "median R² over series", "series with R² above 0"], rows)


def figure(result: dict[str, Any]) -> Figure:
    panels = []
    for horizon in HORIZONS:
        found = by_series(result, horizon)
        placed = ranks(found, judged(found))
        order = sorted(placed, key=lambda name: -placed[name].mean())
        marks: list[Mark] = []
        for place, name in enumerate(order):
            middle, low, high = interval(placed[name])
            role = "tuned" if name.startswith("loracast") else "muted"
            marks.append(Line(numbers([low, high]), numbers([place, place]), role))
            marks.append(Dots(numbers([middle]), numbers([place]), role, size=7))
        title = f"{horizon} step{'s' * (horizon > 1)} ahead"
        panels.append(Panel(title, Axis("mean rank of the CRPS"), Axis(ticks=tuple(order)), tuple(marks), height=420))
    return Figure(
        name="populations",
        title="Forecasters of real populations",
        caption="Mean rank of the CRPS over series, with 95% intervals by a bootstrap over series; left is better.",
        source=OUTPUT.name,
        panels=tuple(panels),
        columns=2,
    )


def write(result: dict[str, Any], page: Path) -> None:
    drawn = figure(result)
    write_png(drawn, page.parent / "figures" / f"{drawn.name}.png")
    failed = [f"{name} {len(one['failed'])}" for name, one in result["forecasters"].items() if one["failed"]]
    parts = [f"![{drawn.title}](figures/{drawn.name}.png)\n\n{drawn.caption}"]
    parts += [horizon_table(result, horizon) for horizon in HORIZONS]
    parts += [one_step_r2(result)]
    if failed:
        parts.append(f"Origins on which a forecaster failed, and counts as the last value: {', '.join(failed)}.")
    parts.append(" ".join(dict.fromkeys(caption(one) for one in result["forecasters"].values())))
    text = "<!-- populations -->\n\n" + "\n\n".join(parts) + "\n\n<!-- end of populations -->"
    marked = re.compile("<!-- populations -->.*<!-- end of populations -->", re.DOTALL)
    page.write_text(marked.sub(lambda _: text, page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write(json.loads(OUTPUT.read_text(encoding="utf-8")), PAGE)

"""Tables and a figure of the populations' benchmark, for docs/populations.md.

    python benchmarks/populations_figures.py

Scores of a series are means over its origins, divided by those of the last value on the same origins; over series their
geometric mean, and its 95% interval by a bootstrap over series. Ranks are those of the CRPS among all forecasters,
series by series.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from populations import HORIZONS, NAIVE, OURS, OUTPUT
from tables import between_markers, caption, table

from loracast.charts.drawing import write_png
from loracast.charts.marks import Axis, Dots, Figure, Line, Mark, Panel, numbers
from loracast.statistics import percentile

Floats = NDArray[np.float64]
Found = dict[str, dict[str, Any]]
PAGE = Path(__file__).parents[1] / "docs" / "populations.md"
DRAWS = 2000
MOST = 100.0  # what a ratio counts at most, and its inverse at least, as in fev: some last values are nearly right
LEAST_ORIGINS = 3  # of a series at a horizon, below which it is not judged there


def by_series(table: pd.DataFrame, horizon: int) -> Found:
    """{forecaster: {series: {crps, mae, …}}} of the series that have enough origins with this horizon."""
    rows = table[(table["horizon"] == horizon) & (table["origins"] >= LEAST_ORIGINS)]
    return {
        str(name): {str(row["series"]): row for row in mine.to_dict("records")}
        for name, mine in rows.groupby("forecaster", sort=False)
    }


def scaled(found: Found, score: str, series: list[str]) -> dict[str, Floats]:
    """Logarithms [G] of each forecaster's scores over the last value's."""
    naive = np.array([found[NAIVE][one]["mae"] for one in series])
    ratios = {name: np.array([rows[one][score] for one in series]) / naive for name, rows in found.items()}
    return {name: np.log(np.clip(ratio, 1 / MOST, MOST)) for name, ratio in ratios.items()}


def interval(values: Floats) -> tuple[float, float, float]:
    """The mean of [G] and its 95% interval by a bootstrap."""
    draws = np.random.default_rng(0).integers(len(values), size=(DRAWS, len(values)))
    means = values[draws].mean(1)[:, None]
    return float(values.mean()), float(percentile(means, 2.5)[0]), float(percentile(means, 97.5)[0])


def judged(found: Found) -> list[str]:
    """Series that all forecasters have and whose last value is not always right."""
    series = [one for one, scores in found[NAIVE].items() if scores["mae"] > 0]
    return [one for one in series if all(one in rows and rows[one]["crps"] > 0 for rows in found.values())]


def ranks(found: Found, series: list[str]) -> dict[str, Floats]:
    """The rank [G] of each forecaster's CRPS, from 1; equal ones share theirs."""
    array = np.array([[rows[one]["crps"] for one in series] for rows in found.values()])  # [F, G]
    below = (array[:, None] > array[None]).sum(1)
    equal = (array[:, None] == array[None]).sum(1)
    return dict(zip(found, below + (equal + 1) / 2))


def horizon_table(scored: pd.DataFrame, horizon: int) -> str:
    found = by_series(scored, horizon)
    series = judged(found)
    crps, mae, placed = scaled(found, "crps", series), scaled(found, "mae", series), ranks(found, series)
    rows = []
    for name in sorted(found, key=lambda name: crps[name].mean()):
        middle, low, high = np.exp(interval(crps[name]))
        wins = int((crps[OURS] < crps[name]).sum()) if OURS in crps and name != OURS else None
        coverage = np.mean([found[name][one]["coverage_80"] for one in series])
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


def one_step_r2(scored: pd.DataFrame) -> str:
    found = by_series(scored, 1)
    rows = []
    for name, scores in found.items():
        each = [1 - one["squared"] / one["spread"] for one in scores.values() if one["spread"] > 0]
        rows.append([name, f"{np.median(each):.3f}", f"{np.mean(np.array(each) > 0):.0%}"])
    rows.sort(key=lambda row: -float(row[1]))
    return table(["one step ahead", "median R² over series", "series with R² above 0"], rows)


def energy_table(scored: pd.DataFrame) -> str:
    """Of whole forecasts, all steps and variables of an origin at once: what their joint paths are worth."""
    found = by_series(scored, 1)
    series = [one for one in judged(found) if all(rows[one]["energy"] > 0 for rows in found.values())]
    naive = np.array([found[NAIVE][one]["energy"] for one in series])
    rows = []
    for name, scores in found.items():
        ratio = np.array([scores[one]["energy"] for one in series]) / naive
        middle, low, high = np.exp(interval(np.log(np.clip(ratio, 1 / MOST, MOST))))
        rows.append([name, f"{middle:.3f} ({low:.3f}–{high:.3f})"])
    rows.sort(key=lambda row: float(row[1].split()[0]))
    return table([f"whole forecasts, {len(series)} series", "energy score over the last value's"], rows)


def figure(scored: pd.DataFrame) -> Figure:
    panels = []
    for horizon in HORIZONS:
        found = by_series(scored, horizon)
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


def write(result: dict[str, Any], scored: pd.DataFrame, page: Path) -> None:
    drawn = figure(scored)
    write_png(drawn, page.parent / "figures" / f"{drawn.name}.png")
    failed = [f"{name} {len(one['failed'])}" for name, one in result["forecasters"].items() if one["failed"]]
    parts = [f"![{drawn.title}](figures/{drawn.name}.png)\n\n{drawn.caption}"]
    parts += [horizon_table(scored, horizon) for horizon in HORIZONS]
    parts += [one_step_r2(scored), energy_table(scored)]
    if failed:
        parts.append(f"Origins on which a forecaster failed, and counts as the last value: {', '.join(failed)}.")
    parts.append(" ".join(dict.fromkeys(caption(one) for one in result["forecasters"].values())))
    page.write_text(between_markers(page.read_text(encoding="utf-8"), "populations", parts), encoding="utf-8")


if __name__ == "__main__":
    write(json.loads(OUTPUT.read_text(encoding="utf-8")), pd.read_csv(OUTPUT.with_suffix(".csv")), PAGE)

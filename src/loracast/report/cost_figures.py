"""The figure of what a study cost: FLOPs by stage, predicted and counted."""

from __future__ import annotations

import numpy as np

from loracast.charts.marks import Axis, Bars, Dots, Figure, Line, Mark, Panel, numbers
from loracast.report.reading import Findings, where

PARTS = (("training", "first"), ("validation", "second"), ("forecasts", "third"))
ROW_HEIGHT = 34  # pixels of a stage


def cost_figure(study: Findings) -> Figure | None:
    """stages, flops: predicted and counted FLOPs of each stage, its share of the budget, and what they went into."""
    panels = []
    if study.has("stages"):
        panels += _by_stage(study)
    if study.has("flops"):
        panels.append(_by_part(study))
    if not panels:
        return None
    return Figure(
        name="flops",
        title="FLOPs by stage",
        caption=f"In the {study.convention} convention, which the study's budget is in. Predicted: what the plan "
        "allowed before anything ran; counted: what then ran. Runs that are stopped early cost less than predicted.",
        source="tables/stages.csv, tables/flops.csv",
        panels=tuple(panels),
        columns=3,
    )


def _by_stage(study: Findings) -> list[Panel]:
    table = study.tables["stages"]
    ticks = Axis(ticks=tuple(table["stage"].tolist()))
    places = numbers(range(len(table)))
    height = 120 + ROW_HEIGHT * len(table)
    budget = float(study.settings["budget"])
    edge = Line((budget, budget), (-0.6, len(table) - 0.4), "ink", "budget of the study", 1.2, dash="dash")
    predicted = Dots(numbers(table[f"predicted_{study.convention}"]), places, "zero-shot", "predicted", size=12)
    counted = Dots(numbers(table[study.convention]), places, "tuned", "counted", "diamond", size=9)
    marks: tuple[Mark, ...] = (edge, predicted, counted)
    shares = Bars(places, numbers(100 * table["share"]), "tuned", width=0.6, lying=True)
    return [
        Panel("Predicted and counted", Axis("FLOPs", log=True), ticks, marks, height),
        Panel("Share of the budget", Axis("% of the budget"), ticks, (shares,), height),
    ]


def _by_part(study: Findings) -> Panel:
    """What the FLOPs of each stage went into; the parts are of one convention, so that only their shares are shown."""
    table = study.tables["flops"]
    stages = table["stage"].unique().tolist()
    spent = np.array(
        [[table.pipe(where, stage=stage)[part].to_numpy(float).sum() for stage in stages] for part, _ in PARTS]
    )
    shares = 100 * spent / np.maximum(spent.sum(axis=0), 1.0)  # [parts, stages]
    below = np.cumsum(shares, axis=0) - shares
    places = numbers(range(len(stages)))
    bars = [
        Bars(places, numbers(lengths), role, part, 0.6, lying=True, starts=numbers(starts))
        for (part, role), lengths, starts in zip(PARTS, shares, below)
    ]
    across, up = Axis("% of the stage", limits=(0.0, 100.0)), Axis(ticks=tuple(stages))
    return Panel("What it went into", across, up, tuple(bars), height=120 + ROW_HEIGHT * len(stages))

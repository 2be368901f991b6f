"""The sections of a report, in the order of the protocol: what each says, shows and tabulates.

Every function returns the parts of one section: HTML, or a figure that is yet to be numbered; None is left out.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import yaml
from pandas import DataFrame

from loracast.charts.marks import Figure
from loracast.evaluation.metric_list import study_columns
from loracast.report import page
from loracast.report.cost_figures import cost_figure
from loracast.report.data_figures import KINDS, SUBSETS, dynamics_figure, in_order, series_figure
from loracast.report.forecast_figures import (
    FORECASTERS,
    calibration_figure,
    error_figures,
    fan_figures,
    pit_figure,
    steps_figure,
)
from loracast.report.page import Column
from loracast.report.reading import Findings, distinct, least, where
from loracast.report.search_figures import method_name, search_figures
from loracast.report.tuning_figures import (
    baseline_figure,
    context_figure,
    curves_figure,
    default_figure,
    untouched_error,
)
from loracast.report.wording import decimals_text, duration, flops, listed, number, percent

Parts = list[str | Figure | None]

COSTS = (Column("executed", "FLOPs, executed", flops), Column("published", "FLOPs, published", flops))
SECONDS = Column("seconds", "time", duration)
SCORES = (
    *(
        Column(name, title, percent if one.unit == "share" else number)
        for name, (title, one) in study_columns().items()
    ),
    Column("valid_share", "well-formed", percent),
    Column("n_unscored", "values without a forecast", number),
    Column("n_series", "series", number),
    Column("n_windows", "windows", number),
)
SETTINGS = (
    Column("optimizer", "optimiser"),
    Column("learning_rate", "learning rate", number),
    Column("rank", "rank", number),
    Column("targets", "adapted"),
    Column("layout", "layout"),
    Column("decimals", "decimals", number),
)


FINAL = "The final model, with the settings that were best so far where the protocol gives it none of its own"
STOPPED = {
    "pruned": " It was stopped because others were better.",
    "diverged": " It was stopped when its loss was no longer a finite number.",
    "patience": " It was stopped when the validation loss no longer fell.",
    "budget": " It was stopped when its share of the budget was spent.",
}


@dataclass(frozen=True)
class Section:
    """A section; `table` is the one whose absence means that its stage is still to come."""

    name: str
    title: str
    table: str
    write: Callable[[Findings], Parts]


def data_section(study: Findings) -> Parts:
    data = study.settings["data"]
    words = [f"{data['series']:,} series of {data['steps']:,} steps"]
    words.append(f"with {listed(study.names)}" if study.names else "")
    text = f"{' '.join(words)}, from {data['source']}. "
    table = study.tables["dynamics"]
    counts = {subset: len(table.pipe(where, subset=subset)) for subset in in_order(table["subset"].tolist(), SUBSETS)}
    text += f"By subset: {listed([f'{count:,} {subset}' for subset, count in counts.items()])}. "
    parts: Parts = [page.paragraph(text + _dynamics(study, table))]
    if study.has("data"):
        columns = (Column("variable", "variable"), Column("observed", "observed values", number))
        columns += (Column("missing", "missing", number),)
        columns += tuple(Column(name, name, number) for name in ("minimum", "mean", "maximum", "deviation"))
        columns += (Column("p99", "99th percentile", number),)
        parts.append(page.table(study.tables["data"], columns, "tables/data.csv"))
    return [*parts, series_figure(study), dynamics_figure(study), *_texts(study)]


def _dynamics(study: Findings, table: DataFrame) -> str:
    shares = {kind: len(table.pipe(where, kind=kind)) / len(table) for kind in in_order(table["kind"].tolist(), KINDS)}
    text = f"Of the series, {listed([f'{percent(share)} are {kind}' for kind, share in shares.items()])}. "
    periods, lags = (table[name].dropna().to_numpy(float) for name in ("period", "lag_share"))
    if len(periods):
        text += f"The median period is {number(_rounded(np.median(periods)))}. "
    if len(study.names) > 1 and len(lags):
        first, second = study.names[:2]
        lag = float(np.median(lags))
        verb = "follows" if lag >= 0 else "precedes"
        text += f"In the median, {second} {verb} {first} by {percent(abs(lag))} of a period. "
    return text


def _texts(study: Findings) -> Parts:
    """One written context for each way of writing numbers."""
    if not study.has("examples"):
        return []
    explanation = "What the model reads: a context as text, and below it the number of each piece of it in the model's "
    explanation += "vocabulary (its token ids). The table has more of them."
    parts: Parts = [page.heading("Series as text"), page.paragraph(explanation)]
    examples = study.tables["examples"]
    for layout, decimals in sorted(examples.pipe(distinct, "layout", "decimals")):
        row = examples.pipe(where, layout=layout, decimals=decimals).to_dict("records")[0]
        parts.append(page.paragraph(f"Series {row['series']} ({row['subset']}), {decimals_text(decimals, layout)}:"))
        parts.append(page.listing(_aligned(row["text"], row["ids"].split())))
    return [*parts, page.source("tables/examples.csv")]


def _aligned(text: str, ids: list[str]) -> str:
    """Each symbol above its id, where every symbol is one token; otherwise one line above the other."""
    if len(text) != len(ids):
        return f"{text}\n{' '.join(ids)}"
    widths = [len(token) for token in ids]
    return f"{' '.join(symbol.rjust(width) for symbol, width in zip(text, widths))}\n{' '.join(ids)}"


def baseline_section(study: Findings) -> Parts:
    table = study.tables["baseline"]
    text = "Before anything is tuned, on the validation windows: the model as it came, and forecasters without a model."
    constrained, free = (table.pipe(where, constrained=sampling) for sampling in ("True", "False"))
    if len(constrained) and len(free):
        share = percent(constrained["valid_share"].to_numpy(float).mean())
        shares = [
            f"{percent(row['valid_share'])} at {decimals_text(row['decimals'], row['layout'])}"
            for row in free.to_dict("records")
        ]
        text += f" Of the untouched model's steps, {share} could be read as numbers with constrained sampling, and "
        text += f"with free sampling {listed(shares)}."
    columns = (
        Column("forecaster", "forecaster"),
        Column("layout", "layout"),
        Column("decimals", "decimals", number),
        Column("sampling", "sampling"),
        *SCORES,
        *COSTS,
    )
    names = {"True": "constrained", "False": "free", "": ""}
    named = table.assign(sampling=table["constrained"].map(names.get))
    return [page.paragraph(text), page.table(named, columns, "tables/baseline.csv", "mae"), baseline_figure(study)]


def default_section(study: Findings) -> Parts:
    return [*_one_run(study, "default", "The default settings"), default_figure(study)]


def _one_run(study: Findings, name: str, subject: str) -> Parts:
    table = study.tables[name]
    row = table.to_dict("records")[0]
    before = untouched_error(study, row)
    text = f"{subject}: learning rate {number(row['learning_rate'])}, rank {row['rank']:g}, {row['targets']}, "
    text += f"{decimals_text(row['decimals'], row['layout'])}. "
    text += f"The MAE on the validation windows is {number(row['mae'])}"
    text += f", untouched it was {number(before)} ({change(before, row['mae'])}). " if math.isfinite(before) else ". "
    text += f"The validation loss was lowest at step {number(row['best_step'])} of {number(row['steps'])}."
    text += STOPPED.get(row.get("stopped", ""), "")
    columns = (
        Column("run", "run"),
        *SETTINGS,
        Column("steps", "steps", number),
        Column("best_step", "best step", number),
        Column("loss_untouched", "loss untouched", number),
        Column("loss_tuned", "loss tuned", number),
        Column("mae", "MAE", number),
        Column("crps", "CRPS", number),
        Column("coverage_80", "80% coverage", percent),
        *COSTS,
        SECONDS,
    )
    return [page.paragraph(text), page.table(table, columns, f"tables/{name}.csv")]


def search_section(study: Findings) -> Parts:
    parts: Parts = []
    if study.has("search_methods"):
        table = study.tables["search_methods"]
        sentences = [
            f"Best by {method_name(row['method'])}: learning rate {number(row['learning_rate'])}, rank {row['rank']:g} "
            f"and {decimals_text(row['decimals'])}, with an MAE of {number(row['best_mae'])}, found for "
            f"{flops(row[study.convention])} FLOPs{_of_grid(row['share_of_grid'])}."
            for row in table.to_dict("records")
        ]
        columns = (
            Column("named", "method"),
            Column("runs", "runs", number),
            Column("pruned", "stopped early", number),
            Column("best_mae", "best MAE", number),
            *SETTINGS,
            *COSTS,
            Column("share_of_grid", "of the grid's FLOPs", percent),
        )
        named = table.assign(named=table["method"].map(method_name))
        parts += [
            page.paragraph(" ".join(sentences)),
            page.table(named, columns, "tables/search_methods.csv", "best_mae"),
        ]
    columns = (
        Column("method", "method"),
        Column("run", "run"),
        *SETTINGS,
        Column("steps", "steps", number),
        Column("planned_steps", "planned", number),
        Column("stopped", "stopped"),
        Column("nats", "loss, nats a value", number),
        Column("mae", "MAE", number),
        Column("crps", "CRPS", number),
        *COSTS,
        SECONDS,
    )
    runs = page.table(study.tables["search"], columns, "tables/search.csv", "mae")
    return [*parts, *search_figures(study), page.heading("All runs of the search"), runs]


def context_section(study: Findings) -> Parts:
    table = study.tables["context"]
    text = "The chosen settings again, tuned on shorter and longer windows. "
    if (best := least(table, "mae")) is not None:
        row = table.loc[best]
        text += f"Windows of {number(row['tokens'])} tokens ({number(row['window_steps'])} steps) had the lowest MAE "
        text += f"on the validation windows, {number(row['mae'])}."
    columns = (
        Column("run", "run"),
        Column("tokens", "tokens of a window", number),
        Column("window_steps", "steps of a window", number),
        Column("mae", "MAE", number),
        Column("crps", "CRPS", number),
        Column("coverage_80", "80% coverage", percent),
        *COSTS,
        SECONDS,
    )
    return [page.paragraph(text), page.table(table, columns, "tables/context.csv", "mae"), context_figure(study)]


def final_section(study: Findings) -> Parts:
    return [*_one_run(study, "final", FINAL), curves_figure(study)]


def test_section(study: Findings) -> Parts:
    table = study.tables["test"]
    first = ["all", *study.names]
    text = "No setting was chosen by the test series. Every forecaster saw the same contexts; in bold, the lowest MAE."
    columns = (Column("forecaster", "forecaster"), *SCORES, *COSTS)
    parts: Parts = [page.paragraph(text)]
    order = in_order(table["forecaster"].tolist(), FORECASTERS)
    for variable in in_order(table["variable"].tolist(), first):
        rows = table.pipe(where, variable=variable).sort_values("forecaster", key=lambda names: names.map(order.index))
        heading = "All variables (their mean)" if variable == "all" else f"Variable {variable}"
        parts += [page.heading(heading), page.table(rows, columns, "tables/test.csv", "mae")]
    parts += [*fan_figures(study), steps_figure(study), *error_figures(study)]
    return [*parts, calibration_figure(study), pit_figure(study)]


def cost_section(study: Findings) -> Parts:
    parts: Parts = [page.paragraph(spent_sentence(study)), cost_figure(study)]
    share = Column("share", "of the budget", percent)
    if study.has("stages"):
        columns = (
            Column("stage", "stage"),
            Column("runs", "runs", number),
            Column("predicted_executed", "predicted, executed", flops),
            Column("executed", "counted, executed", flops),
            Column("predicted_published", "predicted, published", flops),
            Column("published", "counted, published", flops),
            share,
            SECONDS,
        )
        parts.append(page.table(study.tables["stages"], columns, "tables/stages.csv"))
    columns = (
        Column("stage", "stage"),
        Column("run", "run"),
        *(Column(name, name, flops) for name in ("training", "validation", "forecasts")),
        *COSTS,
        share,
    )
    return [*parts, page.heading("All runs"), page.table(study.tables["flops"], columns, "tables/flops.csv")]


def making_section(study: Findings) -> Parts:
    settings, made, model = study.settings, study.settings["made"], study.settings["model"]
    facts = {
        "made": made.get("date"),
        "hardware": made.get("hardware"),
        "seed": settings["seed"],
        **{f"model: {name.replace('_', ' ')}": value for name, value in model.items()},
        "data": settings["data"]["source"],
        "data: fingerprint": settings["data"].get("fingerprint"),
        "loracast": settings.get("loracast"),
        "python": made.get("python"),
        "torch": made.get("torch"),
        **made.get("packages", {}),
    }
    rows = DataFrame(
        tuple(
            {"name": name, "value": f"{fact:,}" if isinstance(fact, int) else str(fact)}
            for name, fact in facts.items()
            if fact is not None
        )
    )
    name = study.directory.resolve().name
    return [
        page.table(rows, (Column("name", "what"), Column("value", "value")), "study.json"),
        page.heading("The protocol"),
        page.listing(yaml.safe_dump(settings["protocol"], sort_keys=False, allow_unicode=True)),
        page.heading("To run it again"),
        page.paragraph("The folder holds all that is needed. One level above it, with the same version of loracast:"),
        page.listing(f"loracast study --rerun {shlex.quote(name)} -o {shlex.quote(name + '-again')}"),
    ]


def spent(study: Findings) -> float | None:
    """FLOPs of all runs in the study's convention; None where none has been counted."""
    table = study.tables.get("flops", study.tables.get("stages"))
    return None if table is None else float(table[study.convention].to_numpy(float).sum())


def spent_sentence(study: Findings) -> str:
    """What the study spent of its budget; nothing where no run has been counted."""
    total, budget = spent(study), float(study.settings["budget"])
    if total is None:
        return ""
    share = percent(total / budget)
    spending = f"The study spent {flops(total)} FLOPs, {share} of its budget of {flops(budget)}"
    return f"{spending} ({study.convention} convention)."


def change(before: float, after: float) -> str:
    """How an error changed, in words: 77% lower."""
    if not (math.isfinite(before) and math.isfinite(after) and before > 0):
        return "not comparable"
    if before == after:
        return "unchanged"
    return f"{percent(abs(1 - after / before))} {'lower' if after < before else 'higher'}"


def _of_grid(share: float) -> str:
    return f", {percent(share)} of the grid's" if share < 1 else ""


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


SECTIONS = (
    Section("data", "1. The data", "dynamics", data_section),
    Section("baseline", "2. The untouched baseline", "baseline", baseline_section),
    Section("default", "3. LoRA with default settings", "default", default_section),
    Section("search", "4. The search", "search", search_section),
    Section("context", "5. The length of the context", "context", context_section),
    Section("final", "6. The final model", "final", final_section),
    Section("test", "7. The test", "test", test_section),
    Section("cost", "8. What it cost", "flops", cost_section),
)
MAKING = Section("making", "9. How it was made", "", making_section)

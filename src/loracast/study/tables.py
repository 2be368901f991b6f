"""The tables of a study, from what its runs left in its folder. The report shows them and nothing else.

Shapes: N windows, S sample paths, H steps of horizon, D variables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loracast.baselines import BASELINES
from loracast.errors import ModelError
from loracast.evaluation import breakdown
from loracast.evaluation.backtest import TUNED, ZERO_SHOT
from loracast.evaluation.dynamics import describe, summarise
from loracast.evaluation.metric_list import study_columns
from loracast.evaluation.metrics import score
from loracast.grammar import to_text
from loracast.series import Window
from loracast.statistics import percentile
from loracast.study.context import StudyContext
from loracast.study.runs import PATHS, read_forecast, read_tuning

SHOWN_SERIES = 12  # in the example figure
EXAMPLE_SERIES = 2  # as text
SCORES = (*study_columns(), "valid_share", "n_unscored", "n_series", "n_windows")

SETTINGS = ("optimizer", "learning_rate", "rank", "targets", "decimals", "tokens", "batch")
TUNED_RUN = (
    "run", *SETTINGS, "layout", "window_steps", "steps", "planned_steps", "best_step", "stopped", "loss_untouched",
    "loss_tuned", "nats", "mae", "crps", "coverage_80", "executed", "published", "seconds",
)  # fmt: skip


def data_tables(bench: StudyContext) -> dict[str, pd.DataFrame]:
    """What the series are like, and how they are written."""
    owners = {position: name for name in ("train", "validation", "test") for position in getattr(bench.split, name)}
    subsets = [owners.get(position, "unused") for position in range(len(bench.series))]
    spread = np.linspace(0, len(bench.series) - 1, min(len(bench.series), SHOWN_SERIES)).round().astype(int)
    values = [
        {
            "series": one.id,
            "subset": subset,
            "step": step + 1,
            "time": "" if one.time is None else one.time[step],
            "variable": name,
            "value": one.values[step, variable],
        }
        for one, subset in ((bench.series[index], subsets[index]) for index in spread)
        for step in range(one.steps)
        for variable, name in enumerate(one.names)
    ]
    counts = pd.Series(subsets).value_counts(sort=False)
    return {
        "data": summarise(bench.series),
        "splits": pd.DataFrame({"subset": counts.index, "series": counts.to_numpy()}),
        "examples": pd.DataFrame(_examples(bench)),
        "example_values": pd.DataFrame(values),
        "dynamics": describe(bench.series).assign(subset=subsets),
    }


def _examples(bench: StudyContext) -> list[dict[str, Any]]:
    rows = []
    for window in bench.judged_windows("validation")[:EXAMPLE_SERIES]:
        for layout, decimals in product(bench.protocol.baseline_layouts, bench.protocol.baseline):
            codec = bench.codec(decimals, layout)
            symbols = codec.encode(window.context_values, codec.fit_scale(window.context_values)).ids
            ids = bench.model.tokens.ids[symbols]
            rows.append(
                {
                    "series": window.series.id,
                    "subset": "validation",
                    "layout": codec.layout,
                    "decimals": decimals,
                    "text": to_text(symbols),
                    "ids": " ".join(map(str, ids)),
                }
            )
    return rows


def baseline_table(bench: StudyContext) -> pd.DataFrame:
    """The untouched model at each decimals, constrained and not, and the naive baselines, on the same windows."""
    results = bench.folder.results("baseline")
    rows = []
    for result in results.values():
        run = read_forecast(result["run"])
        layout = bench.codec(run.decimals, run.layout).layout
        about = {"forecaster": ZERO_SHOT, "layout": layout, "decimals": run.decimals, "constrained": run.constrained}
        rows.append(about | _scores(result["scores"]) | _totals(result))
    naive = next(iter(results.values()))["baselines"]
    for name in BASELINES:
        rows.append({"forecaster": name} | _scores(naive[name]) | {"executed": 0, "published": 0})
    return pd.DataFrame(rows).assign(decimals=lambda table: table["decimals"].astype("Int64"))


def tuning_table(bench: StudyContext, stage: str) -> pd.DataFrame:
    """One row a tuning run of a stage, in the order of their names."""
    rows = []
    for name, result in bench.folder.results(stage).items():
        tuning, scores = read_tuning(result["run"]).tuning, result["scores"] or {}
        rows.append(
            {
                "run": name,
                **{key: getattr(tuning, key) for key in SETTINGS},
                "layout": bench.codec_of(tuning).layout,
                "window_steps": result["window"]["context"] + result["window"]["horizon"],
                "steps": result["steps"],
                "planned_steps": result["planned_steps"],
                "best_step": result["best_step"],
                "stopped": result["stopped"],
                "loss_untouched": result["validation_loss"]["untouched"],
                "loss_tuned": result["validation_loss"]["tuned"],
                "nats": result["validation_nats_per_value"],
                **{key: scores.get(key) for key in ("mae", "crps", "coverage_80")},
                **_totals(result),
                "seconds": result["seconds"],
            }
        )
    return pd.DataFrame(rows, columns=list(TUNED_RUN))  # also where a protocol leaves the stage out


def search_tables(bench: StudyContext) -> dict[str, pd.DataFrame]:
    """All runs of the search, and one row a method with the best of its settings."""
    runs = tuning_table(bench, "search")
    runs.insert(0, "method", runs["run"].str.split("-").str[1])
    rows = []
    for method, tried in runs.groupby("method"):
        if all(math.isnan(value) for value in tried["mae"].astype(float)):
            raise ModelError(
                f"no run of the search by {method} came to its end; put lower learning rates under search in the "
                "protocol, and begin in another folder"
            )
        best = tried.loc[tried["mae"].idxmin()]
        about = {"method": method, "runs": len(tried), "pruned": list(tried["stopped"]).count("pruned")}
        settings = {name: best[name] for name in ("learning_rate", "rank", "decimals")}
        rows.append(about | {"best_mae": best["mae"], **settings, **tried[["executed", "published"]].sum().to_dict()})
    methods = pd.DataFrame(rows)
    whole = methods.loc[methods["method"] == "grid", bench.protocol.convention]
    methods["share_of_grid"] = methods[bench.protocol.convention] / whole.iloc[0] if len(whole) else np.nan
    return {"search": runs, "search_methods": methods}


def context_table(bench: StudyContext) -> pd.DataFrame:
    table = tuning_table(bench, "context")
    return table.sort_values("tokens", ignore_index=True)


def test_tables(bench: StudyContext) -> dict[str, pd.DataFrame]:
    """All metrics of the untouched and the tuned model and the baselines on the test windows, and what lies behind."""
    cut = bench.judged_windows("test")
    horizon = bench.protocol.forecasts.horizon
    results = {ZERO_SHOT: "test-zero-shot", TUNED: "test-tuned"}
    samples = {name: read_paths(bench, run, cut) for name, run in results.items()}  # each [N, S, H, D]
    for name, baseline in BASELINES.items():
        samples[name] = np.stack([baseline(window.context_values, horizon) for window in cut])[:, None]
    truth = np.stack([window.future_values for window in cut])  # [N, H, D]
    whole = np.stack([window.values for window in cut])
    names = cut[0].series.names
    series = [window.series.id for window in cut]
    scored = {
        name: score(paths, truth, seed_unit=percentile(whole, 99) / 10, names=names, series=series)
        for name, paths in samples.items()
    }
    flops = {name: _totals(bench.folder.result(run) or {}) for name, run in results.items()}
    rows, by_series = [], []
    for name, scores in scored.items():
        row = scores.row()
        for variable, part in (("all", row), *row["by_variable"].items()):
            about = {"forecaster": name, "variable": variable}
            rows.append(about | _scores(part) | flops.get(name, {"executed": 0, "published": 0}))
        for record in scores.per_series():
            for variable, part in record["by_variable"].items():
                by_series.append({"forecaster": name, "series": record["series"], "variable": variable, **part})
    order = [*BASELINES, ZERO_SHOT, TUNED]
    ordered = {name: samples[name] for name in order}
    fans, fan_values = breakdown.fans({name: samples[name] for name in (ZERO_SHOT, TUNED)}, cut)
    return {
        "test_series": pd.DataFrame(by_series),
        "test_steps": breakdown.by_step(ordered, truth, names),
        "calibration": breakdown.coverage(ordered, truth, names),
        "pit": breakdown.pit(ordered, truth, names),
        "fans": fans,
        "fan_values": fan_values,
        "test": pd.DataFrame(rows),
    }


def flop_tables(bench: StudyContext, plan: Sequence[dict[str, Any]]) -> dict[str, pd.DataFrame]:
    """Every run that was charged to the ledger, and what its stages were predicted to cost and did."""
    budget, convention = bench.protocol.budget, bench.protocol.convention
    rows, seconds = [], {}
    for entry in bench.ledger.entries():
        if not entry.closed:
            continue
        stage = bench.folder.read_json(bench.folder.run(entry.run) / "run.json")["stage"]
        spent = {name: flops.of(convention) for name, flops in entry.spent.items()}
        rows.append(
            {
                "stage": stage,
                "run": entry.run,
                **{name: spent.get(name, 0) for name in ("training", "validation", "forecasts")},
                "executed": entry.committed.executed,
                "published": entry.committed.published,
                "share": entry.committed.of(convention) / budget,
            }
        )
        seconds[stage] = seconds.get(stage, 0.0) + (bench.folder.result(entry.run) or {}).get("seconds", 0.0)
    runs = pd.DataFrame(
        rows, columns=["stage", "run", "training", "validation", "forecasts", "executed", "published", "share"]
    )
    stages = [
        {
            "stage": planned["stage"],
            "runs": int((runs["stage"] == planned["stage"]).sum()),
            "predicted_executed": planned["executed"],
            "predicted_published": planned["published"],
            "executed": int(runs.loc[runs["stage"] == planned["stage"], "executed"].sum()),
            "published": int(runs.loc[runs["stage"] == planned["stage"], "published"].sum()),
            "share": runs.loc[runs["stage"] == planned["stage"], "share"].sum(),
            "seconds": seconds.get(planned["stage"], 0.0),
        }
        for planned in plan
    ]
    order = {planned["stage"]: position for position, planned in enumerate(plan)}
    runs = runs.sort_values("stage", key=lambda stage: stage.map(order), kind="stable", ignore_index=True)
    return {"flops": runs, "stages": pd.DataFrame(stages)}


def read_paths(bench: StudyContext, run: str, windows: Sequence[Window]) -> NDArray[np.float64]:
    """The sample paths [N, S, H, D] that a forecasting run left."""
    frame = pd.read_parquet(bench.folder.run(run) / PATHS)
    names, horizon = windows[0].series.names, windows[0].horizon
    return frame[list(names)].to_numpy(float).reshape(len(windows), -1, horizon, len(names))


def _scores(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in SCORES}


def _totals(result: dict[str, Any]) -> dict[str, int]:
    return {convention: result["flops"][convention]["total"] for convention in ("executed", "published")}

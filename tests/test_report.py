"""The report of a study: what the page holds, that it needs nothing else, and that it survives what folders hold."""

import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from matplotlib.image import imread

from loracast.errors import ConfigError, DataError
from loracast.study.drawing import to_plotly
from loracast.study.report import write_report

FORECASTERS = {"zero-shot": 0.07, "tuned": 0.015, "last-value": 0.46, "context-mean": 0.33, "best-period": 0.21}
CONTEXT, HORIZON = 30, 20
EVERY_FIGURE = {"series", "dynamics", "baseline", "default", "search-error", "search-loss", "search-stopped", "context",
                "curves", "fans-1", "fans-2", "steps", "errors-distribution", "errors-boxes", "errors-sorted", "calibration",
                "pit", "flops"}  # fmt: skip


# -- a study that never ran -----------------------------------------------------------------------------------------


def write_study(directory: Path, variables: tuple[str, ...] = ("prey", "predator"), series: int = 24) -> Path:
    """Writes a folder such as a study leaves behind; the same arguments always write the same numbers."""
    random = np.random.default_rng(7)
    ids = [f"{index:03d}" for index in range(series)]
    subsets = {name: "train" if index < series // 2 else "validation" if index < 3 * series // 4 else "test"
               for index, name in enumerate(ids)}  # fmt: skip
    test = [name for name in ids if subsets[name] == "test"]
    (directory / "tables").mkdir(parents=True)
    _write_settings(directory, variables, series)
    _write_data(directory, variables, subsets, random)
    _write_tuning(directory, random)
    _write_test(directory, variables, test, random)
    _write_costs(directory)
    return directory


def write_table(directory: Path, name: str, rows: list[dict[str, Any]]) -> None:
    pd.DataFrame(rows).to_csv(directory / "tables" / f"{name}.csv", index=False)


def wave(name: str, variable: int, steps: np.ndarray) -> np.ndarray:
    return 2 + variable + 1.5 * np.sin(steps / (2 + int(name) % 5) - 0.9 * variable) * 0.995**steps


def _write_settings(directory: Path, variables: tuple[str, ...], series: int) -> None:
    settings = {
        "loracast": "0.1.0",
        "name": "laptop",
        "protocol": {"seed": 0, "search": {"learning_rates": [0.001, 0.003], "ranks": [4, 16]}, "context": CONTEXT},
        "model": {"source": "bundled", "fingerprint": "5f3a", "parameters": 5518336, "layers": 8, "hidden_size": 256,
                  "vocabulary": 19, "precision": "bfloat16"},
        "data": {"source": "data.h5", "fingerprint": "91bc", "series": series, "steps": CONTEXT + HORIZON,
                 "variables": list(variables)},
        "budget": 1e15,
        "convention": "hardware",
        "seed": 0,
        "plan": [{"stage": "default", "runs": 1, "course": 1.2e14, "hardware": 1.1e14}],
        "made": {"date": "2026-01-02T03:04:05Z", "hardware": "2 cores", "python": "3.11.7", "torch": "2.13.0",
                 "packages": {"numpy": "2.4.6"}},
    }  # fmt: skip
    (directory / "study.json").write_text(json.dumps(settings))


def _write_data(
    directory: Path, variables: tuple[str, ...], subsets: dict[str, str], random: np.random.Generator
) -> None:
    steps = np.arange(CONTEXT + HORIZON)
    write_table(directory, "data", [
        {"variable": name, "observed": 1200 - index, "missing": index, "minimum": 0.01, "mean": 2.0, "maximum": 4.5,
         "deviation": 1.1, "p99": 4.2} for index, name in enumerate(variables)
    ])  # fmt: skip
    kinds = [("oscillating", "damped", "collapsing")[min(2, int(value))] for value in random.exponential(0.9, len(subsets))]
    write_table(directory, "dynamics", [
        {"series": name, "subset": subset, "kind": kind, "period": "" if kind == "collapsing" else 10 + random.gamma(4),
         "lag": "" if kind == "collapsing" else 3.0, "lag_share": "" if kind == "collapsing" else random.normal(0.24, 0.03)}
        for (name, subset), kind in zip(subsets.items(), kinds)
    ])  # fmt: skip
    write_table(directory, "splits", [{"subset": subset, "series": name} for name, subset in subsets.items()])
    symbols = "246,999;" * CONTEXT
    write_table(directory, "examples", [
        {"series": "000", "subset": "train", "decimals": decimals, "text": symbols,
         "ids": " ".join(str(15 + ord(symbol) % 11) for symbol in symbols)} for decimals in (2, 3)
    ])  # fmt: skip
    write_table(directory, "example_values", [
        {"series": name, "subset": subsets[name], "step": step + 1, "time": 0.5 * step, "variable": variable,
         "value": "" if step == 9 else wave(name, index, steps)[step]}
        for name in list(subsets)[::3] for index, variable in enumerate(variables) for step in steps
    ])  # fmt: skip


def write_log(directory: Path, run: str, steps: int, start: float, end: float, random: np.random.Generator) -> None:
    folder = directory / "runs" / run
    folder.mkdir(parents=True)
    lines = []
    for step in range(steps + 1):
        loss = end + (start - end) * np.exp(-5 * step / steps)
        if step:
            noisy = None if step == 4 else loss + random.normal(0, 0.04)
            lines.append({"event": "train", "step": step, "steps": steps, "loss": noisy, "learning_rate": 0.003})
        if step % 5 == 0:
            lines.append({"event": "validation", "step": step, "loss": loss + 0.03 + 0.0008 * step})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _write_tuning(directory: Path, random: np.random.Generator) -> None:
    scores = {"crps": 0.05, "coverage_80": 0.71}
    cost = {"hardware": 1.1e14, "course": 1.4e14, "seconds": 83.0}
    write_table(directory, "baseline", [
        {"forecaster": "zero-shot", "decimals": decimals, "constrained": constrained, "mae": 0.07 + 0.01 * (decimals == 2),
         "mae_median": 0.05, "mae_seed_units": 0.26, "mae_seed_units_median": 0.2, **scores,
         "valid_share": 1.0 if constrained else 0.93, "n_unscored": 0, "hardware": 2e12, "course": 3e12}
        for decimals in (2, 3) for constrained in (True, False)
    ] + [{"forecaster": name, "mae": error, "crps": error} for name, error in list(FORECASTERS.items())[2:]])  # fmt: skip
    run = {"learning_rate": 0.003, "rank": 8, "targets": "all-linear", "decimals": 3, "steps": 60, "best_step": 50,
           "loss_untouched": 0.61, "loss_tuned": 0.31, "mae_untouched": 0.07, "mae": 0.022, **scores, **cost}  # fmt: skip
    write_table(directory, "default", [{"run": "default", **run}])
    write_table(directory, "final", [{"run": "final", **run, "mae": 0.015, "steps": 120, "best_step": 100}])
    write_table(directory, "context", [
        {"run": f"context-{tokens}", "tokens": tokens, "window_steps": tokens // 8, "mae": 0.03 - tokens / 4e4, **scores,
         **cost, "hardware": tokens * 3e11} for tokens in (200, 400)
    ])  # fmt: skip
    write_log(directory, "default", 60, 0.61, 0.31, random)
    write_log(directory, "final", 120, 0.61, 0.27, random)
    for tokens in (200, 400):
        write_log(directory, f"context-{tokens}", 60, 0.7, 0.3 + 20 / tokens, random)
    rows = []
    configurations = [(rate, rank, decimals) for decimals in (2, 3) for rate in (3e-4, 1e-3, 3e-3) for rank in (4, 16)]
    for method in ("grid", "halving"):
        for index, (rate, rank, decimals) in enumerate(configurations):
            pruned = method == "halving" and index % 4 != 3
            steps = 10 * (1 + index % 2) if pruned else 40
            nats = 1.2 + 0.3 * abs(np.log10(rate / 2e-3)) + 0.4 / rank + 0.2 * (decimals == 2) + pruned * 0.5
            name = f"{method}-{index:02d}"
            write_log(directory, name, steps, 0.61, 0.2 * nats, random)
            rows.append({"method": method, "run": name, "learning_rate": rate, "rank": rank, "decimals": decimals,
                         "steps": steps, "planned_steps": 40, "stopped": "pruned" if pruned else "", "nats": nats,
                         "mae": "" if pruned else 0.015 * nats**2, **scores, **cost, "hardware": steps * 4e11})  # fmt: skip
    write_table(directory, "search", rows)
    write_table(directory, "search_methods", [
        {"method": method, "runs": 12, "pruned": 9 * (method == "halving"), "best_mae": 0.021, "learning_rate": 0.003,
         "rank": 16, "decimals": 3, "hardware": 1.9e14 * share, "course": 2.2e14 * share, "share_of_grid": share}
        for method, share in (("grid", 1.0), ("halving", 0.44))
    ])  # fmt: skip


def _write_test(
    directory: Path, variables: tuple[str, ...], test: list[str], random: np.random.Generator
) -> None:
    point = ("last-value", "context-mean", "best-period")
    write_table(directory, "test", [
        {"forecaster": name, "variable": variable, "mae": error, "mse": error**2, "rmse": error, "r2": 1 - error,
         "crps": 0.7 * error, "coverage_80": "" if name in point else 0.72, "mae_seed_units": 4 * error,
         "mae_seed_units_median": 3 * error, "mae_median": 0.8 * error, "valid_share": 1.0, "n_unscored": 0,
         "n_series": len(test), "n_windows": len(test), "flops": 0 if name in point else 3.1e12}
        for variable in ("all", *variables) for name, error in FORECASTERS.items()
    ])  # fmt: skip
    write_table(directory, "test_series", [
        {"forecaster": name, "series": series, "variable": variable, "mae": error * random.lognormal(-0.3, 0.8),
         "crps": 0.7 * error, "mae_seed_units": 4 * error}
        for name, error in FORECASTERS.items() for series in test for variable in variables
    ])  # fmt: skip
    write_table(directory, "test_steps", [
        {"forecaster": name, "step": step, "variable": variable, "mae": error * (0.4 + step / HORIZON),
         "crps": 0.7 * error * (0.4 + step / HORIZON)}
        for name, error in FORECASTERS.items() for variable in variables for step in range(1, HORIZON + 1)
    ])  # fmt: skip
    models = {name: FORECASTERS[name] for name in ("zero-shot", "tuned")}
    levels = [round(0.05 * index, 2) for index in range(1, 20)]
    write_table(directory, "calibration", [
        {"forecaster": name, "variable": variable, "nominal": level, "coverage": level ** (1.1 if name == "tuned" else 1.5)}
        for name in models for variable in variables for level in levels
    ])  # fmt: skip
    write_table(directory, "pit", [
        {"forecaster": name, "variable": variable, "bin": (index + 0.5) / 10, "density": 1 + 6 * error * abs(index - 4.5) / 4.5}
        for name, error in models.items() for variable in variables for index in range(10)
    ])  # fmt: skip
    steps = np.arange(1, CONTEXT + HORIZON + 1)
    write_table(directory, "fan_values", [
        {"series": series, "variable": variable, "step": step, "part": "context" if step <= CONTEXT else "future",
         "value": wave(series, index, steps)[step - 1]}
        for series in test[:6] for index, variable in enumerate(variables) for step in steps
    ])  # fmt: skip
    spread = {"q10": -1.3, "q25": -0.7, "q50": 0.1, "q75": 0.7, "q90": 1.3}
    write_table(directory, "fans", [
        {"forecaster": name, "series": series, "variable": variable, "step": step,
         **{level: wave(series, index, steps)[step - 1] + width * 3 * error * (step - CONTEXT) ** 0.5
            for level, width in spread.items()}}
        for name, error in models.items() for series in test[:6] for index, variable in enumerate(variables)
        for step in steps[CONTEXT:]
    ])  # fmt: skip


def _write_costs(directory: Path) -> None:
    stages = {"baseline": 4e12, "default": 1.1e14, "search": 3e14, "context": 1.8e14, "final": 1.9e14, "test": 9e12}
    write_table(directory, "stages", [
        {"stage": stage, "runs": 3, "predicted_hardware": 1.1 * cost, "predicted_course": 1.3 * cost, "hardware": cost,
         "course": 1.2 * cost, "share": cost / 1e15, "seconds": cost / 1e12} for stage, cost in stages.items()
    ])  # fmt: skip
    write_table(directory, "flops", [
        {"stage": stage, "run": stage, "training": 0.8 * cost, "validation": 0.15 * cost, "forecasts": 0.05 * cost,
         "hardware": cost, "course": 1.2 * cost, "share": cost / 1e15} for stage, cost in stages.items()
    ])  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study with its report. To be read only."""
    directory = write_study(tmp_path_factory.mktemp("study") / "laptop")
    assert write_report(directory) == directory / "report.html"
    return directory

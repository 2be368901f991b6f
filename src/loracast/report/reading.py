"""Reads what a study found: study.json, the tables that are there yet, the curves of the tuning runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas import DataFrame

from loracast.errors import DataError
from loracast.flops import column_name, renamed

# Columns that the report cannot do without; whatever else a table has is shown where it is known.
ONE_RUN = "learning_rate rank targets decimals steps best_step loss_untouched loss_tuned mae executed published"
COLUMNS = {
    "data": "variable observed missing minimum mean maximum deviation p99",
    "dynamics": "series subset kind period lag lag_share",
    "examples": "series subset decimals text ids",
    "example_values": "series subset step variable value",
    "baseline": "forecaster decimals constrained mae valid_share executed published",
    "default": f"run {ONE_RUN}",
    "search": "method run learning_rate rank decimals steps planned_steps stopped nats mae executed published",
    "search_methods": "method runs pruned best_mae learning_rate rank decimals executed published share_of_grid",
    "context": "run tokens window_steps mae crps executed published",
    "final": f"run {ONE_RUN}",
    "test": "forecaster variable mae n_windows",
    "test_series": "forecaster series variable mae",
    "test_steps": "forecaster step variable mae crps",
    "calibration": "forecaster variable nominal coverage",
    "pit": "forecaster variable bin density",
    "fans": "forecaster series variable step q10 q25 q50 q75 q90",
    "fan_values": "series variable step part value",
    "flops": "stage run training validation forecasts executed published share",
    "stages": "stage runs predicted_executed predicted_published executed published share",
}
TEXTS = {"variable", "layout", "optimizer", "series", "subset", "kind", "text", "ids", "forecaster", "constrained",
         "run", "targets", "method", "stopped", "part", "stage", "time"}  # fmt: skip
SETTINGS = ("name", "protocol", "model", "data", "budget", "convention", "seed", "plan", "made")


def where(table: DataFrame, **values: Any) -> DataFrame:
    """The rows that have these values in the columns of these names."""
    chosen = np.ones(len(table), bool)
    for name, value in values.items():
        chosen &= (table[name] == value).to_numpy(bool)
    return table.loc[chosen]


def distinct(table: DataFrame, *names: str) -> list[tuple[Any, ...]]:
    """The values of several columns together, each once and in order of appearance."""
    return list(table[list(names)].drop_duplicates().itertuples(index=False, name=None))


def least(table: DataFrame, column: str) -> int | None:
    """The label of the first row with the lowest finite number in a column; None where no row has one."""
    known = table[column][np.isfinite(table[column])]
    return None if known.empty else known.idxmin()  # type: ignore[return-value]


@dataclass(frozen=True)
class Curve:
    """What a tuning run logged: the losses of training steps and of validations, NaN where a loss was not finite."""

    train_steps: tuple[float, ...]
    train: tuple[float, ...]
    validation_steps: tuple[float, ...]
    validation: tuple[float, ...]


@dataclass(frozen=True)
class Findings:
    """What a study's folder holds; a table that was not written yet, or has no rows, is not in `tables`."""

    directory: Path
    settings: dict[str, Any]
    tables: Mapping[str, DataFrame]
    curves: Mapping[str, Curve]

    @property
    def names(self) -> list[str]:
        return self.settings["data"]["variables"]

    @property
    def convention(self) -> str:
        return self.settings["convention"]

    def has(self, *names: str) -> bool:
        return all(name in self.tables for name in names)


def read_findings(directory: str | Path) -> Findings:
    """Reads study.json, tables/*.csv and runs/*/metrics.jsonl; raises DataError for what a report cannot be made of."""
    directory = Path(directory)
    settings = _read_settings(directory / "study.json")
    tables = {
        name: _read_table(directory / "tables" / f"{name}.csv", needed.split()) for name, needed in COLUMNS.items()
    }
    logs = sorted(directory.glob("runs/*/metrics.jsonl"))
    return Findings(
        directory=directory,
        settings=settings,
        tables={name: table for name, table in tables.items() if len(table)},
        curves={path.parent.name: _read_curve(path) for path in logs},
    )


def _read_settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path}: not found; give the folder of a study, or make one with: loracast study DATA -o DIR")
    try:
        settings = renamed(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise DataError(f"{path}: is not JSON ({error}); run the study again into a new folder") from error
    missing = [name for name in SETTINGS if name not in settings]
    if missing:
        raise DataError(f"{path}: has no {', '.join(missing)}; run the study again with this version of loracast")
    return settings


def _read_table(path: Path, needed: list[str]) -> DataFrame:
    """A table with text as it is, and numbers of which those that are absent are NaN."""
    if not path.is_file():
        return DataFrame()
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except pd.errors.EmptyDataError:
        return DataFrame()
    except (ValueError, pd.errors.ParserError) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete it and run this stage of the study again") from None
    table = table.rename(columns=column_name)
    missing = [column for column in needed if len(table) and column not in table]
    if missing:
        raise DataError(f"{path}: has no column {', '.join(missing)}; delete it and run this stage of the study again")
    if "decimals" in table and "layout" not in table:  # as studies wrote that knew one layout each
        table["layout"] = ""
    for name in table.columns.difference(TEXTS, sort=False):
        numbers: Any = pd.to_numeric(table[name].replace("", "nan"), errors="coerce")
        wrong = numbers.isna() & ~table[name].str.lower().isin(["", "nan"])
        if wrong.any():
            line = int(np.argmax(wrong)) + 2
            raise DataError(
                f"{path}, line {line}: {name} is not a number: {table[name].iloc[line - 2]!r}; delete the file and run "
                "this stage again"
            )
        table[name] = numbers.astype(float)
    return table


def _read_curve(path: Path) -> Curve:
    train: dict[float, float] = {}  # by step: a resumed run logs some steps again, and the last is the one that counts
    validation: dict[float, float] = {}
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                break  # the run is being written
            raise DataError(f"{path}, line {number}: is not JSON ({error}); run this stage again") from error
        losses = {"train": train, "validation": validation}.get(record["event"])
        if losses is not None:
            losses[record["step"]] = math.nan if record["loss"] is None else float(record["loss"])
    return Curve(tuple(train), tuple(train.values()), tuple(validation), tuple(validation.values()))

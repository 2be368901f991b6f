"""Reads what a study found: study.json, the tables that are there yet, the curves of the tuning runs."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loracast.errors import DataError

# Columns that the report cannot do without; whatever else a table has is shown where it is known.
COLUMNS = {
    "data": "variable observed missing minimum mean maximum deviation p99",
    "dynamics": "series subset kind period lag lag_share",
    "examples": "series subset decimals text ids",
    "example_values": "series subset step variable value",
    "baseline": "forecaster decimals constrained mae valid_share hardware course",
    "default": "run learning_rate rank targets decimals steps best_step loss_untouched loss_tuned mae hardware course",
    "search": "method run learning_rate rank decimals steps planned_steps stopped nats mae hardware course",
    "search_methods": "method runs pruned best_mae learning_rate rank decimals hardware course share_of_grid",
    "context": "run tokens window_steps mae crps hardware course",
    "final": "run learning_rate rank targets decimals steps best_step loss_untouched loss_tuned mae hardware course",
    "test": "forecaster variable mae n_windows",
    "test_series": "forecaster series variable mae",
    "test_steps": "forecaster step variable mae crps",
    "calibration": "forecaster variable nominal coverage",
    "pit": "forecaster variable bin density",
    "fans": "forecaster series variable step q10 q25 q50 q75 q90",
    "fan_values": "series variable step part value",
    "flops": "stage run training validation forecasts hardware course share",
    "stages": "stage runs predicted_hardware predicted_course hardware course share",
}
TEXTS = {"variable", "series", "subset", "kind", "text", "ids", "forecaster", "constrained", "run", "targets", "method",
         "stopped", "part", "stage", "time"}  # fmt: skip
SETTINGS = ("name", "protocol", "model", "data", "budget", "convention", "seed", "plan", "made")


@dataclass(frozen=True)
class Table:
    """Rows of a table by column: text, or numbers of which those that are not there are NaN."""

    rows: tuple[dict[str, Any], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def has(self, column: str) -> bool:
        return bool(self.rows) and column in self.rows[0]

    def column(self, name: str) -> list[Any]:
        return [row[name] for row in self.rows]

    def numbers(self, name: str) -> NDArray[np.float64]:
        return np.array(self.column(name), dtype=np.float64)

    def distinct(self, *names: str) -> list[Any]:
        """The values of a column, or tuples of the values of several, each once and in order of appearance."""
        values = (tuple(row[name] for name in names) for row in self.rows)
        return [value if len(names) > 1 else value[0] for value in dict.fromkeys(values)]

    def where(self, **values: Any) -> Table:
        """The rows that have these values."""
        return Table(tuple(row for row in self.rows if all(row[name] == value for name, value in values.items())))

    def sorted(self, key: Callable[[dict[str, Any]], Any]) -> Table:
        return Table(tuple(sorted(self.rows, key=key)))

    def least(self, column: str) -> dict[str, Any] | None:
        """The first row with the lowest number in a column; None where no row has one."""
        known = [row for row in self.rows if math.isfinite(row[column])]
        return min(known, key=lambda row: row[column], default=None)

    def adding(self, name: str, value: Callable[[dict[str, Any]], Any]) -> Table:
        """The same with one more column."""
        return Table(tuple({**row, name: value(row)} for row in self.rows))


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
    tables: Mapping[str, Table]
    curves: Mapping[str, Curve]

    @property
    def variables(self) -> list[str]:
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
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: is not JSON ({error}); run the study again into a new folder") from error
    missing = [name for name in SETTINGS if name not in settings]
    if missing:
        raise DataError(f"{path}: has no {', '.join(missing)}; run the study again with this version of loracast")
    return settings


def _read_table(path: Path, needed: list[str]) -> Table:
    if not path.is_file():
        return Table(())
    with path.open(newline="", encoding="utf-8") as stream:
        records = list(csv.DictReader(stream))
    missing = [column for column in needed if records and column not in records[0]]
    if missing:
        raise DataError(f"{path}: has no column {', '.join(missing)}; delete it and run this stage of the study again")
    return Table(tuple(_typed(record, path, line) for line, record in enumerate(records, 2)))


def _typed(record: dict[str, str], path: Path, line: int) -> dict[str, Any]:
    row: dict[str, Any] = dict(record)
    for column, text in record.items():
        if column not in TEXTS:
            try:
                row[column] = float(text) if text else math.nan
            except (TypeError, ValueError):  # a row of other length has lists and None in it
                raise DataError(
                    f"{path}, line {line}: {column} is no number: {text!r}; delete it and run this stage again"
                ) from None
    return row


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

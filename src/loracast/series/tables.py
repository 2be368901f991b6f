"""Series in tables, CSV and Parquet: a column a variable, and maybe a column of times and one of ids.

Shapes: R rows of a table, D variables. Rows are counted from 1 in messages: lines of the file for CSV.
"""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from loracast.errors import DataError
from loracast.series.columns import ID_NAMES, TIME_NAMES, Columns, iso_dates, parse_numbers, parse_time
from loracast.series.types import Series, check_labels, check_time


@dataclass(frozen=True)
class _Table:
    """Cells before they are read as numbers: columns [R] of numbers, dates or, where mixed or text, objects."""

    path: Path
    rows: Sequence[int]  # [R], the number of each row in the file
    columns: Mapping[str, NDArray[Any]]

    def problem(self, column: str) -> Callable[[int, str], DataError]:
        return lambda index, problem: DataError(f"{self.path}, row {self.rows[index]}, column '{column}': {problem}")

    def find(self, wanted: str | None, conventions: Sequence[str], role: str) -> str | None:
        """The column called `wanted`, or else the only one whose name is among `conventions`."""
        if wanted is None:
            found = [name for name in self.columns if name.lower() in conventions]
            if len(found) > 1:
                raise DataError(f"{self.path}: any of {found} could be the {role} column; say which")
            return found[0] if found else None
        if wanted not in self.columns:
            raise DataError(f"{self.path}: no {role} column '{wanted}'; there are {', '.join(self.columns)}")
        return wanted

    def series(self, columns: Columns) -> list[Series]:
        time_column = self.find(columns.time, TIME_NAMES, "time")
        id_column = self.find(columns.id, ID_NAMES, "id")
        names = tuple(name for name in self.columns if name not in (time_column, id_column))
        if not names or not self.rows:
            raise DataError(f"{self.path}: no {'rows below the header' if names else 'columns of variables'}")
        values = np.column_stack([parse_numbers(self.columns[name], self.problem(name)) for name in names])  # [R, D]
        time = None if time_column is None else parse_time(self.columns[time_column], self.problem(time_column))  # [R]
        series = []
        for label, members in self.groups(id_column).items():
            own_time = None if time is None else time[members]
            if own_time is not None:
                check_time(own_time, [self.rows[row] for row in members], f"{self.path}, series '{label}'")
            try:
                series.append(Series(values[members], names, label, own_time))
            except DataError as error:
                raise DataError(f"{self.path}: {error}") from error
        return series

    def groups(self, id_column: str | None) -> dict[str, list[int]]:
        """The positions of each series' rows, in the order in which the series appear."""
        if id_column is None:
            return {self.path.stem: list(range(len(self.rows)))}
        groups: dict[str, list[int]] = {}
        for index, cell in enumerate(self.columns[id_column]):
            label = "" if cell is None else str(cell).strip()
            if not label:
                raise self.problem(id_column)(index, "the id is missing; give every row the id of its series")
            groups.setdefault(label, []).append(index)
        return groups


def read_csv(path: Path, columns: Columns) -> list[Series]:
    rows, records = [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for row, record in _csv_records(stream):
                if records and len(record) != len(records[0]):
                    raise DataError(f"{path}, row {row}: {len(record)} cells, but the header has {len(records[0])}")
                rows.append(row)
                records.append(record)
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8: {error}") from error
    if not records:
        raise DataError(f"{path}: the file is empty; its first line names the columns")
    header = [name.strip() for name in records[0]]
    check_labels(header, f"{path}: column name")
    cells = np.array(records[1:], dtype=object).reshape(-1, len(header))  # [R, columns]
    return _Table(path, rows[1:], dict(zip(header, cells.T))).series(columns)


def _csv_records(stream: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Records with the number of the line on which each begins; comments and blank lines are skipped between them."""
    lines = enumerate(stream, 1)
    for row, line in lines:
        if line.strip() and not line.startswith("#"):
            following = (line for _, line in lines)  # read on only by a quoted cell that spans lines
            yield row, next(csv.reader(chain((line,), following), skipinitialspace=True, strict=True))


def write_csv(series: Sequence[Series], path: Path, stem: str) -> None:
    columns = _to_columns(series, stem)
    cells = [[_cell(value) for value in column] for column in columns.values()]
    comment = any(str(text).startswith("#") for text in (next(iter(columns)), *cells[0]))  # quoted, it is none
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL if comment else csv.QUOTE_MINIMAL, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*cells))


def _cell(value: Any) -> Any:
    return "" if value != value else value  # NaN is the only value that differs from itself


def read_parquet(path: Path, columns: Columns) -> list[Series]:
    import pandas

    try:
        frame = pandas.read_parquet(path)
    except (ValueError, TypeError) as error:  # pyarrow's errors are ValueErrors
        raise DataError(f"{path}: not a Parquet file: {error}") from error
    if frame.index.names != [None]:  # pandas has put a column such as time away as the index
        frame = frame.reset_index()
    frame.columns = [str(name).strip() for name in frame.columns]
    check_labels(list(frame.columns), f"{path}: column name")
    table = {}
    for name, column in frame.items():
        cells = column.to_numpy()
        numeric = cells.dtype.kind in "iufM"
        table[name] = cells if numeric else column.astype(object).where(column.notna(), None).to_numpy()
    return _Table(path, range(1, len(frame) + 1), table).series(columns)


def write_parquet(series: Sequence[Series], path: Path, stem: str) -> None:
    import pyarrow
    from pyarrow import parquet

    with path.open("wb") as stream:  # Python's own errors are plainer than pyarrow's
        parquet.write_table(pyarrow.table(_to_columns(series, stem, dates=False)), stream)


def _to_columns(series: Sequence[Series], stem: str, dates: bool = True) -> dict[str, Any]:
    """Columns of a table that is read back as `series`: time if any, variables, and id unless one is called `stem`."""
    names = series[0].names
    if reserved := [name for name in names if name.lower() in TIME_NAMES + ID_NAMES]:
        raise DataError(f"variable '{reserved[0]}' would be read back as a time or id column of the table; rename it")
    columns: dict[str, Any] = {}
    if [one.id for one in series] != [stem]:
        columns["id"] = [one.id for one in series for _ in range(one.steps)]
    times = [one.time for one in series if one.time is not None]
    if times:
        time = np.concatenate(times)  # [R]
        columns["time"] = iso_dates(time) if dates and time.dtype.kind == "M" else time
    values = np.concatenate([one.values for one in series])  # [R, D]
    columns.update((name, values[:, position]) for position, name in enumerate(names))
    return columns

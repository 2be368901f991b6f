"""Series in tables, text, Parquet and pandas: a column a variable, and maybe columns of times and of ids.

Shapes: R rows of a table, D variables. Rows are counted from 1 in messages: lines of the file for text.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loracast.errors import DataError
from loracast.series.calendar import Calendar, in_nanoseconds
from loracast.series.cells import EITHER, MISSING, NumberStyle, as_texts, pc, strip, style_of
from loracast.series.columns import Table
from loracast.series.roles import BY_CONVENTION, Columns, Roles, find_roles
from loracast.series.steps import build_series
from loracast.series.text import Cells, TextTable, one_line, read_as_text, read_text
from loracast.series.types import Series, check_labels
from loracast.series.words import is_id, is_time, is_year

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Reading:
    """Series, and what was understood of the file or table that they come from.

    notices: what was done that a reader of the table would want to know, a sentence each.
    """

    series: list[Series]
    source: str
    time: str | None
    rows: int
    filled: int
    notices: tuple[str, ...] = ()

    def understood(self) -> str:
        """Two lines: times, series and steps; variables, rows and gaps."""
        first = self.series[0]
        lengths = sorted({one.steps for one in self.series})
        steps = f"{lengths[0]:,}" if len(lengths) == 1 else f"{lengths[0]:,} to {lengths[-1]:,}"
        count = f"{len(self.series):,} series of {steps} step{'s' * (steps != '1')}"
        calendars = {one.calendar for one in self.series if one.calendar is not None}
        if self.time is None or first.time is None:
            time = "no column of times, rows are steps"
        else:
            calendar = next(iter(calendars), Calendar("second" if first.time.dtype.kind == "M" else "number"))
            ends = [one.time for one in self.series if one.time is not None]
            low, high = min(one[0] for one in ends), max(one[-1] for one in ends)
            begin, end = calendar.texts(np.array([low, high]))
            spacing = "several spacings" if len(calendars) > 1 else calendar.describe() if calendars else "a time each"
            spacing = "yearly" if calendar == Calendar("number", 1) and is_year(self.time) else spacing
            named = f"time '{self.time}'" if self.time else "time"
            time = f"{named} from {begin} to {end}, {spacing}" + (f", {calendar.zone}" if calendar.zone else "")
        roles = [f"variables {_listed(first.targets)}"]
        roles += [f"known beforehand {_listed(first.known)}"] if first.known else []
        roles += [f"read only {_listed(first.past)}"] if first.past else []
        missing_cells = int(sum(np.isnan(one.values).sum() for one in self.series)) - self.filled * first.variables
        read = sum(one.steps for one in self.series) - self.filled
        rows = (
            f"{self.rows:,} of {self.rows:,} rows read"
            if read == self.rows
            else f"{self.rows:,} rows read as {read:,} steps"
        )
        absent = f"{self.filled:,} absent step{'s' * (self.filled > 1)} filled with missing values"
        gaps = [absent] if self.filled else []
        gaps += [f"{missing_cells:,} missing value{'s' * (missing_cells > 1)}"] if missing_cells > 0 else []
        return f"{self.source}: {time}; {count}\n{'; '.join(roles)}; {rows}; {', '.join(gaps) or 'nothing missing'}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:7])} and {len(names) - 7} more"


def read_table(path: Path, columns: Columns) -> Reading:
    """The series of a text file."""
    text = read_text(path, columns.id)
    style = style_of(_unusual(text), text.delimiter)
    if (
        isinstance(style, NumberStyle)
        and style.decimal == ","
        and any(isinstance(one, np.ndarray) for one in text.columns)
    ):
        text = read_as_text(path)  # dots, too, are not what they are elsewhere
        style = style_of(_unusual(text), text.delimiter)
    check_header(text.header, str(path))
    cells: dict[str, Cells] = dict(zip(text.header, text.columns))
    if isinstance(style, str):
        raise DataError(f"{path}: {style}")
    table = Table(str(path), _stem(path), cells, text.lines, style, order=columns.dates, absent=columns.missing)
    notices = [*text.notices]
    if style.decimal == ",":
        notices.append("numbers are read with a decimal comma")
    elif comma := next((cell for cell in _unusual(text) if EITHER.fullmatch(cell)), None):
        notices.append(f"numbers such as {comma} are read with a comma between thousands")
    elif text.delimiter == ";" and (dotted := _grouped_by_dots(text)):
        notices.append(f"numbers such as {dotted} are read with a decimal point (not with dots between thousands)")
    return reading_of(table, columns, notices)


def _grouped_by_dots(text: TextTable) -> str | None:
    """A number with three digits after its point, where all numbers of a column are such; None where there is none."""
    for name, column in zip(text.header, text.columns):
        if is_id(name) or is_time(name) or isinstance(column, np.ndarray):
            continue
        present = [cell for cell in pc.unique(column).to_pylist() if cell.lower() not in MISSING]
        if present and all(re.fullmatch(r"[+-]?[1-9]\d{0,2}\.\d{3}", cell) for cell in present):
            return present[0]
    return None


def _unusual(text: TextTable) -> list[str]:
    """The different cells of text that are made of digits and signs, which tell how a file writes its numbers."""
    texts: set[str] = set()
    for name, column in zip(text.header, text.columns):
        if not isinstance(column, np.ndarray) and not is_id(name):
            different = pc.unique(column)
            texts |= set(pc.filter(different, pc.match_substring_regex(different, r"^[^\pL]*\d[^\pL]*$")).to_pylist())
    return sorted(texts)


def read_parquet(path: Path, columns: Columns) -> Reading:
    """The series of a Parquet file."""
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
    except (ValueError, TypeError) as error:  # pyarrow's errors are ValueErrors
        raise DataError(f"{path}: not a Parquet file: {error}") from error
    return read_frame(frame, columns, str(path), path.stem)


def series_from_frame(frame: pd.DataFrame, columns: Columns = BY_CONVENTION) -> list[Series]:
    """The series of a pandas table, as `read_series` reads those of a file.

    Args:
        frame: a column a variable; times and ids in columns or in the index.
        columns: which columns are what; found by their names and contents unless given.

    Warns:
        UserWarning: for what was done to the table, such as a column that was left out.

    Raises:
        DataError: for what cannot be read, naming row and column.

    Examples:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"month": ["2020-01", "2020-02", "2020-03"], "hare": [3, 5, 4], "lynx": [1, 1, 2]})
        >>> loracast.series_from_frame(frame, loracast.Columns(time="month", targets=("hare", "lynx")))
        [Series('0', 3 steps × hare, lynx, 2020-01 to 2020-03)]
    """
    reading = read_frame(frame, columns)
    reading_warnings(reading)
    return reading.series


def reading_warnings(reading: Reading) -> None:
    """Warns, once, of everything that was noticed when a table was read."""
    import warnings

    if reading.notices:
        warnings.warn(f"{reading.source}: {'; '.join(reading.notices)}", stacklevel=3)


def read_frame(frame: pd.DataFrame, columns: Columns, source: str = "the table", stem: str = "0") -> Reading:
    """The series of a pandas table, and what was understood of it."""
    import pandas as pd

    if frame.index.names != [None] or isinstance(frame.index, pd.DatetimeIndex | pd.PeriodIndex):
        frame = frame.reset_index()
    header = [one_line(str(name)) for name in frame.columns]
    check_header(header, source)
    zones: dict[str, str] = {}
    cells: dict[str, Cells] = {}
    for position, name in enumerate(header):
        cells[name] = _frame_column(frame.iloc[:, position], name, zones)
    table = typed_table(source, stem, cells, range(1, len(frame) + 1), columns)
    table.zones = zones
    return reading_of(table, columns, [])


def _frame_column(column: pd.Series, name: str, zones: dict[str, str]) -> Cells:
    """A column of a pandas table; the name of its time zone goes into `zones`."""
    import pandas as pd

    if isinstance(column.dtype, pd.PeriodDtype):
        column = column.dt.to_timestamp()
    if isinstance(column.dtype, pd.ArrowDtype) and column.dtype.kind == "M":
        column = pa.array(column).to_pandas()  # as pandas' own dates, with their time zone
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        zones[name] = str(column.dt.tz)
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    if pd.api.types.is_datetime64_dtype(column.dtype):
        cells = column.to_numpy()
        nanoseconds = in_nanoseconds(cells)
        if np.any(np.isnat(nanoseconds) & ~np.isnat(cells)):
            raise DataError(
                f"column '{name}': dates lie between the years 1678 and 2262; give years as numbers instead"
            )
        return nanoseconds
    if pd.api.types.is_timedelta64_dtype(column.dtype):
        return column.dt.total_seconds().to_numpy(np.float64)
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        return column.to_numpy(np.float64, na_value=np.nan)
    if isinstance(column.dtype, pd.StringDtype):
        cells = pa.array(column, pa.string(), from_pandas=True)
        cells = cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells
        return strip(pc.fill_null(cells, ""))
    return as_texts(column.astype(object).where(column.notna(), None))


def typed_table(source: str, stem: str, cells: dict[str, Cells], rows: Sequence[int], columns: Columns) -> Table:
    """The table of cells by column, of which those of text may be numbers; rows are what each is called in messages."""
    style = style_of(_unusual(TextTable(list(cells), list(cells.values()), ",", rows)), ",")
    if isinstance(style, str):
        raise DataError(f"{source}: {style}")
    return Table(source, stem, cells, rows, style or NumberStyle(), order=columns.dates, absent=columns.missing)


def reading_of(table: Table, columns: Columns, notices: list[str]) -> Reading:
    """The series of a table, and what was understood of it; `notices` are those from before."""
    if not len(table):
        raise DataError(f"{table.source}: there are no rows below the header")
    roles = find_roles(table, columns)
    _check_named(table, roles)
    series, filled = build_series(table, roles, columns)
    time = " and ".join(roles.time) if roles.time else None
    return Reading(series, table.source, time, len(table), filled, (*notices, *roles.notices, *table.notices))


def _check_named(table: Table, roles: Roles) -> None:
    if "" in roles.names:
        place = table.names.index("") + 1
        raise DataError(f"{table.source}: column {place} holds numbers and has no name; give it one in the header")


def check_header(header: Sequence[str], source: str) -> None:
    """A DataError where two columns have the same name, or several have none."""
    named = [name for name in header if name]
    if twice := next((name for place, name in enumerate(named) if name in named[:place]), None):
        raise DataError(
            f"{source}: column name '{twice}' appears more than once; rename one (where names stand in two rows, join "
            "them into one)"
        )
    check_labels(named, f"{source}: column name")
    if len(header) - len(named) > 1:
        raise DataError(f"{source}: {len(header) - len(named)} columns have no name; give each one in the header")


def _stem(path: Path) -> str:
    return Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem


def write_csv(series: Sequence[Series], path: Path, stem: str) -> None:
    columns = to_columns(series, stem)
    cells = [[_cell(value) for value in column] for column in columns.values()]
    comment = any(str(text).startswith("#") for text in (next(iter(columns)), *cells[0]))  # quoted, it is none
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL if comment else csv.QUOTE_MINIMAL, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*cells))


def _cell(value: Any) -> Any:
    return "" if value != value else value  # NaN is the only value that differs from itself


def write_parquet(series: Sequence[Series], path: Path, stem: str) -> None:
    from pyarrow import parquet

    with path.open("wb") as stream:  # Python's own errors are plainer than pyarrow's
        parquet.write_table(pa.table(to_columns(series, stem, dates=False)), stream)


def to_columns(series: Sequence[Series], stem: str, dates: bool = True) -> dict[str, Any]:
    """Columns of a table that is read back as `series`: time if any, variables, and id unless one is called `stem`."""
    names = series[0].names
    if reserved := [name for name in names if is_time(name) or is_id(name)]:
        raise DataError(f"variable '{reserved[0]}' would be read back as a time or id column of the table; rename it")
    columns: dict[str, Any] = {}
    if [one.id for one in series] != [stem]:
        columns["id"] = [one.id for one in series for _ in range(one.steps)]
    times = [one.time for one in series if one.time is not None]
    if times:
        calendar = series[0].calendar
        time = np.concatenate(times)  # [R]
        if calendar is not None and calendar.zone:
            zoned = calendar.index(time)
            columns["time"] = [one.isoformat() for one in zoned] if dates else pa.array(zoned)
        else:
            columns["time"] = iso_dates(time) if dates and time.dtype.kind == "M" else time
    values = np.concatenate([one.values for one in series])  # [R, D]
    columns.update((name, values[:, position]) for position, name in enumerate(names))
    return columns


def iso_dates(time: NDArray[Any]) -> list[str]:
    """Dates [T] as ISO 8601 text, with as many digits as each needs."""
    return np.datetime_as_string(time, unit="auto").tolist()

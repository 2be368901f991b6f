"""Rows of a table to evenly spaced series: sorting, duplicates, absent steps, uneven times, coarser steps.

Shapes: R rows of a table, D variables, T steps of a series, N series.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loracast.errors import DataError
from loracast.series.calendar import Calendar
from loracast.series.columns import Table
from loracast.series.doubts import doubts, uneven_ends
from loracast.series.grid import bin_times, infer_calendar, place, read_every
from loracast.series.roles import Columns, Roles
from loracast.series.times import times
from loracast.series.types import Series, check_labels
from loracast.series.words import DAY, HOUR, MONTH, QUARTER, WEEK, is_season, option, plain

Floats = NDArray[np.float64]


@dataclass
class _Rows:
    """Rows sorted by series and time: values [R, D], codes [R] of their series, times [R], places [R] in the table."""

    values: Floats
    codes: NDArray[np.int64]
    time: NDArray[Any]
    place: NDArray[np.int64]

    @property
    def starts(self) -> NDArray[np.bool_]:
        """Where a new series begins, [R]."""
        return np.concatenate([[True], self.codes[1:] != self.codes[:-1]])


def build_series(table: Table, roles: Roles, columns: Columns) -> tuple[list[Series], int]:
    """The series of a table, and how many absent steps were filled with missing values."""
    values = table.value_columns(roles.names)  # [R, D]
    codes, labels = table.groups(roles.id)
    for row in np.flatnonzero([not label.strip("/") for label in labels])[:1]:
        at = int(np.argmax(codes == row))
        raise table.problem(
            " and ".join(roles.id),
            at,
            "the id is missing; give every row the id of its series (a cell that is merged in a spreadsheet fills the "
            "first of its rows only)",
        )
    check_labels(labels, f"{table.source}: series id")
    series, filled = _series(table, roles, columns, values, codes, labels)
    if len(series) > 1 and not columns.targets and all(one.steps == 1 for one in series):
        table.notices.append(
            "every series has a single step: if columns are times, turn the table; if the rows are one series, name "
            "another column with --id"
        )
    if not columns.targets and np.isnan(values).any() and (notice := uneven_ends(series)):
        table.notices.append(notice)
    return series, filled


def _series(
    table: Table, roles: Roles, columns: Columns, values: Floats, codes: NDArray[np.int64], labels: Sequence[str]
) -> tuple[list[Series], int]:
    """Series of the values [R, D] of rows, given the code [R] of each row's series among labels [N]."""
    if not roles.time:
        order = np.argsort(codes, kind="stable")
        rows = _Rows(values[order], codes[order], np.zeros(0), order)
        _doubt(table, roles, columns, rows)
        bounds = np.searchsorted(rows.codes, np.arange(len(labels) + 1))
        return _split(rows.values, bounds, labels, roles, None, None), 0
    time, zone = times(table, roles.time, columns.zone)
    if time.dtype.kind == "M":
        time = time.astype("datetime64[ns]", copy=False)
    where = " and ".join(roles.time) or "the first column"
    rows = _sorted(table, where, values, codes, time)
    _doubt(table, roles, columns, rows)
    if columns.every:
        rows, calendar = _resampled(table, rows, labels, columns, zone)
    else:
        rows = _without_duplicates(table, rows, labels, roles, columns, zone)
        calendar = None
    return _on_calendar(table, rows, labels, roles, calendar, zone)


def _doubt(table: Table, roles: Roles, columns: Columns, rows: _Rows) -> None:
    def row(index: int) -> int:
        return table.rows[int(rows.place[index])]

    table.notices += doubts(rows.values, roles.names, row, rows.starts, bool(columns.targets))


def _sorted(table: Table, where: str, values: Floats, codes: NDArray[np.int64], time: NDArray[Any]) -> _Rows:
    place = np.arange(len(codes))
    if np.any((codes[1:] < codes[:-1]) | ((codes[1:] == codes[:-1]) & (time[1:] < time[:-1]))):
        order = np.lexsort((time, codes))
        grouped = np.argsort(codes, kind="stable")
        moved = int((order != grouped).sum())
        if moved:
            table.notices.append(f"rows were not in the order of {where}: sorted ({moved} moved)")
        values, codes, time, place = values[order], codes[order], time[order], place[order]
    return _Rows(values, codes, time, place)


def _without_duplicates(
    table: Table, rows: _Rows, labels: Sequence[str], roles: Roles, columns: Columns, zone: str | None
) -> _Rows:
    same = np.concatenate([[False], (rows.codes[1:] == rows.codes[:-1]) & (rows.time[1:] == rows.time[:-1])])
    if not same.any():
        return rows
    count = int(same.sum())
    if columns.duplicates == "mean":
        table.notices.append(f"{count} row{'s' * (count > 1)} with a time that was there already: averaged")
        return _aggregated(rows, np.cumsum(~same) - 1, "mean")
    second = int(np.argmax(same))
    numbers = sorted(table.rows[int(rows.place[index])] for index in (second - 1, second))
    dated = rows.time.dtype.kind == "M"
    unit: Any = "second" if dated else "number"
    [time] = Calendar(unit, zone=zone).texts(rows.time[second : second + 1])
    of_day = dated and zone is None and len(time) > len("2020-01-31")
    clocks = "if clocks were set back then, name the time zone, as in --zone Europe/Berlin; else " if of_day else ""
    raise DataError(
        f"{table.source}, rows {numbers[0]} and {numbers[1]}: time {time} appears twice in series "
        f"'{labels[int(rows.codes[second])]}'; {clocks}{_advice(table, roles)}correct one, or average them with "
        "--duplicates mean"
    )


def _advice(table: Table, roles: Roles) -> str:
    """What would leave no time twice: the columns that tell series apart, or a date beside a part of one."""
    if len(roles.time) == 1 and plain(roles.time[0]) in {*MONTH, *QUARTER, *WEEK, *DAY, *HOUR}:
        return f"'{roles.time[0]}' alone does not tell when: give its year or date in another column; else "
    time, _ = times(table, roles.time, None)
    candidates = [
        name for name in table.names if name not in (*roles.time, *roles.id) and table.codes(name) is not None
    ]
    for name in candidates:
        codes, labels = table.groups([*roles.id, name])
        if len(labels) > len(table) / 2:
            continue
        pairs = np.unique(np.rec.fromarrays([codes, time]))
        if len(pairs) == len(time):
            joined = ",".join(option(one) for one in (*roles.id, name))
            if is_season(name):
                return f"write year and {name} as one time, such as 2020Q1, or say --id {joined}; else "
            both = " (or give each a column of its own, to forecast them together)" if not roles.id else ""
            return f"if column '{name}' tells series apart, say --id {joined}{both}; else "
    return ""


def _aggregated(rows: _Rows, groups: NDArray[np.int64], how: str) -> _Rows:
    """One row for each group [R], counted from 0 in the order of the rows."""
    import pandas as pd

    frame = pd.DataFrame(rows.values).groupby(groups)
    values: Any = frame.sum(min_count=1) if how == "sum" else frame.agg(how)
    first = np.flatnonzero(np.concatenate([[True], np.diff(groups) > 0]))
    return _Rows(values.to_numpy(), rows.codes[first], rows.time[first], rows.place[first])


def _resampled(
    table: Table, rows: _Rows, labels: Sequence[str], columns: Columns, zone: str | None
) -> tuple[_Rows, Calendar]:
    """Rows by the steps of a chosen calendar, from its first step on."""
    calendar = read_every(columns.every or "", rows.time.dtype.kind == "M", zone)
    bins, begins = bin_times(rows.time, calendar)
    new = rows.starts | np.concatenate([[True], np.diff(bins) != 0])
    rows.time = begins
    if not new.all():
        if columns.aggregate is None:
            second = int(np.argmin(new))
            numbers = [table.rows[int(rows.place[index])] for index in (second - 1, second)]
            raise DataError(
                f"{table.source}, rows {numbers[0]} and {numbers[1]}: several rows of series "
                f"'{labels[int(rows.codes[second])]}' fall into one step of --every {columns.every}; say with "
                "--aggregate what becomes of them: mean, sum, median, min, max or last"
            )
        merged = int((~new).sum())
        rows = _aggregated(rows, np.cumsum(new) - 1, columns.aggregate)
        table.notices.append(
            f"{merged + len(rows.codes)} rows brought to {len(rows.codes)} steps ({columns.aggregate})"
        )
    return rows, calendar


def _on_calendar(
    table: Table, rows: _Rows, labels: Sequence[str], roles: Roles, calendar: Calendar | None, zone: str | None
) -> tuple[list[Series], int]:
    starts = rows.starts
    bounds = np.append(np.flatnonzero(starts), len(starts))
    if calendar is not None:
        positions = _positions_on(rows.time, calendar, bounds)
    else:
        found = infer_calendar(rows.time, starts, zone)
        if found is None and len(bounds) - 1 < len(starts):
            return _one_by_one(table, rows, bounds, labels, roles, zone)
        calendar, positions = found or (None, np.zeros(len(starts), np.int64))
    return _filled(table, rows, bounds, positions, labels, roles, calendar)


def _positions_on(time: NDArray[Any], calendar: Calendar, bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions [R] of times that begin steps of a calendar, from the first of each series."""
    positions = np.zeros(len(time), np.int64)
    for start, stop in pairwise(bounds):
        positions[start:stop] = bin_times(time[start:stop], calendar)[0]
    return positions


def _one_by_one(
    table: Table, rows: _Rows, bounds: NDArray[np.int64], labels: Sequence[str], roles: Roles, zone: str | None
) -> tuple[list[Series], int]:
    """Series that have calendars of their own, or times that lie near those of one."""
    series, filled, moved = [], 0, 0
    most = 0.0
    for start, stop in pairwise(bounds):
        here = slice(start, stop)
        part = _Rows(rows.values[here], rows.codes[here], rows.time[here], rows.place[here])
        label = labels[int(part.codes[0])]
        found = infer_calendar(part.time, None, zone) if stop - start > 1 else (None, np.zeros(stop - start, np.int64))
        if found is None:
            try:
                calendar, positions, part.time, share = place(part.time, zone)
            except DataError as error:
                raise DataError(f"{table.source}, series '{label}': {error}") from error
            moved, most = moved + 1, max(most, share)
        else:
            calendar, positions = found
        part.codes = np.zeros(stop - start, np.int64)
        whole, count = _filled(None, part, np.array([0, stop - start]), positions, [label], roles, calendar)
        series += whole
        filled += count
    if moved:
        which = f"the times of series '{series[0].id}'" if len(series) == 1 else f"the times of {moved} series"
        spacing = next(one.calendar for one in series if one.calendar).describe()
        table.notices.append(
            f"{which} lie up to {_share(most)} of a step beside an even grid: placed on it ({spacing})"
        )
    if filled:
        table.notices.append(f"{filled} absent steps are read as missing")
    return series, filled


def _share(part: float) -> str:
    return f"{part:.0%}" if part >= 0.005 else "1%"


def _filled(
    table: Table | None,
    rows: _Rows,
    bounds: NDArray[np.int64],
    positions: NDArray[np.int64],
    labels: Sequence[str],
    roles: Roles,
    calendar: Calendar | None,
) -> tuple[list[Series], int]:
    """Series with a row of missing values for each absent step, given each row's position [R] in its series."""
    order = [labels[int(code)] for code in rows.codes[bounds[:-1]]]
    spans = positions[bounds[1:] - 1] + 1  # [N]
    absent = int(spans.sum()) - len(positions)
    if not absent:
        return _split(rows.values, bounds, order, roles, rows.time, calendar), 0
    wide = np.concatenate([[0], np.cumsum(spans)])
    where = positions + np.repeat(wide[:-1], np.diff(bounds))  # [R]
    values = np.full((wide[-1], rows.values.shape[1]), np.nan)
    values[where] = rows.values
    assert calendar is not None  # a series of one row has no step to be absent
    inside = np.arange(wide[-1]) - np.repeat(wide[:-1], spans)
    time = calendar.times(np.repeat(rows.time[bounds[:-1]], spans), inside).astype(rows.time.dtype)
    time[where] = rows.time
    if table is not None:
        many = f" in {int((spans > np.diff(bounds)).sum())} of {len(spans)} series" if len(spans) > 1 else ""
        verb = "is" if absent == 1 else "are"
        table.notices.append(f"{absent} absent {_unit(calendar, absent)}{many} {verb} read as missing")
    return _split(values, wide, order, roles, time, calendar), absent


def _unit(calendar: Calendar, count: int) -> str:
    """What absent steps are called: months, or steps where a step is several units."""
    text = calendar.amount(1)
    return text.removeprefix("1 ") + "s" * (count > 1) if text.startswith("1 ") else f"step{'s' * (count > 1)}"


def _split(
    values: Floats,
    bounds: NDArray[np.int64],
    labels: Sequence[str],
    roles: Roles,
    time: NDArray[Any] | None,
    calendar: Calendar | None,
) -> list[Series]:
    """Views of the rows between bounds [N + 1], as series."""
    values = np.ascontiguousarray(values)
    values.flags.writeable = False
    if time is not None:
        time = np.array(time)
        time.flags.writeable = False
    names = roles.names
    check_labels(names, "variable name")
    edges = bounds.tolist()
    return [
        Series.unchecked(
            values[start:stop],
            names,
            label,
            None if time is None else time[start:stop],
            roles.known,
            roles.past,
            calendar if stop - start > 1 or calendar is not None else None,
        )
        for start, stop, label in zip(edges[:-1], edges[1:], labels)
    ]

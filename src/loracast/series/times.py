"""The columns of a table as times: numbers, dates in one column or in parts, and their time zone.

Shapes: R rows of a table, U different cells of a column.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loracast.errors import DataError
from loracast.series.calendar import localise
from loracast.series.cells import missing, pc
from loracast.series.columns import Table
from loracast.series.date_parts import hours, is_clock, is_part, join, missing_time, parts_of
from loracast.series.dates import (
    DIGITS,
    Order,
    compact,
    has_short_years,
    orders_of,
    parse_dates,
    parse_ordered,
    seasons_of,
    since_1970,
    weeks,
)
from loracast.series.grid import infer_calendar
from loracast.series.words import DATE, MONTH, WEEK, plain

SINCE_1970 = {*DATE, "time", "unix", "unixtime", "epoch"}  # words of columns whose numbers may be a computer's clock
COMPACT = SINCE_1970 | {*MONTH, *WEEK, "day", "t", "yearmonth", "yyyymm", "yyyymmdd", "ym"}  # or digits of dates


def looks_timed(table: Table, name: str) -> bool:
    """Whether a column that is called like a time holds numbers, dates or parts of dates, some at least."""
    kind = table.kind(name)
    if kind != "text" or is_part(table, name):
        return kind not in ("text", "empty")
    return any(text[:1].isdigit() for text in np.unique(_texts(table, name)))


def names_years(table: Table, name: str) -> bool:
    """Whether a column of text has another cell in each row, nearly all with a year, as times have."""
    cells = table.columns[name]
    if isinstance(cells, np.ndarray) or len(cells.unique()) < len(cells) or len(cells) < 3:
        return False
    return pc.sum(pc.match_substring_regex(cells, r"(^|\D)(1[5-9]|20)\d{2}(\D|$)")).as_py() >= 0.8 * len(cells)


def times(table: Table, names: Sequence[str], zone: str | None) -> tuple[NDArray[Any], str | None]:
    """The times [R] of a column, or of the columns in which dates are kept in parts, and their time zone.

    Numbers, or datetime64[ns], in UTC where there is a zone. A DataError names a cell that is not a time.
    """
    time, own = _time(table, names[0]) if len(names) == 1 else (_join(table, names), None)
    if time.dtype.kind == "M" and zone is not None:
        if own is None:
            return localise(time, zone, table.source), zone
        return time, zone
    if own == "UTC" and len(names) == 1 and names[0] not in table.zones and _several_offsets(table, names[0]):
        table.notices.append(f"the offsets of '{names[0]}' differ: times are read as UTC (or name a --zone)")
    return time, own


def _several_offsets(table: Table, name: str) -> bool:
    cells = table.columns[name]
    return (
        not isinstance(cells, np.ndarray)
        and not pc.all(pc.match_substring_regex(cells, "(?i)(Z|UTC|GMT|[+-]00:?00)$")).as_py()
    )


def _time(table: Table, name: str) -> tuple[NDArray[Any], str | None]:
    cells = table.columns[name]
    if isinstance(cells, np.ndarray):
        if cells.dtype.kind == "M":
            _refuse_absent(table, name, np.isnat(cells))
            return cells, table.zones.get(name)
        _refuse_absent(table, name, np.isnan(cells))
        return _of_numbers(table, name, cells)
    _refuse_absent(table, name, missing(cells) | table.is_absent(cells))
    strange = table.parsed(name)[1]
    if not strange.any():
        return _of_numbers(table, name, table.numbers(name))
    encoded = cells.dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    texts: list[str] = encoded.dictionary.to_pylist()
    if {*plain(name).split(" ")} & {*WEEK}:
        texts = [re.sub(r"^(\d{1,2})[/.-](\d{4})$", r"\2-W\1", text) for text in texts]
    if has_short_years(texts):
        table.notices.append(f"two-digit years such as that of {texts[0]} read as 1937 to 2036")
    if (seasons := seasons_of(texts)) is not None:
        table.notices.append(f"seasons such as {texts[0]} read as the years in which they begin")
        return seasons[codes], None
    orders = orders_of(texts)
    if orders:
        return _ordered(table, name, texts, codes, orders), None
    dates, unread, zone = parse_dates(texts)
    if unread.any():
        raise no_time(table, name, "take that row out if it is none of the data, or choose the times with --time")
    return dates[codes], zone


def no_time(table: Table, name: str, advice: str) -> DataError:
    """The error for the first cell of a column of text that is not a time."""
    cells = table.columns[name]
    assert not isinstance(cells, np.ndarray)  # numbers and dates are times
    encoded = cells.dictionary_encode()
    codes, texts = encoded.indices.to_numpy(zero_copy_only=False), encoded.dictionary.to_pylist()
    strange, unread = table.parsed(name)[1], parse_dates(texts)[1][codes]
    row = int(np.argmax(strange if strange.sum() <= unread.sum() else unread))
    kind = "is neither a number nor a date that can be read in one way"
    if is_part(table, name):
        kind = "is a time of day without a date" if is_clock(table, name) else "is a month without a year"
    if DIGITS.fullmatch(texts[codes[row]]) and any("T" in text for text in texts):
        kind += " beside dates (which a spreadsheet that puts the month first may have swapped)"
    return table.problem(
        name,
        row,
        f"{texts[codes[row]]!r} {kind}; write dates as 2020-01-31 (years from 1678 to 2262; others as numbers), "
        f"{advice}",
    )


def _ordered(table: Table, name: str, texts: list[str], codes: NDArray[np.int64], orders: list[Order]) -> NDArray[Any]:
    """Dates [R] such as 01/02/2020, in the only order of day and month that is possible or evenly spaced."""
    chosen: list[Order] = [table.order] if table.order else orders
    read = {order: parse_ordered(texts, order) for order in chosen}
    fits = {order: dates[codes] for order, dates in read.items() if dates is not None}
    if len(fits) > 1:
        even = {order: time for order, time in fits.items() if infer_calendar(np.unique(time)) is not None}
        fits = even if len(even) == 1 else fits
        if len(fits) == 1:
            table.notices.append(f"dates such as {texts[-1]} read {next(iter(fits))}, as they are evenly spaced so")
    if len(fits) != 1:
        problem = "can be read with the day or the month first" if fits else "do not all have such an order"
        advice = "say --dates day-first or --dates month-first" if fits else "write dates as 2020-01-31"
        raise table.problem(name, 0, f"dates such as {texts[0]!r} {problem}; {advice}")
    return next(iter(fits.values()))


def _of_numbers(table: Table, name: str, numbers: NDArray[np.float64]) -> tuple[NDArray[Any], str | None]:
    """Numbers [R] as they are or, with a notice, as dates such as 20200131 where the column is called like those.

    Weeks such as 202005 and times since 1970, which are in UTC, are dates, too.
    """
    named = {*plain(name).split(" ")}
    if not named & COMPACT:
        return numbers, None
    unique, codes = np.unique(numbers, return_inverse=True)
    dates, what, zone = compact(unique), "dates", None
    if named & {*WEEK}:
        dates, what = weeks(unique), "ISO weeks"
    elif dates is None and named & SINCE_1970:
        dates, what, zone = since_1970(unique), "times since 1970, in UTC", "UTC"
    if dates is not None:
        table.notices.append(f"numbers such as {unique[0]:.0f} in '{name}' read as {what}")
        return dates[codes], zone
    if named & {*DATE} and (serial := _serial(name, unique)):
        table.notices.append(serial)
    return numbers, None


def _serial(name: str, numbers: NDArray[np.float64]) -> str | None:
    """A notice where numbers may be the days since 1900 that spreadsheets keep."""
    low, high = numbers.min(), numbers.max()
    if low <= 20_000 or high >= 80_000:
        return None
    date = np.datetime64("1899-12-30") + np.timedelta64(int(low), "D")
    return (
        f"'{name}' is read as numbers; if they are a spreadsheet's days ({low:.0f} would be {date}), format that "
        "column as dates there"
    )


def _join(table: Table, names: Sequence[str]) -> NDArray[Any]:
    """Dates [R] that are kept in parts."""
    parts = parts_of(table, names)
    if "year" in parts:
        return join(table, parts)
    if "hour" in parts:
        return _time(table, parts["date"])[0] + hours(table.numbers(parts["hour"]))
    cells = [_texts(table, name) for name in parts.values()]
    joined = pa.array([f"{date} {clock}" for date, clock in zip(*cells)])
    whole = Table(table.source, table.stem, {" ".join(names): joined}, table.rows, table.style, order=table.order)
    return _time(whole, " ".join(names))[0]


def _texts(table: Table, name: str) -> list[str]:
    cells = table.columns[name]
    if isinstance(cells, np.ndarray):
        return np.datetime_as_string(cells, unit="D").tolist()
    return cells.to_pylist()


def _refuse_absent(table: Table, name: str, absent: NDArray[np.bool_]) -> None:
    if absent.any():
        raise missing_time(table, name, int(np.argmax(absent)))

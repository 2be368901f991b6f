"""Dates that a table keeps in parts: year and month, and maybe day and hour; year and quarter or week; date and clock.

Shapes: R rows of a table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loracast.errors import DataError
from loracast.series.cells import pc
from loracast.series.columns import Table
from loracast.series.dates import orders_of, parse_dates, seasons_of
from loracast.series.words import BESIDE_A_YEAR, CLOCK, DATE, HOUR, US_WEEKS, YEAR, is_time, month_number, plain

LIMITS = {"month": (1, 12), "day": (1, 31), "hour": (0, 24), "quarter": (1, 4), "week": (1, 53)}
LIMITS["day of the year"] = (1, 366)


def parts_of(table: Table, names: Sequence[str]) -> dict[str, str]:
    """The columns, among those named, that keep a date in parts, by the part that each keeps; empty where none do."""
    for year in names:
        words = plain(year).split(" ")
        if not table.is_numeric(year) or not (is_time(year) or words[0] == "yyyy"):
            continue
        first = words[0] in {*YEAR, "yyyy"}
        if not first and words[-1] not in YEAR:
            continue
        prefix = "" if first else " ".join(words[:-1]) + " "  # MMWR Year beside MMWR Week
        repeated = len(np.unique(table.numbers(year))) < len(table)
        found: dict[str, str] = {}
        for name in names:
            kind = _kind_of_part(table, name, prefix, repeated) if name != year else None
            if kind is not None:
                found.setdefault(kind, name)
        if "month" in found:
            order = ["month", "day", "hour"] if "day" in found else ["month"]
            return {"year": year} | {kind: found[kind] for kind in order if kind in found}
        for kind in ("quarter", "week", "day of the year", "day"):
            if kind in found:
                return {"year": year, ("day of the year" if kind == "day" else kind): found[kind]}
    return _date_and_clock(table, names)


def _kind_of_part(table: Table, name: str, prefix: str, repeated: bool) -> str | None:
    """Which part of a date a column keeps beside one of years, whose name has that prefix; None for no part.

    repeated: whether a year stands in several rows.
    """
    words = plain(name)
    if not words.startswith(prefix):
        return None
    rest = words.removeprefix(prefix)
    for kind, called in BESIDE_A_YEAR.items():
        beginning = rest.split(" ")[0] if is_time(name) and kind != "hour" else rest
        if beginning in called and len(beginning) > 2:
            return kind if table.is_numeric(name) or is_part(table, name) else None
        if beginning in called and _holds(table, name, kind, repeated):
            return kind
    return None


def _holds(table: Table, name: str, kind: str, repeated: bool) -> bool:
    """Whether a column with a short name, such as MO, holds numbers of a part of a year that stands in several rows."""
    if not repeated or not (table.is_numeric(name) or is_part(table, name)):
        return False
    numbers, (low, high) = _numbers(table, name), LIMITS[kind]
    return bool(np.all((numbers >= low) & (numbers <= high) & (numbers == np.rint(numbers))))


def _date_and_clock(table: Table, names: Sequence[str]) -> dict[str, str]:
    """A column of dates, and one of times of day or of hours."""
    clock = next((name for name in names if plain(name) in CLOCK and is_clock(table, name)), None)
    hour = next((name for name in names if plain(name) in HOUR and table.is_numeric(name)), None)
    if not clock and not (hour and _holds(table, hour, "hour", True)):
        return {}
    dates = [name for name in names if name not in (clock, hour) and is_dates(table, name)]
    date = next((name for name in dates if plain(name) in DATE), dates[0] if len(dates) == 1 else None)
    if date is None or has_clock(table, date):
        return {}
    return {"date": date, "clock": clock} if clock else {"date": date, "hour": str(hour)}


def is_part(table: Table, name: str) -> bool:
    """Whether a column of text holds months by name, quarters such as Q1, weeks such as W05, or times of day."""
    return table.kind(name) == "text" and (is_clock(table, name) or _named(table, name) is not None)


def is_dates(table: Table, name: str) -> bool:
    """Whether a column holds dates, and all its cells are some."""
    cells = table.columns[name]
    if isinstance(cells, np.ndarray):
        return cells.dtype.kind == "M"
    if table.kind(name) != "text":
        return False
    texts = [text for text in cells.dictionary_encode().dictionary.to_pylist() if text]
    seasons = seasons_of(texts) is not None
    return bool(texts) and (seasons or bool(orders_of(texts)) or not parse_dates(texts)[1].any())


def has_clock(table: Table, name: str) -> bool:
    """Whether some of a column's dates have a time of day."""
    cells = table.columns[name]
    if isinstance(cells, np.ndarray):
        return bool(np.any(cells != cells.astype("datetime64[D]")))
    return bool(pc.any(pc.match_substring_regex(cells, r"\d:\d")).as_py())


def is_clock(table: Table, name: str) -> bool:
    """Whether a column of text holds times of day such as 14:30."""
    cells = table.columns[name]
    if isinstance(cells, np.ndarray):
        return False
    return all(re.fullmatch(r"\d{1,2}:\d{2}(:\d{2}.*)?(\s*[ap]m)?", text, re.I) for text in set(cells.to_pylist()))


def join(table: Table, parts: dict[str, str]) -> NDArray[Any]:
    """Dates [R] of their parts, of which the first is a year."""
    given = {kind: _part(table, name, kind) for kind, name in parts.items()}
    year = given.pop("year").astype(np.int64).astype(str).astype("datetime64[Y]")
    if "month" in given or "quarter" in given:
        month = given["month"] - 1 if "month" in given else 3 * (given["quarter"] - 1)
        begin = year.astype("datetime64[M]") + month.astype("timedelta64[M]")
        day = given.get("day", np.ones(len(table))) - 1
        date = begin.astype("datetime64[D]") + day.astype("timedelta64[D]")
        if wrong := np.flatnonzero(date.astype("datetime64[M]") != begin).tolist():
            raise table.problem(parts["day"], wrong[0], f"that month has no day {day[wrong[0]] + 1:g}")
    elif "week" in given:
        date = _begins_of_weeks(table, parts["week"], year, given["week"])
    else:
        date = year.astype("datetime64[D]") + (given["day of the year"] - 1).astype("timedelta64[D]")
    return date.astype("datetime64[ns]") + hours(given.get("hour", np.zeros(len(table))))


def hours(numbers: NDArray[np.float64]) -> NDArray[np.timedelta64]:
    """Hours of a day [R] as spans of time; 24 is the end of the day."""
    return np.rint(numbers * 3.6e12).astype("timedelta64[ns]")


def _begins_of_weeks(table: Table, name: str, year: NDArray[Any], week: NDArray[np.float64]) -> NDArray[Any]:
    """The first days [R] of weeks of years, with a notice that says how they are counted."""
    american = bool({*plain(name).split(" ")} & US_WEEKS)
    first, following = _first_week(year, american), _first_week(year + 1, american)
    date = first + (7 * (week - 1)).astype("timedelta64[D]")
    if wrong := np.flatnonzero(date >= following).tolist():
        advice = "give the date on which each week begins, in one column"
        advice = advice if american else f"{advice}, or call the column 'MMWR week' if weeks begin on Sundays"
        raise table.problem(
            name, wrong[0], f"{year[wrong[0]]} has no week {week[wrong[0]]:g} as they are counted here; {advice}"
        )
    counted = "MMWR weeks, which begin on Sundays" if american else "ISO weeks, which begin on Mondays"
    table.notices.append(f"the weeks of '{name}' are read as {counted}")
    return date


def _first_week(year: NDArray[Any], american: bool) -> NDArray[Any]:
    """The first day [R] of the first week of each year: of the week that holds the fourth of January.

    Weeks begin on Mondays (ISO 8601) or, American, on Sundays.
    """
    fourth = year.astype("datetime64[D]") + np.timedelta64(3, "D")
    weekday = (fourth.astype(np.int64) + (4 if american else 3)) % 7  # the first days of weeks are 0
    return fourth - weekday.astype("timedelta64[D]")


def _part(table: Table, name: str, kind: str) -> NDArray[np.float64]:
    numbers = _numbers(table, name)
    if (absent := np.isnan(numbers)).any():
        raise missing_time(table, name, int(np.argmax(absent)))
    low, high = LIMITS.get(kind, (-np.inf, np.inf))
    whole = kind == "hour" or numbers == np.rint(numbers)
    if wrong := np.flatnonzero((numbers < low) | (numbers > high) | ~np.broadcast_to(whole, len(numbers))).tolist():
        unit = kind if kind == "day of the year" else f"{kind} of a {'day' if kind == 'hour' else 'year'}"
        raise table.problem(name, wrong[0], f"{numbers[wrong[0]]:g} is no {unit}")
    return numbers


def missing_time(table: Table, name: str, row: int) -> DataError:
    """The error for a row without a time."""
    return table.problem(
        name,
        row,
        "the time is missing; give every row a time, take that row out if it is none of the data, or choose the times "
        "with --time",
    )


def _numbers(table: Table, name: str) -> NDArray[np.float64]:
    named = _named(table, name)
    return table.numbers(name) if named is None else named


def _named(table: Table, name: str) -> NDArray[np.float64] | None:
    """A column of names of months, or of quarters or weeks such as Q1 or W05, as numbers [R]; None where it is none."""
    cells = table.columns[name]
    if isinstance(cells, np.ndarray):
        return None
    encoded = cells.dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    months: list[int | None] = [month_number(text) for text in texts]
    if None in months:
        signed = [re.fullmatch(r"(?:[QTKWS]|KW) ?(\d{1,2})|([1-4])[QTK]", text, re.IGNORECASE) for text in texts]
        months = [int(match[1] or match[2]) if match else None for match in signed]
    if None in months:
        return None
    return np.array(months, dtype=np.float64)[encoded.indices.to_numpy(zero_copy_only=False)]

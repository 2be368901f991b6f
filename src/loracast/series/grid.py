"""Finding the calendar of given times, placing uneven times on one, and choosing a coarser one.

Shapes: T times of a series, R rows of a table of many.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loracast.errors import ConfigError, DataError
from loracast.series.calendar import LAST, Calendar, Unit, in_month, nanoseconds, to_local, to_utc

MONTH_DAYS = 365.2425 / 12
MOST_STEPS = 2.0**53  # between two times, beyond which floats count no single ones
COMMON = 1 / 3  # of the times, at the least, that follow the one before by a single step
MOST_MOVED = 0.25  # of a step, that a time may be moved to the nearest one


def infer_calendar(
    time: NDArray[Any], starts: NDArray[np.bool_] | None = None, zone: str | None = None
) -> tuple[Calendar, NDArray[np.int64]] | None:
    """The finest calendar on which all times lie exactly, and each one's position on it from its series' first.

    Args:
        time: [R] of one or many series, increasing within each: numbers, or datetime64[ns] (in UTC if there is a zone).
        starts: [R] where a new series begins; only the first row unless given.
        zone: the time zone that days and months are counted in.

    Returns:
        Calendar and positions [R] int64; None where no calendar fits, where less than half of its steps are there, or
        where few times follow each other by one step, as where a single time is mistaken.
    """
    if starts is None:
        starts = np.zeros(len(time), bool)
        starts[0] = True
    within = ~starts[1:]
    if not within.any():
        return None
    first = np.flatnonzero(starts)
    if len(first) > 1 and (repeats := _repeated(time, first)):
        found = infer_calendar(time[: first[1]], None, zone)
        return (found[0], np.tile(found[1], repeats)) if found else None
    for calendar, moved in _candidates(time, within, zone):
        positions = _positions(moved, starts)
        counts = np.diff(np.append(np.flatnonzero(starts), len(time)))
        spans = np.maximum.reduceat(positions, np.flatnonzero(starts)) + 1
        common = float(np.mean(moved[1:][within] == 1)) >= COMMON
        if common and int(spans.sum()) <= 2 * int(counts.sum()):
            return calendar, positions
    return None


def _repeated(time: NDArray[Any], first: NDArray[np.int64]) -> int:
    """The number of series that begin at rows `first` if all have the same times; else 0."""
    steps = int(first[1])
    if len(time) != steps * len(first) or np.any(np.diff(first) != steps):
        return 0
    table = time.reshape(len(first), steps)
    return len(first) if np.array_equal(table, np.broadcast_to(table[0], table.shape)) else 0


def _candidates(
    time: NDArray[Any], within: NDArray[np.bool_], zone: str | None
) -> Iterator[tuple[Calendar, NDArray[np.int64]]]:
    """Calendars, and for each the steps [R] from every time to the one before; only those that fit exactly."""
    moved = np.zeros(len(time), np.int64)
    if time.dtype.kind != "M":
        difference = np.diff(time)[within]
        for step in dict.fromkeys((_common(difference), float(difference.min()), float(np.median(difference)))):
            ratio = difference / step
            counts = np.rint(ratio).min() >= 1 and ratio.max() < MOST_STEPS
            if counts and np.abs(ratio - np.rint(ratio)).max() < 1e-3:
                moved[1:][within] = np.rint(ratio)
                exact = step if step == np.rint(step) else float(difference.sum() / moved.sum())
                yield Calendar("number", exact if moved.max() > 0 else step), moved
        return
    local = to_local(time, zone)
    date, month = local.astype("datetime64[D]"), local.astype("datetime64[M]")
    same_clock = not np.any(np.diff(local - date)[within] != np.timedelta64(0, "ns"))
    number = (date - month).astype(np.int64) + 1  # the day of the month, from 1
    last = (in_month(month, LAST) - month).astype(np.int64) + 1
    day = LAST if np.all(number == last) and len(np.unique(number)) >= 1 and number.min() > 27 else int(number.max())
    if same_clock and np.all(number == np.minimum(day, last)):
        months = np.diff(month.astype(np.int64))[within]
        if months.min() >= 1:
            count = int(np.gcd.reduce(months))
            moved[1:][within] = months // count
            yield Calendar("month", count, day, zone), moved
    if same_clock:
        if np.is_busday(date).all() and len(date) > 5:
            days = np.busday_count(date[:-1], date[1:])[within]
            spans_weekend = np.diff(date.astype(np.int64))[within] > days
            if days.min() == 1 and np.median(days) == 1 and spans_weekend.any():
                moved[1:][within] = days
                yield Calendar("business day", 1, 1, zone), moved
        days = np.diff(date.astype(np.int64))[within]
        if days.min() >= 1:
            count = int(np.gcd.reduce(days))
            moved[1:][within] = days // count
            yield Calendar("day", count, 1, zone), moved
    nanoseconds = np.diff(time.astype("datetime64[ns]").astype(np.int64))[within]
    count = int(np.gcd.reduce(nanoseconds))
    moved[1:][within] = nanoseconds // count
    yield Calendar("second", _seconds(count), 1, zone), moved


def place(time: NDArray[Any], zone: str | None = None) -> tuple[Calendar, NDArray[np.int64], NDArray[Any], float]:
    """The nearest steps of an even calendar, for the times of one series that lie on none exactly.

    Args:
        time: [T] increasing; numbers, or datetime64[ns] in UTC.

    Returns:
        The calendar, each time's position [T] on it, the times [T] there, and the furthest move as a share of a step.

    Raises DataError where a time would move by more than a quarter of a step, two times meet, or most steps are absent.
    """
    calendar, fraction = _nearest(time, zone)
    angle = np.angle(np.exp(2j * np.pi * fraction).mean()) / (2 * np.pi)
    angle = 0.0 if abs(angle) < 0.01 else angle  # of times that were rounded, the first is as good as any
    positions = np.rint(fraction - angle).astype(np.int64)
    moves = np.abs(fraction - angle - positions)
    sparse = positions[-1] - positions[0] + 1 > 2 * len(time)
    if moves.max() > MOST_MOVED or np.any(np.diff(positions) < 1) or sparse:
        raise DataError(_uneven(time, calendar, sparse))
    middle = int(np.argmin(moves))
    placed = calendar.times(_round(time[middle], calendar, moves.max()), positions - positions[middle])
    return calendar, positions - positions[0], placed, float(moves.max())


def _round(moment: Any, calendar: Calendar, share: float) -> Any:
    """A moment of an uneven clock on a whole step since midnight, if that is no further than other times are off.

    share: of a step, by which the furthest time is off.
    """
    if calendar.unit != "second" or 86_400 % calendar.count:
        return moment
    step = nanoseconds(calendar.count)
    past = (moment - moment.astype("datetime64[D]")) % step
    off = past if past <= step / 2 else past - step
    return moment - off if abs(off) <= share * step else moment


def _nearest(time: NDArray[Any], zone: str | None) -> tuple[Calendar, NDArray[np.float64]]:
    """A calendar by the median distance of times [T], and where on it each lies, in steps [T] with fractions."""
    if time.dtype.kind != "M":
        step = float(np.median(np.diff(time)))
        counted = np.cumsum(np.concatenate([[0], np.maximum(1, np.rint(np.diff(time) / step))]))
        slope = float(np.polyfit(counted, time, 1)[0]) if len(time) > 2 else step
        step = step if np.isclose(slope, step, rtol=0.02) and step == np.rint(step) else slope
        if step < 1 and np.isclose(1 / step, np.rint(1 / step), rtol=1e-3):  # a month is a twelfth of a year
            step = 1 / float(np.rint(1 / step))
        return Calendar("number", step), (time - time[0]) / step
    local = to_local(time, zone)
    days = np.diff(local).astype(np.float64) / 8.64e13
    middle = float(np.median(days))
    if middle >= 27:
        count = max(1, round(middle / MONTH_DAYS))
        month = local.astype("datetime64[M]")
        length = (in_month(month, LAST) - month).astype(np.float64) + 1
        where = (local - month.astype("datetime64[ns]")).astype(np.float64) / 8.64e13
        number = int(np.clip(np.rint(np.median(where)) + 1, 1, LAST))
        return Calendar("month", count, number, zone), (month.astype(np.float64) + where / length) / count
    if middle >= 0.9:
        count = max(1, round(middle))
        return Calendar("day", count, 1, zone), local.astype(np.float64) / 8.64e13 / count
    seconds = middle * 86400
    nice = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 14400, 21600, 28800, 43200]
    close = min(nice, key=lambda size: abs(np.log(size / seconds)))
    count = close if abs(np.log(close / seconds)) < 0.05 else seconds
    return Calendar("second", count, 1, zone), (time - time[0]).astype(np.float64) / 1e9 / count


def _uneven(time: NDArray[Any], calendar: Calendar, sparse: bool) -> str:
    """What to do about times [T] that lie on no even calendar, or on one of which more than half is absent."""
    distances = np.diff(time)
    if time.dtype.kind != "M":
        low, middle, high = (f"{value:.4g}" for value in np.quantile(distances, [0, 0.5, 1]))
        every = f"{float(f'{calendar.count:.2g}'):g}"
    else:
        days = distances.astype(np.float64) / 8.64e13
        low, middle, high = (_days(value) for value in np.quantile(days, [0, 0.5, 1]))
        every = _alias(calendar)
    spread = f"the times are not evenly spaced: {low} to {high} apart, {middle} in the middle"
    if sparse:
        first = int(distances.argmax())
        after, then = calendar.texts(time[first : first + 2])
        return (
            f"{spread}, so that more than half of an even grid would be absent, most of it between {after} and {then}; "
            f"correct a time that is mistaken, or choose a grid with --every, such as {every}"
        )
    return (
        f"{spread}, and some lie more than a quarter of a step from any even grid; choose one with --every {every} "
        "--aggregate mean"
    )


def _alias(calendar: Calendar) -> str:
    """A calendar as `read_every` takes it."""
    units = {"month": [(12, "Y"), (3, "Q"), (1, "M")], "day": [(7, "W"), (1, "D")]}
    units |= {"business day": [(1, "B")], "second": [(3600, "h"), (60, "min"), (1, "s")]}
    size, letter = next(
        (size, letter) for size, letter in units[calendar.unit] if calendar.count % size == 0 or size == 1
    )
    return f"{max(1, round(calendar.count / size))}{letter}"


def read_every(text: str, dates: bool, zone: str | None = None) -> Calendar:
    """The calendar that `--every` names: a number, or a count and a unit: s, min, h, D, B, W, M, Q or Y.

    ConfigError for anything else, and for a number where times are dates or the other way round.
    """
    units: dict[str, tuple[Unit, int]] = {"s": ("second", 1), "min": ("second", 60), "h": ("second", 3600)}
    units |= {"d": ("day", 1), "w": ("day", 7), "b": ("business day", 1)}
    units |= {"m": ("month", 1), "q": ("month", 3), "y": ("month", 12)}
    match = re.fullmatch(r"\s*(\d*\.?\d*)\s*([A-Za-z]*)\s*", text)
    number = float(match[1]) if match and match[1] not in ("", ".") else 1.0
    unit = match[2].lower() if match else "?"
    unit = {"ms": "m", "me": "m", "qs": "q", "qe": "q", "ys": "y", "ye": "y", "t": "min"}.get(unit, unit)
    if not dates and match and match[1] and not unit and number > 0:
        return Calendar("number", number)
    if not dates or unit not in units or number < 1 or (number != int(number)):
        kind = "a count and a unit, such as 1D, 2W, 1M, 1Q, 1Y, 6h or 15min" if dates else "a number, such as 0.5"
        raise ConfigError([f"--every {text!r} must be {kind}, since the times are {'dates' if dates else 'numbers'}"])
    name, size = units[unit]
    return Calendar(name, int(number) * size, 1, zone)


def bin_times(time: NDArray[Any], calendar: Calendar) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The step of a calendar that each time [T] falls into, counted from the first, and when [T] that step begins."""
    if calendar.unit == "number":
        steps = np.floor(time / calendar.count + 1e-9).astype(np.int64)
        return steps - steps[0], steps * calendar.count
    if calendar.unit == "second":
        size = int(nanoseconds(calendar.count).astype(np.int64))
        steps = time.astype("datetime64[ns]").astype(np.int64) // size
        return steps - steps[0], (steps * size).astype("datetime64[ns]")
    local = to_local(time, calendar.zone)
    count = int(calendar.count)
    if calendar.unit == "month":
        steps = local.astype("datetime64[M]").astype(np.int64) // count
        begin = (steps * count).astype("datetime64[M]").astype("datetime64[ns]")
    elif calendar.unit == "day":
        monday = 4 if count % 7 == 0 else 0  # the first Monday after 1970-01-01, so that weeks begin on Mondays
        steps = (local.astype("datetime64[D]").astype(np.int64) - monday) // count
        begin = (steps * count + monday).astype("datetime64[D]").astype("datetime64[ns]")
    else:
        date = np.busday_offset(local.astype("datetime64[D]"), 0, roll="backward")
        steps, begin = np.busday_count(date[0], date), date.astype("datetime64[ns]")
    return (steps - steps[0]).astype(np.int64), to_utc(begin, calendar.zone)


def _positions(moved: NDArray[np.int64], starts: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Steps [R] from each time to the one before it, as steps from the first of its series."""
    total = np.cumsum(moved)
    first = np.flatnonzero(starts)
    return total - np.repeat(total[first], np.diff(np.append(first, len(moved))))


def _common(difference: NDArray[np.float64]) -> float:
    """The largest number of which all differences are multiples, where they are decimals; else their median."""
    scaled = difference * 10**6
    whole = np.rint(scaled)
    if np.any(np.abs(scaled - whole) > 1e-3) or whole.max() > 2**53 or whole.min() < 1:
        return float(np.median(difference))
    return float(np.gcd.reduce(whole.astype(np.int64))) / 10**6


def _seconds(nanoseconds: int) -> float:
    return nanoseconds // 10**9 if nanoseconds % 10**9 == 0 else nanoseconds / 1e9


def _days(days: float) -> str:
    """A distance in days as text, in hours or minutes where it is short."""
    for unit, size in (("days", 1.0), ("hours", 1 / 24), ("minutes", 1 / 1440)):
        if days >= size:
            return f"{days / size:.3g} {unit}"
    return f"{days * 86400:.3g} seconds"

"""Texts as dates: ISO 8601, quarters and weeks, days and months in either order, and named months.

Shapes: U different texts of a column.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from loracast.series.calendar import in_nanoseconds
from loracast.series.words import month_number

Order = Literal["day-first", "month-first"]
Dates = NDArray[np.datetime64]

ZONED = re.compile(r"\d{1,2}(:\d{2}){1,2}(\.\d+)?\s*(Z|UTC|GMT|[+-]\d{2}:?\d{2})$", re.IGNORECASE)
DIGITS = re.compile(
    r"(?P<a>\d{1,2})(?P<s>[./-])(?P<b>\d{1,2})(?P=s)(?P<y>\d{4}|\d{2})(?:[ T,]+(?P<clock>\d{1,2}:\d{2}.*))?"
)
YEAR_FIRST = re.compile(r"(\d{4})([/.-])(\d{1,2})\2(\d{1,2})(?:[ T]+(\d{1,2}:\d{2}.*))?")
CHINESE = re.compile(r"(\d{4})\s*年(?:\s*(\d{1,2})\s*月(?:\s*(\d{1,2})\s*[日号])?)?")
NAMED = re.compile(
    r"(?:(?P<d>\d{1,2})(?:\.|st|nd|rd|th)?[\s\-/]+)?(?P<m>[^\W\d_]+)\.?(?:[\s\-/]+(?P<d2>\d{1,2})(?:st|nd|rd|th)?,?(?=\s+\d{4}))?"
    r"[\s\-/,]*(?:de\s+)?(?P<y>\d{4}|\d{2})(?:[ T,]+(?P<clock>\d{1,2}:\d{2}.*))?"
)
NAMED_LAST = re.compile(r"(?P<y>\d{4})[\s\-/]*(?P<m>[^\W\d_]{3,})\.?(?:[\s\-/]+(?P<d>\d{1,2}))?")
PARTS: list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]] = [
    (re.compile(r"(\d{4})[ /-]?[QTK]([1-4])", re.IGNORECASE), lambda m: f"{m[1]}-{3 * int(m[2]) - 2:02}-01"),
    (re.compile(r"[QTK]([1-4])[ /-]*(\d{4})", re.IGNORECASE), lambda m: f"{m[2]}-{3 * int(m[1]) - 2:02}-01"),
    (re.compile(r"([1-4])[QTK][ /-]?(\d{4})", re.IGNORECASE), lambda m: f"{m[2]}-{3 * int(m[1]) - 2:02}-01"),
    (re.compile(r"(\d{4})[ /-]?[HS]([12])", re.IGNORECASE), lambda m: f"{m[1]}-{6 * int(m[2]) - 5:02}-01"),
    (re.compile(r"[HS]([12])[ /-]*(\d{4})", re.IGNORECASE), lambda m: f"{m[2]}-{6 * int(m[1]) - 5:02}-01"),
    (CHINESE, lambda m: f"{m[1]}-{int(m[2] or 1):02}-{int(m[3] or 1):02}"),
    (re.compile(r"(\d{4})M(\d{2})", re.IGNORECASE), lambda m: f"{m[1]}-{m[2]}-01"),
    (re.compile(r"(\d{1,2})[/.-](\d{4})"), lambda m: f"{m[2]}-{int(m[1]):02}-01"),
    (re.compile(r"(\d{4})[/.](\d{1,2})"), lambda m: f"{m[1]}-{int(m[2]):02}-01"),
    (
        re.compile(r"(\d{4})-?(?:W|S(?=\d\d))(\d{1,2})(?:-?([1-7]))?", re.IGNORECASE),  # S01 as in "semaine"
        lambda m: _week(int(m[1]), int(m[2]), int(m[3] or 1)),
    ),
]


def parse_dates(texts: Sequence[str]) -> tuple[Dates, NDArray[np.bool_], str | None]:
    """Texts [U] that can be read in one way only.

    Returns the dates [U] in UTC where they have a zone, which of them [U] were not read, and the name of the zone: the
    offset from UTC if all have the same, UTC if they have several, None if none has one. Texts with a zone among texts
    without one are not read.
    """
    import pandas as pd

    zoned = np.array([ZONED.search(text) is not None for text in texts])
    iso = [_iso(text) for text in texts]
    parsed = pd.to_datetime(iso, format="ISO8601", errors="coerce", utc=True)
    dates = in_nanoseconds(parsed.tz_localize(None).to_numpy())
    strange = np.isnat(dates)
    zone = None
    if zoned.any():
        offsets = {_offset(text) for text, has in zip(texts, zoned) if has}
        zone = offsets.pop() if len(offsets) == 1 else "UTC"
        strange |= ~zoned
    return dates, strange, zone


def has_short_years(texts: Sequence[str]) -> bool:
    """Whether some of the texts [U] are dates that write years in two digits."""
    found = (DIGITS.fullmatch(text) or NAMED.fullmatch(text) for text in texts)
    return any(match is not None and len(match["y"]) == 2 for match in found)


def parse_ordered(texts: Sequence[str], order: Order) -> Dates | None:
    """Texts [U] such as 31/01/2020 or 1.2.98 14:30 in that order of day and month; None where any is something else."""
    dates = []
    for text in texts:
        match = DIGITS.fullmatch(text)
        if match is None:
            return None
        day, month = (match["a"], match["b"]) if order == "day-first" else (match["b"], match["a"])
        dates.append(f"{_year(match['y'])}-{int(month):02}-{int(day):02}{_clock(match['clock'])}")
    return _strict(dates)


def orders_of(texts: Sequence[str]) -> list[Order] | None:
    """The orders of day and month in which all texts [U] are dates; None where they are no such dates at all."""
    matches = [DIGITS.fullmatch(text) for text in texts]
    if any(match is None for match in matches):
        return None
    first = [int(match["a"]) for match in matches if match]
    second = [int(match["b"]) for match in matches if match]
    orders: list[Order] = []
    if max(second) <= 12:
        orders.append("day-first")
    if max(first) <= 12 and not any(match["s"] == "." for match in matches if match):  # dots stand after days
        orders.append("month-first")
    return orders


def seasons_of(texts: Sequence[str]) -> NDArray[np.float64] | None:
    """Texts [U] such as 1999/00 or 1999-2000 as the years [U] in which they begin; None where any is something else."""
    matches = [re.fullmatch(r"(\d{4})\s*[/–-]\s*(\d{2}|\d{4})", text) for text in texts]
    if len(texts) < 2 or any(match is None for match in matches):
        return None
    years = [(int(match[1]), match[2]) for match in matches if match]
    follows = all(str(year + 1).endswith(after) for year, after in years)
    return np.array([year for year, _ in years], np.float64) if follows else None


def compact(numbers: NDArray[np.float64]) -> Dates | None:
    """Numbers [U] such as 20200131, 2020031 (the 31st day) or 202001 as dates, where all are; None elsewhere."""
    if not len(numbers) or np.any(numbers != np.rint(numbers)):
        return None
    low, high = numbers.min(), numbers.max()
    if low > 1e7 and high < 1e8:
        texts = [f"{int(number) // 10000}-{int(number) // 100 % 100:02}-{int(number) % 100:02}" for number in numbers]
    elif low >= 1_500_001 and high <= 2_262_366:
        days = (numbers % 1000).astype(np.int64)
        years = (numbers // 1000).astype(np.int64) - 1970
        dates = years.astype("datetime64[Y]").astype("datetime64[D]") + (days - 1).astype("timedelta64[D]")
        same_year = dates.astype("datetime64[Y]").astype(np.int64) == years
        return dates.astype("datetime64[ns]") if np.all(days > 0) and same_year.all() else None
    elif low >= 150001 and high <= 226212:
        texts = [f"{int(number) // 100}-{int(number) % 100:02}-01" for number in numbers]
    else:
        return None
    return _strict(texts)


def weeks(numbers: NDArray[np.float64]) -> Dates | None:
    """Numbers [U] such as 202001 as the first days of ISO weeks; None where one is not a week of a year."""
    whole = np.all(numbers == np.rint(numbers)) and np.all((numbers > 150_000) & (numbers < 226_300))
    return _strict([_week(int(one) // 100, int(one) % 100, 1) for one in numbers]) if whole else None


def since_1970(numbers: NDArray[np.float64]) -> Dates | None:
    """Numbers [U] of seconds or milliseconds since 1970, as computers count them; None where they are too few."""
    for low, high, unit in ((1e8, 5e9, "s"), (1e11, 5e12, "ms")):
        if numbers.min() > low and numbers.max() < high:
            count = np.rint(numbers * 1000).astype(np.int64) if unit == "s" else np.rint(numbers).astype(np.int64)
            return count.astype("datetime64[ms]").astype("datetime64[ns]")
    return None


def _iso(text: str) -> str:
    """A text as ISO 8601, where it is a date in some other way that cannot be misread; else as it is."""
    if re.match(r"\d{4}-\d{2}(?!\d)", text) and not re.search(r"[AP]\.?M\.?$", text, re.IGNORECASE):
        return re.sub(r"\s*(UTC|GMT)$", "Z", text)
    for pattern, write in PARTS:
        if match := pattern.fullmatch(text):
            return write(match)
    if match := YEAR_FIRST.fullmatch(text):
        return f"{match[1]}-{int(match[3]):02}-{int(match[4]):02}{_clock(match[5])}"
    if (match := NAMED.fullmatch(text) or NAMED_LAST.fullmatch(text)) and (month := month_number(match["m"])):
        found = match.groupdict()
        day = found.get("d") or found.get("d2") or 1
        return f"{_year(match['y'])}-{month:02}-{int(day):02}{_clock(found.get('clock'))}"
    return "?" if text[:1].isdigit() is False else text  # pandas reads "now" and "today" as dates, too


def _clock(text: str | None) -> str:
    """A time of day as ISO 8601 has it, with its zone."""
    match = re.fullmatch(
        r"(\d{1,2}):(\d{2})(:\d{2}(?:\.\d+)?)?\s*([ap]\.?m\.?)?\s*(Z|UTC|[+-]\d{2}:?\d{2})?", text or "0:00", re.I
    )
    if match is None:
        return "T99"  # which no parser takes
    hour = int(match[1])
    if match[4]:
        hour = hour % 12 + 12 * match[4].lower().startswith("p")
    return f"T{hour:02}:{match[2]}{match[3] or ':00'}{(match[5] or '').replace('UTC', 'Z')}"


def _year(text: str) -> str:
    """Four digits of a year; two digits are those from 1937 to 2036."""
    return text if len(text) == 4 else f"{19 if int(text) >= 37 else 20}{text}"


def _week(year: int, week: int, day: int) -> str:
    """The date of a day of an ISO week."""
    from datetime import date

    try:
        return date.fromisocalendar(year, week, day).isoformat()
    except ValueError:
        return "?"


def _offset(text: str) -> str:
    """The zone at the end of a text: UTC, or an offset such as +01:00."""
    zone = text[-6:] if text[-6:-5] in "+-" else text[-5:]
    if text[-1:] in "Zz" or text[-3:].upper() in ("UTC", "GMT") or zone.strip("+-") in ("00:00", "0000"):
        return "UTC"
    return zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"


def _strict(texts: Sequence[str]) -> Any:
    import pandas as pd

    dates = pd.to_datetime(list(texts), format="ISO8601", errors="coerce", utc=True)
    exact = in_nanoseconds(dates.tz_localize(None).to_numpy())
    return None if np.isnat(exact).any() else exact

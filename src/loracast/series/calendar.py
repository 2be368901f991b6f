"""The grid on which a series' times lie: a number line with an even step, or a calendar.

A calendar counts months (quarters and years are months), days (weeks are days), business days or seconds (hours are
seconds). Months and days are counted on the local clock of the calendar's time zone, seconds in UTC, so that a day is a
day and an hour is an hour across a change of clocks.

Shapes: T times, R rows of a table, H steps of horizon.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from loracast.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

Unit = Literal["number", "month", "day", "business day", "second"]
Times: TypeAlias = Annotated[NDArray[Any], "T"]

QUARTER, ISO_WEEK = r"(\d{4})[ -]?Q([1-4])", r"(\d{4})-?W(\d{1,2})"  # as a moment is written
WHILE = r"(\d+)\s+(second|minute|hour|day|week|month|quarter|year)s?"
NEAR = 0.25  # share of a step by which a number may miss the time that it means
LAST = 31  # as the day of a month: its last, however long it is
NAMED = {  # units and counts that have a name: (what it is called, one of them, season)
    ("month", 12): ("yearly", "year", 1),
    ("month", 3): ("quarterly", "quarter", 4),
    ("month", 1): ("monthly", "month", 12),
    ("day", 7): ("weekly", "week", 52),
    ("day", 1): ("daily", "day", 7),
    ("business day", 1): ("business days", "business day", 5),
    ("second", 3600): ("hourly", "hour", 24),
    ("second", 60): ("every minute", "minute", 1440),
    ("second", 1): ("every second", "second", 1),
}
LARGER = (("month", 12), ("day", 7), ("second", 3600), ("second", 60))  # units in which a multiple of others is shown


@dataclass(frozen=True)
class Calendar:
    """Every `count` units of time, from a series' own first time on.

    Attributes:
        unit: what is counted; "number" where times are numbers.
        count: how many of them a step takes; a whole number unless the unit is "number" or "second".
        day: for months, the day of the month, 31 for its last; a month that is too short takes its last.
        zone: name of the time zone whose clock counts months and days; None where times have no zone.

    Examples:
        >>> quarters = loracast.Calendar("month", 3, day=1)
        >>> quarters.describe(), quarters.season
        ('quarterly', 4)
        >>> import numpy as np
        >>> quarters.texts(quarters.after(np.datetime64("2020-01-01"), 2))
        ['2020-04', '2020-07']
    """

    unit: Unit
    count: float = 1
    day: int = 1
    zone: str | None = None

    @property
    def season(self) -> int:
        """Steps after which the calendar repeats itself: 12 for months, 4, 52, 7, 24 and so on; 1 if it does not."""
        if named := NAMED.get((self.unit, int(self.count))):
            return named[2] if self.count == int(self.count) else 1
        whole = {"month": 12, "day": 364 if self.count % 7 == 0 else 1, "second": 86400}.get(self.unit, 1)
        return max(1, int(whole // self.count)) if whole % self.count == 0 and self.count > 1 else 1

    def describe(self) -> str:
        """The spacing in words, such as "monthly", "every 2 weeks" or "in steps of 0.5"."""
        if self.unit == "number":
            return f"in steps of {self.count:.6g}"
        if self.count == int(self.count) and (named := NAMED.get((self.unit, int(self.count)))):
            return named[0]
        return f"every {self._amount(1)}"

    def amount(self, steps: int) -> str:
        """So many steps in words, such as "4 months"; for numbers, "4 steps"."""
        return f"{steps} step{'s' * (steps != 1)}" if self.unit == "number" else self._amount(steps)

    def _amount(self, steps: int) -> str:
        total = steps * self.count
        unit, size = next(
            ((unit, size) for unit, size in LARGER if unit == self.unit and self.count % size == 0), (self.unit, 1)
        )
        name = NAMED[unit, size if unit in ("month", "day", "second") else 1][1]
        return f"{total / size:g} {name}{'s' * (total != size)}"

    def times(self, origin: NDArray[Any], positions: Annotated[NDArray[np.int64], "T"]) -> Times:
        """The times [T] that lie `positions` [T] steps after `origin` (one time, or one for each position)."""
        if self.unit == "number":
            return origin + positions * self.count
        if self.unit == "second":
            return origin + positions * nanoseconds(self.count)
        local = to_local(np.broadcast_to(origin, positions.shape), self.zone)
        date = local.astype("datetime64[D]")
        clock = local - date
        steps = (positions * int(self.count)).astype(np.int64)
        if self.unit == "month":
            date = in_month(local.astype("datetime64[M]") + steps.astype("timedelta64[M]"), self.day)
        elif self.unit == "day":
            date = date + steps.astype("timedelta64[D]")
        else:
            date = np.busday_offset(date, steps, roll="forward")
        return to_utc(date.astype("datetime64[ns]") + clock, self.zone)

    def after(self, last: Any, count: int) -> Times:
        """The `count` times [count] that follow the time `last`."""
        return self.times(np.asarray(last), np.arange(1, count + 1))

    def index(self, time: Times) -> pd.Index:
        """Times [T] as pandas holds them: whole numbers as integers, dates in the time zone."""
        import pandas as pd

        if self.unit == "number":
            whole = bool(np.all(time == np.rint(time))) and bool(np.all(np.abs(time) < 2**53))
            return pd.Index(time.astype(np.int64) if whole else time)
        dates = pd.DatetimeIndex(time)
        return dates if self.zone is None else dates.tz_localize("UTC").tz_convert(read_zone(self.zone))

    def texts(self, time: Times) -> list[str]:
        """Times [T] as short text: as many digits of a number, or as much of a date, as tell them apart."""
        index = self.index(time)
        if self.unit == "number":
            return [f"{value:.10g}" for value in index]
        local = to_local(time, self.zone)
        if self.unit == "month" and self.day == 1 and not np.any(local != local.astype("datetime64[D]")):
            return np.datetime_as_string(local, unit="Y" if self._january(local) else "M").tolist()
        if not np.any(local != local.astype("datetime64[D]")):
            return np.datetime_as_string(local, unit="D").tolist()
        minutes = not np.any(local != local.astype("datetime64[m]"))
        return [text.replace("T", " ") for text in np.datetime_as_string(local, unit="m" if minutes else "auto")]

    def _january(self, local: NDArray[Any]) -> bool:
        return self.count % 12 == 0 and not np.any(local != local.astype("datetime64[Y]"))


def read_zone(name: str) -> tzinfo:
    """The time zone of a name such as Europe/Berlin, UTC or +01:00. ConfigError where there is none."""
    from zoneinfo import ZoneInfo

    import pandas as pd

    if name.upper() == "UTC":
        return UTC
    try:
        if name[0] in "+-":
            zone = pd.Timestamp(f"2000-01-01T00:00{name}").tzinfo
            if zone is not None:
                return zone
        return ZoneInfo(name)
    except (ValueError, KeyError, OSError, IndexError) as error:
        raise ConfigError([f"there is no time zone {name!r}; give one such as Europe/Berlin, UTC or +01:00"]) from error


def to_local(time: Times, zone: str | None) -> Times:
    """Times [T] in UTC as a clock in the zone shows them; unchanged without a zone."""
    if zone is None or zone == "UTC":
        return time.astype("datetime64[ns]", copy=False)
    import pandas as pd

    return pd.DatetimeIndex(time).tz_localize("UTC").tz_convert(read_zone(zone)).tz_localize(None).to_numpy()


def to_utc(local: NDArray[Any], zone: str | None) -> NDArray[Any]:
    """The inverse of `to_local`; a time that a clock skips moves to the next one, and one shown twice is the first."""
    if zone is None or zone == "UTC":
        return local
    import pandas as pd

    first = np.ones(len(local), bool)
    aware = pd.DatetimeIndex(local).tz_localize(read_zone(zone), ambiguous=first, nonexistent="shift_forward")
    return aware.tz_convert("UTC").tz_localize(None).to_numpy()


def moment_steps(times: Times | None, calendar: Calendar | None, text: str) -> tuple[int, int]:
    """The first and the last step, counted from 0, of a forecast that a text means.

    The text is "step 5", a time such as "2027", "2027-05", "2027Q2" or "2027-W08", which means all steps in it, or a
    while such as "20 years", which means the last step that is no later after the context. A time between two steps
    means none: the last is then before the first. ValueError for what is not a moment.

    Args:
        times: [H] of the forecast; None where it has none.
    """
    if match := re.fullmatch(r"step\s+(\d+)", text.strip(), re.IGNORECASE):
        step = int(match[1]) - 1
        return step, step
    if times is None or calendar is None:
        raise ValueError(f"there are no times, so that {text!r} means none; say 'step 5'")
    if match := re.fullmatch(WHILE, text.strip(), re.IGNORECASE):
        last = _steps_within(times, calendar, int(match[1]), match[2].lower()) - 1
        return last, last
    if times.dtype.kind == "M":
        local = to_local(times, calendar.zone)
        begin, end = (moment.astype("datetime64[ns]") for moment in _begin_and_end(text.strip()))
        return int(np.searchsorted(local, begin)), int(np.searchsorted(local, end)) - 1
    try:
        season = re.fullmatch(r"(\d{4})/\d{2,4}", text.strip())
        number = float(season[1] if season else text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a number, and the times are numbers; give a number, or say 'step 5'"
        ) from None
    near = NEAR * calendar.count
    return int(np.searchsorted(times, number - near)), int(np.searchsorted(times, number + near, "right")) - 1


def _begin_and_end(text: str) -> tuple[np.datetime64, np.datetime64]:
    """When a date, month, quarter, ISO week or year begins, and when it is over. ValueError for another text."""
    from datetime import date

    try:
        if match := re.fullmatch(QUARTER, text, re.IGNORECASE):
            begin = np.datetime64(match[1], "M") + np.timedelta64(3 * (int(match[2]) - 1), "M")
            return begin, begin + np.timedelta64(3, "M")
        if match := re.fullmatch(ISO_WEEK, text, re.IGNORECASE):
            begin = np.datetime64(date.fromisocalendar(int(match[1]), int(match[2]), 1))
            return begin, begin + np.timedelta64(7, "D")
        begin = np.datetime64(text.replace(" ", "T"))
        return begin, begin + np.timedelta64(1, np.datetime_data(begin.dtype)[0])
    except ValueError:
        raise ValueError(
            f"{text!r} cannot be read as a date; write it as 2027, 2027-05, 2027-05-31, 2027Q2 or 2027-W08"
        ) from None


def _steps_within(times: NDArray[Any], calendar: Calendar, count: int, unit: str) -> int:
    """How many steps follow the context within so many units of time; one more than the forecast has, if not fewer.

    Args:
        times: [H] of the forecast.
    """
    following = calendar.times(np.broadcast_to(times[0], len(times) + 2), np.arange(-1, len(times) + 1))  # [H + 2]
    if times.dtype.kind == "M":
        import pandas as pd

        local = to_local(following, calendar.zone)
        whiles: dict[str, Any] = {"months": 3 * count} if unit == "quarter" else {f"{unit}s": count}
        end = (pd.Timestamp(local[0]) + pd.DateOffset(**whiles)).to_datetime64()
        steps = int(np.searchsorted(local, end, "right")) - 1
    else:
        years = bool(np.all(times == np.rint(times))) and 1000 <= times[0] <= 3000
        if unit != "year" or not years:
            raise ValueError(f"the times are numbers, of which {unit}s are not known; say 'step {count}', or a number")
        steps = int(np.searchsorted(following, following[0] + count, "right")) - 1
    if not steps:
        raise ValueError(f"{count} {unit}{'s' * (count > 1)} are less than a step, which takes {calendar.amount(1)}")
    return steps


def common_calendar(calendars: Sequence[Calendar | None]) -> Calendar | None:
    """The calendar that all series have; None where they have several, or none."""
    return calendars[0] if len(set(calendars)) == 1 else None


def in_month(month: NDArray[Any], day: int) -> NDArray[Any]:
    """That day of each month, or the month's last where it is shorter; dates of days."""
    first = month.astype("datetime64[D]")
    last = (month + np.timedelta64(1, "M")).astype("datetime64[D]") - np.timedelta64(1, "D")
    return np.minimum(first + np.timedelta64(day - 1, "D"), last)


def in_nanoseconds(dates: NDArray[Any]) -> NDArray[Any]:
    """Dates [T] in nanoseconds; no date where 64 bits of those do not reach, before 1678 and after 2261."""
    if np.datetime_data(dates.dtype)[0] == "ns":
        return dates
    days = dates.astype("datetime64[D]")
    inside = (days >= np.datetime64("1678-01-01")) & (days < np.datetime64("2262-01-01"))
    return np.where(inside, dates, np.datetime64("NaT", "D").astype(dates.dtype)).astype("datetime64[ns]")


def nanoseconds(seconds: float) -> np.timedelta64:
    """A number of seconds as numpy counts them."""
    return np.timedelta64(round(seconds * 1e9), "ns")


def localise(local: NDArray[Any], zone: str, source: str) -> NDArray[Any]:
    """Times [T] that clocks in a zone show, as UTC; an hour that is shown twice is known by the order of the rows."""
    import pandas as pd

    try:
        aware = pd.DatetimeIndex(local).tz_localize(read_zone(zone), ambiguous="infer", nonexistent="raise")
    except ValueError as error:
        raise DataError(f"{source}: times cannot be placed in {zone}: {error}; give them with their offset") from error
    return aware.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[ns]")

"""A series and windows of it.

Shapes: T steps of a series, D variables, C steps of context, H steps of horizon. Rows are counted from 1 in messages.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from loracast.errors import DataError
from loracast.series.calendar import Calendar, in_nanoseconds
from loracast.series.grid import infer_calendar


@dataclass(frozen=True, eq=False)
class Series:
    """One multivariate series. Its arrays are read-only; a one-dimensional `values` is one variable.

    Attributes:
        values: [T, D] float64, NaN where missing, never infinite.
        names: the D variables; each different, printable, without spaces around it (so is `id`).
        id: tells series apart.
        time: [T] evenly spaced, float64 or datetime64[ns] (in UTC where the calendar has a time zone), or None.
        known: the variables that are known for the future, too, such as a temperature that is planned; they come first.
        past: the variables that are read and not forecast; they come next. All others are the targets of a forecast.
        calendar: the grid on which `time` lies; found from `time` unless given, None where there are fewer than two
            times.

    Raises:
        DataError: when any of this does not hold.

    Examples:
        >>> loracast.Series([[30.0, 4.0], [47.2, 6.1]], ("hare", "lynx"), "Canada", time=[1900, 1901])
        Series('Canada', 2 steps × hare, lynx, 1900 to 1901)
    """

    values: NDArray[np.float64]  # [T, D]
    names: tuple[str, ...]
    id: str = "0"
    time: NDArray[Any] | None = None  # [T]
    known: tuple[str, ...] = ()
    past: tuple[str, ...] = ()
    calendar: Calendar | None = None

    def __post_init__(self) -> None:
        values = _read_only(self.values, np.dtype(np.float64), f"series '{self.id}': values")
        values = values[:, None] if values.ndim == 1 else values  # [T, D]
        names = (self.names,) if isinstance(self.names, str) else tuple(self.names)
        check_labels([self.id], "series id")
        check_labels(names, f"series '{self.id}': variable name")
        if values.ndim != 2 or 0 in values.shape:
            raise DataError(f"series '{self.id}': values need shape [steps, variables], not {list(values.shape)}")
        if len(names) != values.shape[1]:
            raise DataError(f"series '{self.id}': {len(names)} names for {values.shape[1]} variables; give one each")
        infinite = np.argwhere(np.isinf(values))
        if len(infinite):
            row, variable = infinite[0]
            raise DataError(
                f"series '{self.id}', row {row + 1}, variable '{names[variable]}': the value is infinite; "
                "write NaN if it is missing"
            )
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "names", names)
        self._check_roles()
        if self.time is not None:
            wanted = "datetime64[ns]" if np.asarray(self.time).dtype.kind == "M" else "float64"
            time = _read_only(self.time, np.dtype(wanted), f"series '{self.id}': time")
            if time.shape != (self.steps,):
                raise DataError(
                    f"series '{self.id}': time has shape {list(time.shape)}, but there are {self.steps} steps"
                )
            object.__setattr__(self, "time", time)
            if self.calendar is None:
                check_time(time, range(1, self.steps + 1), f"series '{self.id}'")
                object.__setattr__(self, "calendar", _calendar(time, self.id))
        elif self.calendar is not None:
            raise DataError(f"series '{self.id}': a calendar needs times; give time, too")

    @classmethod
    def unchecked(
        cls,
        values: NDArray[np.float64],
        names: tuple[str, ...],
        id: str,
        time: NDArray[Any] | None,
        known: tuple[str, ...],
        past: tuple[str, ...],
        calendar: Calendar | None,
    ) -> "Series":
        """A series of read-only arrays that a reader has checked already, for all series of a table at once."""
        self = object.__new__(cls)
        self.__dict__.update(values=values, names=names, id=id, time=time, known=known, past=past, calendar=calendar)
        return self

    def _check_roles(self) -> None:
        known, past = tuple(self.known), tuple(self.past)
        object.__setattr__(self, "known", known)
        object.__setattr__(self, "past", past)
        if self.names[: len(known) + len(past)] != known + past or len(known) + len(past) >= len(self.names):
            raise DataError(
                f"series '{self.id}': variables are in the order known, past, targets, with at least one target; "
                f"there are {self.names} with {known} known and {past} past"
            )

    def __repr__(self) -> str:
        kinds = dict.fromkeys(self.known, " (known)") | dict.fromkeys(self.past, " (past)")
        variables = listed([f"{name}{kinds.get(name, '')}" for name in self.names])
        span = ""
        if self.time is not None:
            ends = self.time[[0, -1]]
            span = ", {} to {}".format(*(self.calendar.texts(ends) if self.calendar else map(str, ends)))
        return f"Series({self.id!r}, {self.steps} steps × {variables}{span})"

    @property
    def steps(self) -> int:
        """How many steps there are: T."""
        return self.values.shape[0]

    @property
    def variables(self) -> int:
        """How many variables there are: D."""
        return self.values.shape[1]

    @property
    def targets(self) -> tuple[str, ...]:
        """The variables that are forecast."""
        return self.names[len(self.known) + len(self.past) :]

    @property
    def target_columns(self) -> slice:
        """Where the targets stand among the variables."""
        return slice(len(self.known) + len(self.past), None)

    @property
    def season(self) -> int:
        """Steps of a season by the calendar, such as 12 for months; 1 where there is none."""
        return 1 if self.calendar is None else self.calendar.season

    def slice(self, start: int, stop: int) -> "Series":
        """The steps from `start` up to but without `stop`, counted from 0. DataError where they are not all there."""
        if not 0 <= start < stop <= self.steps:
            raise DataError(f"series '{self.id}' has {self.steps} steps: cannot take the steps from {start} to {stop}")
        time = None if self.time is None else self.time[start:stop]
        return replace(self, values=self.values[start:stop], time=time)


def _calendar(time: Annotated[NDArray[Any], "T"], name: str) -> Calendar | None:
    """The calendar of times [T]; a DataError where they are uneven or some are absent."""
    if len(time) < 2:
        return None
    found = infer_calendar(time)
    if found is None:
        raise DataError(
            f"series '{name}': the times are not evenly spaced; loracast.series_from_frame places a table's rows on "
            "the nearest even grid or, with every= and aggregate=, on one of your choice"
        )
    calendar, positions = found
    if absent := int(positions[-1]) + 1 - len(time):
        first = int(np.argmax(np.diff(positions) > 1))
        after = calendar.texts(time[first : first + 1])[0]
        raise DataError(
            f"series '{name}': the times are {calendar.describe()}, and {calendar.amount(absent)} of them absent, "
            f"first after {after}; give those steps with NaN as values, or let loracast.series_from_frame do it"
        )
    return calendar


def listed(names: Sequence[str], most: int = 4) -> str:
    """Names as a short list, such as `hare, lynx` or `a, b, c and 9 more`."""
    return (
        ", ".join(names) if len(names) <= most else f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    )


def _read_only(array: Any, dtype: np.dtype, what: str) -> NDArray[Any]:
    """`array` as read-only `dtype`: itself where it already is, and a copy otherwise, so that nobody can change it."""
    try:
        source = np.asarray(array)
        if source.dtype == dtype and not source.flags.writeable:
            return source
        converted = in_nanoseconds(source).copy() if dtype.kind == source.dtype.kind == "M" else np.array(source, dtype)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} must be numbers: {error}") from error
    if dtype.kind == source.dtype.kind == "M" and np.any(np.isnat(converted) & ~np.isnat(source)):
        raise DataError(f"{what} must lie between the years 1678 and 2262; give years as numbers instead")
    converted.flags.writeable = False
    return converted


def check_labels(labels: Sequence[str], what: str) -> None:
    """Labels that every format keeps as they are: text without line breaks or spaces around it, each different."""
    for label in labels:
        if not isinstance(label, str) or not label or label != label.strip() or not label.isprintable():
            raise DataError(f"{what} {label!r} must be printable text without spaces around it; rename it")
    if repeated := [label for label, count in Counter(labels).items() if count > 1]:
        raise DataError(f"{what} '{repeated[0]}' appears more than once; rename one")


def check_time(time: Annotated[NDArray[Any], "T"], rows: Sequence[int], where: str) -> None:
    """DataError unless `time` [T] is finite and strictly increasing; `rows` [T] are the row numbers to report."""
    if not np.isfinite(time).all():  # NaT counts as not finite
        row = rows[int(np.argmin(np.isfinite(time)))]
        raise DataError(
            f"{where}, row {row}: the time is missing or infinite; give every row a time, or leave time out"
        )
    late = np.flatnonzero(time[1:] <= time[:-1])
    if len(late):
        before, after = time[late[0]], time[late[0] + 1]
        problem = f"time {after} is duplicated" if before == after else f"time decreases from {before} to {after}"
        raise DataError(
            f"{where}, row {rows[late[0] + 1]}: {problem}; keep one row a time in increasing order, "
            "or name the id column if these are several series"
        )

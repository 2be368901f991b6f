"""What each column of a table is for: time, id, a target, known beforehand, known in the past, or nothing.

Shapes: R rows of a table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from loracast.errors import ConfigError, DataError, did_you_mean
from loracast.series import words
from loracast.series.columns import Table
from loracast.series.date_parts import is_dates, parts_of
from loracast.series.times import looks_timed, names_years, no_time

Aggregate = Literal["mean", "sum", "last", "median", "min", "max"]


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are what, and how its rows become steps.

    Attributes:
        time: the column of times; found by its name or its content unless given.
        id: the columns that tell series apart; found by their names unless given.
        targets: the variables to forecast; all that are left and hold numbers unless given.
        known: variables that are known for the future, too.
        past: variables that are read and not forecast.
        every: the spacing to bring the times to, such as "1D" or, for numbers, "0.5".
        aggregate: what becomes of several rows in one step of that spacing; they are refused unless given.
        duplicates: "refuse" two rows of one series and time, or take their "mean".
        dates: the order of day and month in dates such as 01/02/2020, where the dates do not tell.
        zone: the time zone of the times, such as Europe/Berlin, where they do not tell.
        missing: further texts or numbers that mean "missing", such as -1.
        sheet: the sheet of an Excel file; the first that holds a table unless given.

    Raises:
        ConfigError: for a column that is named twice, and for `aggregate` without `every`.

    Examples:
        >>> loracast.Columns(time="survey", id="site", targets=("wolves", "moose"), missing="-1").id
        ('site',)
    """

    time: str | None = None
    id: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    past: tuple[str, ...] = ()
    every: str | None = None
    aggregate: Aggregate | None = None
    duplicates: Literal["refuse", "mean"] = "refuse"
    dates: Literal["day-first", "month-first"] | None = None
    zone: str | None = None
    missing: tuple[str, ...] = ()
    sheet: str | None = None

    def __post_init__(self) -> None:
        for name in ("id", "targets", "known", "past", "missing"):
            given = getattr(self, name)
            if isinstance(given, str):
                object.__setattr__(self, name, (given,))
        if self.aggregate and not self.every:
            raise ConfigError(["--aggregate says what to do with several rows in one step of --every; give that, too"])
        roles = [*([self.time] if self.time else []), *self.id, *self.targets, *self.known, *self.past]
        if twice := [name for name in dict.fromkeys(roles) if roles.count(name) > 1]:
            raise ConfigError(
                [f"column '{twice[0]}' is named twice among --time, --id, --columns, --known and --past; name it once"]
            )


BY_CONVENTION = Columns()
TIME_AS_NAME = re.compile(  # names of columns that are times, in tables that stand on their side
    r"\d{4}-\d{1,2}(-\d{1,2})?|\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4}|[A-Za-z]{3,9}[ '-]\d{2,4}|(1[5-9]|20)\d{2} ?[QW]\d{1,2}"
    r"|[XxYy](1[5-9]|20)\d{2}|(1[5-9]|20)\d{2} \[YR\d{4}\]|(?:[Ww]eek|[Mm]onth|[Dd]ay|[Yy]ear) ?\d{1,4}"
)


@dataclass
class Roles:
    """The columns of one table by what they are for, and what was noticed when that was decided."""

    time: tuple[str, ...] = ()  # several where a date is in parts, such as year and month
    id: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    past: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    notices: list[str] = field(default_factory=list)
    left_out: set[str] = field(default_factory=set)

    def leave_out(self, name: str, reason: str) -> None:
        """Leaves a column out, with a notice that says why."""
        self.left_out.add(name)
        self.notices.append(f"column '{name}' left out: {reason}")

    @property
    def names(self) -> tuple[str, ...]:
        return self.known + self.past + self.targets


def find_roles(table: Table, columns: Columns) -> Roles:
    """What the columns of a table are for. A DataError where that is not clear, which says how to make it clear."""
    if not columns.targets:
        _refuse_sideways(table)
    for role, names in (("--time", [columns.time] if columns.time else []), ("--id", columns.id)):
        _present(table, role, names)
    for role, names in (("--columns", columns.targets), ("--known", columns.known), ("--past", columns.past)):
        _present(table, role, names)
    roles = Roles(known=columns.known, past=columns.past)
    named = {*columns.targets, *columns.known, *columns.past}
    free = [name for name in table.names if name not in named]
    roles.id = columns.id or _find_ids(table, [name for name in free if name != columns.time], roles)
    free = [name for name in free if name not in roles.id]
    roles.time = (columns.time,) if columns.time else _find_time(table, free, roles, bool(columns.targets))
    for name in roles.time:
        backwards = {*words.plain(name).split(" ")} & words.BACKWARDS
        if backwards and table.is_numeric(name) and np.nanmax(table.numbers(name), initial=0) > 0:
            raise DataError(
                f"{table.source}: column '{name}' counts back from the present, so that larger is earlier, and what "
                "follows it would lie in the past; give years that grow, such as negative ones"
            )
    free = [name for name in free if name not in roles.time]
    if not columns.id and roles.time:
        _doubt_ids(table, roles)
    if columns.targets:
        roles.targets = columns.targets
        if free:
            roles.notices.append(f"columns left out: {', '.join(free)}")
    else:
        roles.targets = tuple(name for name in free if _is_variable(table, name, roles))
    if not roles.targets:
        texts = [name for name in free if table.kind(name) == "text"]
        cause = f" ({table.not_a_number(texts[0])})" if texts else ""
        raise DataError(
            f"{table.source}: no column of numbers is left to forecast among {', '.join(table.names)}{cause}; correct "
            "the table, or name the variables with --columns"
        )
    return roles


def _refuse_sideways(table: Table) -> None:
    """A DataError for a table with a column a time and a row a variable."""
    months = [name for name in table.names if words.month_number(name) and not words.is_time(name)]
    if len(months) >= 6 and len(months) >= len(table.names) - 3:
        raise DataError(
            f"{table.source}: the table has a column a month ({months[0]}, {months[1]}, …); turn it, so that each row "
            "is a month and each column a variable, or name the variables with --columns"
        )
    dated = [name for name in table.names if TIME_AS_NAME.fullmatch(name)]
    if len(dated) >= 4 and len(dated) >= len(table.names) - 5:
        raise DataError(
            f"{table.source}: the table stands on its side, with times as columns ({dated[0]}, {dated[1]}, …); turn "
            "it, so that each row is a time and each column a variable, or name the variables with --columns"
        )
    named = [table.style.parse(name) for name in table.names]
    numbers = [number for number in named if number is not None]
    if len(numbers) >= 4 and len(numbers) >= len(named) - 4 and np.all(np.diff(numbers) > 0):
        raise DataError(
            f"{table.source}: the table stands on its side, with times as columns, from {numbers[0]:g} to "
            f"{numbers[-1]:g}; turn it, so that each row is a time and each column a variable"
        )


def _present(table: Table, role: str, names: Sequence[str]) -> None:
    for name in names:
        if name not in table.names:
            advice = did_you_mean(name, table.names)
            raise DataError(
                f"{table.source}: {role} names '{name}', but the columns are {', '.join(table.names)}{advice}"
            )


def _find_ids(table: Table, free: Sequence[str], roles: Roles) -> tuple[str, ...]:
    """The columns that are called like ids and tell several rows apart; one that numbers the rows is left for later."""
    found = []
    for name in free:
        if not words.is_id(name):
            continue
        codes = table.codes(name)
        numeric = table.is_numeric(name)
        if codes is None or (numeric and not table.is_whole(name) and words.plain(name) not in words.CORE_ID):
            continue
        if len(codes[1]) == len(table) > 1 and (numeric or found or words.plain(name) not in words.CORE_ID):
            continue  # another value in each row
        if numeric and words.plain(name) not in words.CORE_ID and len(codes[1]) > len(table) / 2:
            continue  # what is counted, such as "population"
        found.append(name)
    gaps = [name for name in found if "" in (table.codes(name) or (0, []))[1]]
    if gaps and len(gaps) < len(found):
        for name in gaps:
            roles.leave_out(name, "some rows have none")
        found = [name for name in found if name not in gaps]
    if len(found) > 1:  # a column whose values say nothing beyond those of the others is not needed
        sizes = {name: len(table.groups([name])[1]) for name in found}
        kept = [name for name in found if sizes[name] > 1] or found[:1]
        for name in sorted(kept, key=lambda one: (words.plain(one) not in ("unit", "units"), sizes[one])):
            others = [one for one in kept if one != name]
            if others and len(table.groups(others)[1]) == len(table.groups(kept)[1]):
                kept = others
                roles.leave_out(name, f"{' and '.join(others)} tell the series apart")
        for name in found:
            if sizes[name] <= 1 and name not in kept:
                roles.leave_out(name, "it is the same in all rows")
        found = kept
    return tuple(found)


def _doubt_ids(table: Table, roles: Roles) -> None:
    """A DataError for a column of numbers that is called like an id where the times alone tell all rows apart."""
    doubtful = [name for name in roles.id if table.is_numeric(name) and words.plain(name) not in words.CORE_ID]
    if (
        not roles.time
        or len(roles.id) != 1
        or not doubtful
        or len(table.groups(roles.id)[1]) == 1
        or len(roles.time) > 1
    ):
        return
    cells = table.columns["".join(roles.time)]
    count = len(np.unique(cells)) if isinstance(cells, np.ndarray) else len(cells.unique())
    if count == len(table):
        raise DataError(
            f"{table.source}: column '{doubtful[0]}' may tell series apart or be a variable, as no time appears twice; "
            f"say --id {words.option(doubtful[0])} or name the variables with --columns"
        )


def _find_time(table: Table, free: Sequence[str], roles: Roles, targets_given: bool) -> tuple[str, ...]:
    """The column of times, or the columns that hold a date in parts; none where nothing looks like one."""
    called = [name for name in free if words.is_time(name)]
    if parts := parts_of(table, free):
        return tuple(parts.values())
    by_name = [name for name in called if looks_timed(table, name)]
    if len(by_name) > 1:
        dated = [name for name in by_name if not table.is_numeric(name)]
        exact = [name for name in by_name if words.plain(name) in words.ANY_TIME]
        narrowed = dated if len(dated) == 1 else exact
        if len(narrowed) == 1:
            roles.notices.append(f"the times are those of '{narrowed[0]}' (choose another with --time)")
            return (narrowed[0],)
        raise DataError(
            f"{table.source}: any of {', '.join(by_name)} could be the column of times; choose it with --time "
            f"{by_name[0]}, and what to forecast with --columns"
        )
    if by_name:
        return (by_name[0],)
    nearly = [name for name in free if words.is_nearly_time(name) and table.is_numeric(name)]
    if len(nearly) == 1 and _progress(table.numbers(nearly[0]), table.groups(roles.id)[0]):
        roles.notices.append(f"the times are those of '{nearly[0]}' (choose another with --time)")
        return (nearly[0],)
    for name in () if targets_given else nearly:
        if _mostly_grows(table.numbers(name)):
            raise DataError(
                f"{table.source}: column '{name}' is called like a time and mostly grows; say --time "
                f"{words.option(name, False)} if it holds the times, or choose what to forecast with --columns "
                f"{_numbers(table, free)}"
            )
    dates = [name for name in free if is_dates(table, name)]
    if len(dates) == 1:
        which = f"'{dates[0]}'" if dates[0] else "the column without a name"
        if not words.is_time(dates[0]):
            roles.notices.append(f"the times are those of {which}, the only dates")
        return (dates[0],)
    if dates:
        raise DataError(
            f"{table.source}: any of {', '.join(dates)} could be the column of times; choose it with --time"
        )
    return _by_content(table, free, roles, targets_given)


def _by_content(table: Table, free: Sequence[str], roles: Roles, targets_given: bool) -> tuple[str, ...]:
    """A column without a telling name that increases as times do: taken if it has no name, else asked about."""
    for name in free:
        if not table.is_numeric(name) or len(table) < 3:
            continue
        shape = _progress(table.numbers(name), table.groups(roles.id)[0])
        if shape is None:
            continue
        if words.is_row_number(name) and shape == "counts":
            continue  # left out with the text columns
        if words.is_row_number(name):
            roles.notices.append(f"the times are those of column '{name}'" if name else "the times have no name")
            return (name,)
        if targets_given or (shape == "whole" and name != free[0]):
            continue
        how = "in whole numbers" if shape == "whole" else "by even steps"
        raise DataError(
            f"{table.source}: column '{name}' grows from row to row {how}, as times do; say --time "
            f"{words.option(name, False)} if it holds the times, or --columns {_numbers(table, free)} if it is a "
            "variable"
        )
    return ()


def _progress(numbers: NDArray[np.float64], groups: NDArray[np.int64]) -> str | None:
    """Whether numbers [R] grow within each group as times do: "counts" by one from 0 or 1, "even", "whole", or not."""
    if np.isnan(numbers).any():
        return None
    order = np.argsort(groups, kind="stable")
    numbers, groups = numbers[order], groups[order]
    same = np.diff(groups) == 0
    steps = np.diff(numbers)[same]
    if len(steps) < 2:
        return None
    starts = numbers[np.concatenate([[True], ~same])]
    if np.all(np.diff(numbers) == 1) or (np.all(steps == 1) and np.isin(starts, (0, 1)).all()):
        return "counts" if starts[0] in (0, 1) else "even"
    scale = np.abs(steps).max()
    if scale > 0 and np.ptp(steps) <= 1e-6 * scale:
        return "even"
    whole = np.all(numbers == np.rint(numbers))
    return "whole" if whole and (steps.min() > 0 or steps.max() < 0) and len(steps) >= 4 else None


def _mostly_grows(numbers: NDArray[np.float64]) -> bool:
    """Whether nine in ten of the numbers [R] that are there are above the one before."""
    steps = np.diff(numbers[~np.isnan(numbers)])
    return len(steps) > 1 and float(np.mean(steps > 0)) >= 0.9


def _is_variable(table: Table, name: str, roles: Roles) -> bool:
    """Whether a column that was not named is a variable; a notice or an error says why another is not."""
    if name in roles.left_out:
        return False
    shape = _progress(table.numbers(name), table.groups(())[0]) if table.is_numeric(name) else None
    if words.is_row_number(name) and shape in ("counts", "even"):
        roles.notices.append(f"column '{name}' left out: it numbers the rows" if name else "row numbers left out")
        return False
    if (
        words.is_key(name)
        and table.is_numeric(name)
        and table.is_whole(name)
        and len(set(table.numbers(name))) == len(table)
    ):
        roles.leave_out(name, "it has another value in each row (a variable? name --columns)")
        return False
    if words.is_time(name) and roles.time:
        roles.leave_out(name, "it is called like a time (a variable? name it in --columns)")
        return False
    kind = table.kind(name)
    if kind == "numbers":
        return True
    if kind == "mixed":
        table.refuse_strange(name)
    if kind == "text" and not roles.time and (words.is_time(name) or names_years(table, name)):
        raise no_time(table, name, f"or say --columns {_numbers(table, table.names)} to read the rows as steps")
    flags = "it holds true and false (name it with --columns, --known or --past to read these as 1 and 0)"
    reason = {"empty": "it is empty", "text": "it holds text", "dates": "it holds dates", "flags": flags}[kind]
    several = kind == "text" and not roles.time and not roles.id and table.repeats(name)
    advice = f"; if it tells several series apart, say --id {words.option(name)}" if several else ""
    roles.leave_out(name, f"{reason}{advice}")
    return False


def _numbers(table: Table, free: Sequence[str]) -> str:
    """The columns of numbers among those that are free, as --columns takes them."""
    return ",".join(words.option(name) for name in free if table.is_numeric(name) and name)

"""What looks mistaken in the values of a table, and is read as it is: a notice for each, with what to do.

Shapes: R rows sorted by series and time, D variables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from loracast.series.cells import suspected_code
from loracast.series.types import Series
from loracast.series.words import goes_with_another, option

Floats = NDArray[np.float64]

FAR = 10  # times as large as all other values, from which on a value is doubted
FEW = 8  # values, below which none is far from the others
EXACT = 1e-6  # share by which numbers that are a sum may miss it
ROUNDED = 2e-3  # the same for a row of totals, whose addends were rounded


def doubts(
    values: Floats, names: Sequence[str], row: Callable[[int], int], starts: NDArray[np.bool_], chosen: bool
) -> list[str]:
    """Notices of what looks mistaken in values [R, D].

    Args:
        names: [D] of the variables.
        row: what a row, counted from 0, is called in messages.
        starts: [R], where a new series begins.
        chosen: whether the user has named the variables, so that none of them is there by chance.
    """
    suspects = {name: code for name, column in zip(names, values.T) if (code := suspected_code(column)) is not None}
    notices = [
        f"{code:g} in column '{name}' is far from all else; if it means missing: --missing {code:g}"
        for name, code in suspects.items()
    ]
    with np.errstate(over="ignore"):  # sums of the largest numbers there are
        total = _total_row(values, row, starts)
        notices += total
        for name, column in () if total else zip(names, values.T):
            if name not in suspects and (far := _far(name, column, row)):
                notices.append(far)
        return notices if chosen else notices + _doubtful_columns(values, names)


def _far(name: str, column: Floats, row: Callable[[int], int]) -> str | None:
    size = np.nan_to_num(np.abs(column))
    place = int(size.argmax())
    largest = float(size[place])
    size[place] = 0.0
    second = float(size.max())
    if second == 0 or largest <= FAR * second or np.count_nonzero(size) < FEW:
        return None
    return (
        f"{column[place]:.6g} in column '{name}' (row {row(place)}) is {largest / second:.3g} times as large as all "
        "else; correct it if it is mistaken"
    )


def _total_row(values: Floats, row: Callable[[int], int], starts: NDArray[np.bool_]) -> list[str]:
    if len(values) < 5 or starts[1:].any():
        return []
    above = np.nansum(values[:-1], 0)
    if np.any(above == 0) or not np.isfinite(above).all() or not np.allclose(values[-1], above, rtol=ROUNDED, atol=0):
        return []
    return [f"row {row(len(values) - 1)} holds the sums of all rows before it; take it out if it is a row of totals"]


def _doubtful_columns(values: Floats, names: Sequence[str]) -> list[str]:
    notices = []
    if len(names) < 2 or len(values) < 3:
        return notices
    alone = "name the variables with --columns to leave it out"
    for place, (name, column) in enumerate(zip(names, values.T)):
        others = [other for other in range(len(names)) if other != place]
        sums = [others, [*range(place)]] if len(others) > 1 else []
        if np.all(column == column[0]):
            notices.append(f"column '{name}' is {column[0]:.6g} in all rows; {alone}")
        elif any(len(part) > 1 and _is_sum(column, values[:, part]) for part in sums):
            notices.append(f"column '{name}' is the sum of others; {alone}")
        elif goes_with_another(name):
            notices.append(f"column '{name}' is called like an error or a place, and is forecast, too; {alone}")
    return notices


def _is_sum(column: Floats, parts: Floats) -> bool:
    """Whether a column [R] is the sum of others [R, P], of which two at the least are not zero."""
    if np.count_nonzero(np.any(np.nan_to_num(parts) != 0, axis=0)) < 2:
        return False
    sums = parts.sum(1)
    there = ~np.isnan(sums) & ~np.isnan(column)
    return int(there.sum()) > 2 and bool(np.allclose(column[there], sums[there], rtol=EXACT, atol=1e-12))


def uneven_ends(series: Sequence[Series]) -> str | None:
    """A notice where a variable that is not known beforehand ends before another one; None where none does."""
    uneven = [one for one in series if np.isnan(one.values[-1, len(one.known) :]).any()]
    found = [ends for one in uneven if (ends := _uneven_end(one))]
    if not found:
        return None
    ends, goes_on = found[0]
    more = f", and others so in {len(found) - 1} more series" if len(found) > 1 else ""
    return f"{ends}{more}; if {goes_on} is known for the future, say --known {goes_on}"


def _uneven_end(one: Series) -> tuple[str, str] | None:
    """How the ends of a series' variables differ, and the names of what goes on for longest."""
    names, there = one.names[len(one.known) :], ~np.isnan(one.values[:, len(one.known) :])
    final = {name: int(np.flatnonzero(column)[-1]) for name, column in zip(names, there.T) if column.any()}
    first, last = min(final.values(), default=0), max(final.values(), default=0)
    early = next((name for name, step in final.items() if step == first), "")
    whole = there[first + 1 : last + 1].all(0)  # of what goes on, no value is absent there
    goes_on = ",".join(option(name) for name, here in zip(names, np.atleast_1d(whole)) if here)
    present = np.flatnonzero(there[:, names.index(early)]) if early else np.zeros(0, int)
    if not goes_on or last - first < 2 * np.diff(present).max(initial=1):
        return None  # a variable with such gaps may well end in one
    if one.calendar is None or one.time is None:
        begin, end = f"row {first + 1}", f"row {last + 1}"
    else:
        begin, end = one.calendar.texts(one.time[[first, last]])
    return f"'{early}' has its last value at {begin}, {goes_on} at {end}", goes_on

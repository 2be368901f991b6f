"""What the columns of a table are for, and their cells as numbers and dates.

Shapes: R rows of a table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loracast.errors import DataError

TIME_NAMES = ("time", "t", "year", "date", "ds", "timestamp", "step")
ID_NAMES = ("id", "series", "unique_id", "item_id")
MISSING = ("", "na", "nan")  # what stands for a missing number in a text cell, in any case


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are not variables. None: found by name (`TIME_NAMES`, `ID_NAMES`), in any case."""

    time: str | None = None
    id: str | None = None


BY_CONVENTION = Columns()


def parse_numbers(cells: NDArray[Any], problem: Callable[[int, str], DataError]) -> NDArray[np.float64]:
    """Cells [R] as float64 [R], NaN where missing."""
    numbers = np.empty(len(cells))
    if cells.dtype.kind in "iuf":
        numbers[:] = cells
    else:
        for index, cell in enumerate(cells):
            number = _number(cell)
            if number is None:
                raise problem(index, f"{str(cell)!r} is not a number; correct it, or leave it empty if it is missing")
            numbers[index] = number
    infinite = np.flatnonzero(np.isinf(numbers))
    if len(infinite):
        raise problem(int(infinite[0]), "the value is infinite; correct it, or leave it empty if it is missing")
    return numbers


def parse_time(cells: NDArray[Any], problem: Callable[[int, str], DataError]) -> NDArray[Any]:
    """Cells [R] as float64 or datetime64[ns] [R]; missing ones stay missing."""
    if cells.dtype.kind in "iufM":
        return cells
    numbers = [_number(cell) for cell in cells]
    if None not in numbers:
        return np.array(numbers, dtype=np.float64)
    import pandas

    texts = ["" if cell is None else str(cell).strip() for cell in cells]
    # pandas reads "now" and "today" as dates, too
    dated = [text if text[:1].isdigit() else None for text in texts]
    # ISO 8601 alone: a guess at 01/02/2020 would be silently wrong for half the world
    dates = pandas.to_datetime(dated, format="ISO8601", errors="coerce", utc=True).tz_localize(None)
    strange = [index for index, date in enumerate(dates) if date is pandas.NaT and texts[index].lower() not in MISSING]
    if strange:
        index = next((index for index in strange if numbers[index] is None), strange[0])
        raise problem(index, f"{texts[index]!r} is neither a number nor an ISO 8601 date such as 2020-01-31")
    return dates.to_numpy()


def _number(cell: Any) -> float | None:
    """The number in a cell, NaN where it is missing, None where it is something else."""
    text = "" if cell is None else str(cell).strip()
    if text.lower() in MISSING:
        return float("nan")
    try:
        return None if "_" in text else float(text)  # float() takes 1_000
    except ValueError:
        return None


def iso_dates(time: NDArray[Any]) -> list[str]:
    """Dates [T] as ISO 8601 text, with as many digits as each needs."""
    return np.datetime_as_string(time, unit="auto").tolist()

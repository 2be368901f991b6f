"""The cells of a table by column: as numbers, as times and as labels, and errors that name a row and a column.

Shapes: R rows of a table, U different cells of a column.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loracast.errors import DataError
from loracast.series.cells import NumberStyle, missing, missing_codes, parse_numbers, pc, suspected_code
from loracast.series.dates import Order, compact, orders_of, parse_dates, parse_ordered, seasons_of
from loracast.series.grid import infer_calendar
from loracast.series.text import Cells
from loracast.series.words import DATE, MONTH, QUARTER, WEEK, month_number, plain

Kind = Literal["numbers", "mixed", "text", "dates", "empty"]


@dataclass
class Table:
    """Columns [R] of cells: text, numbers (NaN where missing) or datetime64[ns] (in UTC if `zones` names its zone)."""

    source: str
    stem: str
    columns: dict[str, Cells]
    rows: Sequence[int]  # [R], what each row is called in messages
    style: NumberStyle = field(default_factory=NumberStyle)
    zones: dict[str, str] = field(default_factory=dict)
    order: Order | None = None
    absent: tuple[str, ...] = ()  # further texts that mean "missing"
    notices: list[str] = field(default_factory=list)
    _numbers: dict[str, tuple[NDArray[np.float64], NDArray[np.bool_]]] = field(default_factory=dict)
    _kinds: dict[str, Kind] = field(default_factory=dict)
    _codes: dict[str, tuple[NDArray[np.int64], list[str]] | None] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def names(self) -> list[str]:
        return list(self.columns)

    def problem(self, column: str, row: int, message: str) -> DataError:
        return DataError(f"{self.source}, row {self.rows[row]}, column '{column}': {message}")

    # -- numbers -------------------------------------------------------------------------------------------------

    def kind(self, name: str) -> Kind:
        """What a column holds; "mixed" is mostly numbers and something else besides."""
        if name not in self._kinds:
            self._kinds[name] = self._kind(name)
        return self._kinds[name]

    def _kind(self, name: str) -> Kind:
        cells = self.columns[name]
        if isinstance(cells, np.ndarray):
            if cells.dtype.kind == "M":
                return "dates"
            return "empty" if np.isnan(cells).all() else "numbers"
        numbers, strange = self._parsed(name)
        present = int((~np.isnan(numbers) | strange).sum())
        if not present:
            return "empty"
        if not strange.any():
            return "numbers"
        return "mixed" if strange.sum() <= present / 2 else "text"

    def is_numeric(self, name: str) -> bool:
        return self.kind(name) == "numbers"

    def is_whole(self, name: str) -> bool:
        """Whether a column of numbers holds whole ones only."""
        numbers = self.numbers(name)
        return bool(np.all(numbers[~np.isnan(numbers)] == np.rint(numbers[~np.isnan(numbers)])))

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A column as numbers [R], NaN where missing; a DataError names a cell that is neither."""
        if self.kind(name) == "dates":
            raise DataError(f"{self.source}: column '{name}' holds dates, not numbers")
        numbers, strange = self._parsed(name)
        if strange.any():
            self.refuse_strange(name)
        if infinite := np.flatnonzero(np.isinf(numbers)).tolist():
            raise self.problem(
                name, infinite[0], "the value is infinite; correct it, or leave it empty if it is missing"
            )
        return numbers

    def refuse_strange(self, name: str) -> NoReturn:
        """Raises the DataError for the first cell of a column that is no number."""
        row = int(np.argmax(self._parsed(name)[1]))
        cell = self.columns[name][row]
        text = cell.as_py() if isinstance(cell, pa.Scalar) else str(cell)
        number = re.sub(r"[^\d.,+\-eE]", "", text)
        alone = re.fullmatch(r"[+-]?\d+([.,]\d+)?", number) and not re.search("[<>~≤≥]", text)
        hint = f", or give the number alone ({number})" if alone else ""
        raise self.problem(
            name,
            row,
            f"{text!r} is not a number; correct it{hint}, leave it empty if it is missing (or say --missing "
            f"'{text}'), or choose the variables with --columns",
        )

    def value_columns(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Columns as numbers [R, D]; codes for missing numbers such as -999 become NaN, with a notice."""
        columns = []
        for name in names:
            numbers = self.numbers(name)
            if codes := missing_codes(numbers):
                count = int(np.isin(numbers, codes).sum())
                shown = ", ".join(f"{code:g}" for code in codes)
                self.notices.append(f"{shown} in column '{name}' read as missing ({count} cell{'s' * (count > 1)})")
                numbers = np.where(np.isin(numbers, codes), np.nan, numbers)
            if (suspect := suspected_code(numbers)) is not None:
                self.notices.append(
                    f"{suspect:g} in column '{name}' is far from all else; if it means missing: --missing {suspect:g}"
                )
            columns.append(numbers)
        return np.column_stack(columns)

    def _parsed(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        if name not in self._numbers:
            cells = self.columns[name]
            if isinstance(cells, np.ndarray):
                numbers = cells.astype(np.float64)
                for text in self.absent:
                    value = self.style.parse(text)
                    numbers = numbers if value is None else np.where(numbers == value, np.nan, numbers)
                self._numbers[name] = numbers, np.zeros(len(cells), bool)
            else:
                if self.absent:
                    marks = pa.array(list(self.absent), pa.string())
                    cells = pc.if_else(pc.is_in(cells, value_set=marks), "", cells)
                self._numbers[name] = parse_numbers(cells, self.style)
        return self._numbers[name]

    # -- labels --------------------------------------------------------------------------------------------------

    def codes(self, name: str) -> tuple[NDArray[np.int64], list[str]] | None:
        """Labels of a column in order of appearance, and which of them each row [R] has; None for dates."""
        if name not in self._codes:
            cells = self.columns[name]
            if isinstance(cells, np.ndarray):
                if cells.dtype.kind == "M" or np.isnan(cells).any():
                    self._codes[name] = None
                    return None
                whole = np.all(cells == np.rint(cells))
                encoded = pa.array(cells.astype(np.int64) if whole else cells).dictionary_encode()
                labels = [str(label) for label in encoded.dictionary.to_pylist()]
            else:
                encoded = cells.dictionary_encode()
                labels = encoded.dictionary.to_pylist()
            self._codes[name] = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), labels
        return self._codes[name]

    def groups(self, names: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
        """The series that each row [R] belongs to and their labels, in order of appearance; one without id columns."""
        if not names:
            return np.zeros(len(self), np.int64), [self.stem]
        parts = [self.codes(name) for name in names]
        for name, part in zip(names, parts):
            if part is None:
                raise DataError(f"{self.source}: column '{name}' cannot tell series apart: it has dates or gaps")
        if len(parts) == 1:
            return parts[0]  # type: ignore[return-value]
        joined, labels = parts[0]  # type: ignore[misc]
        for codes, more in parts[1:]:  # type: ignore[misc]
            pairs = joined * len(more) + codes
            found, first, joined = np.unique(pairs, return_index=True, return_inverse=True)
            rank = np.argsort(np.argsort(first))
            joined = rank[joined]
            labels = [f"{labels[pair // len(more)]}/{more[pair % len(more)]}" for pair in found[np.argsort(first)]]
        return joined.astype(np.int64), labels

    def repeats(self, name: str) -> bool:
        """Whether a column of text has some of its values in several rows, and more than one value."""
        codes = self.codes(name)
        return codes is not None and 1 < len(codes[1]) <= len(self) / 2

    # -- times ---------------------------------------------------------------------------------------------------

    def looks_timed(self, name: str) -> bool:
        """Whether a column that is called like a time holds numbers, dates or parts of dates, some at least."""
        kind = self.kind(name)
        if kind != "text" or self.is_part(name):
            return kind not in ("text", "empty")
        return any(text[:1].isdigit() for text in np.unique(self._texts(name)))

    def is_part(self, name: str) -> bool:
        """Whether a column of text holds months by name, or times of day."""
        return self.kind(name) == "text" and (self.is_clock(name) or self._named_months(name) is not None)

    def is_dates(self, name: str) -> bool:
        """Whether a column holds dates, and all its cells are some."""
        cells = self.columns[name]
        if isinstance(cells, np.ndarray):
            return cells.dtype.kind == "M"
        if self.kind(name) != "text":
            return False
        texts = [text for text in cells.dictionary_encode().dictionary.to_pylist() if text]
        seasons = seasons_of(texts) is not None
        return bool(texts) and (seasons or bool(orders_of(texts)) or not parse_dates(texts)[1].any())

    def is_clock(self, name: str) -> bool:
        """Whether a column of text holds times of day such as 14:30."""
        cells = self.columns[name]
        if isinstance(cells, np.ndarray):
            return False
        return all(re.fullmatch(r"\d{1,2}:\d{2}(:\d{2}.*)?(\s*[ap]m)?", text, re.I) for text in set(cells.to_pylist()))

    def times(self, names: Sequence[str], zone: str | None) -> tuple[NDArray[Any], str | None]:
        """The times [R] of a column, or of the columns in which dates are kept in parts, and their time zone.

        Numbers, or datetime64[ns], in UTC where there is a zone. A DataError names a cell that is no time.
        """
        time, own = self._time(names[0]) if len(names) == 1 else (self._join(names), None)
        if time.dtype.kind == "M" and zone is not None:
            from loracast.series.calendar import localise

            if own is None:
                return localise(time, zone, self.source), zone
            return time, zone
        if own == "UTC" and len(names) == 1 and names[0] not in self.zones and self._several_offsets(names[0]):
            self.notices.append(f"the offsets of '{names[0]}' differ: times are read as UTC (or name a --zone)")
        return time, own

    def _several_offsets(self, name: str) -> bool:
        cells = self.columns[name]
        return (
            not isinstance(cells, np.ndarray)
            and not pc.all(pc.match_substring_regex(cells, "(?i)(Z|UTC|GMT|[+-]00:?00)$")).as_py()
        )

    def _time(self, name: str) -> tuple[NDArray[Any], str | None]:
        cells = self.columns[name]
        if isinstance(cells, np.ndarray):
            if cells.dtype.kind == "M":
                self._refuse_absent(name, np.isnat(cells))
                return cells, self.zones.get(name)
            self._refuse_absent(name, np.isnan(cells))
            return self._maybe_compact(name, cells), None
        self._refuse_absent(name, missing(cells))
        strange = self._parsed(name)[1]
        if not strange.any():
            return self._maybe_compact(name, self.numbers(name)), None
        encoded = cells.dictionary_encode()
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        texts: list[str] = encoded.dictionary.to_pylist()
        if (seasons := seasons_of(texts)) is not None:
            self.notices.append(f"seasons such as {texts[0]} read as the years in which they begin")
            return seasons[codes], None
        orders = orders_of(texts)
        if orders:
            return self._ordered(name, texts, codes, orders), None
        dates, unread, zone = parse_dates(texts)
        if unread.any():
            wrong = strange if strange.sum() <= unread[codes].sum() else unread[codes]
            row = int(np.argmax(wrong))
            raise self.problem(
                name,
                row,
                f"{texts[codes[row]]!r} is neither a number nor a date that can be read in one way; write dates as "
                "2020-01-31 (years from 1678 to 2262; others as numbers), take that row out if it is none of the data, "
                "or choose the times with --time",
            )
        return dates[codes], zone

    def _ordered(self, name: str, texts: list[str], codes: NDArray[np.int64], orders: list[Order]) -> NDArray[Any]:
        """Dates [R] such as 01/02/2020, in the only order of day and month that is possible or evenly spaced."""
        chosen: list[Order] = [self.order] if self.order else orders
        read = {order: parse_ordered(texts, order) for order in chosen}
        fits = {order: dates[codes] for order, dates in read.items() if dates is not None}
        if len(fits) > 1:
            even = {order: time for order, time in fits.items() if infer_calendar(np.unique(time)) is not None}
            fits = even if len(even) == 1 else fits
            if len(fits) == 1:
                self.notices.append(f"dates such as {texts[-1]} read {next(iter(fits))}, as they are evenly spaced so")
        if len(fits) != 1:
            problem = "can be read with the day or the month first" if fits else "do not all have such an order"
            advice = "say --dates day-first or --dates month-first" if fits else "write dates as 2020-01-31"
            raise self.problem(name, 0, f"dates such as {texts[0]!r} {problem}; {advice}")
        return next(iter(fits.values()))

    def _maybe_compact(self, name: str, numbers: NDArray[np.float64]) -> NDArray[Any]:
        """Numbers such as 20200131 as dates, with a notice, where the column is not called a number of something."""
        if not {*plain(name).split(" ")} & {*DATE, *MONTH, "time", "day", "t", "yearmonth", "yyyymm", "yyyymmdd", "ym"}:
            return numbers
        unique, codes = np.unique(numbers, return_inverse=True)
        dates = compact(unique)
        if dates is None:
            return numbers
        self.notices.append(f"numbers such as {unique[0]:.0f} in '{name}' read as dates")
        return dates[codes]

    def _named_months(self, name: str) -> NDArray[np.float64] | None:
        """A column of month names as numbers [R]; None where some cell is none."""
        cells = self.columns[name]
        if isinstance(cells, np.ndarray):
            return None
        encoded = cells.dictionary_encode()
        months = [month_number(text) for text in encoded.dictionary.to_pylist()]
        if None in months:
            return None
        return np.array(months, dtype=np.float64)[encoded.indices.to_numpy(zero_copy_only=False)]

    def _join(self, names: Sequence[str]) -> NDArray[Any]:
        """Dates [R] that are kept in parts."""
        if not self.is_numeric(names[0]):  # a date and a time of day
            cells = [self._texts(name) for name in names]
            joined = pa.array([f"{date} {clock}" for date, clock in zip(*cells)])
            whole = Table(self.source, self.stem, {" ".join(names): joined}, self.rows, self.style, order=self.order)
            return whole._time(" ".join(names))[0]
        parts = [self._part(name) for name in names]
        year = parts[0].astype(np.int64).astype(str).astype("datetime64[Y]")
        kind = plain(names[1]).split(" ")[0]
        limits = {"month": 12, "quarter": 4, "week": 53, "day": 366}
        unit = "month" if kind in MONTH else "quarter" if kind in QUARTER else "week" if kind in WEEK else "day"
        if wrong := np.flatnonzero(
            (parts[1] < 1) | (parts[1] > limits[unit]) | (parts[1] != np.rint(parts[1]))
        ).tolist():
            raise self.problem(names[1], wrong[0], f"{parts[1][wrong[0]]:g} is no {unit} of a year")
        number = parts[1].astype(np.int64) - 1
        if unit in ("month", "quarter"):
            month = year.astype("datetime64[M]") + (number * (1 if unit == "month" else 3)).astype("timedelta64[M]")
            day = parts[2].astype(np.int64) - 1 if len(parts) > 2 else np.zeros(len(self), np.int64)
            date = month.astype("datetime64[D]") + day.astype("timedelta64[D]")
            if wrong := np.flatnonzero(date.astype("datetime64[M]") != month).tolist():
                raise self.problem(names[2], wrong[0], f"that month has no day {day[wrong[0]] + 1}")
        else:
            date = _first_monday(year) if unit == "week" else year.astype("datetime64[D]")
            date = date + (number * (7 if unit == "week" else 1)).astype("timedelta64[D]")
        clock = np.rint(parts[3] * 3.6e12).astype("timedelta64[ns]") if len(parts) > 3 else np.timedelta64(0, "ns")
        return date.astype("datetime64[ns]") + clock

    def _part(self, name: str) -> NDArray[np.float64]:
        months = self._named_months(name)
        numbers = self.numbers(name) if months is None else months
        self._refuse_absent(name, np.isnan(numbers))
        return numbers

    def _texts(self, name: str) -> list[str]:
        cells = self.columns[name]
        if isinstance(cells, np.ndarray):
            return np.datetime_as_string(cells, unit="D").tolist()
        return cells.to_pylist()

    def _refuse_absent(self, name: str, absent: NDArray[np.bool_]) -> None:
        if absent.any():
            row = int(np.argmax(absent))
            raise self.problem(name, row, "the time is missing; give every row a time, or choose the times with --time")


def _first_monday(year: NDArray[Any]) -> NDArray[Any]:
    """The Monday [R] of the first ISO week of each year: of the week that holds the fourth of January."""
    fourth = year.astype("datetime64[D]") + np.timedelta64(3, "D")
    weekday = (fourth.astype(np.int64) + 3) % 7  # Mondays are 0
    return fourth - weekday.astype("timedelta64[D]")

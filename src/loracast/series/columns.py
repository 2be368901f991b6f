"""The cells of a table by column: as numbers and as labels, and errors that name a row and a column.

Shapes: R rows of a table.
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
from loracast.series.cells import NumberStyle, missing_codes, parse_numbers, pc
from loracast.series.dates import Order
from loracast.series.text import Cells

Kind = Literal["numbers", "flags", "mixed", "text", "dates", "empty"]
FLAGS = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}


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
        """What a column holds: "flags" are true and false, "mixed" is mostly numbers and something else besides."""
        if name not in self._kinds:
            self._kinds[name] = self._kind(name)
        return self._kinds[name]

    def _kind(self, name: str) -> Kind:
        cells = self.columns[name]
        if isinstance(cells, np.ndarray):
            if cells.dtype.kind == "M":
                return "dates"
            return "empty" if np.isnan(cells).all() else "numbers"
        numbers, strange = self.parsed(name)
        present = int((~np.isnan(numbers) | strange).sum())
        if not present:
            return "empty"
        if not strange.any():
            return "numbers"
        if strange.sum() <= present / 2:
            return "mixed"
        words = {text.lower() for text in cells.filter(pa.array(strange)).unique().to_pylist()}
        return "flags" if strange.sum() == present and words <= {*FLAGS} else "text"

    def is_numeric(self, name: str) -> bool:
        return self.kind(name) == "numbers"

    def is_whole(self, name: str) -> bool:
        """Whether a column of numbers holds whole ones only."""
        numbers = self.numbers(name)
        return bool(np.all(numbers[~np.isnan(numbers)] == np.rint(numbers[~np.isnan(numbers)])))

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A column as numbers [R], NaN where missing, 1 for true and 0 for false; a DataError names any other cell."""
        if self.kind(name) == "dates":
            raise DataError(f"{self.source}: column '{name}' holds dates, not numbers")
        if self.kind(name) == "flags":
            cells: Any = self.columns[name]  # of text
            encoded = cells.dictionary_encode()
            values = [FLAGS.get(text.lower(), np.nan) for text in encoded.dictionary.to_pylist()]
            return np.array(values)[encoded.indices.to_numpy(zero_copy_only=False)]
        numbers, strange = self.parsed(name)
        if strange.any():
            self.refuse_strange(name)
        if infinite := np.flatnonzero(np.isinf(numbers)).tolist():
            raise self.problem(
                name, infinite[0], "the value is infinite; correct it, or leave it empty if it is missing"
            )
        return numbers

    def refuse_strange(self, name: str) -> NoReturn:
        """Raises the DataError for the first cell of a column that is not a number."""
        row, text = self._first_strange(name)
        raise self.problem(
            name,
            row,
            f"{text!r} is not a number{_hint(text)}; correct it, leave it empty if it is missing (or say --missing "
            f"'{text}'), or choose the variables with --columns",
        )

    def not_a_number(self, name: str) -> str:
        """What the first cell of a column is that is not a number, as a clause of a message."""
        row, text = self._first_strange(name)
        return f"row {self.rows[row]} of '{name}' is {text!r}, which is not a number{_hint(text)}"

    def _first_strange(self, name: str) -> tuple[int, str]:
        row = int(np.argmax(self.parsed(name)[1]))
        cell = self.columns[name][row]
        return row, cell.as_py() if isinstance(cell, pa.Scalar) else str(cell)

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
            if (sign := self._signed_in_part(name)) is not None:
                self.notices.append(
                    f"some cells of column '{name}' have a sign such as {sign!r} and others none: all are read as they "
                    "stand; write all of them in one unit"
                )
            columns.append(numbers)
        return np.column_stack(columns)

    def _signed_in_part(self, name: str) -> str | None:
        """A sign of percent or currency that some numbers of a column have and others have not, or have another."""
        cells = self.columns[name]
        if isinstance(cells, np.ndarray) or not pc.any(pc.match_substring_regex(cells, "[$€£¥%]")).as_py():
            return None
        present = cells.filter(pa.array(~np.isnan(self.parsed(name)[0]))).unique().to_pylist()
        signs = {"".join(re.findall("[$€£¥%]", text)) for text in present}
        return next(iter(sorted(signs - {""}))) if len(signs) > 1 else None

    def parsed(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
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
                    cells = pc.if_else(pa.array(self.is_absent(cells)), "", cells)
                self._numbers[name] = parse_numbers(cells, self.style)
        return self._numbers[name]

    def is_absent(self, cells: pa.Array) -> NDArray[np.bool_]:
        """Which cells [R] of text hold one of the further texts that mean "missing"."""
        return pc.is_in(cells, value_set=pa.array(list(self.absent), pa.string())).to_numpy(zero_copy_only=False)

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


def _hint(text: str) -> str:
    """How a cell that is not a number may be written as one, as a clause that follows another; empty where unknown."""
    if bracketed := re.fullmatch(r"\(([\d.,]+)\)", text):
        return f"; write -{bracketed[1]} if brackets mean a negative number"
    if trailing := re.fullmatch(r"([\d.,]+)[-−]", text):
        return f"; write -{trailing[1]} if the sign stands behind the number"
    alone = re.fullmatch(r"[^\d<>~≤≥()/]*?([+-]?\d+([.,]\d+)?)[^\d<>~≤≥()/]*", text)
    return f"; give the number alone ({alone[1]})" if alone else ""

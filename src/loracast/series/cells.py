"""Cells of text as numbers: missing ones, decimal commas, thousands separators, percent and currency signs.

Shapes: R rows of a table. A column of text is a pyarrow array of strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

pc: Any = pyarrow.compute  # whose functions are made when it is imported

MISSING = frozenset(
    (
        *(
            "",
            "na",
            "n/a",
            "n.a.",
            "nan",
            "nd",
            "n.d.",
            "n/d",
            "nil",
            "null",
            "none",
            "missing",
            "-",
            "--",
            "---",
            "–",
            "—",
        ),
        *(
            ".",
            "..",
            "...",
            "?",
            "*",
            "x",
            "#n/a",
            "#na",
            "#nv",
            "#value!",
            "#div/0!",
            "nv",
            "k.a.",
            "s/d",
            "<na>",
            "-nan",
        ),
    )
)
CODES = (-99.0, -99.9, -99.99, -999.0, -999.9, -999.99, -9999.0, -9999.9, -99999.0)  # numbers that say "missing"
SPACES = " \u00a0\u202f\u2009'’"
DECORATION = re.compile(r"^[$€£¥]\s*|\s*[$€£¥%]$")
COMMA_DECIMAL = re.compile(
    r"[+-]?(\d*,(\d{1,2}|\d{4,})|0,\d+|\d{4,},\d+|\d{1,3}([. '’\u00a0\u202f]\d{3})+,\d+)([eE][+-]?\d+)?"
)
COMMA_THOUSANDS = re.compile(r"[+-]?\d{1,3}((,\d{3}){2,}|(,\d{3})+\.\d*)")
NUMBER_BEGINS = r"^[+\-−$€£¥ ]*[\d.,]*\d"
EITHER = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")  # 1,234: a thousand, or one and a bit
DOT_DECIMAL = re.compile(r"[+-]?(\d*\.(\d{1,2}|\d{4,})|0\.\d+)")  # with a point that groups no thousands
DOT_GROUPS = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3}){2,}")


@dataclass(frozen=True)
class NumberStyle:
    """How the numbers of a file are written: the decimal sign, and the sign between groups of three digits."""

    decimal: str = "."
    thousands: str = ","

    def parse(self, text: str) -> float | None:
        """The number of a text, or None where it is none in this style."""
        text = DECORATION.sub("", text.strip()).replace("−", "-")
        if "_" in text:  # which Python's float would take
            return None
        if _grouped(self).fullmatch(text):
            text = re.sub(rf"[{re.escape(self.thousands + SPACES)}]", "", text)
        elif self.decimal == "," and "." in text:
            return None
        try:
            return float(text.replace(self.decimal, "."))
        except ValueError:
            return None


@cache
def _grouped(style: NumberStyle) -> re.Pattern[str]:
    """Numbers with a sign between groups of three digits."""
    return re.compile(
        rf"[+-]?\d{{1,3}}([{re.escape(style.thousands + SPACES)}]\d{{3}})+({re.escape(style.decimal)}\d*)?"
    )


def missing(texts: pa.Array) -> NDArray[np.bool_]:
    """Which cells [R] of text say that their number is missing."""
    lowered = pc.utf8_lower(texts)
    return pc.fill_null(pc.is_in(lowered, value_set=pa.array(sorted(MISSING))), True).to_numpy(zero_copy_only=False)


def strip(texts: pa.Array) -> pa.Array:
    """Cells without spaces around them."""
    return pc.utf8_trim_whitespace(texts)


def style_of(texts: Iterable[str], delimiter: str) -> NumberStyle | str:
    """How these texts, of all columns of a file, write numbers; or what makes that undecidable, as a message."""
    comma = thousands = either = pointed = None
    for raw in texts:
        text = DECORATION.sub("", raw.strip())
        if "," not in text and not DOT_GROUPS.fullmatch(text):
            pointed = pointed or DOT_DECIMAL.fullmatch(text)
            continue
        if COMMA_THOUSANDS.fullmatch(text):
            thousands = thousands or text
        elif COMMA_DECIMAL.fullmatch(text) or DOT_GROUPS.fullmatch(text):
            comma = comma or text
        elif EITHER.fullmatch(text):
            either = either or text
    if comma and thousands:
        return f"{comma!r} has a decimal comma and {thousands!r} a comma between thousands; write all numbers alike"
    if comma or (either and not thousands and not pointed and delimiter in ";\t|"):
        return NumberStyle(",", ".")
    return NumberStyle()


def parse_numbers(texts: pa.Array, style: NumberStyle) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Cells [R] as numbers [R], NaN where missing, and which of them [R] are neither numbers nor missing."""
    encoded = texts.dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    absent = missing(encoded.dictionary)[codes]
    if not pc.any(pc.match_substring_regex(encoded.dictionary, NUMBER_BEGINS)).as_py():
        return np.full(len(texts), np.nan), ~absent
    parsed = [style.parse(text) for text in encoded.dictionary.to_pylist()]
    table = np.array([np.nan if number is None else number for number in parsed])
    strange = np.array([number is None for number in parsed])
    numbers = np.where(absent, np.nan, table[codes])
    return numbers, strange[codes] & ~absent


def missing_codes(numbers: NDArray[np.float64]) -> list[float]:
    """Numbers that stand for missing ones, such as -999 where no other number is below zero or nearly as large."""
    found = [code for code in CODES if np.any(numbers == code)]
    others = numbers[~np.isin(numbers, found) & ~np.isnan(numbers)]
    if not found or not len(others):
        return []
    if others.min() >= 0:
        return found
    return [code for code in found if code <= -999 and np.abs(others).max() < -code / 5]


def suspected_code(numbers: NDArray[np.float64]) -> float | None:
    """A number such as 9999 that is ten times as large as all others and may stand for a missing one."""
    for code in (999.0, 9999.0, 99999.0, -999.0, -9999.0, -99999.0, -99.0, -99.9, -99.99):
        if not np.any(numbers == code):
            continue
        others = np.abs(numbers[(numbers != code) & ~np.isnan(numbers)])
        if len(others) and others.max() < abs(code) / (10 if abs(code) > 100 else 3):
            return code
    return None


def as_texts(cells: Iterable[Any]) -> pa.Array:
    """Cells of any kind as a column of text."""
    texts = ["" if cell is None or (isinstance(cell, float) and cell != cell) else str(cell) for cell in cells]
    return strip(pa.array(texts, pa.string()))

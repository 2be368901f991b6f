"""Series in Excel files: one sheet, whose first full row names the columns.

Shapes: R rows of a table.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, TypeGuard
from zipfile import BadZipFile

import numpy as np

from loracast.errors import DataError, install_advice
from loracast.series.calendar import in_nanoseconds
from loracast.series.cells import as_texts
from loracast.series.roles import Columns
from loracast.series.tables import Reading, check_header, reading_of, typed_table
from loracast.series.text import Cells, one_line

Row = tuple[Any, ...]


def read_excel(path: Path, columns: Columns) -> Reading:
    """The series of the sheet that `columns.sheet` names, or of the first one that holds a table."""
    sheets = _sheets(path, values=True)
    title = columns.sheet or _first_table(path, sheets)
    if title not in sheets:
        raise DataError(f"{path}: --sheet names '{title}', but the sheets are {', '.join(sheets)}")
    notices = []
    if columns.sheet is None and len(others := [name for name, rows in sheets.items() if any(map(_filled, rows))]) > 1:
        others.remove(title)
        notices.append(f"sheet '{title}' is read, and not {', '.join(others)} (choose one with --sheet)")
    numbered = [(number, row) for number, row in enumerate(sheets[title], 1) if _filled(row)]
    if not numbered:
        raise DataError(f"{path}: sheet '{title}' is empty; its first row names the columns")
    width = max(_filled(row) for _, row in numbered)
    skipped = 0
    while len(numbered) > 1 and _filled(numbered[0][1]) < max(1, width - 1):
        numbered, skipped = numbered[1:], skipped + 1
    if skipped:
        notices.append(f"{skipped} row{'s' * (skipped > 1)} above the header left out")
    header = ["" if name is None else one_line(str(name)) for name in numbered[0][1]]
    body = numbered[1:]
    kept = [place for place, name in enumerate(header) if name or any(row[place] is not None for _, row in body)]
    _refuse_uncomputed(path, title, header, body)
    cells = {header[place]: _column([row[place] for _, row in body]) for place in kept}
    check_header([header[place] for place in kept], str(path))
    table = typed_table(str(path), path.stem, cells, [number for number, _ in body], columns)
    return reading_of(table, columns, notices)


def _sheets(path: Path, values: bool) -> dict[str, list[Row]]:
    """The rows of each sheet by its title; formulas as their values, or as they are written."""
    try:
        import openpyxl
    except ImportError as error:
        raise DataError(
            f"{path}: Excel files need openpyxl; {install_advice('excel')}, or save the sheet as CSV"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of styles and validations, which hold no data
            book = openpyxl.load_workbook(path, read_only=True, data_only=values)
            return {sheet.title: list(sheet.iter_rows(values_only=True)) for sheet in book.worksheets}
    except (BadZipFile, KeyError, ValueError, OSError) as error:
        raise DataError(f"{path}: not an Excel file (.xlsx): {error}; save it anew or as CSV") from error


def _first_table(path: Path, sheets: dict[str, list[Row]]) -> str:
    sizes = {title: sum(_filled(row) > 0 for row in rows) for title, rows in sheets.items()}
    least = 2 if max(sizes.values(), default=0) > 1 else 1  # a sheet with a line of text alone is no table
    found = [title for title, size in sizes.items() if size >= least]
    if not found:
        raise DataError(f"{path}: the file is empty; its first row names the columns")
    numeric = [title for title in found if any(_is_number(cell) for row in sheets[title][1:] for cell in row)]
    return (numeric or found)[0]


def _filled(row: Row) -> int:
    return sum(cell is not None for cell in row)


def _refuse_uncomputed(path: Path, title: str, header: Sequence[str], body: Sequence[tuple[int, Row]]) -> None:
    """A DataError for a formula whose value the file does not hold, as in files that no spreadsheet has saved."""
    if not any(cell is None for _, row in body for cell in row):
        return
    written = _sheets(path, values=False)[title]
    for number, row in body:
        for place, cell in enumerate(row):
            formula = written[number - 1][place] if number <= len(written) else None
            if cell is None and isinstance(formula, str) and formula.startswith("="):
                raise DataError(
                    f"{path}, row {number}, column '{header[place]}': the value of the formula {formula} is not in the "
                    "file; open it in a spreadsheet and save it there"
                )


def _column(cells: Sequence[Any]) -> Cells:
    """Cells of one column of a sheet as numbers or dates where all are some, else as text."""
    import pandas as pd

    present = [cell for cell in cells if cell is not None and not (isinstance(cell, str) and not cell.strip())]
    if present and all(map(_is_number, present)):
        return np.array([cell if _is_number(cell) else np.nan for cell in cells], np.float64)
    if present and all(isinstance(cell, date) for cell in present):
        dates = pd.to_datetime([cell if isinstance(cell, date) else None for cell in cells])
        return in_nanoseconds(dates.to_numpy())
    return as_texts(cell.isoformat() if isinstance(cell, datetime) else cell for cell in cells)


def _is_number(cell: Any) -> TypeGuard[float]:
    return isinstance(cell, int | float) and not isinstance(cell, bool)

"""Text files of tables: their encoding, the sign between their cells, and their cells as columns of text.

pyarrow reads what is regular, numbers and dates at once. What is written in another way, with decimal commas, quotes or
other encodings, is read as text first. Our own slower pass reads what has comments, blank lines, titles above the
header or cells too many, and says where a file cannot be read.

Shapes: R rows of a table.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loracast.errors import DataError
from loracast.series.cells import MISSING, NumberStyle, pc, strip
from loracast.series.words import is_id, is_time

Cells = pa.Array | NDArray[Any]  # text; or numbers, NaN where missing; or datetime64[ns]

DELIMITERS = ",;\t|"
SNIFFED_LINES = 40
OTHER_KINDS = {  # what files begin with that are not a table of text, and what to do with each
    b"pk\x03\x04": "a zip archive, or an Excel file; unpack it, or call it .xlsx",
    b"\xd0\xcf\x11\xe0": "an old Excel file; save it as .xlsx or CSV",
    b"par1": "a Parquet file; call it .parquet",
    b"\x89hdf": "an HDF5 file; call it .h5",
    b"%pdf": "a PDF; give the table as CSV or Excel",
    b"<!doctype": "a web page; download the table itself",
    b"<html": "a web page; download the table itself",
    b"<?xml": "XML; save the table as CSV or Excel",
    b"{": "JSON; save the table as CSV (pandas.read_json(…).to_csv(…))",
    b"[{": "JSON; save the table as CSV (pandas.read_json(…).to_csv(…))",
}


@dataclass(frozen=True, eq=False)
class TextTable:
    """A table of text: its header, its columns [R], and what was noticed when it was read.

    Columns are trimmed text or, where all of a column was read at once, numbers or dates.
    """

    header: list[str]
    columns: list[Cells]
    delimiter: str
    lines: Sequence[int]  # [R], the line of the file on which each row begins
    notices: list[str] = field(default_factory=list)


def read_text(path: Path, labels: Collection[str] = ()) -> TextTable:
    """The table of a CSV file or one like it; a DataError that names the line where it is none.

    labels: columns that are text even where they look like numbers; so are those that are called like ids.
    """
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        raw = gzip.decompress(raw)
    for beginning, what in OTHER_KINDS.items():
        if b"".join(raw[:64].lower().split()).startswith(beginning):
            raise DataError(f"{path}: the file is {what}")
    return _at_once(raw, labels) or _as_text(path, raw)


def read_as_text(path: Path) -> TextTable:
    """The table of a file that `read_text` has read, with all of its cells as text."""
    raw = path.read_bytes()
    return _as_text(path, gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)


def _at_once(raw: bytes, labels: Collection[str]) -> TextTable | None:
    """A regular table in UTF-8, each column as what it is; None for any other.

    Semicolons stand where numbers have decimal commas or dots between thousands, which only their text can tell.
    """
    from pyarrow import csv as arrow

    if not raw or raw[:1] in b"#\n\r \xef\xff\xfe" or b'"' in raw or b"\0" in raw:
        return None
    sample = raw[: 2**16].decode("utf-8", errors="replace").splitlines()[: SNIFFED_LINES + 1]
    delimiter, width = _delimiter(sample[:SNIFFED_LINES])
    if delimiter in " ;" or len(sample) < 3:
        return None
    header, first = ([cell.strip() for cell in line.split(delimiter)] for line in sample[:2])
    if len(header) != width or "" in header[1:] or len({*header}) < width or any(map(_numeric, filter(None, header))):
        return None
    if all(cell.lower() in MISSING or not _numeric(cell) for cell in first):
        return None
    kept_as_text = {name for name in header if name in labels or is_id(name)}
    nulls = [mark for mark in MISSING for mark in {mark, mark.upper(), mark.title(), mark.capitalize()}]
    for _ in range(2):  # once more, where a column was taken for what only its text can tell
        try:
            table = arrow.read_csv(
                pa.BufferReader(raw),
                read_options=arrow.ReadOptions(column_names=header, skip_rows=1),
                parse_options=arrow.ParseOptions(delimiter=delimiter),
                convert_options=arrow.ConvertOptions(
                    column_types=dict.fromkeys(kept_as_text, pa.string()), null_values=nulls
                ),
            )
            columns = [_cells(column) for column in table.columns]
        except pa.ArrowInvalid:
            return None
        unclear = {name for name, column in zip(header, columns) if column is None}
        if not unclear:
            break
        kept_as_text |= unclear
    if table.num_rows != raw.count(b"\n") - 1 + (not raw.endswith(b"\n")):  # blank lines are left out
        return None
    for name, column in zip(header, columns):
        if not isinstance(column, np.ndarray) and pc.any(pc.equal(column, name)).as_py():
            return None  # the header once more
    if not isinstance(columns[0], np.ndarray) and pc.any(pc.starts_with(columns[0], "#")).as_py():
        return None  # a comment with as many commas as a row
    return TextTable(header, columns, delimiter, range(2, table.num_rows + 2))


def _cells(column: pa.ChunkedArray) -> Cells | None:
    """A column that pyarrow has read, as cells; None where it is of a kind that is read from its text."""
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return column.cast(pa.float64()).fill_null(float("nan")).to_numpy()
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if pa.types.is_string(column.type):
        return strip(column.combine_chunks())
    if pa.types.is_date32(column.type) or (pa.types.is_timestamp(column.type) and column.type.tz is None):
        return column.cast(pa.timestamp("ns")).to_numpy()
    return None


def _as_text(path: Path, raw: bytes) -> TextTable:
    """Any table, its cells as text."""
    text, notices = _decode(path, raw)
    lines = text.splitlines()
    if lines and re.fullmatch(r"sep=.", lines[0].strip(), re.IGNORECASE):
        text = text.split("\n", 1)[1] if "\n" in text else ""
        lines = lines[1:]
    sample = [line for line in lines[: 4 * SNIFFED_LINES] if _is_row(line)][:SNIFFED_LINES]
    if not sample:
        raise DataError(f"{path}: the file is empty; its first line names the columns")
    delimiter, width = _delimiter(sample)
    table = _fast(text, lines, delimiter, width)
    table = table or _slow(path, text, delimiter, width)
    table.notices[:0] = notices
    return _headed(path, table)


def _decode(path: Path, raw: bytes) -> tuple[str, list[str]]:
    marks = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
    encoding = next((name for mark, name in marks.items() if raw.startswith(mark)), None)
    if encoding is None:
        encoding = "utf-8"
        if raw.count(0) > len(raw) / 4:  # every second byte of Latin letters in UTF-16
            encoding = "utf-16-le" if raw[1::2].count(0) >= raw[::2].count(0) else "utf-16-be"
        elif 0 in raw:
            line = raw[: raw.index(0)].count(b"\n") + 1
            raise DataError(
                f"{path}, row {line}: the file holds a zero byte, which no text does; save the table anew as text, or "
                "give it as Excel, Parquet or HDF5"
            )
    try:
        return raw.decode(encoding), []
    except UnicodeDecodeError as error:
        high = np.frombuffer(raw, np.uint8) >= 128
        if encoding != "utf-8":
            raise DataError(f"{path}: not a text file; series are kept in text, Excel, Parquet or HDF5") from error
        if np.count_nonzero(high[1:] & high[:-1]) > np.count_nonzero(high) / 2:  # accents of Latin letters stand alone
            raise DataError(f"{path}: the text is neither UTF-8 nor Latin-1; save it as UTF-8") from error
        return raw.decode("cp1252", errors="replace"), [
            "the text is read as Latin-1 (Windows-1252), for it is not UTF-8; if letters look wrong, save it as UTF-8"
        ]


def _is_row(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _split(lines: list[str], delimiter: str) -> list[list[str]]:
    if delimiter == " ":
        lines = [line.strip() for line in lines]  # spaces that follow each other are one sign
    return list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))


def _delimiter(sample: list[str]) -> tuple[str, int]:
    """The sign between the cells of most lines alike, and how many cells they have; a comma for one column."""
    best, choice = (0.0, 0), (",", 1)
    for delimiter in (*DELIMITERS, " "):
        try:
            widths = Counter(len(record) for record in _split(sample, delimiter) if record)
        except csv.Error:
            continue
        width, count = max(widths.items(), key=lambda item: (item[1], item[0]))
        score = (count / sum(widths.values()), width)
        if width > 1 and score[0] > 0.6 and score > best and (delimiter != " " or best[0] == 0):
            best, choice = score, (delimiter, width)
    return choice


def _fast(text: str, lines: list[str], delimiter: str, width: int) -> TextTable | None:
    """A regular table, read by pyarrow; None for one that is not."""
    from pyarrow import csv as arrow

    if delimiter == " " or len(_split(lines[:1], delimiter)[0] if lines and lines[0].strip() else []) != width:
        return None
    if text.count('"') % 2 or any(mark in text for mark in ("\n#", "\n\n", "\r\n\r\n")) or text.startswith(("#", "\n")):
        return None
    names = [str(index) for index in range(width)]
    try:
        table = arrow.read_csv(
            pa.BufferReader(text.encode()),
            read_options=arrow.ReadOptions(column_names=names, skip_rows=1, use_threads=True),
            parse_options=arrow.ParseOptions(delimiter=delimiter, newlines_in_values='"' in text),
            convert_options=arrow.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        return None
    if table.num_rows + 1 != len(lines):  # a cell that spans lines, or blank ones
        return None
    columns = [strip(column.combine_chunks()) for column in table.columns]
    columns = [column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column for column in columns]
    header = [name.strip() for name in _split(lines[:1], delimiter)[0]]
    return TextTable(header, columns, delimiter, range(2, table.num_rows + 2))


def _slow(path: Path, text: str, delimiter: str, width: int) -> TextTable:
    """Any table: comments, blank lines and a title are left out; cells too many or too few are refused."""
    notices: list[str] = []
    try:
        records = list(_records(text, delimiter))
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read as a table of text: {error}; check its quotes") from error
    body = [len(record) for _, record in records[1:]]
    title = 0
    while title < len(records) - 1 and len(records[title][1]) < width - 1 and len(records[title + 1][1]) <= width:
        title += 1
    if title and all(_numeric(cell) for cell in records[title][1]):
        title = 0  # what stands above numbers is their header
    if title:
        shown = " ".join(records[0][1])[:60]
        notices.append(f"{title} line{'s' * (title > 1)} above the header left out: {shown!r}")
        records = records[title:]
    header = [name.strip() for name in records[0][1]]
    rows = records[1:]
    if len(header) == width - 1 and body and _names_rows(header, [record for _, record in rows], width):
        header = ["", *header]
    columns: list[list[str]] = [[] for _ in header]
    lines = []
    for line, record in rows:
        if not any(cell.strip() for cell in record):
            continue
        while len(record) > len(header) and not record[-1].strip():
            record = record[:-1]
        if len(record) != len(header):
            split = delimiter == "," and len(record) > len(header)
            hint = " (where commas are decimal signs, separate cells by semicolons)" if split else ""
            count = f"{len(record)} cell{'s' * (len(record) != 1)}"
            raise DataError(
                f"{path}, row {line}: {count}, but the header has {len(header)}; correct that row, or begin it with # "
                f"if it is a remark{hint}"
            )
        lines.append(line)
        for column, cell in zip(columns, record):
            column.append(cell)
    arrays = [strip(pa.array(column, pa.string())) for column in columns]
    return TextTable(header, arrays, delimiter, lines, notices)


def _names_rows(header: list[str], rows: list[list[str]], width: int) -> bool:
    """Whether rows begin with a cell that the header does not name, as R writes the names of rows.

    A comma that is a decimal sign gives a cell too many, too; then the cells that the header calls times are none.
    """
    if any(len(row) != width for row in rows):
        return False
    if not is_time(header[0]):
        return True
    first, second = ([NumberStyle().parse(row[place]) for row in rows] for place in (0, 1))
    counted = first in ([*range(len(rows))], [*range(1, len(rows) + 1)]) or all(number is None for number in first)
    grows = all(number is None for number in second) or all(
        one is not None and other is not None and one < other for one, other in pairwise(second)
    )
    return counted and grows


def _records(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Records with the number of the line on which each begins; comments and blank lines are left out between them."""
    lines = enumerate(io.StringIO(text, newline=""), 1)
    for number, line in lines:
        if not _is_row(line):
            continue
        if delimiter == " ":
            line = line.strip()

        def following(first: str = line) -> Iterator[str]:
            yield first
            for _, more in lines:  # read on only by a quoted cell that spans lines
                yield more

        yield number, next(csv.reader(following(), delimiter=delimiter, skipinitialspace=True, strict=True))


def _headed(path: Path, table: TextTable) -> TextTable:
    """The table with a name for each column that holds something, without a row of units below the header."""
    header, notices, lines = [one_line(name) for name in table.header], list(table.notices), table.lines
    columns: list[Any] = list(table.columns)  # of text
    kept = [place for place, name in enumerate(header) if name or pc.any(pc.not_equal(columns[place], "")).as_py()]
    header, columns = [header[place] for place in kept], [columns[place] for place in kept]
    if header and all(_numeric(name) for name in header) and not _counts(header):
        first = [pa.array([name], pa.string()) for name in header]
        columns = [pa.concat_arrays([one, column]) for one, column in zip(first, columns)]
        header = [f"x{number}" for number in range(1, len(header) + 1)]
        lines = [1, *lines]
        notices.append(f"the first line holds numbers, not names: the columns are called {', '.join(header)}")
    if (again := _like(header, columns)).any():
        numbers = [lines[row] for row in np.flatnonzero(again).tolist()]
        which = f"row {numbers[0]} is" if len(numbers) == 1 else f"{len(numbers)} rows such as {numbers[0]} are"
        notices.append(f"{which} left out, for the header is repeated there")
        columns = [column.filter(pa.array(~again)) for column in columns]
        lines = [line for line, out in zip(lines, again) if not out]
    if len(lines) > 1:
        first, second = ([column[row].as_py() for column in columns] for row in (0, 1))
        both = [(a, b) for a, b in zip(first, second) if a.lower() not in MISSING and b.lower() not in MISSING]
        if any(_numeric(b) for _, b in both) and not any(_numeric(a) for a, _ in both):
            notices.append(f"the row below the header is left out, for it holds no numbers: {' '.join(first)[:60]!r}")
            columns = [column[1:] for column in columns]
            lines = lines[1:]
    return TextTable(header, columns, table.delimiter, lines, notices)


def _like(header: list[str], columns: list[pa.Array]) -> NDArray[np.bool_]:
    """Which rows [R] hold the header again."""
    again = [pc.equal(column, name).to_numpy(zero_copy_only=False) for name, column in zip(header, columns)]
    return np.logical_and.reduce(again) if again else np.zeros(0, bool)


def _numeric(text: str) -> bool:
    return (
        text.lower() in MISSING
        or NumberStyle().parse(text) is not None
        or NumberStyle(",", ".").parse(text) is not None
    )


def one_line(name: str) -> str:
    """A column's name without spaces around it, and with a space for a line break in it."""
    return re.sub(r"\s*[\r\n]+\s*", " ", name.strip())


def _counts(header: list[str]) -> bool:
    """Whether names count from 0 or 1, as those of unnamed columns do; the first may be empty."""
    named = header[1:] if header[0] == "" else header
    return named in ([str(index + start) for index in range(len(named))] for start in (0, 1))

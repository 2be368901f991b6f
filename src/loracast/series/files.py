"""Series in files: the suffix of a path says which format it is.

Shapes: N series, T steps, D variables.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loracast.errors import DataError
from loracast.files import atomic_path, check_folder
from loracast.series.excel import read_excel
from loracast.series.hdf5 import read_hdf5, write_hdf5
from loracast.series.roles import BY_CONVENTION, Columns
from loracast.series.tables import (
    Reading,
    read_parquet,
    read_table,
    reading_warnings,
    write_csv,
    write_parquet,
)
from loracast.series.types import Series, check_labels


def read_series(path: str | Path, columns: Columns = BY_CONVENTION, names: Sequence[str] | None = None) -> list[Series]:
    """The series of a file; see `read`, which also tells what was understood of it.

    Args:
        path: an .h5/.hdf5, text (.csv, .tsv, .txt, .dat, also .gz), .xlsx or .parquet file.
        columns: what the columns of a table are for; found by their names and contents unless given.
        names: new names of the variables, in their order.

    Raises:
        DataError: for what cannot be read, naming the file and, for a cell, its row and column.

    Warns:
        UserWarning: for what was done to a table, such as a column that was left out.

    Examples:
        >>> from pathlib import Path
        >>> _ = Path("counts.csv").write_text("survey,wolves,moose\\n1959,20,538\\n1960,22,564\\n1961,22,572\\n")
        >>> loracast.read_series("counts.csv", loracast.Columns(time="survey", targets=("wolves", "moose")))
        [Series('counts', 3 steps × wolves, moose, 1959 to 1961)]
    """
    reading = read(path, columns, names)
    reading_warnings(reading)
    return reading.series


def read(path: str | Path, columns: Columns = BY_CONVENTION, names: Sequence[str] | None = None) -> Reading:
    """The series of an .h5/.hdf5, text (.csv, .tsv, .txt, .dat, also .gz), .xlsx or .parquet file.

    HDF5: `trajectories` [N, T, D], and where present `time` [T], `names` [D] (or x1, x2, …), `ids` [N] (or 0, 1, …).
    Tables: a column a variable, and where present a column of times and columns of ids, which make many series of its
    rows; without one it is one series, called by the file's stem. Text may be separated by commas, semicolons, tabs,
    bars or spaces, with decimal commas, in UTF-8, UTF-16 or Latin-1; lines that start with "#" are comments. Rows are
    sorted by time, and absent steps become missing values.

    Args:
        columns: what the columns of a table are for; found by their names and contents unless given.
        names: new names of the variables, in their order.

    Raises DataError for anything that is not that, naming the file and, for a cell, its row and column.
    """
    path = Path(path)
    read_file = _format(path).read
    if columns.sheet and read_file is not read_excel:
        raise DataError(f"{path}: --sheet names '{columns.sheet}', but only Excel files have sheets; leave it out")
    if not path.is_file():
        raise DataError(f"{path}: {'is a folder' if path.is_dir() else 'there is no such file'}; check the path")
    try:
        reading = read_file(path, columns)
    except OSError as error:
        reason = error.strerror or error  # h5py's and pyarrow's errors come without strerror
        raise DataError(f"{path}: cannot be read: {reason}; check that the file is whole and yours to read") from error
    first = reading.series[0]
    if names is None:
        return reading
    if len(names) != first.variables:
        raise DataError(f"{path} has {first.variables} variables ({', '.join(first.names)}), not {len(names)}")
    new = dict(zip(first.names, names))
    roles = {"known": tuple(new[name] for name in first.known), "past": tuple(new[name] for name in first.past)}
    return replace(reading, series=[replace(one, names=tuple(names), **roles) for one in reading.series])


def write_series(series: Sequence[Series], path: str | Path) -> None:
    """Write `series` as the suffix of `path` says; `read_series` gives them back exactly, given their ids and targets.

    In a table, a number such as -999 where no other is below zero would be read back as missing, with a notice.

    A table is wide for one series called by the file's stem, and long otherwise.

    Raises:
        DataError: for series that do not fit into one file of that format, or a place that cannot be written; then
            there is no file, or the old one.

    Examples:
        >>> loracast.write_series(loracast.simulate("predator-prey", n=3), "three.h5")
        >>> len(loracast.read_series("three.h5"))
        3
    """
    write = _format(Path(path), writing=True).write
    assert write is not None  # of the formats that can be written
    if not series:
        raise DataError(f"{path}: there are no series to write")
    check_labels([one.id for one in series], f"{path}: series id")
    first = series[0]
    for one in series[1:]:
        if one.names != first.names:
            raise DataError(f"{path}: series '{one.id}' has variables {one.names}, but '{first.id}' has {first.names}")
        if _time_kind(one) != _time_kind(first):
            kinds = f"'{one.id}' has time {_time_kind(one)}, but '{first.id}' has {_time_kind(first)}"
            raise DataError(f"{path}: series {kinds}; give all of them the same kind")
    with atomic_path(path) as temporary:
        write(series, temporary, Path(path).stem)


def check_series_path(path: str | Path) -> None:
    """Refuses a file that `write_series` could not write for its suffix or place, before any series is made."""
    _format(Path(path), writing=True)
    check_folder(Path(path).parent)


@dataclass(frozen=True)
class _Format:
    read: Callable[[Path, Columns], Reading]
    write: Callable[[Sequence[Series], Path, str], None] | None  # series, the file to make, the stem of its final name


def _format(path: Path, writing: bool = False) -> _Format:
    hdf5, text = _Format(read_hdf5, write_hdf5), _Format(read_table, write_csv)
    formats = {".h5": hdf5, ".hdf5": hdf5, ".csv": text, ".parquet": _Format(read_parquet, write_parquet)}
    if not writing:
        formats |= dict.fromkeys((".tsv", ".txt", ".tab", ".dat"), text)
        formats |= {".xlsx": _Format(read_excel, None), ".xlsm": _Format(read_excel, None)}
    suffix = path.suffix.lower()
    if suffix == ".gz" and not writing:
        suffix = Path(path.stem).suffix.lower()
        suffix = suffix if suffix in (".csv", ".tsv", ".txt", ".tab", ".dat") else ".gz"
    if suffix == ".xls":
        raise DataError(f"{path}: the old Excel format is not read; save the sheet as .xlsx or .csv")
    if suffix not in formats:
        verb = "written to" if writing else "read from"
        raise DataError(f"{path}: unknown suffix '{path.suffix}'; series are {verb} {', '.join(formats)}")
    return formats[suffix]


def _time_kind(series: Series) -> str:
    return "none" if series.time is None else str(series.time.dtype)

"""Series in files: the suffix of a path says which format it is.

Shapes: N series, T steps, D variables.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loracast.errors import DataError
from loracast.files import atomic_path, check_folder
from loracast.series.columns import BY_CONVENTION, Columns
from loracast.series.hdf5 import read_hdf5, write_hdf5
from loracast.series.tables import read_csv, read_parquet, write_csv, write_parquet
from loracast.series.types import Series, check_labels


def read_series(path: str | Path, columns: Columns = BY_CONVENTION, names: Sequence[str] | None = None) -> list[Series]:
    """The series of an .h5/.hdf5, .csv or .parquet file; `names` replaces the names of its variables, in their order.

    HDF5: `trajectories` [N, T, D], and where present `time` [T], `names` [D] (or x1, x2, …), `ids` [N] (or 0, 1, …).
    CSV, Parquet: a column a variable, and where present a time column (numbers or ISO 8601 dates, read as UTC). With
    an id column it is many series, whose rows may be interleaved; without one it is one, called by the file's stem.
    In CSV, lines that start with "#" are comments; an empty cell, NA and NaN are missing.

    Raises DataError for anything that is not that, naming the file and, for a cell, its row and column.
    """
    path = Path(path)
    read = _format(path).read
    if not path.is_file():
        raise DataError(f"{path}: {'is a folder' if path.is_dir() else 'there is no such file'}; check the path")
    try:
        series = read(path, columns)
    except OSError as error:
        reason = error.strerror or error  # h5py's and pyarrow's errors come without strerror
        raise DataError(f"{path}: cannot be read: {reason}; check that the file is whole and yours to read") from error
    if names is None:
        return series
    if len(names) != series[0].variables:
        raise DataError(f"{path} has {series[0].variables} variables ({', '.join(series[0].names)}), not {len(names)}")
    return [replace(one, names=tuple(names)) for one in series]


def write_series(series: Sequence[Series], path: str | Path) -> None:
    """Write `series` as the suffix of `path` says; `read_series` gives them back exactly.

    A table is wide for one series called by the file's stem, and long otherwise. Raises DataError for series that do
    not fit into one file of that format, or a place that cannot be written; then there is no file, or the old one.
    """
    write = _format(Path(path)).write
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
    _format(Path(path))
    check_folder(Path(path).parent)


@dataclass(frozen=True)
class _Format:
    read: Callable[[Path, Columns], list[Series]]
    write: Callable[[Sequence[Series], Path, str], None]  # series, the file to make, the stem of its final name


def _format(path: Path) -> _Format:
    formats = {
        ".h5": _Format(read_hdf5, write_hdf5),
        ".hdf5": _Format(read_hdf5, write_hdf5),
        ".csv": _Format(read_csv, write_csv),
        ".parquet": _Format(read_parquet, write_parquet),
    }
    if path.suffix.lower() not in formats:
        raise DataError(f"{path}: unknown suffix '{path.suffix}'; series are kept in {', '.join(formats)}")
    return formats[path.suffix.lower()]


def _time_kind(series: Series) -> str:
    return "none" if series.time is None else str(series.time.dtype)

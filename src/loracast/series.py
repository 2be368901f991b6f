"""A series, windows of it, splits by series, and the files that hold series: HDF5, CSV and Parquet.

Shapes: T steps of a series, D variables, C steps of context, H steps of horizon, N series, R rows of a table.
Rows are counted from 1 in every message: lines of the file for CSV, steps otherwise.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from loracast.errors import ConfigError, DataError
from loracast.files import atomic_path

if TYPE_CHECKING:
    from h5py import File

TIME_NAMES = ("time", "t", "year", "date", "ds", "timestamp", "step")
ID_NAMES = ("id", "series", "unique_id", "item_id")
MISSING = ("", "na", "nan")  # what stands for a missing number in a text cell, in any case


# ── the types ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class Series:
    """One multivariate series. Its arrays are read-only; a one-dimensional `values` is one variable.

    values: [T, D] float64, NaN where missing, never infinite.
    names: the D variables; each different, printable, without spaces around it (so is `id`).
    time: [T] strictly increasing, float64 or datetime64[ns], or None.

    Raises DataError when any of this does not hold.
    """

    values: NDArray[np.float64]  # [T, D]
    names: tuple[str, ...]
    id: str = "0"
    time: NDArray[Any] | None = None  # [T]

    def __post_init__(self) -> None:
        values = _read_only(self.values, np.dtype(np.float64), f"series '{self.id}': values")
        values = values[:, None] if values.ndim == 1 else values  # [T, D]
        names = (self.names,) if isinstance(self.names, str) else tuple(self.names)
        _check_labels([self.id], "series id")
        _check_labels(names, f"series '{self.id}': variable name")
        if values.ndim != 2 or 0 in values.shape:
            raise DataError(f"series '{self.id}': values need shape [steps, variables], not {list(values.shape)}")
        if len(names) != values.shape[1]:
            raise DataError(f"series '{self.id}': {len(names)} names for {values.shape[1]} variables; give one each")
        infinite = np.argwhere(np.isinf(values))
        if len(infinite):
            row, variable = infinite[0]
            raise DataError(
                f"series '{self.id}', row {row + 1}, variable '{names[variable]}': the value is infinite; "
                "write NaN if it is missing"
            )
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "names", names)
        if self.time is not None:
            wanted = "datetime64[ns]" if np.asarray(self.time).dtype.kind == "M" else "float64"
            time = _read_only(self.time, np.dtype(wanted), f"series '{self.id}': time")
            if time.shape != (self.steps,):
                raise DataError(
                    f"series '{self.id}': time has shape {list(time.shape)}, but there are {self.steps} steps"
                )
            _check_time(time, range(1, self.steps + 1), f"series '{self.id}'")
            object.__setattr__(self, "time", time)

    @property
    def steps(self) -> int:
        """T."""
        return self.values.shape[0]

    @property
    def variables(self) -> int:
        """D."""
        return self.values.shape[1]

    def slice(self, start: int, stop: int) -> "Series":
        """The steps from `start` up to but without `stop`, counted from 0. DataError where they are not all there."""
        if not 0 <= start < stop <= self.steps:
            raise DataError(f"series '{self.id}' has {self.steps} steps: cannot take the steps from {start} to {stop}")
        time = None if self.time is None else self.time[start:stop]
        return replace(self, values=self.values[start:stop], time=time)


@dataclass(frozen=True, eq=False)
class Window:
    """`context` steps of a series from `start` on, and the `horizon` steps that follow them."""

    series: Series
    start: int
    context: int
    horizon: int

    def __post_init__(self) -> None:
        stop = self.start + self.context + self.horizon
        if self.start < 0 or min(self.context, self.horizon) < 1 or stop > self.series.steps:
            raise DataError(
                f"series '{self.series.id}' has {self.series.steps} steps: a window from step {self.start} with "
                f"context {self.context} and horizon {self.horizon} does not fit; both take at least 1 step"
            )

    @property
    def context_series(self) -> Series:
        return self.series.slice(self.start, self.start + self.context)

    @property
    def future_series(self) -> Series:
        middle = self.start + self.context
        return self.series.slice(middle, middle + self.horizon)

    @property
    def context_values(self) -> NDArray[np.float64]:
        middle = self.start + self.context
        return self.series.values[self.start : middle]  # [C, D]

    @property
    def future_values(self) -> NDArray[np.float64]:
        middle = self.start + self.context
        return self.series.values[middle : middle + self.horizon]  # [H, D]


def windows(series: Sequence[Series], context: int, horizon: int, *, stride: int | None = None) -> list[Window]:
    """Every whole window of each series at starts 0, stride, 2·stride, …; `stride` is `horizon` unless given.

    ConfigError for a length below 1; DataError for a series that is shorter than context + horizon.
    """
    stride = horizon if stride is None else stride
    lengths = {"context": context, "horizon": horizon, "stride": stride}
    if problems := [f"{name} must be at least 1, not {length}" for name, length in lengths.items() if length < 1]:
        raise ConfigError(problems)
    length = context + horizon
    for one in series:
        if one.steps < length:
            raise DataError(
                f"series '{one.id}' has {one.steps} steps, fewer than context {context} + horizon {horizon} = "
                f"{length}; take a shorter context or horizon, or leave the series out"
            )
    return [
        Window(one, start, context, horizon) for one in series for start in range(0, one.steps - length + 1, stride)
    ]


def _read_only(array: Any, dtype: np.dtype, what: str) -> NDArray[Any]:
    """`array` as read-only `dtype`: itself where it already is, and a copy otherwise, so that nobody can change it."""
    try:
        source = np.asarray(array)
        if source.dtype == dtype and not source.flags.writeable:
            return source
        converted = np.array(source, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} must be numbers: {error}") from error
    if dtype.kind == "M" and np.any((converted.astype(source.dtype) != source) & ~np.isnat(source)):
        # numpy wraps around silently where 64 bits of nanoseconds end
        raise DataError(f"{what} must lie between the years 1678 and 2262; give years as numbers instead")
    converted.flags.writeable = False
    return converted


def _check_labels(labels: Sequence[str], what: str) -> None:
    """Labels that every format keeps as they are: text without line breaks or spaces around it, each different."""
    for label in labels:
        if not isinstance(label, str) or not label or label != label.strip() or not label.isprintable():
            raise DataError(f"{what} {label!r} must be printable text without spaces around it; rename it")
    if repeated := [label for label, count in Counter(labels).items() if count > 1]:
        raise DataError(f"{what} '{repeated[0]}' appears more than once; rename one")


def _check_time(time: NDArray[Any], rows: Sequence[int], where: str) -> None:
    """DataError unless `time` [T] is finite and strictly increasing; `rows` [T] are the row numbers to report."""
    if not np.isfinite(time).all():  # NaT counts as not finite
        row = rows[int(np.argmin(np.isfinite(time)))]
        raise DataError(
            f"{where}, row {row}: the time is missing or infinite; give every row a time, or leave time out"
        )
    late = np.flatnonzero(time[1:] <= time[:-1])
    if len(late):
        before, after = time[late[0]], time[late[0] + 1]
        problem = f"time {after} is duplicated" if before == after else f"time decreases from {before} to {after}"
        raise DataError(
            f"{where}, row {rows[late[0] + 1]}: {problem}; keep one row a time in increasing order, "
            "or name the id column if these are several series"
        )


# ── splits ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Split:
    """Positions in a list of series, counted from 0; no position is in two parts."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


def split_series(n: int, fractions: tuple[float, float, float] = (0.7, 0.15, 0.15), seed: int = 0) -> Split:
    """`n` positions, shuffled by `seed`, as train, validation and test in these proportions.

    Every part with a positive fraction gets at least one series; where there are too few, the first parts come first.
    """
    problems = [f"a split needs at least 1 series, not {n}"] if n < 1 else []
    if len(fractions) != 3 or not (min(fractions) >= 0 and abs(sum(fractions) - 1) < 1e-9):  # refuses NaN, too
        problems.append(f"fractions must be three numbers from 0 to 1 that sum to 1, not {fractions}")
    if problems:
        raise ConfigError(problems)
    wanted = n * np.array(fractions)  # [3]
    counts = np.zeros(3, dtype=int)
    for _ in range(n):
        empty = (counts == 0) & (wanted > 0)
        counts[np.argmax(np.where(empty, n, wanted - counts))] += 1
    order = np.random.default_rng(seed).permutation(n)
    train, validation, test = np.split(order, np.cumsum(counts)[:2])
    return Split(tuple(train.tolist()), tuple(validation.tolist()), tuple(test.tolist()))


def read_split(path: str | Path, n: int) -> Split:
    """The split in a JSON object with lists `train`, `validation` and `test` of positions below `n`, each used once."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a JSON split: {_reason(error)}") from error
    parts: dict[str, tuple[int, ...]] = {}
    owner: dict[int, str] = {}
    for part in ("train", "validation", "test"):
        positions = content.get(part) if isinstance(content, dict) else None
        if not isinstance(positions, list):
            raise DataError(f"{path}: '{part}' is missing or no list; a split holds lists train, validation and test")
        for position in positions:
            if type(position) is not int or not 0 <= position < n:
                raise DataError(f"{path}: {part} holds {position!r}; positions go from 0 to {n - 1} for {n} series")
            if position in owner:
                raise DataError(f"{path}: position {position} is in {owner[position]} and again in {part}; keep one")
            owner[position] = part
        parts[part] = tuple(positions)
    return Split(**parts)


def write_split(split: Split, path: str | Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(asdict(split)) + "\n", encoding="utf-8")


# ── files of series ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are not variables. None: found by name (`TIME_NAMES`, `ID_NAMES`), in any case."""

    time: str | None = None
    id: str | None = None


BY_CONVENTION = Columns()


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
        raise DataError(
            f"{path}: cannot be read: {_reason(error)}; check that the file is whole and yours to read"
        ) from error
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
    _check_labels([one.id for one in series], f"{path}: series id")
    first = series[0]
    for one in series[1:]:
        if one.names != first.names:
            raise DataError(f"{path}: series '{one.id}' has variables {one.names}, but '{first.id}' has {first.names}")
        if _time_kind(one) != _time_kind(first):
            kinds = f"'{one.id}' has time {_time_kind(one)}, but '{first.id}' has {_time_kind(first)}"
            raise DataError(f"{path}: series {kinds}; give all of them the same kind")
    with atomic_path(path) as temporary:
        write(series, temporary, Path(path).stem)


@dataclass(frozen=True)
class _Format:
    read: Callable[[Path, Columns], list[Series]]
    write: Callable[[Sequence[Series], Path, str], None]  # series, the file to make, the stem of its final name


def _format(path: Path) -> _Format:
    formats = {
        ".h5": _Format(_read_hdf5, _write_hdf5),
        ".hdf5": _Format(_read_hdf5, _write_hdf5),
        ".csv": _Format(_read_csv, _write_csv),
        ".parquet": _Format(_read_parquet, _write_parquet),
    }
    if path.suffix.lower() not in formats:
        raise DataError(f"{path}: unknown suffix '{path.suffix}'; series are kept in {', '.join(formats)}")
    return formats[path.suffix.lower()]


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)  # h5py's and pyarrow's errors come without strerror


def _time_kind(series: Series) -> str:
    return "none" if series.time is None else str(series.time.dtype)


# HDF5


def _read_hdf5(path: Path, columns: Columns) -> list[Series]:
    import h5py

    if columns != BY_CONVENTION:
        raise DataError(f"{path}: HDF5 has no columns; name time and id columns for CSV and Parquet only")
    try:
        with h5py.File(path) as file:
            values = _array(file, "trajectories", rank=3)
            time = _array(file, "time", rank=1) if "time" in file else None
            names, ids = _texts(file, "names"), _texts(file, "ids")
    except (RuntimeError, KeyError, ValueError, TypeError) as error:  # what h5py raises on damaged content
        raise DataError(f"{path}: cannot be read: {error}; the file is damaged") from error
    n, _, variables = values.shape
    names = names or [f"x{position}" for position in range(1, variables + 1)]
    ids = ids or [str(position) for position in range(n)]
    if n == 0 or len(ids) != n:
        raise DataError(f"{path}: {n} trajectories and {len(ids)} ids; there must be as many, and at least 1")
    _check_labels(ids, f"{path}: series id")
    try:
        time = None if time is None else _parse_time(time, lambda row, problem: DataError(f"time {row + 1}: {problem}"))
        return [Series(one, tuple(names), name, time) for one, name in zip(values, ids)]
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _array(file: "File", key: str, rank: int) -> NDArray[Any]:
    import h5py

    dataset = file.get(key)
    if not isinstance(dataset, h5py.Dataset):
        present = ", ".join(file) or "nothing"
        raise DataError(f"{file.filename}: no dataset '{key}' (there is {present}); name it trajectories [N, T, D]")
    text = h5py.check_string_dtype(dataset.dtype) is not None
    if dataset.ndim != rank or (dataset.dtype.kind not in "iuf" and not (text and key == "time")):
        raise DataError(
            f"{file.filename}: '{key}' has shape {list(dataset.shape)} of {dataset.dtype}; "
            f"it must be numbers of shape {'[N, T, D]' if rank == 3 else '[T]'}"
        )
    array = np.array(dataset.asstr()[:], dtype=object) if text else dataset[:].astype(np.float64)
    array.flags.writeable = False  # so that every series is a view of it
    return array


def _texts(file: "File", key: str) -> list[str]:
    """The strings of a dataset or attribute `key`; none where it is absent."""
    import h5py

    holder = file.get(key)
    texts = np.ravel(holder[()] if isinstance(holder, h5py.Dataset) else file.attrs.get(key, []))
    return [text.decode() if isinstance(text, bytes) else str(text) for text in texts]


def _write_hdf5(series: Sequence[Series], path: Path, stem: str) -> None:
    import h5py

    first = series[0]
    for one in series:
        same_time = one.time is None or first.time is None or np.array_equal(one.time, first.time)
        if one.steps != first.steps or not same_time:
            raise DataError(
                f"{stem}{path.suffix}: series '{one.id}' and '{first.id}' differ in length or time, "
                "which HDF5 cannot hold; write .csv or .parquet"
            )
    ids = [one.id for one in series]
    content = BytesIO()  # HDF5 made on a disk that fills cannot be closed, and reports that as no OSError
    with h5py.File(content, "w") as file:
        file.create_dataset("trajectories", data=np.stack([one.values for one in series]))  # [N, T, D]
        file.create_dataset("names", data=list(first.names), dtype=h5py.string_dtype())
        if ids != [str(position) for position in range(len(ids))]:
            file.create_dataset("ids", data=ids, dtype=h5py.string_dtype())
        if first.time is not None:
            dates = first.time.dtype.kind == "M"  # HDF5 has no type for dates
            time, dtype = (_iso(first.time), h5py.string_dtype()) if dates else (first.time, np.float64)
            file.create_dataset("time", data=time, dtype=dtype)
    path.write_bytes(content.getbuffer())


# tables: CSV and Parquet


@dataclass(frozen=True)
class _Table:
    """Cells before they are read as numbers: columns [R] of numbers, dates or, where mixed or text, objects."""

    path: Path
    rows: Sequence[int]  # [R], the number of each row in the file
    columns: Mapping[str, NDArray[Any]]

    def problem(self, column: str) -> Callable[[int, str], DataError]:
        return lambda index, problem: DataError(f"{self.path}, row {self.rows[index]}, column '{column}': {problem}")

    def find(self, wanted: str | None, conventions: Sequence[str], role: str) -> str | None:
        """The column called `wanted`, or else the only one whose name is among `conventions`."""
        if wanted is None:
            found = [name for name in self.columns if name.lower() in conventions]
            if len(found) > 1:
                raise DataError(f"{self.path}: any of {found} could be the {role} column; say which")
            return found[0] if found else None
        if wanted not in self.columns:
            raise DataError(f"{self.path}: no {role} column '{wanted}'; there are {', '.join(self.columns)}")
        return wanted

    def series(self, columns: Columns) -> list[Series]:
        time_column = self.find(columns.time, TIME_NAMES, "time")
        id_column = self.find(columns.id, ID_NAMES, "id")
        names = tuple(name for name in self.columns if name not in (time_column, id_column))
        if not names or not self.rows:
            raise DataError(f"{self.path}: no {'rows below the header' if names else 'columns of variables'}")
        values = np.column_stack([_parse_numbers(self.columns[name], self.problem(name)) for name in names])  # [R, D]
        time = None if time_column is None else _parse_time(self.columns[time_column], self.problem(time_column))  # [R]
        series = []
        for label, members in self.groups(id_column).items():
            own_time = None if time is None else time[members]
            if own_time is not None:
                _check_time(own_time, [self.rows[row] for row in members], f"{self.path}, series '{label}'")
            try:
                series.append(Series(values[members], names, label, own_time))
            except DataError as error:
                raise DataError(f"{self.path}: {error}") from error
        return series

    def groups(self, id_column: str | None) -> dict[str, list[int]]:
        """The positions of each series' rows, in the order in which the series appear."""
        if id_column is None:
            return {self.path.stem: list(range(len(self.rows)))}
        groups: dict[str, list[int]] = {}
        for index, cell in enumerate(self.columns[id_column]):
            label = "" if cell is None else str(cell).strip()
            if not label:
                raise self.problem(id_column)(index, "the id is missing; give every row the id of its series")
            groups.setdefault(label, []).append(index)
        return groups


def _parse_numbers(cells: NDArray[Any], problem: Callable[[int, str], DataError]) -> NDArray[np.float64]:
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


def _parse_time(cells: NDArray[Any], problem: Callable[[int, str], DataError]) -> NDArray[Any]:
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


def _read_csv(path: Path, columns: Columns) -> list[Series]:
    rows, records = [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for row, record in _csv_records(stream):
                if records and len(record) != len(records[0]):
                    raise DataError(f"{path}, row {row}: {len(record)} cells, but the header has {len(records[0])}")
                rows.append(row)
                records.append(record)
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8: {error}") from error
    if not records:
        raise DataError(f"{path}: the file is empty; its first line names the columns")
    header = [name.strip() for name in records[0]]
    _check_labels(header, f"{path}: column name")
    cells = np.array(records[1:], dtype=object).reshape(-1, len(header))  # [R, columns]
    return _Table(path, rows[1:], dict(zip(header, cells.T))).series(columns)


def _csv_records(stream: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Records with the number of the line on which each begins; comments and blank lines are skipped between them."""
    lines = enumerate(stream, 1)
    for row, line in lines:
        if line.strip() and not line.startswith("#"):
            following = (line for _, line in lines)  # read on only by a quoted cell that spans lines
            yield row, next(csv.reader(chain((line,), following), skipinitialspace=True, strict=True))


def _write_csv(series: Sequence[Series], path: Path, stem: str) -> None:
    columns = _to_columns(series, stem)
    cells = [[_cell(value) for value in column] for column in columns.values()]
    comment = any(str(text).startswith("#") for text in (next(iter(columns)), *cells[0]))  # quoted, it is none
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL if comment else csv.QUOTE_MINIMAL, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*cells))


def _cell(value: Any) -> Any:
    return "" if value != value else value  # NaN is the only value that differs from itself


def _read_parquet(path: Path, columns: Columns) -> list[Series]:
    import pandas

    try:
        frame = pandas.read_parquet(path)
    except (ValueError, TypeError) as error:  # pyarrow's errors are ValueErrors
        raise DataError(f"{path}: not a Parquet file: {error}") from error
    if frame.index.names != [None]:  # pandas has put a column such as time away as the index
        frame = frame.reset_index()
    frame.columns = [str(name).strip() for name in frame.columns]
    _check_labels(list(frame.columns), f"{path}: column name")
    table = {}
    for name, column in frame.items():
        cells = column.to_numpy()
        numeric = cells.dtype.kind in "iufM"
        table[name] = cells if numeric else column.astype(object).where(column.notna(), None).to_numpy()
    return _Table(path, range(1, len(frame) + 1), table).series(columns)


def _write_parquet(series: Sequence[Series], path: Path, stem: str) -> None:
    import pyarrow
    from pyarrow import parquet

    with path.open("wb") as stream:  # Python's own errors are plainer than pyarrow's
        parquet.write_table(pyarrow.table(_to_columns(series, stem, dates=False)), stream)


def _to_columns(series: Sequence[Series], stem: str, dates: bool = True) -> dict[str, Any]:
    """Columns of a table that is read back as `series`: time if any, variables, and id unless one is called `stem`."""
    names = series[0].names
    if reserved := [name for name in names if name.lower() in TIME_NAMES + ID_NAMES]:
        raise DataError(f"variable '{reserved[0]}' would be read back as a time or id column of the table; rename it")
    columns: dict[str, Any] = {}
    if [one.id for one in series] != [stem]:
        columns["id"] = [one.id for one in series for _ in range(one.steps)]
    times = [one.time for one in series if one.time is not None]
    if times:
        time = np.concatenate(times)  # [R]
        columns["time"] = _iso(time) if dates and time.dtype.kind == "M" else time
    values = np.concatenate([one.values for one in series])  # [R, D]
    columns.update((name, values[:, position]) for position, name in enumerate(names))
    return columns


def _iso(time: NDArray[Any]) -> list[str]:
    """Dates [T] as ISO 8601 text, with as many digits as each needs."""
    return np.datetime_as_string(time, unit="auto").tolist()

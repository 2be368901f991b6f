"""Series of one length in HDF5: `trajectories` [N, T, D], `time` [T], `names` [D] and `ids` [N].

Shapes: N series, T steps, D variables.
"""

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loracast.errors import DataError
from loracast.series.columns import Table
from loracast.series.roles import Columns
from loracast.series.tables import Reading, iso_dates
from loracast.series.times import times
from loracast.series.types import Series, check_labels

if TYPE_CHECKING:
    from h5py import File


def read_hdf5(path: Path, columns: Columns) -> Reading:
    import h5py

    if columns.time or columns.id:
        raise DataError(f"{path}: HDF5 has no columns of times or ids; --time and --id are for tables")
    if columns.every or columns.aggregate or columns.zone or columns.missing:
        raise DataError(f"{path}: --every, --aggregate, --zone and --missing are for tables, not for HDF5")
    try:
        with h5py.File(path) as file:
            values = _array(file, "trajectories", rank=3)
            time = _array(file, "time", rank=1) if "time" in file else None
            names, ids = _texts(file, "names"), _texts(file, "ids")
    except (RuntimeError, KeyError, ValueError, TypeError) as error:  # what h5py raises on damaged content
        raise DataError(f"{path}: cannot be read: {error}; the file is damaged") from error
    n, steps, variables = values.shape
    names = names or [f"x{position}" for position in range(1, variables + 1)]
    ids = ids or [str(position) for position in range(n)]
    if n == 0 or len(ids) != n:
        raise DataError(f"{path}: {n} trajectories and {len(ids)} ids; there must be as many, and at least 1")
    check_labels(ids, f"{path}: series id")
    try:
        if time is not None and time.dtype == object:
            texts = Table(str(path), path.stem, {"time": pa.array(time.tolist())}, range(1, len(time) + 1))
            time, _ = times(texts, ["time"], None)
        first = Series(values[0], tuple(names), ids[0], time)
        series = [first, *(replace(first, values=one, id=name) for one, name in zip(values[1:], ids[1:]))]
        series, notices = _with_roles(series, columns)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return Reading(series, str(path), "time" if time is not None else None, n * steps, 0, notices)


def _with_roles(series: list[Series], columns: Columns) -> tuple[list[Series], tuple[str, ...]]:
    """Series with the variables that were asked for, in the order known, past, targets."""
    names = series[0].names
    asked = (*columns.known, *columns.past, *columns.targets)
    if not asked:
        return series, ()
    if unknown := [name for name in asked if name not in names]:
        raise DataError(f"there is no variable '{unknown[0]}'; there are {', '.join(names)}")
    targets = columns.targets or tuple(name for name in names if name not in asked)
    chosen = (*columns.known, *columns.past, *targets)
    places = [names.index(name) for name in chosen]
    left = [name for name in names if name not in chosen]
    notices = (f"variables left out: {', '.join(left)}",) if left else ()
    roles = {"known": columns.known, "past": columns.past}
    return [replace(one, values=one.values[:, places], names=chosen, **roles) for one in series], notices


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


def write_hdf5(series: Sequence[Series], path: Path, stem: str) -> None:
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
            time, dtype = (iso_dates(first.time), h5py.string_dtype()) if dates else (first.time, np.float64)
            file.create_dataset("time", data=time, dtype=dtype)
    path.write_bytes(content.getbuffer())

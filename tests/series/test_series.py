"""Series, windows, splits and their files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from loracast.errors import ConfigError, DataError
from loracast.files import atomic_path
from loracast.series import (
    Calendar,
    Columns,
    Series,
    Window,
    read,
    read_series,
    read_split,
    split_series,
    windows,
    write_series,
    write_split,
)
from loracast.series.cells import CODES
from loracast.series.words import is_id, is_nearly_time, is_time

SUFFIXES = (".h5", ".csv", ".parquet")


def assert_same(got: list[Series], wanted: list[Series]) -> None:
    assert [one.id for one in got] == [one.id for one in wanted]
    for one, other in zip(got, wanted, strict=True):
        assert one.names == other.names
        np.testing.assert_array_equal(one.values, other.values, strict=True)
        assert (one.time is None) == (other.time is None)
        if one.time is not None and other.time is not None:
            np.testing.assert_array_equal(one.time, other.time, strict=True)


def ramp(steps: int = 10, name: str = "a") -> Series:
    return Series(np.arange(2.0 * steps).reshape(steps, 2), ("x", "y"), name, np.arange(steps))


# the types


def test_series_is_float64_read_only_and_independent_of_its_source():
    source = np.array([[1, 2], [3, 4]])
    floats = source.astype(float)
    one = Series(floats, ("x", "y"), time=np.array([0, 1]))
    floats[0, 0] = 99
    assert one.values[0, 0] == 1
    assert (one.steps, one.variables) == (2, 2)
    assert one.time is not None
    assert one.time.dtype == np.float64
    for array in (one.values, one.time):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 5
    assert Series(source, ("x", "y")).values.dtype == np.float64


def test_one_dimension_is_one_variable():
    one = Series([1, 2, np.nan], "x")
    assert one.values.shape == (3, 1)
    assert one.names == ("x",)


def test_dates_become_nanoseconds():
    one = Series([1.0, 2.0], "x", time=np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[D]"))
    assert one.time is not None
    assert one.time.dtype == np.dtype("datetime64[ns]")


@pytest.mark.parametrize(
    ("values", "names", "time", "message"),
    [
        (np.zeros((2, 2, 2)), ("x", "y"), None, r"not \[2, 2, 2\]"),
        (np.zeros((0, 1)), ("x",), None, r"not \[0, 1\]"),
        (np.zeros((3, 0)), (), None, r"not \[3, 0\]"),
        ([["a", "b"]], ("x", "y"), None, "must be numbers"),
        ([[1, 2], [3]], ("x", "y"), None, "must be numbers"),
        (np.zeros((2, 2)), ("x",), None, "1 names for 2 variables"),
        (np.zeros((2, 2)), ("x", "x"), None, "'x' appears more than once"),
        (np.zeros(2), (" x",), None, "printable text"),
        (np.zeros(2), ("",), None, "printable text"),
        (np.zeros(2), ("x\ny",), None, "printable text"),
        ([[0, 0], [0, -np.inf]], ("x", "y"), None, "row 2, variable 'y': the value is infinite"),
        (np.zeros(2), "x", [1.0], r"time has shape \[1\], but there are 2 steps"),
        (np.zeros(3), "x", [0, 1, 1], r"row 3: time 1.0 is duplicated"),
        (np.zeros(3), "x", [0, 2, 1], r"row 3: time decreases from 2.0 to 1.0"),
        (np.zeros(3), "x", [0, np.nan, 1], "row 2: the time is missing"),
        (np.zeros(2), "x", np.array(["2020-01-01", "NaT"], dtype="datetime64[D]"), "row 2: the time is missing"),
        (np.zeros(2), "x", np.array(["1500-01-01", "1501-01-01"], dtype="datetime64[D]"), "1678 and 2262"),
    ],
)
def test_series_refuses(values, names, time, message):
    with pytest.raises(DataError, match=message) as caught:
        Series(values, names, "lake", time)
    assert "lake" in str(caught.value)


def test_slice_is_a_view_and_stays_inside():
    one = ramp()
    part = one.slice(2, 5)
    assert np.shares_memory(part.values, one.values)
    assert part.time is not None
    assert part.time.tolist() == [2, 3, 4]
    assert (part.id, part.names) == (one.id, one.names)
    for start, stop in ((-1, 3), (3, 3), (0, 11)):
        with pytest.raises(DataError, match="has 10 steps"):
            one.slice(start, stop)


def test_windows_by_position():
    found = windows([ramp(10, "a"), ramp(7, "b")], context=3, horizon=2)
    assert [(one.series.id, one.start) for one in found] == [("a", 0), ("a", 2), ("a", 4), ("b", 0), ("b", 2)]
    assert [one.start for one in windows([ramp(10)], 3, 2, stride=5)] == [0, 5]
    window = found[1]
    assert window.context_values[:, 0].tolist() == [4, 6, 8]
    assert window.future_values[:, 0].tolist() == [10, 12]
    np.testing.assert_array_equal(window.context_series.values, window.context_values)
    np.testing.assert_array_equal(window.future_series.values, window.future_values)
    assert window.future_series.time is not None
    assert window.future_series.time.tolist() == [5, 6]


def test_windows_refuse_short_series_and_lengths_below_one():
    with pytest.raises(DataError, match="series 'short' has 4 steps, fewer than context 3"):
        windows([ramp(10), ramp(4, "short")], 3, 2)
    with pytest.raises(ConfigError) as caught:
        windows([ramp()], 0, 2, stride=0)
    assert len(caught.value.problems) == 2
    with pytest.raises(DataError, match="does not fit"):
        Window(ramp(), start=8, context=2, horizon=1)


# splits


@pytest.mark.parametrize(
    ("n", "sizes"), [(1000, (700, 150, 150)), (10, (7, 2, 1)), (3, (1, 1, 1)), (2, (1, 1, 0)), (1, (1, 0, 0))]
)
def test_split_uses_every_series_once(n, sizes):
    split = split_series(n)
    assert (len(split.train), len(split.validation), len(split.test)) == sizes
    assert sorted(split.train + split.validation + split.test) == list(range(n))


def test_split_depends_on_its_seed_alone():
    assert split_series(50, seed=1) == split_series(50, seed=1) != split_series(50, seed=2)
    assert split_series(4, (0.5, 0.5, 0)).test == ()


@pytest.mark.parametrize("fractions", [(0.5, 0.6, 0.1), (1.2, -0.1, -0.1), (1.0,), (float("nan"), 0.5, 0.5)])
def test_split_refuses_fractions(fractions):
    with pytest.raises(ConfigError, match="sum to 1"):
        split_series(10, fractions)


def test_split_round_trip(tmp_path):
    split = split_series(20)
    write_split(split, tmp_path / "split.json")
    assert read_split(tmp_path / "split.json", 20) == split
    with pytest.raises(DataError, match="positions go from 0 to 18"):
        read_split(tmp_path / "split.json", 19)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train": [0], "validation": [1]}, "'test' is missing"),
        ({"train": [0], "validation": [1], "test": 2}, "'test' is missing or no list"),
        ({"train": [0], "validation": [1], "test": [-1]}, "test holds -1"),
        ({"train": [0], "validation": [True], "test": [2]}, "validation holds True"),
        ({"train": [0, 0], "validation": [1], "test": [2]}, "position 0 is in train and again in train"),
        ({"train": [0], "validation": [1], "test": [0]}, "position 0 is in train and again in test"),
        ([], "'train' is missing"),
    ],
)
def test_read_split_refuses(tmp_path, content, message):
    path = tmp_path / "split.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_split(path, 3)


def test_read_split_refuses_what_is_not_json(tmp_path):
    (tmp_path / "split.json").write_text("{")
    for name in ("split.json", "absent.json"):
        with pytest.raises(DataError, match=f"{name}: cannot be read"):
            read_split(tmp_path / name, 3)


# round trips

LABELS = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=5) | st.sampled_from(
    ["#1", "a,b", 'say "x"', "two words", "x;y", "nan", "1.5"]
)
NAMES = LABELS.filter(lambda name: not (is_time(name) or is_id(name) or is_nearly_time(name) or name in ("nan", "1.5")))
NUMBERS = st.floats(allow_infinity=False, allow_nan=True).filter(lambda number: number not in CODES)
GRIDS = {
    "none": [("number", 1)],
    "number": [("number", 1.0), ("number", 0.25), ("number", 100.0), ("number", 2.0202020202020203)],
    "date": [("month", 1), ("month", 12), ("day", 1), ("day", 7), ("second", 3600), ("second", 0.001)],
}


@st.composite
def collections(draw, equal: bool) -> list[Series]:
    names = tuple(draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)))
    ids = draw(st.lists(LABELS, min_size=1, max_size=3, unique=True))
    kind = draw(st.sampled_from(["none", "number", "date"]))
    lengths = [draw(st.integers(1, 5))] * len(ids) if equal else [draw(st.integers(1, 5)) for _ in ids]

    calendar = Calendar(*draw(st.sampled_from(GRIDS[kind])))

    def time(steps: int) -> np.ndarray | None:
        if kind == "none":
            return None
        start = draw(st.integers(-200, 200))
        origin = np.array(start * calendar.count) if kind == "number" else np.datetime64("1970-01-01", "ns")
        time = calendar.times(origin, np.arange(steps) + start)
        return time if kind == "number" else time.astype("datetime64[ns]")

    common = time(lengths[0]) if equal else None
    return [
        Series(
            draw(hnp.arrays(np.float64, (steps, len(names)), elements=NUMBERS)),
            names,
            name,
            common if equal else time(steps),
        )
        for name, steps in zip(ids, lengths, strict=True)
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_round_trip_is_exact(tmp_path, suffix, data):
    series = data.draw(collections(equal=suffix == ".h5"))
    path = tmp_path / f"file{suffix}"
    write_series(series, path)
    ids = ("id",) if suffix != ".h5" and [one.id for one in series] != ["file"] else ()
    assert_same(read(path, Columns(id=ids, targets=series[0].names)).series, series)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_one_series_called_by_the_stem_is_written_wide(tmp_path, suffix):
    path = tmp_path / f"lake{suffix}"
    write_series([ramp(3, "lake")], path)
    assert_same(read_series(path), [ramp(3, "lake")])
    header = pd.read_csv(path).columns if suffix == ".csv" else pd.read_parquet(path).columns
    assert list(header) == ["time", "x", "y"]


def test_uppercase_suffix_and_missing_parents(tmp_path):
    path = tmp_path / "new" / "folder" / "A.CSV"
    write_series([ramp(3)], path)
    assert_same(read_series(path), [ramp(3)])


@pytest.mark.parametrize(
    ("series", "name", "message"),
    [
        ([], "f.csv", "no series to write"),
        ([ramp(), ramp()], "f.csv", "'a' appears more than once"),
        ([ramp(), Series(np.zeros(3), "z", "b", np.arange(3))], "f.csv", "variables"),
        ([ramp(), Series(np.zeros((3, 2)), ("x", "y"), "b")], "f.csv", "'b' has time none, but 'a' has float64"),
        ([Series(np.zeros(3), "Year", "f")], "f.parquet", "variable 'Year' would be read back"),
        ([ramp(3), ramp(4, "b")], "f.h5", "differ in length or time, which HDF5 cannot hold; write .csv or .parquet"),
        ([ramp(2), Series(np.zeros((2, 2)), ("x", "y"), "b", [5, 6])], "f.h5", "differ in length or time"),
        ([ramp()], "f.xlsx", r"unknown suffix '.xlsx'; series are written to .h5, .hdf5, .csv, .parquet"),
    ],
)
def test_write_refuses_and_leaves_nothing(tmp_path, series, name, message):
    with pytest.raises(DataError, match=message):
        write_series(series, tmp_path / name)
    assert not list(tmp_path.iterdir())


# CSV


def csv_file(folder: Path, text: str, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_comments_blank_lines_spaces_and_missing(tmp_path):
    path = csv_file(
        tmp_path, '\ufeff# a "quoted, comment\nYear, hare ,lynx\n\n1900, 30,NA\n# more\n1901,,"4.5"\n1902,nan,1e3\n'
    )
    (one,) = read(path).series
    assert one.id == "data"
    assert one.names == ("hare", "lynx")
    assert one.time is not None
    assert one.time.tolist() == [1900, 1901, 1902]
    np.testing.assert_array_equal(one.values, [[30, np.nan], [np.nan, 4.5], [np.nan, 1000]])


def test_csv_long_with_interleaved_rows(tmp_path):
    path = csv_file(tmp_path, "series,t,x\nb,0,1\na,5,2\nb,1,3\na,6,4\n")
    first, second = read_series(path)
    assert (first.id, first.values.ravel().tolist()) == ("b", [1, 3])
    assert (second.id, second.values.ravel().tolist()) == ("a", [2, 4])
    assert second.time is not None
    assert second.time.tolist() == [5, 6]


def test_csv_named_columns(tmp_path):
    path = csv_file(tmp_path, "lake,day,time,x\nb,0,7,1\nb,1,8,3\n")
    chosen = Columns(time="day", id="lake", targets=("time", "x"))
    (one,) = read_series(path, chosen)
    assert (one.id, one.names) == ("b", ("time", "x"))
    (renamed,) = read_series(path, chosen, names=["u", "v"])
    assert renamed.names == ("u", "v")
    with pytest.raises(DataError, match=r"has 2 variables \(time, x\), not 1"):
        read_series(path, chosen, names=["u"])
    with pytest.raises(DataError, match="--time names 'hour', but the columns are lake, day, time, x"):
        read_series(path, Columns(time="hour"))


def test_csv_dates_keep_their_offset(tmp_path):
    path = csv_file(
        tmp_path, "date,x\n2020-01-31T00:00+01:00,1\n2020-02-01T00:00:00+01:00,7\n2020-02-02 00:00+0100,3\n"
    )
    (one,) = read_series(path)
    assert one.calendar == Calendar("day", 1, 1, "+01:00")
    wanted = ["2020-01-30T23:00", "2020-01-31T23:00", "2020-02-01T23:00"]
    assert one.time is not None
    np.testing.assert_array_equal(one.time, np.array(wanted, dtype="datetime64[ns]"), strict=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("# only\n\n", "the file is empty"),
        ("time,x\n", "no rows below the header"),
        ("time\n1\n", "no column of numbers is left"),
        ("time,id\n1,a\n", "no column of numbers is left"),
        ("time,x,x\n1,2,3\n", "column name 'x' appears more than once"),
        ("time,year,x\n1,2,3\n", "any of time, year could be the column of times"),
        ("# c\ntime,x,y\n0,1,2\n\n1,2,many\n", "data.csv, row 5, column 'y': 'many' is not a number"),
        ("time,x\n0,1_000\n1,2\n", "row 2, column 'x': '1_000' is not a number"),
        ("time,x\n0,1\n1,inf\n", "data.csv, row 3, column 'x': the value is infinite"),
        ("time,x\n0,1e999\n", "row 2, column 'x': the value is infinite"),
        ("time,x\n0,1\n1\n", "row 3: 1 cell, but the header has 2"),
        ("time,x\n0,1\n1,2,3\n", "row 3: 3 cells, but the header has 2"),
        ('time,x\n0,"1\n', "check its quotes"),
        ("time,x\n0,1\n0,2\n", "data.csv, rows 2 and 3: time 0 appears twice in series 'data'"),
        ("time,x\n0,1\n,2\n", "row 3, column 'time': the time is missing"),
        ("time,x\n0,1\nsoon,2\n", "row 3, column 'time': 'soon' is neither a number nor a date"),
        ("time,x\n2020-01-01,1\ntoday,2\n", "row 3, column 'time': 'today' is neither"),
        ("time,x\n2020-01-01,1\n2020-01-01,2\n", "rows 2 and 3: time 2020-01-01 appears twice"),
        ("time,x\n2020-01-01T00:00Z,1\n2020-01-02,2\n", "row 3, column 'time': '2020-01-02' is neither"),
        ("time,x\n1500-01-01,1\n", "years from 1678 to 2262; others as numbers"),
        ("id,x\na,1\n,2\n", "row 3, column 'id': the id is missing"),
    ],
)
def test_csv_refuses(tmp_path, text, message):
    with pytest.raises(DataError, match=message) as caught:
        read_series(csv_file(tmp_path, text))
    assert "data.csv" in str(caught.value)


@pytest.mark.parametrize("name", ["absent.csv", "absent.h5", "absent.parquet"])
def test_missing_file(tmp_path, name):
    with pytest.raises(DataError, match=f"{name}: there is no such file"):
        read_series(tmp_path / name)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_files_and_folders(tmp_path, suffix):
    folder = tmp_path / f"folder{suffix}"
    folder.mkdir()
    damaged = tmp_path / f"damaged{suffix}"
    damaged.write_bytes(b"\xff\xfe\x00 no such format")
    truncated = tmp_path / f"truncated{suffix}"
    write_series([ramp(100)], truncated)
    truncated.write_bytes(truncated.read_bytes()[:-200] + b"\xff")
    for path in (folder, damaged, truncated):
        with pytest.raises(DataError, match=path.name):
            read_series(path)


# Parquet


def test_parquet_by_pandas_with_an_index_missing_values_and_time_zones(tmp_path):
    path = tmp_path / "data.parquet"
    dates = pd.date_range("2020-01-01", periods=3, freq="h", tz="Europe/Paris", name="ds")
    frame = pd.DataFrame({"x": pd.array([1, None, 3], dtype="Int64"), "unique_id": [1, 1, 2]}, index=dates)
    frame.to_parquet(path)
    first, second = read_series(path)
    assert (first.id, second.id) == ("1", "2")
    np.testing.assert_array_equal(first.values, [[1], [np.nan]])
    np.testing.assert_array_equal(
        first.time, np.array(["2019-12-31T23:00", "2020-01-01T00:00"], dtype="datetime64[ns]"), strict=True
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [1.0, np.inf]}, "row 2, column 'x': the value is infinite"),
        ({"x": ["1", "two"]}, "row 2, column 'x': 'two' is not a number"),
        ({"x": [True, False]}, "no column of numbers is left"),
        ({"x": pd.to_datetime(["2020-01-01", "2020-01-02"])}, "no column of numbers is left"),
        ({"t": [1, 2], "id": ["a", None], "x": [0, 0]}, "row 2, column 'id': the id is missing"),
        ({"t": [1, 2]}, "no column of numbers is left"),
    ],
)
def test_parquet_refuses(tmp_path, columns, message):
    path = tmp_path / "data.parquet"
    pd.DataFrame(columns).to_parquet(path)
    with pytest.raises(DataError, match=message):
        read_series(path)


# HDF5


def hdf5_file(folder: Path, **datasets: object) -> Path:
    path = folder / "data.h5"
    with h5py.File(path, "w") as file:
        for name, content in datasets.items():
            file.create_dataset(name, data=content)
    return path


def test_hdf5_without_names_or_time(tmp_path):
    path = hdf5_file(tmp_path, trajectories=np.ones((2, 3, 2), dtype=np.float32))
    first, second = read_series(path)
    assert (first.id, second.id, first.names, first.time) == ("0", "1", ("x1", "x2"), None)
    assert first.values.dtype == np.float64
    assert read_series(path, names=["prey", "predator"])[1].names == ("prey", "predator")
    with h5py.File(path, "a") as file:
        file.attrs["names"] = ["prey", "predator"]
    assert read_series(path)[0].names == ("prey", "predator")


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ({"time": [0.0, 1.0]}, r"no dataset 'trajectories' \(there is time\)"),
        ({"trajectories": np.zeros((3, 2))}, r"'trajectories' has shape \[3, 2\]"),
        ({"trajectories": np.zeros((0, 3, 2))}, "0 trajectories"),
        ({"trajectories": [[["a"]]]}, "it must be numbers"),
        ({"trajectories": np.zeros((1, 3, 2)), "time": np.zeros((1, 3))}, r"'time' has shape \[1, 3\]"),
        ({"trajectories": np.zeros((1, 3, 2)), "time": np.arange(2)}, r"time has shape \[2\]"),
        ({"trajectories": np.zeros((1, 3, 2)), "time": [0, 1, 1]}, "row 3: time 1.0 is duplicated"),
        ({"trajectories": np.zeros((1, 1, 2)), "time": ["noon"]}, "'noon' is neither"),
        ({"trajectories": np.zeros((1, 3, 2)), "names": ["x"]}, "1 names for 2 variables"),
        ({"trajectories": np.zeros((2, 3, 2)), "ids": ["a"]}, "2 trajectories and 1 ids"),
        ({"trajectories": np.zeros((2, 3, 2)), "ids": ["a", "a"]}, "'a' appears more than once"),
        ({"trajectories": [[[0.0], [np.inf]]]}, "series '0', row 2, variable 'x1': the value is infinite"),
    ],
)
def test_hdf5_refuses(tmp_path, datasets, message):
    with pytest.raises(DataError, match=message) as caught:
        read_series(hdf5_file(tmp_path, **datasets))
    assert "data.h5" in str(caught.value)


def test_hdf5_has_no_columns(tmp_path):
    path = hdf5_file(tmp_path, trajectories=np.zeros((1, 3, 2)))
    with pytest.raises(DataError, match="HDF5 has no columns"):
        read_series(path, Columns(time="t"))


# writing


def test_atomic_path_keeps_the_old_file_when_the_block_fails(tmp_path):
    path = tmp_path / "kept.txt"
    path.write_text("old")

    def interrupted() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with atomic_path(path) as temporary:
        assert (temporary.parent, temporary.suffix) == (path.parent, path.suffix)
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_path_writes_through_a_link(tmp_path):
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    link.symlink_to(target)
    with atomic_path(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_atomic_path_refuses_folders_and_impossible_parents(tmp_path):
    (tmp_path / "file").write_text("")
    for path, message in ((tmp_path, "not a regular file"), (tmp_path / "file" / "a.csv", "cannot be written")):
        with pytest.raises(DataError, match=message), atomic_path(path):
            pytest.fail("the block must not run")
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    for suffix in SUFFIXES:
        with pytest.raises(DataError, match=r"cannot be written: .*[Pp]ermission denied"):
            write_series([ramp()], tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_fills_leaves_nothing(tmp_path, suffix):
    pytest.importorskip("resource")
    code = """
import resource, signal, sys
import numpy as np
from loracast.errors import DataError
from loracast.series import Series, write_series
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    write_series([Series(np.random.default_rng(0).normal(size=(20_000, 2)), ("x", "y"))], sys.argv[1])
except DataError as error:
    print(error)
"""
    path = tmp_path / f"big{suffix}"
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert f"{path}: cannot be written: " in result.stdout
    assert "File too large" in result.stdout
    assert not list(tmp_path.iterdir())


def test_importing_series_is_light():
    code = "import sys, loracast.series; print([name for name in ('torch', 'pandas', 'h5py') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"

"""A series, windows of it, splits by series, and the files that hold series: HDF5, CSV and Parquet."""

from loracast.series.columns import BY_CONVENTION, ID_NAMES, MISSING, TIME_NAMES, Columns
from loracast.series.files import check_series_path, read_series, write_series
from loracast.series.split import Split, read_split, split_series, write_split
from loracast.series.types import Series, Window, windows

__all__ = [
    "BY_CONVENTION",
    "ID_NAMES",
    "MISSING",
    "TIME_NAMES",
    "Columns",
    "Series",
    "Split",
    "Window",
    "check_series_path",
    "read_series",
    "read_split",
    "split_series",
    "windows",
    "write_series",
    "write_split",
]

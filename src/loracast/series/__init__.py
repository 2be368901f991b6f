"""A series, its calendar, windows of it, splits by series, and the files and tables that hold series."""

from loracast.series.calendar import Calendar
from loracast.series.dates import Order
from loracast.series.files import check_series_path, read, read_series, write_series
from loracast.series.roles import BY_CONVENTION, Aggregate, Columns
from loracast.series.split import Split, read_split, split_series, write_split
from loracast.series.tables import Reading, read_frame, series_from_frame
from loracast.series.types import Series
from loracast.series.windows import Window, leave_out_short, long_enough, windows

__all__ = [
    "BY_CONVENTION",
    "Aggregate",
    "Calendar",
    "Columns",
    "Order",
    "Reading",
    "Series",
    "Split",
    "Window",
    "check_series_path",
    "leave_out_short",
    "long_enough",
    "read",
    "read_frame",
    "read_series",
    "read_split",
    "series_from_frame",
    "split_series",
    "windows",
    "write_series",
    "write_split",
]

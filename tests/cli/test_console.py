"""What commands print."""

import io

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from loracast.cli import console
from loracast.errors import DataError
from loracast.series import Series, leave_out_short, long_enough


@pytest.mark.parametrize("width", [20, 80])
def test_a_table_is_never_cut(monkeypatch, width):
    stream = io.StringIO()
    monkeypatch.setattr(console, "out", Console(file=stream, width=width))
    table = Table(box=None)
    for title in ("forecaster", "a variable with a long name", "MAE", "CRPS"):
        table.add_column(title, no_wrap=True)
    table.add_row("zero-shot", "a series of the far north", "123.4567", "0.0001234")
    console.wide(table)
    text = stream.getvalue()
    assert "…" not in text
    assert [line.split()[-1] for line in text.splitlines()] == ["CRPS", "0.0001234"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123456, "0.01235"),
        (123.456, "123.5"),
        (1234567.0, "1,234,567"),
        (0.0, "0"),
        (-5.0, "-5.000"),
        (1e-9, "1.000e-09"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_numbers_have_four_significant_digits(value, text):
    assert console.significant(value) == text


def test_short_series_are_left_out_by_name():
    series = [Series(np.arange(float(steps)) % 3, "x", name) for name, steps in (("a", 5), ("b", 9), ("c", 3))]
    kept, told = long_enough(series, 6, "context and horizon")
    assert [one.id for one in kept] == ["b"]
    assert told is not None
    assert "2 of 3 series left out, with fewer than the 6 steps of context and horizon" in told
    assert "'a' (5), 'c' (3)" in told
    assert long_enough(series[1:2], 6, "context and horizon") == (series[1:2], None)
    with pytest.warns(UserWarning, match=r"2 of 3 series left out.*'a' \(5\), 'c' \(3\)"):
        assert [one.id for one in leave_out_short(series, 6)] == ["b"]
    assert leave_out_short(series[:1], 6) == series[:1]  # what is said of a lone series is said elsewhere
    with pytest.raises(DataError, match="every series"):
        long_enough(series, 10, "context and horizon")

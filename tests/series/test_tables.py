"""Tables as people keep them, read as they are meant or refused with a remedy."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loracast.errors import ConfigError, DataError
from loracast.series import Calendar, Columns, Series, read, read_frame, read_series, series_from_frame
from ordinary_tables import NUMBERS, TABLES, Ordinary


@pytest.mark.parametrize("one", TABLES, ids=lambda one: one.name)
def test_an_ordinary_table_is_read_as_it_is_meant(one: Ordinary, tmp_path: Path):
    path = tmp_path / one.name
    one.write(path)
    if one.refused:
        with pytest.raises(DataError) as caught:
            read(path, one.columns)
        assert one.refused in str(caught.value)
        assert str(path) in str(caught.value)
        return
    reading = read(path, one.columns)
    first = reading.series[0]
    assert first.names == one.names
    assert tuple(series.id for series in reading.series) == (one.ids or (path.name.split(".")[0],))
    np.testing.assert_allclose(first.values, NUMBERS if one.values is None else one.values, rtol=1e-12)
    told = reading.understood()
    if one.first is None:
        assert first.time is None
    else:
        assert f"from {one.first} to {one.last}, {one.spacing}" in told
    assert told.count("\n") == 1
    for words in one.says:
        assert any(words in notice for notice in reading.notices), reading.notices
    usual = ("decimal comma", "only dates", "comma between thousands")
    if not one.says:
        assert not [notice for notice in reading.notices if not any(words in notice for words in usual)]


def test_there_are_at_least_thirty_ordinary_tables():
    assert len(TABLES) >= 30
    assert len({one.name for one in TABLES}) == len(TABLES)


ALIASES = ["MS", "ME", "QS-OCT", "QE", "YS", "YE-JUN", "W-MON", "2W-SUN", "D", "5D", "B", "h", "6h", "15min", "s"]


@pytest.mark.parametrize("zone", [None, "Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("alias", ALIASES)
def test_future_times_are_those_of_pandas(alias: str, zone: str | None):
    whole = pd.date_range("2019-10-25", periods=60, freq=alias, tz=zone)
    frame = pd.DataFrame({"date": whole[:30], "x": np.arange(30) ** 2 % 7})
    (series,) = series_from_frame(frame)
    assert series.calendar is not None
    assert series.time is not None
    future: Any = series.calendar.index(series.calendar.after(series.time[-1], 30))
    assert (future == whole[30:]).all()
    assert str(future.tz) == str(whole.tz)


@pytest.mark.parametrize("start", ["2021-03-27 20:00", "2021-10-30 20:00"])
def test_hours_go_on_across_a_change_of_clocks(tmp_path: Path, start: str):
    whole = pd.date_range(start, periods=60, freq="h", tz="Europe/Berlin")
    rows = "".join(f"{time.isoformat()},{number % 5}\n" for number, time in enumerate(whole[:20]))
    (tmp_path / "hours.csv").write_text(f"time,x\n{rows}")
    reading = read(tmp_path / "hours.csv", Columns(zone="Europe/Berlin"))
    (series,) = reading.series
    assert series.calendar == Calendar("second", 3600, 1, "Europe/Berlin")
    assert (series.calendar.index(series.calendar.after(series.time[-1], 40)) == whole[20:]).all()
    local = "".join(f"{time.tz_localize(None)},{number % 5}\n" for number, time in enumerate(whole[:20]))
    (tmp_path / "local.csv").write_text(f"time,x\n{local}")
    (again,) = read(tmp_path / "local.csv", Columns(zone="Europe/Berlin")).series
    np.testing.assert_array_equal(again.time, series.time)


def test_years_stay_whole_numbers_and_leap_days_are_kept():
    (years,) = series_from_frame(pd.DataFrame({"year": range(1990, 2000), "x": np.arange(10) ** 2 % 7}))
    assert years.calendar is not None
    assert years.calendar.index(years.calendar.after(years.time[-1], 2)).tolist() == [2000, 2001]
    days = pd.date_range("2024-02-20", periods=9, freq="D")
    (series,) = series_from_frame(pd.DataFrame({"date": days, "x": np.arange(9) ** 2 % 7}))
    assert series.calendar.texts(series.calendar.after(series.time[-1], 2)) == ["2024-02-29", "2024-03-01"]


@settings(max_examples=60, deadline=None)
@given(
    alias=st.sampled_from(ALIASES),
    steps=st.integers(12, 40),
    seed=st.integers(0, 1000),
)
def test_absent_rows_come_back_as_missing_ones_wherever_they_are(alias: str, steps: int, seed: int):
    draws = np.random.default_rng(seed)
    whole = pd.DataFrame({"date": pd.date_range("2019-01-01", periods=steps, freq=alias), "x": draws.random(steps)})
    absent = draws.choice(np.arange(4, steps - 4), size=draws.integers(1, max(2, (steps - 8) // 3)), replace=False)
    reading = read_frame(whole.drop(index=absent).sample(frac=1, random_state=seed), Columns())
    (series,) = reading.series
    wanted = whole.x.to_numpy(copy=True)
    wanted[absent] = np.nan
    np.testing.assert_array_equal(series.values[:, 0], wanted)
    np.testing.assert_array_equal(series.time, whole.date.to_numpy().astype("datetime64[ns]"))
    assert reading.filled == len(absent)


def test_many_series_with_gaps_of_their_own():
    draws = np.random.default_rng(0)
    tables, wanted = [], {}
    for label in "abcdef":
        steps = int(draws.integers(10, 20))
        whole = pd.DataFrame({"month": pd.date_range("2010-01-01", periods=steps, freq="MS"), "x": draws.random(steps)})
        absent = draws.choice(np.arange(1, steps - 1), size=2, replace=False)
        values = whole.x.to_numpy(copy=True)
        values[absent] = np.nan
        wanted[label] = values
        tables.append(whole.drop(index=absent).assign(plot=label))
    table = pd.concat(tables).sample(frac=1, random_state=0)
    reading = read_frame(table, Columns())
    assert reading.filled == 12
    assert {one.id for one in reading.series} == set(wanted)
    for one in reading.series:
        np.testing.assert_array_equal(one.values[:, 0], wanted[one.id])


def test_series_of_several_spacings_each_keep_their_own():
    monthly = pd.DataFrame(
        {"date": pd.date_range("2010-01-01", periods=9, freq="MS"), "id": "m", "x": np.arange(9) ** 2 % 5}
    )
    daily = pd.DataFrame(
        {"date": pd.date_range("2010-01-03", periods=9, freq="h"), "id": "d", "x": np.arange(9) ** 2 % 5}
    )
    series = {one.id: one for one in read_frame(pd.concat([monthly, daily]), Columns()).series}
    assert series["m"].calendar == Calendar("month", 1)
    assert series["d"].calendar == Calendar("second", 3600)


def test_a_table_warns_in_python_of_what_was_done_to_it(tmp_path: Path):
    (tmp_path / "t.csv").write_text("year,x,notes\n2001,1,\n2000,5,storm\n2002,3,\n")
    with pytest.warns(UserWarning, match="sorted"):
        read_series(tmp_path / "t.csv")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(tmp_path / "t.csv")


def test_a_frame_gives_its_labels_and_types_back():
    frame = pd.DataFrame({"when": pd.date_range("2020", periods=4, freq="D"), "who": [7] * 4, "x": [1, None, 3.5, 2]})
    (series,) = series_from_frame(frame.astype({"x": "Float64"}), Columns(time="when", id="who"))
    assert series.id == "7"
    np.testing.assert_array_equal(series.values[:, 0], [1, np.nan, 3.5, 2])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"targets": ("x",), "known": ("x",)}, "named twice"),
        ({"aggregate": "mean"}, "--every"),
    ],
)
def test_contradictory_columns_are_refused(columns, message):
    with pytest.raises(ConfigError, match=message):
        Columns(**columns)


@pytest.mark.parametrize(
    ("every", "message"),
    [
        ("fortnight", "a count and a unit"),
        ("0D", "a count and a unit"),
        ("1.5D", "a count"),
        ("3", "a count and a unit"),
    ],
)
def test_a_spacing_that_means_nothing_is_refused(every, message):
    frame = pd.DataFrame({"date": pd.date_range("2020", periods=5, freq="D"), "x": [1.0, 2, 1, 2, 3]})
    with pytest.raises(ConfigError, match=message):
        series_from_frame(frame, Columns(every=every, aggregate="mean"))


def test_uneven_times_are_refused_by_a_series_and_placed_by_a_table():
    time = pd.to_datetime(["2020-01-14", "2020-02-17", "2020-03-12", "2020-05-15"]).to_numpy()
    with pytest.raises(DataError, match="series_from_frame"):
        Series(np.arange(4.0), "x", "a", time)
    with pytest.warns(UserWarning, match="placed on it"):
        (series,) = series_from_frame(pd.DataFrame({"date": time, "x": [1.0, 2, 4, 3]}))
    np.testing.assert_array_equal(series.values[:, 0], [1, 2, 4, np.nan, 3])


def test_a_column_that_is_no_species_is_never_forecast_in_silence():
    numbers = np.arange(12.0) ** 2 % 7
    for name in ("day", "année", "Zeit", "obs_time", "survey_year", "DATE", "t", "timestamp", "semester_no"):
        frame = pd.DataFrame({name: np.arange(12), "x": numbers})
        if name == "semester_no":
            with pytest.raises(DataError, match="--time semester_no"):
                read_frame(frame, Columns())
        else:
            assert read_frame(frame, Columns()).series[0].names == ("x",)


def test_numbers_that_are_called_like_an_id_are_asked_about_where_times_do_not_repeat():
    frame = pd.DataFrame({"year": range(2000, 2012), "area": [5, 6, 5] * 4, "x": np.arange(12) ** 2 % 7})
    with pytest.raises(DataError, match="--id area or name the variables with --columns"):
        read_frame(frame, Columns())
    assert read_frame(frame, Columns(targets=("area", "x"))).series[0].names == ("area", "x")


@pytest.mark.parametrize(
    ("content", "first", "says"),
    [
        ("season,x\n1999/00,1\n2000/01,5\n2001/02,3\n", 1999, "read as the years in which they begin"),
        ("year,x\n2000,3\n2001,-9999\n2002,-4\n2003,1\n", 2000, "-9999 in column 'x' read as missing"),
        ("an;n\n1900;30.100\n1901;47.101\n1902;20.345\n", 1900, "with a decimal point"),
        ('year,n\n1900,"30,100"\n1901,"47,101"\n1902,"20,345"\n', 1900, "a comma between thousands"),
        ("year;hare;lynx\n;thousands;thousands\n1900;3;4\n1901;5;6\n1902;1;2\n", 1900, "below the header is left out"),
    ],
)
def test_what_could_be_read_otherwise_is_told(tmp_path: Path, content: str, first: float, says: str):
    (tmp_path / "table.csv").write_text(content)
    reading = read(tmp_path / "table.csv")
    assert reading.series[0].time[0] == first
    assert any(says in notice for notice in reading.notices), reading.notices


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("year,hare,lynx\n2001,31,2,29,8\n2002,42,5,27,1\n2003,12,1,20,0\n", "where commas are decimal signs"),
        ("years_BP,x\n1000,1\n2000,5\n3000,2\n", "counts back from the present"),
        ("year,x\n2001,1\n2002,5\n2003,2\n20004,1\n2005,3\n2006,2\n", "between 2006 and 20004"),
        ("year,x\n97,1\n98,5\n99,2\n0,1\n1,3\n2,2\n", "more than half of an even grid would be absent"),
        (
            "year,Jan,Feb,Mar,Apr,May,Jun,Jul,Aug,Sep,Oct,Nov,Dec\n" + "2001,1,2,3,4,5,6,7,8,9,8,7,6\n" * 3,
            "a column a month",
        ),
        ("year,x\n2001,1\n2002,5\nTotal,6\n", "take that row out"),
        ("year,x\n2001,3.5-\n2002,5.5\n2003,4.5\n", "write -3.5"),
        ("year,x\n2001,3.5 m\n2002,5.5 m\n", "give the number alone (3.5)"),
        ("year,x,\n2001,3,1\n2002,5,4\n2003,5,4\n", "column 3 holds numbers and has no name"),
        ("year,A,A\n2001,3,1\n2002,5,4\n", "join them into one"),
        ('[\n {"year": 2001}]\n', "the file is JSON"),
        ("<!DOCTYPE html>\n<html>\n", "the file is a web page"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(tmp_path: Path, content: str, message: str):
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(DataError) as caught:
        read(tmp_path / "table.csv")
    assert message in str(caught.value)


def test_weeks_of_years_are_iso_weeks_and_lists_are_text():
    frame = pd.DataFrame({"year": [2020, 2020, 2021, 2021], "week": [52, 53, 1, 2], "x": [1.0, 5, 2, 3]})
    reading = read_frame(frame, Columns())
    assert reading.series[0].calendar.texts(reading.series[0].time)[1:3] == ["2020-12-28", "2021-01-04"]
    assert [notice for notice in reading.notices if "ISO weeks" in notice] == list(reading.notices)
    american = read_frame(frame.rename(columns={"year": "MMWR year", "week": "MMWR week"}).head(1), Columns())
    assert american.series[0].time[0] == np.datetime64("2020-12-20")  # a Sunday
    with pytest.raises(DataError, match="2021 has no week 53"):
        read_frame(pd.DataFrame({"year": [2021, 2021], "week": [52, 53], "x": [1.0, 5]}), Columns())
    lists = pd.DataFrame({"year": [1, 2, 3], "x": [1.0, 5, 2], "note": [[1, 2], [3], []]})
    assert read_frame(lists, Columns()).series[0].names == ("x",)


def test_true_and_false_are_numbers_where_they_are_named():
    frame = pd.DataFrame({"day": range(1, 7), "open": [True, False] * 3, "sales": [3.0, 1, 4, 1, 5, 9]})
    reading = read_frame(frame, Columns())
    assert reading.series[0].names == ("sales",)
    assert any("--known" in notice for notice in reading.notices)
    known = read_frame(frame, Columns(known=("open",))).series[0]
    assert known.values[:, 0].tolist() == [1, 0, 1, 0, 1, 0]


def test_a_short_name_beside_a_year_is_a_part_of_a_date_only_where_its_numbers_are():
    years = np.repeat([2001, 2002], 3)
    rain = pd.DataFrame({"year": [2001, 2002, 2003], "mm": [7, 3, 11], "x": [1.0, 5, 2]})
    assert read_frame(rain, Columns()).series[0].names == ("mm", "x")
    months = pd.DataFrame({"YEAR": years, "MO": [10, 11, 12, 1, 2, 3], "x": [1.0, 5, 2, 4, 6, 3]})
    assert read_frame(months, Columns()).time == "YEAR and MO"
    wet = pd.DataFrame(
        {"year": years, "month": [10, 11, 12, 1, 2, 3], "day length": 6 * [9.0], "x": [1.0, 5, 2, 4, 6, 3]}
    )
    assert read_frame(wet, Columns()).time == "year and month"


def test_a_variable_with_gaps_of_its_own_is_not_taken_for_one_that_ends_early():
    fox = [4.0, *[np.nan] * 3] * 5 + [np.nan] * 2
    frame = pd.DataFrame({"year": range(2001, 2023), "hare": np.arange(22) % 7 + 0.5, "fox": fox})
    assert not any("known for the future" in notice for notice in read_frame(frame, Columns()).notices)


def test_a_clock_that_is_a_little_off_is_set_on_the_hour():
    when = pd.date_range("2020-01-02", periods=30, freq="10min") + pd.to_timedelta(np.tile([-2, 3, -4, 1, 0], 6), "s")
    reading = read_frame(pd.DataFrame({"timestamp": when, "x": np.arange(30) % 7 + 0.5}), Columns())
    assert reading.series[0].time[0] == np.datetime64("2020-01-02")
    past = read_frame(pd.DataFrame({"timestamp": when + pd.Timedelta("3min"), "x": np.arange(30) % 7 + 0.5}), Columns())
    assert past.series[0].time[0] > np.datetime64("2020-01-02T00:02:50")


def test_a_suspicious_number_is_told():
    frame = pd.DataFrame({"year": range(2001, 2007), "x": [12.0, 31, 9999, 22, 18, 9999]})
    assert any("--missing 9999" in notice for notice in read_frame(frame, Columns()).notices)
    kept = read_frame(frame, Columns(missing=("9999",))).series[0].values
    assert np.isnan(kept[[2, 5]]).all()


def test_a_sheet_of_what_has_none_is_refused(tmp_path: Path):
    path = tmp_path / "counts.csv"
    path.write_text("year,hare\n2001,3\n2002,4\n2003,5\n")
    with pytest.raises(DataError, match="--sheet names 'pelts', but only Excel files have sheets"):
        read(path, Columns(sheet="pelts"))

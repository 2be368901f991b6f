"""pandas tables in and out: values as of series, the owner's names and types, cross-validation without the future."""

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from utilsforecast.evaluation import evaluate
from utilsforecast.losses import mae

import loracast
from loracast.codec import Codec
from loracast.errors import ConfigError, DataError, ModelError
from loracast.forecaster import Forecaster
from loracast.language_model import LanguageModel
from loracast.series import Columns, Series, series_from_frame
from loracast.settings import SampleConfig, TuneConfig

SAMPLE = SampleConfig(4, seed=3)
QUICK = TuneConfig(
    steps=2,
    batch=2,
    context=8,
    horizon=4,
    learning_rate=0.01,
    validate_every=1,
    validation_windows=2,
    validation_series=0,
    gaps=0.0,
)
AHEAD = pd.date_range("2021-09-30", periods=3, freq="ME", tz="Europe/Berlin", unit="us")
MONTHS = pd.date_range("2020-01-31", periods=20, freq="ME", tz="Europe/Berlin", unit="us")


@pytest.fixture(scope="module")
def base(numeric_model: LanguageModel) -> Forecaster:
    return Forecaster(numeric_model, Codec(digits=2))


def table(ids: Any = (7, 3), times: Any = MONTHS) -> pd.DataFrame:
    """Two variables of each site, and one that is known beforehand."""
    parts = []
    for shift, one in enumerate(ids):
        step = np.arange(len(times)) + 2 * shift
        values = {"hare": 5 + 4 * np.sin(step), "lynx": 20 + 9 * np.cos(step), "rain": 2 + np.sin(step * 0.7)}
        parts.append(pd.DataFrame({"site": one, "month": times, **values}))
    return pd.concat(parts, ignore_index=True)


NAMED = {"id_column": "site", "time_column": "month"}
HARE = {**NAMED, "target": "hare"}
HARE_ONLY = ["site", "month", "hare"]


def ahead(ids: Any = (7, 3), horizon: int = 5, **columns: Any) -> pd.DataFrame:
    times = pd.date_range("2021-09-30", periods=horizon, freq="ME", tz="Europe/Berlin", unit="us")
    return pd.concat([pd.DataFrame({"site": one, "month": times, **columns}) for one in ids])


# -- forecasts -------------------------------------------------------------------------------------------------------


def test_a_table_is_forecast_as_its_series_are(base: Forecaster):
    df = table()[["site", "month", "hare", "lynx"]]
    made = base.predict_df(df, 5, target=["hare", "lynx"], quantile_levels=[0.1, 0.75], sample=SAMPLE, **NAMED)
    series = series_from_frame(df, Columns(time="month", id="site", targets=("hare", "lynx")))
    forecast = base.predict(series, 5, sample=SAMPLE)
    assert list(made.columns) == ["site", "month", "target_name", "predictions", "0.1", "0.75"]
    assert list(made[["site", "target_name"]].drop_duplicates().itertuples(index=False, name=None)) == [
        (7, "hare"), (7, "lynx"), (3, "hare"), (3, "lynx")
    ]  # fmt: skip
    for name, level in (("predictions", 0.5), ("0.1", 0.1), ("0.75", 0.75)):
        expected = np.swapaxes(forecast.quantiles([level])[:, 0], 1, 2).ravel()
        np.testing.assert_array_equal(made[name], expected)
    assert made["month"].tolist() == ahead(horizon=5)["month"].tolist()[:5] * 4


@pytest.mark.parametrize(
    ("times", "following"),
    [
        (MONTHS, AHEAD),
        (pd.period_range("2020Q1", periods=20, freq="Q"), pd.period_range("2025Q1", periods=3, freq="Q")),
        (pd.Index(np.arange(1900, 1920, dtype=np.int32)), pd.Index(np.array([1920, 1921, 1922], np.int32))),
        (pd.Index(np.arange(20) * 0.5), pd.Index([10.0, 10.5, 11.0])),
        (
            pd.date_range("2020-01-03", periods=20, freq="B").as_unit("s"),
            pd.date_range("2020-01-31", periods=3, freq="B").as_unit("s"),
        ),
        (pd.timedelta_range("0h", periods=20, freq="h"), pd.timedelta_range("20h", periods=3, freq="h")),
        (
            pd.Index(MONTHS.astype("timestamp[us, tz=Europe/Berlin][pyarrow]")),
            pd.Index(AHEAD.astype("timestamp[us, tz=Europe/Berlin][pyarrow]")),
        ),
        (pd.Index(range(1900, 1920), dtype="Int64"), pd.Index([1920, 1921, 1922], dtype="Int64")),
        (
            pd.Index([f"2020-{month:02}-01" for month in range(1, 11)]),
            pd.date_range("2020-11-01", periods=3, freq="MS", unit="ns"),
        ),
    ],
    ids=["zoned", "periods", "years", "numbers", "seconds", "durations", "arrow", "nullable", "texts"],
)  # fmt: skip
def test_times_come_back_in_their_own_type(base: Forecaster, times: pd.Index, following: pd.Index):
    made = base.predict_df(table(times=times)[HARE_ONLY], 3, sample=SAMPLE, **HARE)
    expected = pd.Series(following.append(following), name="month")
    pd.testing.assert_series_equal(made["month"], expected)


@pytest.mark.parametrize("ids", [pd.Index([10, 9], dtype="int16"), pd.Index(["b", "a "]), pd.Index([2.0, 0.5])])
def test_ids_come_back_in_their_own_type_and_order(base: Forecaster, ids: pd.Index):
    df = table()[HARE_ONLY]
    df["site"] = ids.take(np.repeat([0, 1], len(MONTHS)))
    made = base.predict_df(df, 3, sample=SAMPLE, **HARE)
    pd.testing.assert_series_equal(made["site"], pd.Series(ids.take([0, 0, 0, 1, 1, 1]), name="site"))


def test_categories_come_back_as_categories(base: Forecaster):
    df = table(ids=("x", "y"))[HARE_ONLY].astype({"site": "category"})
    assert base.predict_df(df, 3, sample=SAMPLE, **HARE)["site"].dtype == df["site"].dtype


def test_a_forecast_does_not_depend_on_the_other_series_of_the_table(base: Forecaster):
    df = table()[HARE_ONLY]
    whole = base.predict_df(df, 3, sample=SAMPLE, **HARE)
    alone = base.predict_df(df[df["site"] == 3], 3, sample=SAMPLE, **HARE)
    pd.testing.assert_frame_equal(alone, whole[whole["site"] == 3].reset_index(drop=True))


def test_ids_and_times_may_stand_in_the_index(base: Forecaster):
    df = table()[HARE_ONLY]
    made = base.predict_df(df, 3, sample=SAMPLE, **HARE)
    pd.testing.assert_frame_equal(base.predict_df(df.set_index(["site", "month"]), 3, sample=SAMPLE, **HARE), made)
    one = df.loc[df["site"] == 7]
    alone = base.predict_df(one.drop(columns="site").set_index("month"), 3, time_column="month", target="hare")
    assert list(alone.columns)[:3] == ["month", "target_name", "predictions"]
    unnamed = pd.DataFrame({"target": one["hare"].to_numpy()}, index=MONTHS)
    assert base.predict_df(unnamed, 3, sample=SAMPLE)["timestamp"].tolist() == made["month"].tolist()[:3]


def test_without_times_the_steps_are_counted(base: Forecaster):
    df = table()[["site", "hare"]]
    made = base.predict_df(df, 3, id_column="site", time_column=None, target="hare", sample=SAMPLE)
    assert made["step"].tolist() == [1, 2, 3, 1, 2, 3]


def test_known_columns_are_given_and_what_ifs_come_back_exactly(base: Forecaster):
    df = table()
    future = ahead(rain=1.5)
    made = base.predict_df(df, 5, target=["hare", "lynx"], known=future, sample=SAMPLE, **NAMED)
    assert set(made["target_name"]) == {"hare", "lynx"}
    wet = base.predict_df(df, 5, target=["hare", "lynx"], known=ahead(rain=2.9), sample=SAMPLE, **NAMED)
    assert not np.array_equal(made["predictions"], wet["predictions"])
    series = series_from_frame(df, Columns(time="month", id="site", known="rain", targets=("hare", "lynx")))
    forecast = base.predict(series, 5, known=np.full((2, 5, 1), 1.5), sample=SAMPLE)
    np.testing.assert_array_equal(made["predictions"], np.swapaxes(forecast.median(), 1, 2).ravel())
    future["lynx"] = [np.nan, 12.5, np.nan, np.nan, np.nan] * 2
    what_if = base.predict_df(df, 5, target=["hare", "lynx"], known=future, sample=SAMPLE, **NAMED)
    lynx = what_if[what_if["target_name"] == "lynx"]
    assert (lynx.iloc[[1, 6]][["predictions", "0.1", "0.9"]] == 12.5).all(axis=None)
    one_step = base.predict_df(df, 1, target=["hare", "lynx"], known=ahead(rain=1.5, horizon=1), sample=SAMPLE, **NAMED)
    assert one_step["month"].tolist() == [ahead()["month"].iloc[0]] * 4
    with pytest.raises(DataError, match=r"'rain' is known beforehand, but its value at step 4"):
        base.predict_df(df, 5, target=["hare", "lynx"], known=ahead(rain=1.5, horizon=3), sample=SAMPLE, **NAMED)


def test_past_columns_are_read_and_not_forecast(base: Forecaster):
    df = table().drop(columns="lynx")
    made = base.predict_df(df, 3, past="rain", sample=SAMPLE, **HARE)
    assert set(made["target_name"]) == {"hare"}
    changed = base.predict_df(df.assign(rain=df["rain"] ** 2), 3, past="rain", sample=SAMPLE, **HARE)
    assert not np.array_equal(made["predictions"], changed["predictions"])


def test_columns_that_are_left_out_are_named(base: Forecaster):
    with pytest.warns(UserWarning, match="columns left out: lynx, rain"):
        base.predict_df(table(), 3, sample=SAMPLE, **HARE)


def test_absent_steps_are_filled_and_told(base: Forecaster):
    df = table()[HARE_ONLY].drop(index=[4, 5])
    with pytest.warns(UserWarning, match="2 absent months in 1 of 2 series are read as missing"):
        made = base.predict_df(df, 3, sample=SAMPLE, **HARE)
    assert made["month"].tolist() == ahead(horizon=3)["month"].tolist()


@pytest.mark.filterwarnings("ignore::loracast.errors.UnseenWarning")  # of the single row, before it is refused
@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda df: df, {"target": "wolf"}, "no column 'wolf', which target= names; it has site, month, hare: name"),
        (lambda df: df, {"id_column": "plot"}, "no column 'plot'.*id_column="),
        (lambda df: df.rename(columns={"month": "when"}), {}, "no column 'month'.*time_column="),
        (lambda df: df.drop(columns="site"), {"id_column": None}, "row 21: the time 2020-01-31.* twice.*id_column="),
        (lambda df: df.assign(site=df["site"].where(df.index != 4)), {}, "row 5: the id 'site' is missing"),
        (lambda df: df.assign(site=["1", 1] * 20), {}, "two ids of 'site' are both written '1'"),
        (lambda df: df.iloc[[0]], {}, "series '7' has a single row"),
        (lambda df: df.iloc[:0], {}, "the table has no rows"),
        (lambda df: df["hare"], {}, "a pandas DataFrame is needed, not Series"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_table_is_said(base: Forecaster, change: Any, options: Any, message: str):
    with pytest.raises(DataError, match=message):
        base.predict_df(change(table()[HARE_ONLY]), 3, sample=SAMPLE, **{**HARE, **options})


def test_without_a_target_nothing_is_forecast(base: Forecaster):
    with pytest.raises(ConfigError, match="target="):
        base.predict_df(table(), 3, target=[], **NAMED)


# -- predict and fit of tables ---------------------------------------------------------------------------------------


def test_predict_takes_tables_and_columns(base: Forecaster):
    df = table()[HARE_ONLY]
    by_hand = base.predict(series_from_frame(df), 3, sample=SAMPLE)
    np.testing.assert_array_equal(base.predict(df, 3, sample=SAMPLE).samples, by_hand.samples)
    column = base.predict(df.set_index(["site", "month"])["hare"], 3, sample=SAMPLE)
    np.testing.assert_array_equal(column.samples, by_hand.samples)
    assert column.names == ("hare",)
    alone = df.loc[df["site"] == 7, "hare"].reset_index(drop=True)
    values = Series(alone.to_numpy(), ("hare",))
    for given in (alone, alone.set_axis(MONTHS), alone.rename(None)):
        np.testing.assert_array_equal(
            base.predict(given, 3, sample=SAMPLE).samples, base.predict(values, 3, sample=SAMPLE).samples
        )
    twice = alone.set_axis(range(1900, 1920)).rename_axis("hare")  # its name and that of its times are one
    assert base.predict(twice, 3, sample=SAMPLE).names == ("hare",)
    years = base.predict(alone.set_axis(range(1900, 1920)).rename_axis("year"), 3, sample=SAMPLE)
    assert years.time[0] is not None
    assert years.time[0].tolist() == [1920, 1921, 1922]


def test_a_list_of_tables_is_refused(base: Forecaster):
    frames: Any = [table()]
    with pytest.raises(DataError, match="a DataFrame cannot be forecast"):
        base.predict(frames, 3)


@pytest.mark.filterwarnings("ignore:TUNING DID NOT HELP")
def test_fit_takes_tables(base: Forecaster):
    df = table(ids=range(6)).drop(columns="lynx")
    tuned = base.fit_df(df, known="rain", tune=QUICK, **HARE)
    again = base.fit(series_from_frame(df, Columns(time="month", id="site", known="rain", targets="hare")), tune=QUICK)
    assert tuned.record["variables"] == ["rain", "hare"]
    assert tuned.record["known"] == ["rain"]
    future = ahead(range(6), 3, rain=1.0)
    first, second = (one.predict_df(df, 3, known=future, sample=SAMPLE, **HARE) for one in (tuned, again))
    pd.testing.assert_frame_equal(first, second)
    judged = base.fit_df(df[HARE_ONLY], validation=table(ids=("a", "b"))[HARE_ONLY], tune=QUICK, **HARE)
    direct = base.fit(df[HARE_ONLY], validation=table(ids=("a", "b"))[HARE_ONLY], tune=QUICK)
    assert len(judged.record["split"]["validation"]) == 2
    assert judged.record["validation_forecasts"] == direct.record["validation_forecasts"]


# -- cross-validation ------------------------------------------------------------------------------------------------


def test_cross_validation_has_cutoffs_truth_and_forecasts(base: Forecaster):
    df = table()[HARE_ONLY]
    made = base.cross_validation_df(df, 4, 3, step=2, quantile_levels=[0.1, 0.9], sample=SAMPLE, **HARE)
    assert list(made.columns) == ["site", "month", "cutoff", "hare", "loracast", "0.1", "0.9"]
    assert made["cutoff"].dtype == made["month"].dtype == df["month"].dtype
    assert len(made) == 2 * 3 * 4
    joined = made.merge(df, on=["site", "month"], suffixes=("", " of the table"))
    np.testing.assert_array_equal(joined["hare"], joined["hare of the table"])
    for (site, turn), (cutoff, rows) in zip(
        itertools.product((7, 3), range(3)), made.groupby(["site", "cutoff"], sort=False)
    ):
        end = 20 - 4 - (2 - turn) * 2
        assert cutoff == (site, MONTHS[end - 1])
        assert rows["month"].tolist() == MONTHS[end : end + 4].tolist()
        past = df.loc[df["site"] == site, "hare"].to_numpy()[:end]
        alone = base.predict(Series(past, ("hare",), f"{site}@{end}"), 4, sample=SAMPLE)
        np.testing.assert_array_equal(rows["loracast"], alone.median()[0, :, 0])
        np.testing.assert_array_equal(rows["0.9"], alone.quantiles([0.9])[0, 0, :, 0])


def test_utilsforecast_evaluates_a_cross_validation(base: Forecaster):
    made = base.cross_validation_df(table()[HARE_ONLY], 4, 2, sample=SAMPLE, **HARE)
    scores = evaluate(
        made, [mae], models=["loracast"], id_col="site", time_col="month", target_col="hare", cutoff_col="cutoff"
    )
    errors = (made["hare"] - made["loracast"]).abs().groupby([made["site"], made["cutoff"]]).mean()
    assert len(scores) == 4
    np.testing.assert_allclose(scores.set_index(["site", "cutoff"])["loracast"].sort_index(), errors.sort_index())


def test_cross_validation_of_several_targets_is_long(base: Forecaster):
    df = table()
    made = base.cross_validation_df(df, 3, 2, target=["hare", "lynx"], known="rain", sample=SAMPLE, **NAMED)
    assert list(made.columns[:6]) == ["site", "month", "cutoff", "target_name", "target", "loracast"]
    for name in ("hare", "lynx"):
        joined = made[made["target_name"] == name].merge(df, on=["site", "month"])
        assert len(joined) == 2 * 2 * 3
        np.testing.assert_array_equal(joined["target"], joined[name])
    series = series_from_frame(df, Columns(time="month", id="site", known="rain", targets=("hare", "lynx")))[0]
    context = Series(series.values[:14], series.names, "7@14", known=("rain",))
    alone = base.predict(context, 3, known=series.values[None, 14:17, :1], sample=SAMPLE)
    np.testing.assert_array_equal(made["loracast"][:6], np.swapaxes(alone.median(), 1, 2).ravel())


@pytest.mark.filterwarnings("ignore:TUNING DID NOT HELP")
@pytest.mark.parametrize("refit", [False, True])
def test_what_follows_a_cutoff_changes_nothing_before_it(base: Forecaster, refit: bool):
    df: Any = table(ids=range(4))[HARE_ONLY]
    other = df.assign(hare=df["hare"].where(df.groupby("site").cumcount() < 16, 4.2))  # from the last cutoff on
    options = {"tune": QUICK, "refit": refit, "sample": SAMPLE, **HARE}
    made = base.cross_validation_df(df, 4, 1, **options)
    changed = base.cross_validation_df(other, 4, 1, **options)
    np.testing.assert_array_equal(made["loracast"], changed["loracast"])
    assert (changed["hare"] == 4.2).all()
    untouched = base.cross_validation_df(df, 4, 1, sample=SAMPLE, **HARE)
    assert not np.array_equal(made["loracast"], untouched["loracast"])


@pytest.mark.filterwarnings("ignore:TUNING DID NOT HELP")
def test_refit_tunes_before_each_cutoff(base: Forecaster):
    df = table(ids=range(4))[HARE_ONLY]
    once = base.cross_validation_df(df, 4, 2, step=2, tune=QUICK, sample=SAMPLE, **HARE)
    each = base.cross_validation_df(df, 4, 2, step=2, tune=QUICK, refit=True, sample=SAMPLE, **HARE)
    first, last = once["cutoff"] == MONTHS[13], once["cutoff"] == MONTHS[15]
    assert (first | last).all()
    pd.testing.assert_frame_equal(once[first], each[first])
    assert not np.array_equal(once[last]["loracast"], each[last]["loracast"])
    with pytest.raises(ModelError, match="has an adapter already"):
        base.fit_df(df, tune=QUICK, **HARE).cross_validation_df(df, 4, refit=True, tune=QUICK, **HARE)


@pytest.mark.filterwarnings("ignore:TUNING DID NOT HELP")
def test_a_forecaster_that_was_tuned_on_the_windows_warns(base: Forecaster):
    df = table(ids=range(4))[HARE_ONLY]
    tuned = base.fit_df(df, tune=QUICK, **HARE)
    with pytest.warns(UserWarning, match="tuned on 3 of the 4 series that it is judged by"):
        tuned.cross_validation_df(df, 4, sample=SAMPLE, **HARE)


def test_short_series_are_left_out_and_named(base: Forecaster):
    df = table()[HARE_ONLY].iloc[:25]
    with pytest.warns(UserWarning, match=r"1 of 2 series left out.*'3' \(5\)"):
        made = base.cross_validation_df(df, 4, 2, sample=SAMPLE, **HARE)
    assert set(made["site"]) == {7}
    with pytest.raises(ConfigError, match="windows must be at least 1"):
        base.cross_validation_df(df, 4, 0, **HARE)


def test_everything_that_is_exported_is_there():
    for name in loracast.__all__:
        assert getattr(loracast, name) is not None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:TUNING DID NOT HELP")
def test_the_page_on_frames_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for extra in ("sktime", "fev"):
        pytest.importorskip(extra, reason=f"needs {extra}: pip install 'loracast[{extra}]'")

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[1] / "docs" / "frames.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec("\n".join(text for kind, text in blocks if kind == "python"), names)
    shown = [text for kind, text in blocks if kind == "text"]
    for text, name in zip(shown, ("forecast", "checked")):
        assert text.splitlines()[0].split() == list(names[name].columns)
    assert names["summary"]["num_forecasts"] == 6
    assert len(names["given"]) == 36

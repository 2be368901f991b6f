"""Backtests: which windows, which rows, what is written; and the picture of before and after."""

import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from loracast.baselines import BASELINES
from loracast.codec import Codec
from loracast.errors import BudgetError, ConfigError, DataError
from loracast.evaluation.backtest import CLIMATOLOGY, Backtest, backtest
from loracast.evaluation.figures import before_and_after
from loracast.flops import Flops
from loracast.forecaster import Forecaster
from loracast.language_model import LanguageModel
from loracast.ledger import Ledger
from loracast.series import Series
from loracast.settings import SampleConfig

NAMES = ("hare", "lynx")
COVERAGES = {"coverage_50", "coverage_80", "coverage_95"}
METRICS = {"mae", "mae_seed_units", "mse", "rmse", "r2", "crps", "energy"} | COVERAGES


def waves(n: int = 3, steps: int = 20) -> list[Series]:
    """Series of falling amplitude, so that no forecast of repeated values is exact."""
    time = np.arange(float(steps))
    values = [[5 + 4 * np.sin(time + i) * 0.99**time, 20 + 9 * np.cos(time / 2 + i) * 0.98**time] for i in range(n)]
    return [Series(np.transpose(pair), NAMES, f"s{i}") for i, pair in enumerate(values)]


@pytest.fixture(scope="module")
def base(numeric_model: LanguageModel) -> Forecaster:
    return Forecaster(numeric_model, Codec(digits=2))


@pytest.fixture(scope="module")
def other(numeric_model: LanguageModel) -> Forecaster:
    """A forecaster whose forecasts differ: the same model reads fewer digits."""
    return Forecaster(numeric_model, Codec(digits=1))


@pytest.fixture(scope="module")
def result(base: Forecaster, other: Forecaster) -> Backtest:
    return backtest({"zero-shot": base, "tuned": other}, waves(), 8, 4, sample=SampleConfig(samples=5, seed=2))


# -- rows --------------------------------------------------------------------------------------------------------


def test_there_is_a_row_a_forecaster_and_the_baselines_are_always_among_them(base: Forecaster, result: Backtest):
    assert [row["forecaster"] for row in result.rows] == ["zero-shot", "tuned", *BASELINES, CLIMATOLOGY]
    assert list(BASELINES) == ["last-value", "context-mean", "best-period"]
    alone = backtest({}, waves(), 8, 4)
    assert [row["forecaster"] for row in alone.rows] == [*BASELINES, CLIMATOLOGY]
    assert alone.rows == result.rows[2:]


def test_rows_have_every_metric_overall_and_by_variable(result: Backtest):
    for row in result.rows:
        point, free = row["forecaster"] in BASELINES, row["forecaster"] in (*BASELINES, CLIMATOLOGY)
        assert row["n_series"] == 3
        assert row["n_windows"] == 9
        assert set(row["by_variable"]) == set(NAMES)
        for part in (row, *row["by_variable"].values()):
            assert part.keys() >= METRICS
            assert {name for name in METRICS if part[name] is None} == (COVERAGES if point else set())
        assert row["mae"] == pytest.approx(np.mean([part["mae"] for part in row["by_variable"].values()]))
        assert row["flops"].keys() == {"executed", "published"}
        assert [flops == 0 for flops in row["flops"].values()] == [free, free]


def test_the_scores_are_those_of_the_forecasts(result: Backtest):
    truth = np.stack([window.future_values for window in result.windows])
    for row in result.rows[:2]:
        forecast = result.forecasts[row["forecaster"]]
        assert row["mae"] == pytest.approx(np.abs(forecast.median() - truth).mean())
        assert row["mse"] == pytest.approx(((forecast.median() - truth) ** 2).mean())
        assert row["flops"] == asdict(forecast.flops)
    assert result.rows[0]["mae"] != result.rows[1]["mae"]
    last = np.stack([window.context_values[-1:] for window in result.windows])
    assert result.rows[2]["mae"] == result.rows[2]["crps"] == pytest.approx(np.abs(last - truth).mean())


def test_seed_units_are_a_tenth_of_the_99th_percentile_of_the_whole_window(result: Backtest):
    units, errors = [], []
    for window in result.windows:
        whole = np.concatenate([window.context_values, window.future_values])
        units.append(np.percentile(whole, 99, axis=0) / 10)
        errors.append(np.abs(window.context_values[-1] - window.future_values).mean(0))
    assert result.rows[2]["mae_seed_units"] == pytest.approx((np.array(errors) / units).mean())


def test_rows_are_ready_for_json_whatever_was_observed(base: Forecaster):
    """Constant series have no R², a future without a value has no score, and both are null rather than NaN."""
    gone = waves(1, 12)[0].values.copy()
    gone[8:, 1] = np.nan
    series = [Series(np.zeros((12, 2)), NAMES, "zeros"), Series(gone, NAMES, "gone")]
    for some in (series, series[:1], series[1:]):
        result = backtest({"zero-shot": base}, some, 8, 4, sample=SampleConfig(samples=1))
        text = json.dumps(result.rows, allow_nan=False)
        assert json.loads(text) == result.rows
    row = backtest({"zero-shot": base}, series[1:], 8, 4).rows[0]
    assert row["by_variable"]["lynx"]["mae"] is None
    assert row["by_variable"]["lynx"]["n_windows"] == 0
    assert row["mae"] == row["by_variable"]["hare"]["mae"]


def test_a_forecaster_may_not_have_a_baselines_name(base: Forecaster):
    with pytest.raises(ConfigError, match="'best-period' is the name of a baseline") as raised:
        backtest({"last-value": base, "mine": base, "best-period": base}, waves(), 8, 4)
    assert len(raised.value.problems) == 2


# -- windows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "stride", "starts"), [(20, None, [0, 4, 8]), (20, 8, [0, 8]), (23, 5, [0, 5, 10]), (12, 1, [0])]
)
def test_windows_are_cut_at_the_stride(base: Forecaster, steps: int, stride: int | None, starts: list[int]):
    result = backtest({"mine": base}, waves(2, steps), 8, 4, stride=stride, sample=SampleConfig(samples=2))
    assert [(window.series.id, window.start) for window in result.windows] == [
        (name, start) for name in ("s0", "s1") for start in starts
    ]
    assert result.forecasts["mine"].samples.shape == (2 * len(starts), 2, 4, 2)
    assert result.rows[0]["n_windows"] == 2 * len(starts)
    assert result.settings["stride"] == (stride or 4)


def test_every_window_has_paths_of_its_own(base: Forecaster):
    """Windows of a series that repeats itself are alike, but are not drawn with the same random numbers."""
    series = Series(np.tile([[1.0, 7.0], [4.0, 2.0]], (12, 1)), NAMES, "x")
    forecast = backtest({"mine": base}, [series], 8, 4, sample=SampleConfig(samples=3)).forecasts["mine"]
    assert forecast.ids == ("x@0", "x@4", "x@8", "x@12")
    np.testing.assert_array_equal(forecast.contexts[0].values, forecast.contexts[1].values)
    assert not np.array_equal(forecast.samples[0], forecast.samples[1])


def test_a_backtest_is_repeatable_and_depends_on_its_seed(base: Forecaster, result: Backtest):
    forecasters = {"zero-shot": base}
    again = backtest(forecasters, waves(), 8, 4, sample=SampleConfig(samples=5, seed=2))
    assert again.rows[0] == result.rows[0]
    other = backtest(forecasters, waves(), 8, 4, sample=SampleConfig(samples=5, seed=3))
    assert other.rows[0]["mae"] != result.rows[0]["mae"]


def test_what_cannot_be_tested_is_refused(base: Forecaster):
    with pytest.raises(DataError, match="series to forecast is empty"):
        backtest({"mine": base}, [], 8, 4)
    with pytest.raises(DataError, match="'alone' has 1 variables, series 's0' has 2"):
        backtest({"mine": base}, [*waves(), Series(np.arange(20.0), ("hare",), "alone")], 8, 4)
    with pytest.raises(DataError, match="every series is shorter than the 22 steps"):
        backtest({"mine": base}, waves(), 18, 4)


def test_a_ledger_is_asked_before_each_forecaster_s_work_and_charged(
    base: Forecaster, other: Forecaster, result: Backtest
):
    forecasters, sample = {"zero-shot": base, "tuned": other}, SampleConfig(samples=5, seed=2)
    one, two = (forecast.flops for forecast in result.forecasts.values())
    ledger = Ledger((one + two).executed)
    backtest(forecasters, waves(), 8, 4, sample=sample, ledger=ledger)
    assert ledger.spent == {"forecasts": one + two}
    assert one.published > two.published > 0  # which reads and writes fewer digits
    tight, told = Ledger((one + two).published - 1, "published"), set()
    with pytest.raises(BudgetError, match=r"forecasts would take .* FLOPs \(published\)"):
        backtest(
            forecasters,
            waves(),
            8,
            4,
            sample=sample,
            ledger=tight,
            progress=lambda name, share: told.add((name, share)),
        )
    assert tight.spent == {"forecasts": one}
    assert told >= {("zero-shot", 1.0), ("tuned", 0.0)}
    assert not any(share for name, share in told if name == "tuned")
    free = Ledger(0.0)
    assert backtest({}, waves(), 8, 4, ledger=free).rows  # baselines are not models
    assert free.total == Flops()


def test_progress_is_told_by_forecaster(base: Forecaster, other: Forecaster):
    told: list[tuple[str, float]] = []
    backtest({"a": base, "b": other}, waves(), 8, 4, progress=lambda name, share: told.append((name, share)))
    assert told[-1] == ("b", 1.0)
    assert ("a", 1.0) in told
    assert all(0 <= share <= 1 for _, share in told)


# -- files and pictures ------------------------------------------------------------------------------------------


def test_files_hold_all_scores(result: Backtest, tmp_path: Path):
    result.save(tmp_path / "eval")
    assert {path.name for path in (tmp_path / "eval").iterdir()} == {"metrics.json", "scores.csv", "series.csv"}
    stored = json.loads((tmp_path / "eval" / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert stored["rows"] == result.rows
    expected = {"context": 8, "horizon": 4, "stride": 4, "samples": 5, "temperature": 1.0, "top_p": 1.0, "seed": 2}
    assert {name: stored[name] for name in expected} == expected
    frame = pd.read_csv(tmp_path / "eval" / "series.csv")
    assert frame.columns.tolist() == ["forecaster", "series", "mae", "mae_seed_units", "crps"]
    assert len(frame) == 6 * 3
    scores = pd.read_csv(tmp_path / "eval" / "scores.csv")
    assert scores["variable"].tolist() == ["all", *NAMES] * 6
    assert scores["mae"].tolist() == pytest.approx(result.table()["mae"].tolist())
    means = {name: rows["mae"].mean() for name, rows in frame.groupby("forecaster")}
    assert means == pytest.approx({row["forecaster"]: row["mae"] for row in result.rows})


def draw(result: Backtest, **options: Any):
    figure = before_and_after(result, **options)
    FigureCanvasAgg(figure).draw()  # warnings are errors
    return figure


def test_the_picture_has_a_row_a_window_with_fans_and_errors_and_the_errors_of_all(result: Backtest):
    figure = draw(result)
    assert len(figure.axes) == 3 * 3 + 1
    assert [axis.get_title(loc="left") for axis in figure.axes[:2]] == ["zero-shot", "tuned"]
    truth = np.stack([window.future_values for window in result.windows])
    for before, after, errors in zip(figure.axes[:9:3], figure.axes[1:9:3], figure.axes[2:9:3]):
        assert before.get_ylim() == after.get_ylim()
        name, _, series = before.get_ylabel().replace("\n", " ").partition(" series ")
        labels = [f"{one.series.id} from step {one.start + 1}" for one in result.windows]
        window = next(index for index, one in enumerate(result.windows) if series in (one.series.id, labels[index]))
        variable = NAMES.index(name)
        for line, axis, forecast in zip(errors.get_lines(), (before, after), result.forecasts.values()):
            distance = np.abs(forecast.median() - truth)[window, :, variable]
            assert np.array_equal(line.get_ydata(), distance)
            assert axis.get_title(loc="right") == f"MAE {distance.mean():.3g}"
    assert [line.get_label() for line in figure.axes[-1].get_lines()][:2] == ["zero-shot", "tuned"]
    whole = np.stack([window.values for window in result.windows])
    distance = np.abs(result.forecasts["tuned"].median() - truth) / whole.std(1)[:, None]
    assert figure.axes[-1].get_lines()[1].get_ydata() == pytest.approx(distance.mean((0, 2)))
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [text.split(":")[0] for text in texts[2:4]] == ["zero-shot", "tuned"]
    least = min(BASELINES, key=lambda name: result.scores[name].row()["mae"])
    assert texts[4] == f"{least} (best baseline)"
    assert len(draw(result, most=2).axes) == 2 * 3 + 1


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9])
def test_the_windows_in_the_picture_are_chosen_by_the_first_forecaster_s_error(base: Forecaster, count: int):
    result = backtest({"mine": base}, waves(count, 12), 8, 4, sample=SampleConfig(samples=3))
    figure = draw(result)
    shown = [axis.get_ylabel() for axis in figure.axes[:-1:2]]
    assert len(set(shown)) == len(shown) == min(3, count)
    whole = np.stack([window.values for window in result.windows])
    truth = np.stack([window.future_values for window in result.windows])
    errors = np.abs(result.forecasts["mine"].median() - truth).mean(1) / whole.std(1)  # [N, D]
    order = errors.mean(1).argsort(kind="stable")
    expected = {1: [0], 2: [0, 1], 3: [0, 1, 2], 4: [1, 2, 3], 5: [2, 3, 4], 9: [4, 6, 8]}[count]
    chosen = [order[place] for place in sorted(set(expected))]
    expected_labels = [f"{NAMES[errors[one].argmax()]}\nseries {result.windows[one].series.id}" for one in chosen]
    assert shown == expected_labels
    assert figure.get_suptitle().startswith(
        "All windows" if count <= 3 else f"Of {count} windows, by the error of mine"
    )


def test_missing_truth_dates_and_constants_are_drawn_without_warnings(base: Forecaster):
    days = np.datetime64("2024-01-01", "ns") + np.arange(12) * np.timedelta64(30, "D")
    gone = waves(1, 12)[0].values.copy()
    gone[8:] = np.nan
    series = [
        Series(waves(1, 12)[0].values, NAMES, "dates", days),
        Series(np.full((12, 2), 3.0), NAMES, "constant", days),
        Series(gone, NAMES, "gone", days),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = backtest({"mine": base}, series, 8, 4, sample=SampleConfig(samples=3))
        figure = draw(result)
    assert [axis.get_ylabel() for axis in figure.axes[::2]] == [
        *("hare\nseries constant", "hare\nseries gone", "hare\nseries dates", ""),
    ]
    assert figure.axes[-3].get_xlabel() == "time"


def test_months_have_a_season_and_a_baseline_of_it():
    time = np.arange("2000-01", "2004-01", dtype="datetime64[M]")
    month = np.arange(48) % 12.0
    series = Series(month, "x", "lake", time)
    rows = {row["forecaster"]: row for row in backtest({}, [series], 24, 12).rows}
    assert rows["seasonal-naive"]["mae"] == 0
    assert rows["last-value"]["mase"] is None  # the same season every year: no change to measure by
    assert "seasonal-naive" not in {row["forecaster"] for row in backtest({}, [series], 10, 12).rows}


def test_short_series_are_left_out_with_a_warning():
    long, short = (Series(np.sin(np.arange(float(steps))), "x", name) for steps, name in ((30, "a"), (9, "b")))
    with pytest.warns(UserWarning, match="1 of 2 series left out"):
        result = backtest({}, [long, short], 10, 5)
    assert {window.series.id for window in result.windows} == {"a"}

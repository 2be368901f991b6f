"""The tables behind a backtest: by hand, against plain loops with gaps, and calibrated samples."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from loracast.evaluation.breakdown import by_step, coverage, fans, pit
from loracast.evaluation.metrics import score
from loracast.series import Series, Window, windows

NAN = float("nan")
NAMES = ("prey", "predator")
LEVELS = [5 * index for index in range(1, 20)]  # percent


def gappy(windows: int = 4, paths: int = 5, steps: int = 3, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Samples of three forecasters, one of them with a single path, and the truth; ties and gaps in all of them."""
    random = np.random.default_rng(seed)

    def drawn(*shape: int) -> np.ndarray:
        return random.integers(0, 6, shape).astype(np.float64)

    truth = drawn(windows, steps, 2)
    truth[random.random(truth.shape) < 0.2] = NAN
    samples = {name: drawn(windows, size, steps, 2) for name, size in (("point", 1), ("b", paths), ("a", paths + 3))}
    for array in samples.values():
        array[random.random(array.shape[:3]) < 0.3] = NAN  # a step that does not parse has no variable
    samples["b"][0, :, 0] = NAN  # and here no sample does
    truth[:, 1, 1] = NAN  # never observed
    return samples, truth


def valid(samples: np.ndarray, window: int, step: int, variable: int) -> list[float]:
    return [path for path in samples[window, :, step, variable] if not math.isnan(path)]


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else NAN


@pytest.mark.parametrize("seed", range(5))
def test_by_step_against_plain_loops(seed: int):
    samples, truth = gappy(seed=seed)
    rows = []
    for forecaster, paths in samples.items():
        for step in range(truth.shape[1]):
            for variable, name in enumerate(NAMES):
                errors, crps = [], []
                for window in range(len(truth)):
                    ensemble, outcome = valid(paths, window, step, variable), truth[window, step, variable]
                    if ensemble and not math.isnan(outcome):
                        errors.append(abs(float(np.median(ensemble)) - outcome))
                        apart = mean([abs(one - other) for one in ensemble for other in ensemble])
                        crps.append(mean([abs(one - outcome) for one in ensemble]) - apart / 2)
                rows.append((forecaster, step + 1, name, mean(errors), mean(crps)))
    expected = pd.DataFrame(rows, columns=["forecaster", "step", "variable", "mae", "crps"])
    assert expected["mae"].isna().to_numpy().any()
    pd.testing.assert_frame_equal(by_step(samples, truth, NAMES), expected)


def test_steps_average_to_the_scores_where_nothing_is_missing():
    random = np.random.default_rng(0)
    samples, truth = random.normal(size=(6, 7, 4, 2)), random.normal(size=(6, 4, 2))
    table = by_step({"a": samples}, truth, NAMES)
    row = score(samples, truth, seed_unit=np.ones((6, 2)), names=NAMES, series=list("abcdef")).row()
    assert table["mae"].mean() == pytest.approx(row["mae"])
    assert table["crps"].mean() == pytest.approx(row["crps"])


def slow_coverage(ensemble: list[float], outcome: float, content: float) -> float:
    """The share of the outcome's interval of ranks that the central interval holds."""
    low = sum(one < outcome for one in ensemble) / (len(ensemble) + 1)
    high = (sum(one <= outcome for one in ensemble) + 1) / (len(ensemble) + 1)
    return max(min(high, (1 + content) / 2) - max(low, (1 - content) / 2), 0) / (high - low)


@pytest.mark.parametrize("seed", range(5))
def test_coverage_against_plain_loops(seed: int):
    samples, truth = gappy(seed=seed)
    rows = []
    for forecaster in ("b", "a"):
        for variable, name in enumerate(NAMES):
            for level in LEVELS:
                shares = []
                for window in range(len(truth)):
                    within = []
                    for step in range(truth.shape[1]):
                        ensemble = valid(samples[forecaster], window, step, variable)
                        outcome = truth[window, step, variable]
                        if ensemble and not math.isnan(outcome):
                            within.append(slow_coverage(ensemble, outcome, level / 100))
                    shares += [mean(within)] if within else []
                rows.append((forecaster, name, level / 100, mean(shares)))
    expected = pd.DataFrame(rows, columns=["forecaster", "variable", "nominal", "coverage"])
    pd.testing.assert_frame_equal(coverage(samples, truth, NAMES), expected)


def test_coverage_is_that_of_the_scores_at_their_levels():
    samples, truth = gappy(windows=30, paths=11, steps=6)  # some truths tie with samples
    for paths in (samples["a"], samples["b"]):
        row = score(paths, truth, seed_unit=np.ones((30, 2)), names=NAMES, series=[str(one) for one in range(30)]).row()
        table = coverage({"a": paths}, truth, NAMES).set_index(["variable", "nominal"])["coverage"]
        for name in NAMES:
            for level in (50, 80, 95):
                assert table[name, level / 100] == pytest.approx(row["by_variable"][name][f"coverage_{level}"])


def slow_density(samples: np.ndarray, truth: np.ndarray, variable: int) -> list[float]:
    """Each value's interval of ranks, cut into bins."""
    bins: list[list[float]] = [[] for _ in range(10)]
    for window in range(len(truth)):
        for step in range(truth.shape[1]):
            ensemble, outcome = valid(samples, window, step, variable), truth[window, step, variable]
            if ensemble and not math.isnan(outcome):
                low = sum(one < outcome for one in ensemble) / (len(ensemble) + 1)
                high = (sum(one <= outcome for one in ensemble) + 1) / (len(ensemble) + 1)
                for index in range(10):
                    common = min(high, (index + 1) / 10) - max(low, index / 10)
                    bins[index].append(max(common, 0) / (high - low))
    return [10 * mean(shares) for shares in bins]


@pytest.mark.parametrize("seed", range(5))
def test_pit_against_plain_loops(seed: int):
    samples, truth = gappy(seed=seed)
    table = pit(samples, truth, NAMES)
    assert list(table.columns) == ["forecaster", "variable", "bin", "density"]
    assert list(dict.fromkeys(table["forecaster"])) == ["b", "a"]
    groups: Any = table.groupby(["forecaster", "variable"])
    for (forecaster, name), group in groups:
        assert_allclose(group["bin"], np.arange(0.05, 1, 0.1))
        assert_allclose(group["density"], slow_density(samples[forecaster], truth, NAMES.index(name)), atol=1e-12)
        assert group["density"].mean() == pytest.approx(1)


@pytest.mark.parametrize("paths", [2, 9, 20, 21])
def test_every_rank_once_is_a_flat_pit(paths: int):
    """The truth at each rank among the samples, ends included: what a calibrated forecast gives on average."""
    samples = np.broadcast_to(np.arange(paths)[None, :, None, None], (paths + 1, paths, 1, 1)).astype(np.float64)
    truth = (np.arange(paths + 1) - 0.5)[:, None, None]
    assert_allclose(pit({"a": samples}, truth, ["x"])["density"], 1)


def test_a_truth_equal_to_all_samples_says_nothing():
    assert_allclose(pit({"a": np.ones((3, 20, 4, 1))}, np.ones((3, 4, 1)), ["x"])["density"], 1)


def test_a_truth_beyond_all_samples_is_in_the_last_bin():
    density = pit({"a": np.zeros((1, 19, 1, 1))}, np.ones((1, 1, 1)), ["x"])["density"]
    assert_allclose(density, [0] * 9 + [10], atol=1e-12)


@pytest.mark.parametrize("decimals", [1, 8])
def test_calibrated_samples_have_a_uniform_pit_and_nominal_coverage(decimals: int):
    """Also where both are rounded so that most truths tie with samples."""
    random = np.random.default_rng(0)
    samples, truth = random.normal(size=(100, 99, 60, 1)), random.normal(size=(100, 60, 1))
    samples[random.random((100, 99, 60)) < 0.1] = NAN
    truth[random.random(truth.shape) < 0.1] = NAN
    samples, truth = samples.round(decimals), truth.round(decimals)
    assert_allclose(pit({"a": samples}, truth, ["x"])["density"], 1, atol=0.12)
    table = coverage({"a": samples}, truth, ["x"])
    assert_allclose(table["coverage"], table["nominal"], atol=0.025)


def test_samples_too_close_together_show_in_both():
    random = np.random.default_rng(0)
    samples, truth = {"a": 0.3 * random.normal(size=(50, 40, 40, 1))}, random.normal(size=(50, 40, 1))
    density = pit(samples, truth, ["x"])["density"].to_numpy()
    assert density[[0, -1]].min() > 2 > 1 > density[2:-2].max()
    table = coverage(samples, truth, ["x"])
    assert (table["coverage"] < table["nominal"]).all()


def test_forecasters_with_one_path_have_neither_coverage_nor_pit():
    samples, truth = gappy()
    point = {"point": samples["point"]}
    assert list(coverage(point, truth, NAMES).columns) == ["forecaster", "variable", "nominal", "coverage"]
    assert coverage(point, truth, NAMES).empty
    assert pit(point, truth, NAMES).empty


def test_where_nothing_can_be_scored_figures_are_missing():
    samples, truth = gappy()
    truth[..., 1] = NAN
    for table, figure in ((coverage, "coverage"), (pit, "density"), (by_step, "crps")):
        found = table(samples, truth, NAMES).groupby("variable")[figure]
        assert found.count()["predator"] == 0
        assert found.count()["prey"] > 0


def one_window_each(count: int, context: int = 4, horizon: int = 3) -> list[Window]:
    random = np.random.default_rng(1)
    steps = context + horizon
    return [Window(Series(random.normal(size=(steps, 2)), NAMES, f"s{i}"), 0, context, horizon) for i in range(count)]


def with_errors(cut: list[Window], errors: list[float], paths: int = 4) -> np.ndarray:
    """Samples [N, S, H, D] whose medians miss the truth by as much in every value."""
    truth = np.stack([window.future_values for window in cut])
    spread = np.linspace(-0.1, 0.1, paths)[None, :, None, None]
    return truth[:, None] + np.array(errors)[:, None, None, None] + spread


def test_fans_take_the_middles_of_six_groups_by_the_last_forecasters_error():
    cut = one_window_each(18)
    errors = np.random.default_rng(0).permutation(18).astype(float)
    samples = {"first": with_errors(cut, [0.0] * 18), "last": with_errors(cut, list(errors))}
    quantiles, values = fans(samples, cut)
    expected = [f"s{list(errors).index(error)}" for error in (1, 4, 7, 10, 13, 16)]
    assert list(dict.fromkeys(quantiles["series"])) == list(dict.fromkeys(values["series"])) == expected


def test_the_error_of_a_window_is_that_of_its_median():
    cut = one_window_each(2)
    samples = with_errors(cut, [1.0, 0.0], paths=5)
    samples[1, 3:] += 10  # far off, but not the median
    assert list(dict.fromkeys(fans({"a": samples}, cut)[0]["series"])) == ["s1", "s0"]


def test_fans_hold_quantiles_and_values_by_step():
    cut = one_window_each(2)
    samples = {"point": with_errors(cut, [1.0, 2.0], paths=1), "paths": with_errors(cut, [2.0, 1.0], paths=11)}
    samples["paths"][0, :3, 1] = NAN
    quantiles, values = fans(samples, cut)
    assert list(quantiles.columns) == ["forecaster", "series", "variable", "step", "q10", "q25", "q50", "q75", "q90"]
    assert list(values.columns) == ["series", "variable", "step", "part", "value"]
    assert len(quantiles) == 2 * 2 * 2 * 3
    assert len(values) == 2 * 2 * 7
    for row in quantiles.to_dict("records"):
        window, variable = int(row["series"][1:]), NAMES.index(row["variable"])
        paths = samples[row["forecaster"]][window, :, row["step"] - 5, variable]  # steps 5 to 7 are the future
        expected = np.nanquantile(paths, [0.1, 0.25, 0.5, 0.75, 0.9], method="weibull")
        assert_allclose([row[name] for name in ("q10", "q25", "q50", "q75", "q90")], expected)
    for row in values.to_dict("records"):
        window, variable = int(row["series"][1:]), NAMES.index(row["variable"])
        assert row["value"] == cut[window].values[row["step"] - 1, variable]
        assert row["part"] == ("context" if row["step"] <= 4 else "future")


def test_fans_pass_over_windows_that_cannot_be_scored():
    cut = one_window_each(4)
    samples = {"last": with_errors(cut, [3.0, 2.0, 1.0, 0.5])}
    samples["last"][1] = NAN
    quantiles, values = fans(samples, cut)
    assert list(dict.fromkeys(quantiles["series"])) == ["s3", "s2", "s0"]
    samples["last"][:] = NAN
    for before, after in zip((quantiles, values), fans(samples, cut)):
        assert after.empty
        assert list(after.columns) == list(before.columns)


def test_windows_of_one_series_are_told_apart():
    cut = windows([Series(np.random.default_rng(0).normal(size=(10, 2)), NAMES, "long")], 4, 3)
    quantiles, values = fans({"a": with_errors(cut, [1.0, 2.0])}, cut)
    assert list(dict.fromkeys(quantiles["series"])) == list(dict.fromkeys(values["series"])) == ["long@0", "long@3"]

"""The metrics: by hand, against slow twins, with gaps, and whatever the order of windows and samples."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from loracast.errors import DataError
from loracast.evaluation.metric_list import QUANTILES
from loracast.evaluation.metrics import AVERAGED as METRICS
from loracast.evaluation.metrics import Scores, score, seasonal_scale

NAN = float("nan")
COVERAGES = {"coverage_50": (0.25, 0.75), "coverage_80": (0.1, 0.9), "coverage_95": (0.025, 0.975)}


def scored(samples: Any, truth: Any, **changes: Any) -> Scores:
    """`score` with a seed unit of 1, made-up names and one series a window, unless told otherwise."""
    windows, _, _, variables = np.shape(samples)
    arguments = {
        "seed_unit": np.ones((windows, variables)),
        "names": [f"v{index}" for index in range(variables)],
        "series": [f"s{index}" for index in range(windows)],
    }
    return score(samples, truth, **(arguments | changes))


def slow_crps(ensemble: list[float], outcome: float) -> float:
    """The definition, by the double sum."""
    size = len(ensemble)
    to_outcome = sum(abs(one - outcome) for one in ensemble) / size
    to_each_other = sum(abs(one - other) for one in ensemble for other in ensemble) / size**2
    return to_outcome - to_each_other / 2


def slow_energy(paths: list[list[float]], outcome: list[float]) -> float:
    """The definition, by the double sum."""
    size = len(paths)
    to_outcome = sum(math.dist(one, outcome) for one in paths) / size
    to_each_other = sum(math.dist(one, other) for one in paths for other in paths) / size**2
    return to_outcome - to_each_other / 2


def slow_coverage(ensemble: list[float], outcome: float, low: float, high: float) -> float:
    """The share of the ranks that the outcome may have that lies between two levels; a rank is as wide as another."""
    ranks = range(sum(path < outcome for path in ensemble), sum(path <= outcome for path in ensemble) + 1)
    size = len(ensemble) + 1
    within = [max(min((rank + 1) / size, high) - max(rank / size, low), 0.0) for rank in ranks]
    return sum(within) * size / len(ranks)


def slow_scores(
    samples: np.ndarray, truth: np.ndarray, seed_unit: np.ndarray, series: list[str]
) -> dict[str, np.ndarray]:
    """MAE, MSE, sMAPE, CRPS, energy and coverage by series and variable [G, D], one value or window at a time."""
    windows, size, steps, variables = samples.shape
    table: dict[str, list[list[float]]] = {}
    for one in dict.fromkeys(series):
        for variable in range(variables):
            by_window: dict[str, list[float]] = {}
            for window in (index for index in range(windows) if series[index] == one):
                plain = ("mae", "mse", "crps", "smape", "mae_one_path")
                values: dict[str, list[float]] = {name: [] for name in (*plain, *COVERAGES)}
                for step in range(steps):
                    outcome = truth[window, step, variable]
                    ensemble = [path for path in samples[window, :, step, variable] if not math.isnan(path)]
                    if math.isnan(outcome) or not ensemble:
                        continue
                    error = float(np.median(ensemble)) - outcome
                    values["mae"].append(abs(error))
                    values["mse"].append(error**2)
                    values["crps"].append(slow_crps(ensemble, outcome))
                    size_of = abs(float(np.median(ensemble))) + abs(outcome)
                    values["smape"].append(2 * abs(error) / size_of if size_of else 0.0)
                    values["mae_one_path"].append(sum(abs(path - outcome) for path in ensemble) / len(ensemble))
                    for name, (low, high) in COVERAGES.items():
                        values[name].append(slow_coverage(ensemble, outcome, low, high) if size > 1 else NAN)
                if values["mae"]:
                    unit = seed_unit[window, variable]
                    means = {metric: sum(value) / len(value) for metric, value in values.items()}
                    means |= {"mae_seed_units": means["mae"] / unit, "mse_seed_units": means["mse"] / unit**2}
                    means |= {"crps_seed_units": means["crps"] / unit}
                    means |= {"mae_one_path_seed_units": means["mae_one_path"] / unit}
                    for metric, value in means.items():
                        by_window.setdefault(metric, []).append(value)
                seen = [step for step in range(steps) if not math.isnan(truth[window, step, variable])]
                paths = samples[window, :, seen, variable].T.tolist()
                whole = [path for path in paths if not any(map(math.isnan, path))]
                if seen and whole:
                    by_window.setdefault("energy", []).append(
                        slow_energy(whole, truth[window, seen, variable].tolist())
                    )
            for metric in set(METRICS) - {"rmse", "rmse_seed_units", "mase", "sql"}:
                window_values = by_window.get(metric, [])
                mean = sum(window_values) / len(window_values) if window_values else NAN
                table.setdefault(metric, []).append([mean])
    return {metric: np.reshape(values, (-1, variables)) for metric, values in table.items()}


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    """Samples and truth with gaps, several windows a series."""
    windows, size, steps, variables = (draw(st.integers(1, high)) for high in (4, 5, 4, 2))
    number = st.floats(-100, 100).map(lambda value: round(value, 3))
    elements = st.one_of(number, number, number, st.just(NAN))
    return {
        "samples": draw(arrays(float, (windows, size, steps, variables), elements=elements)),
        "truth": draw(arrays(float, (windows, steps, variables), elements=elements)),
        "seed_unit": draw(arrays(float, (windows, variables), elements=st.floats(0.1, 10))),
        "series": draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=windows, max_size=windows)),
    }


def assert_rows_agree(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        if isinstance(value, dict):
            assert_rows_agree(value, other[key])
        elif value is None:
            assert other[key] is None, key
        else:
            assert value == pytest.approx(other[key], rel=1e-6, abs=1e-9), key


def test_by_hand():
    """One window, three paths, two steps: medians 2 and 4, errors 1 and -2."""
    samples = np.array([[1.0, 4.0], [2.0, 3.0], [6.0, 8.0]])[None, :, :, None]
    scores = scored(samples, np.array([1.0, 6.0])[None, :, None], seed_unit=[[0.5]])
    row = scores.row()
    assert row["mae"] == row["mae_median"] == 1.5
    assert row["mse"] == 2.5
    assert row["rmse"] == pytest.approx(math.sqrt(2.5))
    assert row["mae_seed_units"] == 3.0
    assert row["mse_seed_units"] == 10.0
    assert row["rmse_seed_units"] == pytest.approx(math.sqrt(10.0))
    assert row["r2"] == pytest.approx(1 - 5 / 12.5)
    # Step 1: (0 + 1 + 5) / 3 - 2 (1 + 5 + 4) / 9 / 2; step 2: (2 + 3 + 2) / 3 - 2 (1 + 4 + 5) / 9 / 2.
    assert row["crps"] == pytest.approx(((2 - 10 / 9) + (7 / 3 - 10 / 9)) / 2)
    assert row["crps_seed_units"] == pytest.approx(2 * row["crps"])
    to_truth, to_each_other = 2 + math.sqrt(10) + math.sqrt(29), 2 * (math.sqrt(2) + 2 * math.sqrt(41))
    assert row["energy"] == row["energy_median"] == pytest.approx(to_truth / 3 - to_each_other / 9 / 2)
    # Step 1: the truth equals the first of three paths, ranks from 0 to 2/4. Step 2: between two, from 2/4 to 3/4.
    assert row["coverage_50"] == pytest.approx((0.5 + 1) / 2)
    assert row["coverage_80"] == pytest.approx((0.8 + 1) / 2)
    assert row["coverage_95"] == pytest.approx((0.95 + 1) / 2)
    assert (row["valid_share"], row["n_series"], row["n_windows"], row["n_unscored"]) == (1.0, 1, 1, 0)
    assert row["by_variable"]["v0"] == {key: value for key, value in row.items() if key != "by_variable"}


def test_the_mean_is_another_point_forecast():
    samples = np.array([1.0, 2.0, 6.0])[None, :, None, None]
    assert scored(samples, [[[0.0]]]).row()["mae"] == 2.0
    assert scored(samples, [[[0.0]]], point="mean").row()["mae"] == 3.0


def test_a_point_forecast_has_absolute_errors_for_crps_and_energy_and_no_interval():
    random = np.random.default_rng(0)
    samples, truth = random.normal(size=(4, 1, 5, 2)), random.normal(size=(4, 5, 2))
    row = scored(samples, truth).row()
    assert row["crps"] == pytest.approx(row["mae"])
    assert row["energy"] == pytest.approx(np.linalg.norm(samples[:, 0] - truth, axis=1).mean())
    assert all(row[name] is None and row[f"{name}_median"] is None for name in COVERAGES)


@pytest.mark.parametrize("paths", [2, 5, 20, 100])
def test_coverage_of_an_ideal_forecaster_is_nominal_however_few_its_paths_are(paths: int):
    random = np.random.default_rng(0)
    row = scored(random.normal(size=(100, paths, 50, 1)), random.normal(size=(100, 50, 1))).row()
    for name, (low, high) in COVERAGES.items():
        nominal = high - low
        assert row[name] == pytest.approx(nominal, abs=3 * math.sqrt(nominal * (1 - nominal) / 5000)), name


@pytest.mark.parametrize("paths", [1, 2, 30])
def test_energy_against_all_pairs_at_once(paths: int):
    random = np.random.default_rng(paths)
    samples, truth = random.normal(size=(6, paths, 12, 2)), random.normal(size=(6, 12, 2))
    truth[random.random(truth.shape) < 0.3] = NAN
    samples[random.random(samples.shape[:3]) < 0.05] = NAN  # a step that does not parse has no variable
    broken = np.isnan(samples) & ~np.isnan(truth)[:, None]  # [N, S, H, D]
    weight = ~broken.any(axis=2)  # [N, S, D]
    weight = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1)
    error = np.nan_to_num(samples - truth[:, None])  # as are all differences, 0 where no truth or no sample is
    apart = np.linalg.norm(error[:, :, None] - error[:, None], axis=3)  # [N, S, S, D]
    expected = np.einsum("nsd,nsd->nd", weight, np.linalg.norm(error, axis=2))
    expected -= np.einsum("nsd,ntd,nstd->nd", weight, weight, apart) / 2
    expected[weight.sum(axis=1) == 0] = NAN
    assert broken.any()
    np.testing.assert_allclose(scored(samples, truth).by_series["energy"], expected, rtol=1e-9)


def test_energy_sees_how_steps_depend_on_each_other():
    """Shuffled step by step, paths of one level each are the same to the CRPS, but no longer like the truth."""
    random = np.random.default_rng(0)
    truth = np.broadcast_to(random.normal(size=(100, 1, 1)), (100, 8, 1))
    level = np.broadcast_to(random.normal(size=(100, 30, 1, 1)), (100, 30, 8, 1))
    alike, shuffled = scored(level, truth).row(), scored(random.permuted(level, axis=1), truth).row()
    assert shuffled["crps"] == pytest.approx(alike["crps"])
    assert shuffled["energy"] > 1.05 * alike["energy"]


def test_energy_is_of_whole_paths():
    """A path may be invalid where the truth is missing, but not elsewhere; without a whole path there is no score."""
    samples = np.array([[3.0, NAN, 4.0], [NAN, 1.0, 1.0]])[None, :, :, None]
    truth = np.array([0.0, NAN, 0.0])[None, :, None]
    assert scored(samples, truth).row()["energy"] == 5.0
    none_whole = scored(samples, np.zeros((1, 3, 1))).row()
    assert none_whole["energy"] is None
    assert none_whole["mae"] is not None
    both = scored(np.concatenate([samples, samples]), np.concatenate([truth, np.zeros((1, 3, 1))]), series=["a", "a"])
    assert both.row()["energy"] == 5.0


def test_windows_are_averaged_within_their_series_first():
    """Series a has errors 1 and 3, b has 8: the mean over series is 5, over windows it would be 4."""
    samples = np.array([1.0, 3.0, 8.0])[:, None, None, None]
    scores = scored(samples, np.zeros((3, 1, 1)), series=["a", "a", "b"])
    row = scores.row()
    assert row["mae"] == 5.0
    assert row["rmse"] == pytest.approx((math.sqrt(5) + 8) / 2)  # root a series, then the mean
    assert (row["n_series"], row["n_windows"]) == (2, 3)
    assert [record["series"] for record in scores.per_series()] == ["a", "b"]
    assert [record["mae"] for record in scores.per_series()] == [2.0, 8.0]


def test_mean_and_median_over_series_after_the_mean_over_variables():
    errors = np.array([[1.0, 3.0], [0.0, 10.0], [6.0, 0.0]])  # [G, D]; means 2, 5, 3
    row = scored(errors[:, None, None, :], np.zeros((3, 1, 2)), names=["prey", "predator"]).row()
    assert row["mae"] == pytest.approx(10 / 3)
    assert row["mae_median"] == 3.0
    assert [row["by_variable"][name]["mae_median"] for name in ("prey", "predator")] == [1.0, 3.0]


def test_per_series_by_variable():
    (record,) = scored(np.array([1.0, 3.0])[None, None, None], np.zeros((1, 1, 2)), seed_unit=[[0.5, NAN]]).per_series()
    assert record == {
        "series": "s0",
        "mae": 2.0,
        "mae_seed_units": 2.0,
        "crps": 2.0,
        "by_variable": {
            "v0": {"mae": 1.0, "mae_seed_units": 2.0, "crps": 1.0},
            "v1": {"mae": 3.0, "mae_seed_units": None, "crps": 3.0},
        },
    }


def test_r2_is_pooled_by_variable():
    random = np.random.default_rng(1)
    truth, forecast = random.normal(size=(2, 3, 4, 2))
    row = scored(forecast[:, None], truth).row()
    for index in range(2):
        actual, guess = truth[..., index].ravel(), forecast[..., index].ravel()
        expected = 1 - ((actual - guess) ** 2).sum() / ((actual - actual.mean()) ** 2).sum()
        assert row["by_variable"][f"v{index}"]["r2"] == pytest.approx(expected)
    assert row["r2"] == pytest.approx(np.mean([row["by_variable"][name]["r2"] for name in ("v0", "v1")]))
    assert scored(np.zeros((2, 1, 3, 1)), np.full((2, 3, 1), 0.1)).row()["r2"] is None


def test_missing_truth_is_left_out():
    samples = np.array([[1.0, 50.0, 2.0], [3.0, 60.0, 2.0]])[None, :, :, None]
    truth = np.array([0.0, NAN, 0.0])[None, :, None]
    row = scored(samples, truth).row()
    assert_rows_agree(row, scored(samples[:, :, [0, 2]], truth[:, [0, 2]]).row())
    assert row["n_unscored"] == 0


def test_a_step_is_judged_by_its_valid_samples():
    samples = np.array([[1.0], [NAN], [5.0], [NAN]])[None, :, :, None]
    row = scored(samples, [[[2.0]]]).row()
    expected = scored(samples[:, [0, 2]], [[[2.0]]]).row()
    assert row["valid_share"] == 0.5
    assert_rows_agree(row | {"valid_share": 1.0, "by_variable": {}}, expected | {"by_variable": {}})


def test_a_step_without_a_valid_sample_is_counted_and_in_no_figure():
    samples = np.array([[[1.0, NAN]], [[NAN, NAN]]])[..., None]  # [2, 1, 2, 1]
    truth = np.array([[0.0, 3.0], [4.0, NAN]])[..., None]
    row = scored(samples, truth).row()
    assert row["n_unscored"] == 2  # the last step was not observed: nothing to score there
    assert (row["n_series"], row["n_windows"]) == (1, 1)
    assert row["mae"] == 1.0
    assert row["valid_share"] == 0.25


def test_counts_need_one_scored_variable():
    row = scored(np.zeros((1, 1, 1, 2)), np.array([[[1.0, NAN]]])).row()
    counts = {name: (part["n_series"], part["n_windows"]) for name, part in row["by_variable"].items()}
    assert counts == {"v0": (1, 1), "v1": (0, 0)}
    assert (row["n_series"], row["n_windows"], row["mae"]) == (1, 1, 1.0)


def test_nothing_to_score_is_none_and_valid_json():
    scores = scored(np.full((2, 3, 4, 1), NAN), np.zeros((2, 4, 1)))
    row = scores.row()
    assert all(row[metric] is None and row[f"{metric}_median"] is None for metric in METRICS)
    assert row["r2"] is None
    assert (row["n_series"], row["n_windows"], row["n_unscored"], row["valid_share"]) == (0, 0, 8, 0.0)
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert scores.per_series()[0]["mae"] is None


@pytest.mark.parametrize("unit", [0.0, -1.0, NAN])
def test_seed_units_need_a_positive_unit(unit: float):
    row = scored(np.ones((2, 1, 1, 1)), np.zeros((2, 1, 1)), seed_unit=[[unit], [0.25]]).row()
    assert (row["mae"], row["mae_seed_units"], row["mse_seed_units"], row["crps_seed_units"]) == (1.0, 4.0, 16.0, 4.0)


@settings(max_examples=60, deadline=None)
@given(problem=problems())
def test_agrees_with_the_slow_twin(problem: dict[str, Any]):
    scores = scored(**problem)
    for metric, expected in slow_scores(**problem).items():
        np.testing.assert_allclose(scores.by_series[metric], expected, rtol=1e-9, atol=1e-9, err_msg=metric)
    np.testing.assert_allclose(scores.by_series["rmse"] ** 2, scores.by_series["mse"])
    json.dumps([scores.row(), scores.per_series()], allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(problem=problems(), seed=st.integers(0, 2**16))
def test_the_order_of_windows_samples_and_variables_does_not_matter(problem: dict[str, Any], seed: int):
    random = np.random.default_rng(seed)
    windows, size, _, variables = problem["samples"].shape
    order, paths, columns = (random.permutation(length) for length in (windows, size, variables))
    names = np.array(["x", "y"][:variables])
    shuffled = scored(
        problem["samples"][order][:, paths][..., columns],
        problem["truth"][order][..., columns],
        seed_unit=problem["seed_unit"][order][:, columns],
        series=[problem["series"][index] for index in order],
        names=names[columns].tolist(),
    )
    assert_rows_agree(shuffled.row(), scored(**problem, names=names.tolist()).row())


@settings(max_examples=40, deadline=None)
@given(problem=problems(), factor=st.sampled_from([0.01, 3.0, 1000.0]))
def test_seed_units_do_not_depend_on_the_units_of_the_data(problem: dict[str, Any], factor: float):
    scaled = {name: problem[name] * factor for name in ("samples", "truth", "seed_unit")} | {
        "series": problem["series"]
    }
    one, other = scored(**problem).row(), scored(**scaled).row()
    unitless = [key for key in one if "seed_units" in key]
    assert len(unitless) == 10
    assert_rows_agree({key: one[key] for key in unitless}, {key: other[key] for key in unitless})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": np.zeros((2, 3, 4))}, r"samples have shape \(2, 3, 4\)"),
        ({"samples": np.zeros((2, 0, 4, 1))}, r"samples have shape \(2, 0, 4, 1\)"),
        ({"truth": np.zeros((2, 5, 1))}, r"truth has shape \(2, 5, 1\).*need \(2, 4, 1\)"),
        ({"seed_unit": np.ones(2)}, r"seed_unit has shape \(2,\).*need \(2, 1\)"),
        ({"names": ["x", "y"]}, r"names has shape \(2,\)"),
        ({"series": ["a"]}, r"series has shape \(1,\)"),
        ({"truth": np.full((2, 4, 1), np.inf)}, r"truth is infinite at \(0, 0, 0\)"),
    ],
)
def test_errors_name_the_argument_and_the_shape(changes: dict[str, Any], message: str):
    arguments = {
        "samples": np.zeros((2, 3, 4, 1)),
        "truth": np.zeros((2, 4, 1)),
        "seed_unit": np.ones((2, 1)),
        "names": ["x"],
        "series": ["a", "b"],
    }
    with pytest.raises(DataError, match=message):
        score(**(arguments | changes))


# -- the metrics of other libraries ------------------------------------------------------------------------------


@pytest.mark.parametrize("season", [1, 4])
def test_scaled_and_relative_scores_are_those_of_utilsforecast(season: int):
    import pandas as pd
    from utilsforecast import losses

    draws = np.random.default_rng(season)
    windows, context, horizon = 5, 16, 6
    past = draws.lognormal(size=(windows, context))
    truth = draws.lognormal(size=(windows, horizon, 1))
    paths = draws.lognormal(size=(windows, 40, horizon, 1))
    ids = [f"s{window}" for window in range(windows)]
    scores = score(
        paths,
        truth,
        seed_unit=np.ones((windows, 1)),
        names=["x"],
        series=ids,
        scale=seasonal_scale([one[:, None] for one in past], [season] * windows),
    ).row()

    frame = pd.DataFrame(
        {
            "unique_id": np.repeat(ids, horizon),
            "ds": np.tile(np.arange(context, context + horizon), windows),
            "y": truth.ravel(),
            "median": np.median(paths, 1).ravel(),
        }
    )
    levels = {f"q{level:g}": np.quantile(paths, level, axis=1, method="weibull").ravel() for level in QUANTILES}
    frame = frame.assign(**levels)
    train = pd.DataFrame(
        {"unique_id": np.repeat(ids, context), "ds": np.tile(np.arange(context), windows), "y": past.ravel()}
    )

    def mean(table: pd.DataFrame, model: str = "median") -> float:
        return float(table[model].mean())

    quantiles = {"model": list(levels)}
    assert scores["mae"] == pytest.approx(mean(losses.mae(frame, ["median"])))
    assert scores["mase"] == pytest.approx(mean(losses.mase(frame, ["median"], season, train)))
    assert scores["smape"] == pytest.approx(2 * mean(losses.smape(frame, ["median"])))  # theirs goes from 0 to 1
    scaled = losses.scaled_mqloss(frame, quantiles, QUANTILES, season, train)
    assert scores["sql"] == pytest.approx(2 * mean(scaled, "model"))  # theirs is without the factor of two
    pooled = losses.scaled_crps(frame.assign(unique_id="all"), quantiles, QUANTILES)
    assert scores["wql"] == pytest.approx(mean(pooled, "model"))


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_relative_scores_with_gaps_are_those_of_plain_loops(data):
    shape = data.draw(st.tuples(*(st.integers(1, 4) for _ in range(3))))  # S, H, D
    _, horizon, variables = shape
    draws = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    paths = draws.normal(size=(1, *shape))
    truth = draws.normal(size=(1, horizon, variables))
    truth[draws.random(truth.shape) < 0.3] = np.nan
    past = draws.normal(size=(7, variables))
    scale = seasonal_scale([past], [2])
    names = list("abcd"[:variables])
    row = score(paths, truth, seed_unit=np.ones((1, variables)), names=names, series=["s"], scale=scale).row()
    for variable, name in enumerate("abcd"[:variables]):
        found = row["by_variable"][name]
        seen = [step for step in range(horizon) if not np.isnan(truth[0, step, variable])]
        if not seen:
            assert found["mase"] is None
            continue
        one_path, relative, loss, size = [], [], [], []
        for step in seen:
            ensemble, outcome = paths[0, :, step, variable], truth[0, step, variable]
            middle = np.median(ensemble)
            one_path.append(np.mean([abs(value - outcome) for value in ensemble]))
            relative.append(2 * abs(middle - outcome) / (abs(middle) + abs(outcome)))
            each = []
            for level in QUANTILES:
                value = np.quantile(ensemble, level, method="weibull")
                each.append(2 * (level * (outcome - value) if outcome >= value else (1 - level) * (value - outcome)))
            loss.append(np.mean(each))
            size.append(abs(outcome))
        unit = np.mean([abs(past[step, variable] - past[step - 2, variable]) for step in range(2, 7)])
        assert found["mae_one_path"] == pytest.approx(np.mean(one_path))
        assert found["smape"] == pytest.approx(np.mean(relative))
        assert found["sql"] == pytest.approx(np.mean(loss) / unit)
        assert found["wql"] == pytest.approx(np.sum(loss) / np.sum(size))
        assert found["mase"] == pytest.approx(found["mae"] / unit)


def test_a_context_that_never_moves_or_holds_no_season_has_no_scale():
    assert np.isnan(seasonal_scale([np.arange(8.0)[:, None]], [8])).all()
    assert seasonal_scale([np.arange(8.0)[:, None]], [7]).tolist() == [[7.0]]
    scale = seasonal_scale([np.ones((8, 1))], [1])
    assert scale.tolist() == [[0.0]]
    row = score(
        np.ones((1, 3, 2, 1)), np.zeros((1, 2, 1)), seed_unit=[[1.0]], names=["x"], series=["s"], scale=scale
    ).row()
    assert row["mase"] is None
    assert row["mae"] == 1


def test_a_new_metric_is_one_entry(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """In the scores, on the console and in a study's columns."""
    from types import SimpleNamespace

    import pandas as pd

    from loracast.cli.console import show_scores
    from loracast.evaluation import metric_list, metrics

    bias = metric_list.Metric(
        *("bias", "Bias", "mean error of the median", "data", "near"),
        of_values=lambda values: values.forecast - values.outcome,
        console=True,
        study=True,
    )
    for module in (metric_list, metrics):
        monkeypatch.setattr(module, "METRICS", (*metric_list.METRICS, bias))
    monkeypatch.setattr(metrics, "AVERAGED", (*metrics.AVERAGED, "bias"))
    truth = np.zeros((1, 3, 1))
    found = score(np.full((1, 4, 3, 1), 2.5), truth, seed_unit=np.ones((1, 1)), names=["x"], series=["a"])
    assert found.row()["bias"] == 2.5
    assert metric_list.study_columns()["bias"][0] == "Bias"
    table = pd.DataFrame([{"forecaster": "mine", "variable": "all", **found.row()}])
    result: Any = SimpleNamespace(table=lambda: table)
    show_scores(result)
    said = capsys.readouterr().out
    assert "Bias: mean error of the median" in said
    assert "2.500" in said

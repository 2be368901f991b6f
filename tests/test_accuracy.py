"""The benchmark of accuracy from its command to its figures, with a tiny model and a handful of series."""

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml

from loracast.baselines import BASELINES
from loracast.evaluation.backtest import CLIMATOLOGY, TUNED, ZERO_SHOT
from loracast.forecaster import Forecaster
from loracast.series import write_series
from loracast.settings import PretrainConfig, TuneConfig
from loracast.systems import lynx_hare, simulate

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CELLS = ["main", "series-2", "series-unlimited", "rank-2", "digits-2", "context-75", "base-other", "missing"]
CELLS += ["lynx-hare"]
RECIPE = """
rank: 2
steps: 2
batch: 2
context: 12
horizon: 6
learning_rate: 2e-3
validation_series: 1
validation_samples: 2
"""

pytestmark = pytest.mark.filterwarnings("ignore:TUNING DID NOT HELP")


class Benchmark(NamedTuple):
    accuracy: Any
    figures: Any
    command: list[str]
    output: Path

    @property
    def cells(self) -> dict[str, Any]:
        return json.loads(self.output.read_text())["cells"]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, numeric_directory: Path) -> Iterator[Benchmark]:
    """Every kind of cell, after a run that ended with the first."""
    place = tmp_path_factory.mktemp("accuracy")
    (place / "recipe.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        accuracy, figures = import_module("accuracy"), import_module("accuracy_figures")
        patch.setattr(accuracy, "SIZES", {"train": 4, "validation": 2, "test": 3})
        patch.setattr(accuracy, "SERIES", (2,))
        patch.setattr(accuracy, "PELTS_TUNE", replace(accuracy.PELTS_TUNE, steps=2, validation_samples=2))
        output = place / "accuracy.json"
        command = ["-o", str(output), "--recipe", str(place / "recipe.yaml"), "--samples", "2", "--device", "cpu"]
        command += ["--model", str(numeric_directory), "--base", f"other={numeric_directory}", "--commit", "0"]
        accuracy.main([*command, "--cells", "main"])
        began = []
        run = accuracy.run
        patch.setattr(accuracy, "run", lambda cell, *rest: began.append(cell) or run(cell, *rest))
        command += ["--cells", *CELLS]
        accuracy.main(command)
        assert len(began) == len(CELLS) - 1
        yield Benchmark(accuracy, figures, command, output)


def test_every_cell_is_kept_with_all_forecasters(done: Benchmark, tmp_path: Path):
    assert list(done.cells) == CELLS
    for cell in done.cells.values():
        assert [row["forecaster"] for row in cell["rows"]] == [ZERO_SHOT, TUNED, *BASELINES, CLIMATOLOGY]
        assert all(row["mae"] > 0 for row in cell["rows"])
        assert cell["tuning"]["flops"]["executed"]["total"] > 0
        assert cell["commit"] == "0"
    assert str(tmp_path.parent) not in done.output.read_text()


def test_a_second_run_computes_nothing(done: Benchmark, monkeypatch: pytest.MonkeyPatch):
    before = done.output.read_bytes()
    monkeypatch.setattr(done.accuracy, "run", None)
    done.accuracy.main(done.command)
    assert done.output.read_bytes() == before


def test_other_forecasts_are_made_with_the_adapter_that_is_there(
    done: Benchmark, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    other = tmp_path / done.output.name
    other.write_bytes(done.output.read_bytes())
    adapters = f"{done.output.stem}-adapters"
    (tmp_path / adapters).symlink_to(done.output.parent / adapters)
    monkeypatch.setattr(Forecaster, "fit", None)
    command = ["-o", str(other), *done.command[2:], "--cells", "missing", "--samples", "3"]
    done.accuracy.main(command)
    cells = json.loads(other.read_text())["cells"]
    assert cells["missing"]["settings"]["forecasts"]["samples"] == 3
    assert cells["missing"]["settings"]["tuning"] == done.cells["missing"]["settings"]["tuning"]


def test_cells_that_tune_in_the_same_way_share_an_adapter(done: Benchmark):
    tunings = {name: json.dumps(cell["settings"]["tuning"]) for name, cell in done.cells.items()}
    assert tunings["main"] == tunings["rank-2"] == tunings["missing"] == tunings["base-other"]
    adapters = list(done.output.with_name("accuracy-adapters").iterdir())
    assert len(adapters) == len(set(tunings.values())) == 6


def test_the_main_cell_tells_errors_by_step_and_dynamics(done: Benchmark):
    main = done.cells["main"]
    maes = {row["forecaster"]: row["mae"] for row in main["rows"]}
    for name, mae in maes.items():
        if name == CLIMATOLOGY:  # whose errors by step are not told
            continue
        steps = [value for value, owner in zip(main["by_step"]["mae"], main["by_step"]["forecaster"]) if owner == name]
        assert len(steps) == 6 * 2
        assert np.mean(steps) == pytest.approx(mae, abs=1e-5)
        kinds = [index for index, owner in enumerate(main["by_dynamics"]["forecaster"]) if owner == name]
        counts, means = (np.array(main["by_dynamics"][key])[kinds] for key in ("series", "mae"))
        assert counts.sum() == 3
        assert np.sum(counts * means) / 3 == pytest.approx(mae, abs=1e-5)
    assert set(main["coverage"]["forecaster"]) == set(main["pit"]["forecaster"]) == {ZERO_SHOT, TUNED}


def test_every_second_step_of_a_context_is_missing_and_none_of_its_future(done: Benchmark):
    beyond = done.accuracy.BEYOND["missing"]
    whole = simulate("predator-prey", 3, seed=2)
    for one, other in zip(beyond.make(), whole, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        one = beyond.hide(one, 12)
        missing = np.isnan(one.values)
        assert missing[:12].sum(0).tolist() == [6, 6]
        assert not missing[11:].any()
        np.testing.assert_array_equal(one.values[~missing], other.values[~missing])
    last = [next(row for row in done.cells[name]["rows"] if row["forecaster"] == "last-value") for name in CELLS]
    assert last[0]["mae"] == last[CELLS.index("missing")]["mae"]
    assert all(row["n_unscored"] == 0 and row["n_windows"] == 3 for row in done.cells["missing"]["rows"])


def test_no_pelts_that_are_judged_are_tuned_on(done: Benchmark):
    cell = done.accuracy.cells(TuneConfig(), 1, "bundled", {})["lynx-hare"]
    (tuned_on,), validation = cell.training(None)
    (judged,) = cell.judged(None)
    assert validation is None
    assert tuned_on.time[-1] == judged.time[cell.task["context"]] - 1 == 1899
    assert judged.time[-1] == lynx_hare().time[-1]
    assert all(row["n_windows"] == 27 for row in done.cells["lynx-hare"]["rows"])


def test_published_series_go_where_their_split_puts_them(done: Benchmark, tmp_path: Path):
    series = simulate("predator-prey", 5)
    write_series(series, tmp_path / "data.h5")
    (tmp_path / "split.json").write_text('{"train": [4, 0], "validation": [1], "test": [3]}')
    data = done.accuracy.read_data(tmp_path / "data.h5", tmp_path / "split.json")
    assert [[one.id for one in part] for part in (data.train, data.validation, data.test)] == [["4", "0"], ["1"], ["3"]]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--cells", "min"], "unknown cells min; there are main"),
        (["--data", "a.h5"], "--data and --split go together"),
        (["--base", "a"], "--base takes NAME=DIR"),
    ],
)
def test_what_cannot_be_run_is_refused(
    done: Benchmark, options: list[str], problem: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit):
        done.accuracy.main(options)
    assert problem in capsys.readouterr().err


def test_figures_and_tables_show_the_cells_that_there_are(done: Benchmark, tmp_path: Path):
    page = tmp_path / "accuracy.md"
    page.write_text("before\n\n<!-- accuracy -->\n<!-- end of accuracy -->\n\nafter\n")
    done.figures.write({"lynx-hare": done.cells["lynx-hare"]}, tmp_path)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["beyond.png"]
    done.figures.write(done.cells, tmp_path)
    drawn = sorted((tmp_path / "figures").iterdir())
    assert [path.stem for path in drawn] == ["beyond", "calibration", "errors", "learned"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)
    text = page.read_text()
    assert text.startswith("before\n\n<!-- accuracy -->\n")
    assert text.endswith("<!-- end of accuracy -->\n\nafter\n")
    assert all(text.count(f"\n| {name} |") == 1 for name in CELLS)
    assert all(f"](figures/{path.name})" in text for path in drawn)


def test_the_true_equations_are_found_again(done: Benchmark):
    """From a context with hardly any rounding, what follows is nearly exact; with the usual one, nearly right."""
    bound = import_module("bound")
    (series,) = simulate("predator-prey", 1, seed=4)
    low, high = bound.RANGES
    draws = np.random.default_rng(0).uniform(low, high, (300, bound.RANGES.shape[1]))
    library = np.stack([bound.integrate(one, series.time[:50]) for one in draws])
    for unit, tolerance in ((1e-6, 1e-4), (4e-3, 0.02)):
        read = np.rint(series.values[:50] / unit) * unit
        found = bound.continued(read, np.full(2, unit), series.time, draws, library)
        assert np.abs(found - series.values[50:]).mean() < tolerance


def test_the_recipe_pretrains_by_default_and_tunes_as_it_says(done: Benchmark):
    path = BENCHMARKS.parent / "recipes/bundled.yaml"
    written = yaml.safe_load(path.read_text())
    options = {name.replace("-", "_"): value for name, value in written["pretrain"].items()}
    for name, value in options.items():
        assert float(value) == getattr(PretrainConfig(), name), name
    tune = done.accuracy.read_recipe(path)
    assert (tune.rank, tune.batch, tune.steps, tune.noise, tune.jitter, tune.gaps) == (32, 32, 8000, 1.0, 0.3, 0.1)
    assert (tune.optimizer, tune.observation_noise, tune.validation_series) == ("muon", 0.3, 48)
    assert tune.peak_learning_rate(192) == tune.peak_learning_rate(896) == 2e-3


def test_the_recipe_is_tried_on_both_target_sets(done: Benchmark, numeric_directory: Path, tmp_path: Path):
    stability, output = import_module("stability"), tmp_path / "stability.json"
    command = [str(numeric_directory), "-o", str(output), "--figure", str(tmp_path / "stability.png"), "--commit", "0"]
    stability.main([*command, "--device", "cpu", "--recipe", str(done.output.with_name("recipe.yaml")), "--steps", "3"])
    runs = json.loads(output.read_text())["runs"]
    assert list(runs) == ["attention", "all-linear"]
    for found in runs.values():
        assert len(found["losses"]) == len(found["gradient_norms"]) == 3
        assert found["precision"] == "bfloat16"
        assert found["learning_rate"] == 2e-3
        assert list(found["validation"]) == ["0", "3"]
    assert (tmp_path / "stability.png").stat().st_size > 5000

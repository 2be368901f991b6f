"""`benchmarks/language_model.py` and the ways of tuning that it compares, on the bundled model."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from loracast import Forecaster, SampleConfig, TuneConfig, simulate
from loracast.compute import plain as plain_module
from loracast.language_model import load_model

SMALL = TuneConfig(
    4, steps=2, batch=2, context=10, horizon=5, validation_windows=2, validation_series=0, learning_rate=1e-3
)


@pytest.fixture(scope="module")
def bench(load_benchmark: Callable[[str], Any]) -> Any:
    return load_benchmark("language_model")


@pytest.fixture(scope="module")
def data(bench: Any) -> Any:
    return bench.Data(*(simulate("predator-prey", 4, seed=seed, steps=20) for seed in range(3)))


def judge(bench: Any, data: Any, **changes: Any) -> dict[str, Any]:
    cell = bench.Cell(SMALL, model="bundled", flops=None, **changes)
    return bench.run(cell, data, SampleConfig(2), "cpu")


def test_the_recipe_s_cells_are_of_its_settings(bench: Any):
    recipe = bench.read_recipe(bench.RECIPE)
    known = bench.cells(bench.RECIPE)
    assert (recipe.optimizer, recipe.rank) == ("muon", 64)
    assert known["recipe"].tune == recipe
    assert known["recipe"].judged == ("validation", "test", "simulated")
    assert all(cell.judged in ((), ("validation",)) for name, cell in known.items() if not name.startswith("recipe"))
    assert known["noise-0.5"].tune == replace(recipe, noise=0.5)


def test_a_cell_keeps_its_scores_losses_and_flops(bench: Any, data: Any):
    found = judge(bench, data, judged=("validation", "test"))
    assert [row["forecaster"] for row in found["rows"]["test"]][:2] == ["zero-shot", "tuned"]
    assert [step for step, _ in found["losses"]] == [0, 2]
    assert found["flops"]["published"]["total"] > found["flops"]["executed"]["total"] > 0
    json.dumps(found)


def test_a_cell_goes_on_from_the_adapter_that_is_kept(bench: Any, data: Any, tmp_path: Path):
    """Cut off between tuning and forecasts, it tells the same as in one go, and tunes nothing again."""
    cell = bench.Cell(SMALL, model="bundled", flops=None)
    whole = bench.run(cell, data, SampleConfig(2), "cpu")
    bench.run(replace(cell, judged=()), data, SampleConfig(2), "cpu", tmp_path / "kept")
    kept = (tmp_path / "kept" / "adapter_model.safetensors").stat().st_mtime_ns
    again = bench.run(cell, data, SampleConfig(2), "cpu", tmp_path / "kept")
    assert (tmp_path / "kept" / "adapter_model.safetensors").stat().st_mtime_ns == kept
    assert {key: again[key] for key in ("rows", "losses", "flops", "steps")} == {
        key: whole[key] for key in ("rows", "losses", "flops", "steps")
    }


def test_flops_give_the_steps(bench: Any, data: Any):
    base = Forecaster.from_pretrained("bundled", device="cpu")
    planned = [bench.planned(bench.Cell(SMALL, flops=flops), base, data.train).steps for flops in (1e12, 2e12)]
    assert planned[1] in (2 * planned[0], 2 * planned[0] + 1)
    spent = bench.run(bench.Cell(SMALL, model="bundled", flops=1e11), data, SampleConfig(2), "cpu")["flops"]
    assert spent["published"]["training"] == pytest.approx(1e11, rel=0.2)


def test_each_way_tunes_otherwise(bench: Any, data: Any):
    """The second validation loss is another one with each, and the first, before any step, the same."""
    ways = {"plain": None, "plus": bench.lora_plus(4.0), "layers": bench.layers(0, 5), "dora": bench.DORA}
    ways |= {"norms": bench.NORMS_AND_EMBEDDING, "averaged": bench.averaged(0.5), "short": bench.short_first(2, 0.5)}
    losses = {name: judge(bench, data, way=way, judged=())["losses"] for name, way in ways.items()}
    np.testing.assert_allclose([loss[0][1] for loss in losses.values()], losses["plain"][0][1], rtol=0.02)
    assert len({loss[1][1] for loss in losses.values()}) == len(ways)
    again = judge(bench, data, judged=())["losses"]
    assert again == losses["plain"]  # what a way changed is changed back


def test_shuffled_weights_are_the_same_numbers_in_another_order(bench: Any):
    model = load_model("bundled", device="cpu", precision="float32")
    other = bench.shuffled(model)
    for (name, ours), theirs in zip(model.network.state_dict().items(), other.network.state_dict().values()):
        assert torch.equal(ours.flatten().sort().values, theirs.flatten().sort().values)
        assert torch.equal(ours, theirs) == (ours.dim() < 2), name
    assert other.fingerprint != model.fingerprint


def test_a_shape_is_trained_from_scratch(bench: Any, data: Any):
    """All weights are drawn, so that the first loss is near that of guessing, and falls."""
    tune = replace(SMALL, steps=6, batch=4, optimizer="muon", learning_rate=3e-3, decay=0.5, gaps=0.5, noise=1.0)
    found = bench.run(bench.Cell(tune, model="bundled", flops=None, scratch=True), data, SampleConfig(2), "cpu")
    losses = [loss for _, loss in found["losses"]]
    assert losses[0] > 2
    assert losses[-1] < losses[0] - 0.01
    training = found["flops"]["published"]["training"]
    cell = bench.Cell(tune, model="bundled", flops=float(training), scratch=True)
    base = Forecaster.from_pretrained("bundled", device="cpu")
    assert bench.planned(cell, base, data.train).steps == 6


def test_an_untouched_model_is_judged_by_how_its_series_are_written(bench: Any, data: Any, qwen2_directory: Path):
    """A sentence before the series changes the forecasts, and so do spaces; all are of the same windows."""
    found = {}
    for sentence, spaces in (("", False), ("Hares and lynx: ", False), ("", True)):
        cell = bench.Cell(SMALL, model=str(qwen2_directory), flops=0.0, sentence=sentence, spaces=spaces)
        found[sentence, spaces] = bench.run(cell, data, SampleConfig(2), "cpu")["rows"]["validation"]
    assert len({rows[0]["mae"] for rows in found.values()}) == 3
    assert len({rows[1]["mae"] for rows in found.values()}) == 1  # the last value's


def test_spaces_stand_between_the_digits_of_a_number(bench: Any, qwen2_directory: Path):
    """What the decoder reads is what the tokenizer makes of the text with spaces."""
    tokenizer = bench.open_model(str(qwen2_directory)).tokenizer
    way = bench.way_of_writing(bench.Cell(SMALL, model=str(qwen2_directory), spaces=True))
    with way.begin():
        decoder: Any = plain_module.PlainDecoder
        ids = decoder.with_spaces(decoder, torch.tensor(tokenizer.encode("12,345;").ids))
    assert ids.tolist() == tokenizer.encode("1 2, 3 4 5; ").ids


def test_english_is_measured_with_the_adapter_and_without(bench: Any, data: Any, qwen2_directory: Path):
    untouched = bench.perplexity(str(qwen2_directory), "cpu")
    base = Forecaster.from_pretrained(qwen2_directory, device="cpu")
    tuned = base.fit(data.train, tune=replace(SMALL, steps=5, learning_rate=0.05), validation=data.validation)
    assert bench.perplexity(str(qwen2_directory), "cpu", base) == untouched > 1
    assert bench.perplexity(str(qwen2_directory), "cpu", tuned) != untouched


def test_the_page_shows_the_cells_that_there_are(bench: Any, load_benchmark: Callable[[str], Any], tmp_path: Path):
    """The figure has a panel for each kind of cell, and the page a row for each cell."""
    figures = load_benchmark("language_figures")

    def cell(error: float, *, tuned: bool = True, parts: tuple[str, ...] = ("validation",)) -> dict[str, Any]:
        row = {"forecaster": "tuned" if tuned else "zero-shot", "mae": error, "crps": error / 2, "coverage_80": 0.8}
        made = {"rows": {part: [row] for part in parts}, **bench.origin(Namespace(device="cpu", commit="abc"))}
        return made | ({"losses": [[9, 0.5]], "flops": {"published": {"total": 1e16}}} if tuned else {})

    cells = {"recipe": cell(0.003, parts=("validation", "test")), "zero-fixed-2": cell(0.5, tuned=False)}
    for kind in ("smollm2", "shuffled"):
        cells |= {f"{kind}-1.5e15": cell(0.03), f"{kind}-1.5e15-seed-1": cell(0.05), f"{kind}-2.4e16": cell(0.01)}
    assert [panel.title.split()[0] for panel in figures.figure(cells).panels] == ["By", "By", "By", "Untouched,"]
    band, line = figures.flops_panel(cells).marks[:2]
    assert (band.low, band.high) == ((0.03, 0.01, 0.003), (0.05, 0.01, 0.003)) or band.x[-1] == 2.4e16
    assert line.y[0] == pytest.approx(0.04)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- language -->\nold\n<!-- end of language -->\nafter")
    figures.write(cells, page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after")
    assert "old" not in text
    assert all(f"| {name} |" in text for name in cells)
    assert (tmp_path / "figures" / "language.png").stat().st_size > 10_000


def test_the_command_goes_on_where_it_was(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    (tmp_path / "recipe.yaml").write_text("finetune: {steps: 1, batch: 1, validation-windows: 1, rank: 2}")
    output = tmp_path / "out.json"
    output.write_text(json.dumps({"cells": {"recipe": {"rows": {}}}}))
    words = ["--recipe", str(tmp_path / "recipe.yaml"), "-o", str(output), "--device", "cpu"]
    bench.main([*words, "--cells", "recipe"])  # is there already
    assert json.loads(output.read_text()) == {"cells": {"recipe": {"rows": {}}}}
    with pytest.raises(SystemExit):
        bench.main([*words, "--cells", "nonsense"])
    assert "unknown cells nonsense" in capsys.readouterr().err

"""The command line, as its user meets it: what works, and what is refused with a reason and nothing half-written.

Most runs are of `main` in this process; those that need a real signal, a real limit or a bare interpreter are not.
"""

import errno
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import loracast
from conftest import SHARED
from loracast.cli import demo, main
from loracast.engine.pretrain import initialise
from loracast.errors import ModelError
from loracast.files import check_folder
from loracast.flops import TERMS, PassCost
from loracast.language_model import load_model
from loracast.model.checkpoint import write_model
from loracast.model.config import ModelConfig, stored_shape
from loracast.model.tokenizer import NUMERIC_VOCABULARY, write_numeric_tokenizer
from loracast.series import read_series
from loracast.settings import LoraConfig, SampleConfig, TuneConfig

COMMANDS = ("demo", "simulate", "inspect", "flops", "finetune", "forecast", "evaluate", "merge", "pretrain")
PROGRAM = Path(sys.executable).parent / "loracast"
QWEN = SHARED / "qwen2.5-0.5b-instruct"
CONTEXT, HORIZON = 12, 6
TUNING = (
    *("--rank", "2", "--steps", "4", "--batch", "4", "--context", str(CONTEXT), "--horizon", str(HORIZON)),
    *("--validate-every", "2", "--validation-windows", "4", "--validation-series", "1", "--validation-samples", "2"),
    *("--device", "cpu", "--precision", "float32"),
)
SMALL = ("--variables", "3", "--long-tokens", "256")
TINY = ("--hidden", "16", "--layers", "1", "--heads", "2", "--kv-heads", "1", "--mlp", "24", "--tokens", "128", *SMALL)
FEW = (*TINY, "--pool", "32", "--steps", "2", "--batch", "4", "--device", "cpu")


@pytest.fixture(autouse=True)
def few_kept_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pretrained model is calibrated on few series here: full-size ones take half a minute."""
    monkeypatch.setattr("loracast.evaluation.kept_out.WINDOWS", 4)


# -- running it --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str

    def ok(self) -> str:
        assert self.status == 0, self.err
        return self.out


Run = Callable[..., Outcome]


def call_main(*words: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["loracast", *map(str, words)])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: object) -> Outcome:
        capsys.readouterr()
        status = call_main(*words)
        said = capsys.readouterr()
        return Outcome(status, str(said.out), str(said.err))

    return run


@pytest.fixture
def refused(run: Run, tmp_path: Path) -> Callable[..., Outcome]:
    """Runs what must be refused: status 2, each of `mentions` in the error lines, and no file made or changed."""

    def refused(*words: object, mentions: tuple[object, ...]) -> Outcome:
        before = contents(tmp_path)
        outcome = run(*words)
        assert outcome.status == 2, outcome
        said = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
        assert said, outcome.err
        assert "Traceback" not in outcome.err
        for mention in mentions:
            assert str(mention) in "\n".join(said)
        assert contents(tmp_path) == before
        return outcome

    return refused


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def spawn(*words: object, **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [str(PROGRAM), *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, **options)


def finish(process: subprocess.Popen[str]) -> Outcome:
    out, err = process.communicate(timeout=120)
    return Outcome(process.returncode, out, err)


@contextmanager
def disk_with_room_for(size: int) -> Iterator[None]:
    """Makes every write beyond `size` bytes of a file fail for real (EFBIG), as one on a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


# -- what commands read ------------------------------------------------------------------------------------------


def write_tiny_model(directory: Path, seed: int) -> Path:
    config = ModelConfig(
        vocab_size=len(NUMERIC_VOCABULARY),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        rope_theta=10_000.0,
        max_position_embeddings=1024,
    )
    write_model(directory, initialise(config, seed), config, torch.float32)
    write_numeric_tokenizer(directory)
    return directory


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model/`, `other/` (another model), `data.h5` and `adapter/` (tuned on both). Read only."""
    folder = tmp_path_factory.mktemp("workplace")
    write_tiny_model(folder / "model", seed=0)
    write_tiny_model(folder / "other", seed=1)
    assert call_main("simulate", "predator-prey", "-o", folder / "data.h5", "--n", 8, "--steps", 30) == 0
    model, adapter = folder / "model", folder / "adapter"
    assert call_main("finetune", folder / "data.h5", "-o", adapter, "--model", model, *TUNING) == 0
    return folder


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A sound CSV file of two variables."""
    return write_table(tmp_path / "table.csv")


def write_table(path: Path, steps: int = 24, **replaced: object) -> Path:
    """A CSV file of `steps` rows; `row3=(5, "x", 1)` replaces the cells of line 3."""
    lines = ["time,prey,predator"]
    lines += [f"{step},{2 + np.sin(step / 2):.3f},{1 + np.cos(step / 2):.3f}" for step in range(steps)]
    for line, cells in replaced.items():
        lines[int(line.removeprefix("row")) - 1] = ",".join(map(str, cells))  # type: ignore[call-overload]
    path.write_text("\n".join(lines) + "\n")
    return path


def reading_command(name: str, data: Path, workplace: Path, output: Path) -> tuple[object, ...]:
    """A command that reads `data` and would write to `output`."""
    model = ("--model", workplace / "model", "--device", "cpu", "--precision", "float32")
    windows = ("--context", CONTEXT, "--horizon", HORIZON)
    return {
        "finetune": ("finetune", data, "-o", output / "run", "--model", workplace / "model", *TUNING),
        "forecast": ("forecast", data, "-o", output / "forecast.csv", *windows, "--samples", 2, *model),
        "evaluate": ("evaluate", data, "-o", output / "scores", *windows, "--samples", 2, *model),
    }[name]


def with_option(words: tuple[object, ...], option: str, value: object) -> tuple[object, ...]:
    """The same command with another value of an option that it has."""
    place = words.index(option) + 1
    return (*words[:place], value, *words[place + 1 :])


READERS = ("finetune", "forecast", "evaluate")


# -- the good paths ----------------------------------------------------------------------------------------------


def test_scripts_can_go_the_whole_path(workplace: Path, tmp_path: Path, run: Run):
    model = ("--model", workplace / "model")
    run("simulate", "predator-prey", "-o", tmp_path / "data.h5", "--n", 8, "--seed", 0, "--steps", 30).ok()
    series = read_series(tmp_path / "data.h5")
    assert len(series) == 8
    assert series[0].names == ("prey", "predator")

    words = ("--rank", 8, "--steps", 3, "--batch", 4, "--context", 12, "--horizon", 6, "--targets", "attention")
    said = run("finetune", tmp_path / "data.h5", "-o", tmp_path / "a", *words, *model).ok()
    assert "8 series of prey, predator" in said
    assert {"README.md", "adapter_config.json", "adapter_model.safetensors", "loracast.json", "metrics.jsonl"} == {
        path.name for path in (tmp_path / "a").iterdir()
    }

    adapter = ("--adapter", tmp_path / "a")  # which names its base
    run("simulate", "predator-prey", "-o", tmp_path / "data.csv", "--n", 3, "--seed", 1, "--steps", 30).ok()
    said = run(
        *("forecast", tmp_path / "data.csv", "--horizon", 5, *adapter, "-o", tmp_path / "forecast.parquet"),
        *("--samples", 7, "--paths", tmp_path / "paths.csv", "--plot", tmp_path / "fan.png"),
        *("--event", "predator < 0.1", "--event", "prey>=-1"),
    ).ok()
    frame = pd.read_parquet(tmp_path / "forecast.parquet")
    columns = ["id", "step", "time", "variable", "mean", "median", "q5", "q10", "q25", "q75", "q90", "q95"]
    assert list(frame.columns) == columns
    assert len(frame) == 3 * 5 * 2
    assert sorted(set(frame["variable"])) == ["predator", "prey"]
    assert (frame["q5"] <= frame["median"]).to_numpy().all()
    assert not frame.isna().to_numpy().any()
    assert len(pd.read_csv(tmp_path / "paths.csv")) == 3 * 7 * 5
    assert (tmp_path / "fan.png").read_bytes().startswith(b"\x89PNG")
    assert "Series 0: The chance that prey reaches -1 at least once by " in said
    events = pd.read_csv(tmp_path / "forecast.events.csv")
    assert events["event"].tolist() == ["predator < 0.1"] * 3 + ["prey>=-1"] * 3
    assert events["probability"].tolist()[3:] == [1, 1, 1]

    split = {"train": [0, 1, 2, 3], "validation": [4, 5], "test": [6, 7]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    said = run(
        *("evaluate", tmp_path / "data.h5", "--context", 12, "--horizon", 6, *adapter, "-o", tmp_path / "a/eval"),
        *("--split", tmp_path / "split.json", "--subset", "test", "--samples", 3),
    ).ok()
    assert all(
        name in said for name in ("zero-shot", "tuned", "last-value", "context-mean", "best-period", "climatology")
    )
    rows = json.loads((tmp_path / "a/eval/metrics.json").read_text())["rows"]
    names = ["zero-shot", "tuned", "last-value", "context-mean", "best-period", "climatology"]
    assert [row["forecaster"] for row in rows] == names
    for row in rows:
        assert row["n_series"] == 2
        assert set(row["by_variable"]) == {"prey", "predator"}
        for scores in (row, *row["by_variable"].values()):
            assert all(np.isfinite(scores[key]) for key in ("mae", "mae_seed_units", "mse", "crps"))
            coverage = scores["coverage_80"]
            assert (
                0 <= coverage <= 1 if row["forecaster"] in ("zero-shot", "tuned", "climatology") else coverage is None
            )
    assert len(pd.read_csv(tmp_path / "a/eval/series.csv")) == 6 * 2


def test_the_split_says_what_is_tuned_on(workplace: Path, tmp_path: Path, run: Run):
    (tmp_path / "split.json").write_text('{"train": [0, 1, 2], "validation": [3], "test": []}')
    model = ("--model", workplace / "model")
    run(
        *("finetune", workplace / "data.h5", "-o", tmp_path / "a", "--split", tmp_path / "split.json"),
        *(*TUNING, *model),
    ).ok()
    record = json.loads((tmp_path / "a/loracast.json").read_text())
    assert record["result"]["data"]["series"] == 3


def test_a_merged_adapter_is_a_model_of_transformers(workplace: Path, tmp_path: Path, run: Run):
    assert "float32" in run("merge", workplace / "adapter", "-o", tmp_path / "merged").ok()
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    ids = AutoTokenizer.from_pretrained(tmp_path / "merged")("246,999;", return_tensors="pt").input_ids
    with torch.no_grad():
        theirs = merged(ids).logits
        ours = load_model(tmp_path / "merged", vocabulary="full", device="cpu", precision="float32").network(ids)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_pretraining_makes_a_model_that_forecasts(tmp_path: Path, run: Run, table: Path):
    run("pretrain", "-o", tmp_path / "model", *FEW).ok()
    run("forecast", table, "--horizon", 2, "--samples", 2, "--model", tmp_path / "model", "-o", tmp_path / "f.csv").ok()
    assert len(pd.read_csv(tmp_path / "f.csv")) == 2 * 2


def test_options_come_from_a_file_and_the_command_line_goes_first(workplace: Path, tmp_path: Path, run: Run):
    config = tmp_path / "tune.yaml"
    config.write_text(
        f"model: {workplace / 'model'}\nrank: 3\nsteps: 99\nbatch: 4\ncontext: 12\nhorizon: 6\nlearning-rate: 1e-3\n"
        "validation_series: 0\nalpha:\nnames: [hare, lynx]\ndevice: cpu\n"
    )
    run("finetune", workplace / "data.h5", "-o", tmp_path / "a", "--steps", 2, "--config", config).ok()
    record = json.loads((tmp_path / "a/loracast.json").read_text())
    tune = record["tune"]
    assert (tune["rank"], tune["steps"], tune["learning_rate"], tune["alpha"]) == (3, 2, 1e-3, None)
    assert record["variables"] == ["hare", "lynx"]


def test_one_file_may_hold_options_of_several_commands(workplace: Path, tmp_path: Path, run: Run, refused):
    config = tmp_path / "recipe.yaml"
    config.write_text("simulate:\n  n: 3\n  steps: 5\nfinetune:\n  rnak: 2\nevaluate:\n")
    assert "3 series of 5 steps" in run("simulate", "lotka-volterra", "-o", tmp_path / "x.csv", "--config", config).ok()
    words = ("finetune", workplace / "data.h5", "-o", tmp_path / "a", "--config", config)
    refused(*words, mentions=("unknown option 'rnak'", "did you mean 'rank'"))
    words = ("forecast", workplace / "data.h5", "--horizon", 2, "-o", tmp_path / "f.csv", "--config", config)
    refused(*words, mentions=(str(config), "no options of 'forecast' among those of simulate, finetune, evaluate"))


def test_an_option_leaves_the_other_defaults_of_a_command(workplace: Path, tmp_path: Path, run: Run):
    words = reading_command("evaluate", workplace / "data.h5", workplace, tmp_path)
    without = [word for word in words if word not in ("--samples", 2)]
    run(*without, "--temperature", 0.5).ok()
    settings = json.loads((tmp_path / "scores/metrics.json").read_text())
    assert (settings["samples"], settings["temperature"]) == (20, 0.5)


@pytest.mark.parametrize("level", [0.0, 2.46])
def test_a_constant_is_forecast_exactly(workplace: Path, tmp_path: Path, run: Run, level: float):
    data = tmp_path / "constant.csv"
    data.write_text("time,x\n" + "".join(f"{step},{level}\n" for step in range(20)))
    run("forecast", data, "--horizon", 4, "--model", workplace / "model", "-o", tmp_path / "f.parquet").ok()
    frame = pd.read_parquet(tmp_path / "f.parquet")
    assert len(frame) == 4
    assert (frame[["mean", "median", "q5", "q95"]] == level).to_numpy().all()
    run(*reading_command("evaluate", data, workplace, tmp_path)).ok()
    text = (tmp_path / "scores/metrics.json").read_text()
    rows = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["rows"]
    assert rows[0]["forecaster"] == "zero-shot"
    assert rows[0]["mae"] == rows[0]["crps"] == 0
    assert [row["mae"] for row in rows] == pytest.approx([0] * 5)


def test_names_are_printed_as_they_are(workplace: Path, tmp_path: Path, run: Run):
    data = tmp_path / "odd.csv"
    data.write_text("id,time,x\n" + "".join(f"[/bold] [red]:cat:,{step},{step % 3}\n" for step in range(20)))
    output = tmp_path / "[dim]odd" / "forecast.csv"
    said = run(
        *("forecast", data, "--horizon", 2, "--samples", 2, "--model", workplace / "model", "-o", output),
        *("--event", "x > 9"),
    ).ok()
    assert str(output) in said
    assert "The chance that x rises above 9 at least once by 21 is at most " in said


def test_an_untuned_model_may_win_and_it_is_said(workplace: Path, tmp_path: Path, run: Run):
    words = ("--learning-rate", "1", "--model", workplace / "model")
    outcome = run("finetune", workplace / "data.h5", "-o", tmp_path / "a", *TUNING, *words)
    outcome.ok()
    verdict = json.loads((tmp_path / "a/loracast.json").read_text())["validation_forecasts"]
    assert ("warning: TUNING DID NOT HELP" in outcome.err) == (not verdict["improved"])


# -- inspect, help, version, start-up ----------------------------------------------------------------------------


def test_inspect_shows_the_bundled_model(run: Run):
    said = run("inspect").ok()
    config, _ = ModelConfig.read(Path(loracast.__file__).parent / "bundled" / "config.json")
    assert f"{config.parameters():,}" in said
    assert "qwen2" in said


def test_inspect_shows_qwen(run: Run):
    if not (QWEN / "tokenizer.json").is_file():
        pytest.skip("needs Qwen2.5-0.5B-Instruct's config.json and tokenizer.json beside the repository")
    said = run("inspect", QWEN, "--rank", 8, "--targets", "attention").ok()
    assert "494,032,768" in said
    assert "540,672" in said
    assert "22831" in said  # NaN
    assert "7 : 1" in said


def test_inspect_shows_an_adapter(workplace: Path, tmp_path: Path, run: Run, refused):
    said = run("inspect", workplace / "adapter").ok()
    record = json.loads((workplace / "adapter" / "loracast.json").read_text())
    shown = {name.strip(): value.strip() for name, value in (line.split("  ", 1) for line in said.splitlines())}
    assert shown["base"] == record["base"]["model"]
    assert shown["rank"] == str(record["tune"]["rank"])
    assert shown["variables"] == ", ".join(record["variables"])
    assert shown["context"] == f"{record['tune']['context']} steps"
    assert shown["horizon"] == f"{record['tune']['horizon']} steps"
    assert shown["parameters"] == f"{record['result']['trainable_parameters']:,}"
    assert f"{record['flops']['executed']['total']:.3e} (executed)" in shown["FLOPs"]
    assert shown["tuned on"].startswith(f"{record['result']['data']['series']} series")
    assert record["made"]["date"] in shown["made"]
    verdict = record["validation_forecasts"]
    assert ("tuning helped" if verdict["improved"] else "TUNING DID NOT HELP") in said.replace("\n", " ")
    refused("inspect", workplace / "adapter", "--rank", 4, mentions=("is an adapter", "leave --rank out"))
    shutil.copytree(workplace / "adapter", tmp_path / "foreign", ignore=shutil.ignore_patterns("loracast.json"))
    assert "was not tuned by loracast" in run("inspect", tmp_path / "foreign").ok().replace("\n", " ")


# -- what it will cost -------------------------------------------------------------------------------------------


def write_shape(directory: Path) -> ModelConfig:
    """Writes the config.json of Qwen2.5-0.5B and nothing else."""
    config = ModelConfig(
        vocab_size=151_936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        head_dim=64,
    )
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config.to_dict("bfloat16")))
    return config


def cost_table(said: str) -> dict[str, list[tuple[float, float]]]:
    """FLOPs and share in percent by term: of a training step and of a forecast, each in both conventions."""
    lines = said.splitlines()
    rows = {}
    for line in lines[next(index for index, line in enumerate(lines) if line.startswith("term ")) + 1 :]:
        if not line.strip():
            break
        cells = re.findall(r"–|\d\.\d{3}e[+]\d\d +[\d.]+%", line)
        term = line[: line.index(cells[0])].strip()
        rows[term] = [
            (0.0, 0.0) if cell == "–" else (float(cell.split()[0]), float(cell.split()[1].rstrip("%")))
            for cell in cells
        ]
    return rows


def test_costs_are_told_of_a_shape_alone(tmp_path: Path, run: Run):
    write_shape(tmp_path / "shape")
    published = ("--targets", "attention", "--batch", 4, "--tokens", 512)
    said = run("flops", tmp_path / "shape", "--vocabulary", "full", *published).ok()
    for mention in ("494,032,768 parameters", "151,936 rows", "rank 8 on q, v: 540,672", "4 windows × 512 tokens"):
        assert mention in said
    rows = cost_table(said)
    assert rows["total"][:2] == [(4.365e12, 100), (6.778e12, 100)]
    assert all(
        mention in said for mention in ("1 series × 100 paths", "400 tokens read a series", "400 written a path")
    )


@pytest.mark.parametrize("vocabulary", ["numeric", "full"])
def test_costs_are_told_term_by_term(tmp_path: Path, run: Run, vocabulary: str):
    config = write_shape(tmp_path / "shape")
    words = ("--rank", 3, "--targets", "k,down", "--batch", 5, "--tokens", 70, "--series", 2, "--samples", 7)
    words = (*words, "--prompt-tokens", 31, "--new-tokens", 11, "--vocabulary", vocabulary)
    rows = cost_table(run("flops", tmp_path / "shape", *words).ok())
    rank = LoraConfig(3, targets=("k", "down"))
    cost = PassCost(config, 15 if vocabulary == "numeric" else config.vocab_size, rank)
    works = cost.training(5, 70), cost.decode(2, 7, 31, 11)
    columns = [(work, convention) for work in works for convention in ("executed", "published")]
    assert tuple(rows) == (*TERMS, "total")
    for column, (work, convention) in enumerate(columns):
        total = work.total.of(convention)
        for term, flops in {**work.terms, "total": work.total}.items():
            told, share = rows[term][column]
            assert told == pytest.approx(flops.of(convention), rel=1e-3)
            assert share == pytest.approx(100 * flops.of(convention) / total, abs=0.051)


@pytest.mark.parametrize("convention", ["executed", "published"])
def test_a_budget_is_told_in_steps_and_forecasts(tmp_path: Path, run: Run, convention: Any):
    config = write_shape(tmp_path / "shape")
    cost = PassCost(config, 15, LoraConfig(8))
    tune, sample = TuneConfig(), SampleConfig()  # of two variables: 8 tokens a step
    step = cost.training(tune.batch, 8 * (tune.context + tune.horizon)).total.of(convention)
    forecast = cost.decode(1, sample.samples, 8 * tune.context, 8 * tune.horizon).total.of(convention)
    for budget in (1e17, 3.0 * step, 3.0 * step - 1, 1.0):
        said = run("flops", tmp_path / "shape", "--budget", budget, "--convention", convention).ok()
        found = re.search(r"FLOPs \((\w+)\) allow ([\d,]+) training steps, or ([\d,]+) such forecasts", said)
        assert found
        steps, forecasts = (int(number.replace(",", "")) for number in found.groups()[1:])
        assert found[1] == convention
        assert steps * step <= budget < (steps + 1) * step
        assert forecasts * forecast <= budget < (forecasts + 1) * forecast
    assert "allow" not in run("flops", tmp_path / "shape").ok()


def test_the_costs_of_qwen_need_no_network(run: Run, monkeypatch):
    def download(*_: object, **__: object) -> None:
        raise AssertionError("nothing is to be downloaded")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    said = run("flops", "Qwen/Qwen2.5-0.5B-Instruct").ok()
    assert "494,032,768 parameters" in said
    assert "as it is stored in loracast" in said


def test_the_stored_shape_is_that_of_qwen():
    if not (QWEN / "config.json").is_file():
        pytest.skip("needs Qwen2.5-0.5B-Instruct's config.json beside the repository")
    assert stored_shape("Qwen/Qwen2.5-0.5B-Instruct") == ModelConfig.read(QWEN / "config.json")[0]
    assert stored_shape("somebody/model") is None


def test_costs_are_by_default_those_of_a_tuning_by_default(run: Run):
    tune = TuneConfig()
    words = ("flops", "--rank", tune.rank, "--targets", tune.targets, "--batch", tune.batch)
    assert run("flops").ok() == run(*words).ok()


def test_costs_are_told_without_torch(tmp_path: Path):
    write_shape(tmp_path / "shape")
    code = f"""
import sys
from loracast.cli import demo, main
for words in ([], [{str(tmp_path / "shape")!r}, "--budget", "1e17"]):
    sys.argv = ["loracast", "flops", *words]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, words
assert not {{"torch", "pandas", "scipy"}} & sys.modules.keys()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("training step") == 5


@pytest.mark.parametrize("command", ["flops", "inspect"])
def test_weights_are_not_downloaded_to_describe_a_model(
    command: str, workplace: Path, tmp_path: Path, run: Run, monkeypatch
):
    asked: list[tuple[str, list[str]]] = []
    described = tmp_path / "described"
    shutil.copytree(workplace / "model", described, ignore=shutil.ignore_patterns("*.safetensors"))

    def download(repository: str, *, allow_patterns: list[str]) -> str:
        asked.append((repository, allow_patterns))
        return str(described)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    run(command, "somebody/model").ok()
    assert asked == [("somebody/model", ["*.json", "merges.txt"])]
    with pytest.raises(ModelError):  # they are, to run it
        load_model("somebody/model", device="cpu")
    assert "*.safetensors" in asked[1][1]


def test_costs_of_what_cannot_be_are_refused_all_at_once(tmp_path: Path, refused):
    words = ("--rank", 0, "--tokens", 1, "--batch", 0, "--series", 0, "--samples", 0, "--prompt-tokens", 0)
    words = (*words, "--new-tokens", 0, "--budget", "-1e9", "--targets", "q,x")
    outcome = refused(
        "flops", tmp_path / "absent", *words, mentions=("rank", "tokens must be at least 2, not 1", "'x'")
    )
    assert outcome.err.count("error: ") == 9
    refused("flops", tmp_path / "absent", mentions=("absent", "does not exist"))
    refused("flops", tmp_path, mentions=("has no config.json",))
    refused("flops", "--vocabulary", "half", mentions=('"half"', "numeric", "full"))


OPTIONS = {
    "demo": ("--output", "--series", "--samples"),
    "simulate": ("SYSTEM", "--output", "-o", "--n", "--seed", "predator-prey"),
    "inspect": ("MODEL", "--rank", "--targets"),
    "flops": (
        "MODEL",
        "--rank",
        "--tokens",
        "--vocabulary",
        "--prompt-tokens",
        "--budget",
        "--convention",
        "published",
    ),
    "finetune": ("DATA", "--output", "--rank", "--steps", "--batch", "--context", "--model", "--resume", "Ctrl-C"),
    "forecast": ("DATA", "--horizon", "--adapter", "--samples", "--event", "--output"),
    "evaluate": ("DATA", "--split", "--subset", "--adapter", "--context", "--samples"),
    "merge": ("ADAPTER", "--output", "--model", "--precision"),
    "pretrain": ("--output", "--hidden", "--tokens", "--resume", "Ctrl-C"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_the_options(command: str, run: Run):
    said = run(command, "--help").ok()
    assert all(option in said for option in (*OPTIONS[command], "--config", f"Example: loracast {command}"))
    assert "--no-" not in said.replace("--no-plot", "")
    assert "--empty-" not in said


def test_help_shows_a_command_s_own_defaults(run: Run):
    flat = " ".join(run("evaluate", "--help").ok().replace("│", " ").split())
    assert "Sample paths a window. [default: 20]" in flat


def test_help_lists_the_commands(run: Run):
    for words in ((), ("--help",)):
        said = run(*words).ok()
        assert all(command in said for command in (*COMMANDS, "Tune an adapter on a file of series."))
    assert run("--version").ok().strip() == loracast.__version__


def test_help_starts_without_torch_or_pandas():
    code = f"""
import sys
import loracast
assert not {{"torch", "pandas", "numpy"}} & sys.modules.keys(), "import loracast"
from loracast.cli import demo, main
for words in (["--version"], ["--help"], *([command, "--help"] for command in {COMMANDS!r})):
    sys.argv = ["loracast", *words]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, words
    assert not {{"torch", "pandas", "scipy"}} & sys.modules.keys(), words
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


def test_the_program_itself_runs_and_reports():
    assert finish(spawn("--version")).ok().strip() == loracast.__version__
    outcome = finish(spawn("forecast", "nowhere.csv", "--horizon", 3, "-o", "forecast.csv"))
    assert outcome.status == 2
    assert outcome.err == "error: nowhere.csv: there is no such file; check the path\n"
    assert outcome.out == ""


# -- bad data ----------------------------------------------------------------------------------------------------

BAD_TABLES: dict[str, tuple[dict[str, object], tuple[str, ...]]] = {
    "text in a number column": ({"row4": (2, 1.5, "lots")}, ("row 4", "'predator'", "'lots'")),
    "uneven time": ({"row5": (1.5, 1, 1)}, ("not evenly spaced", "--every")),
    "duplicated time": ({"row5": (2, 1, 1)}, ("rows 4 and 5", "time 2 appears twice", "--duplicates mean")),
    "missing time": ({"row5": ("", 1, 1)}, ("row 5", "time is missing")),
    "infinity": ({"row6": (4, "inf", 1)}, ("row 6", "'prey'", "infinite")),
    "minus infinity": ({"row6": (4, 1, "-Infinity")}, ("row 6", "'predator'", "infinite")),
    "too many cells": ({"row3": (1, 2, 3, 4)}, ("row 3", "4 cells", "3")),
    "too few cells": ({"row3": (1, 2)}, ("row 3", "2 cells", "3")),
    "repeated column": ({"row1": ("time", "prey", "prey")}, ("'prey'", "more than once")),
    "only a header": ({"steps": 0}, ("no rows",)),
}


@pytest.mark.parametrize("command", READERS)
@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_bad_table_is_refused(command: str, case: str, workplace: Path, tmp_path: Path, refused):
    changes, mentions = BAD_TABLES[case]
    data = write_table(tmp_path / "bad.csv", **changes)  # type: ignore[arg-type]
    refused(*reading_command(command, data, workplace, tmp_path / "out"), mentions=("bad.csv", *mentions))


@pytest.mark.parametrize("command", READERS)
def test_a_file_that_is_none_is_refused(command: str, workplace: Path, tmp_path: Path, refused):
    files = {
        "missing.csv": None,
        "data.xlsx": b"",
        "empty.csv": b"",
        "binary.csv": bytes(range(256)),
        "cut.h5": (workplace / "data.h5").read_bytes()[:1500],
        "cut.parquet": b"PAR1 and no more",
    }
    (tmp_path / "folder.csv").mkdir()
    for name, content in {**files, "folder.csv": None}.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        refused(*reading_command(command, tmp_path / name, workplace, tmp_path / "out"), mentions=(name,))


@pytest.mark.parametrize("command", READERS)
def test_a_short_series_is_refused(command: str, workplace: Path, tmp_path: Path, refused):
    data = write_table(tmp_path / "short.csv", steps=CONTEXT - 1)
    words = reading_command(command, data, workplace, tmp_path / "out")
    refused(*words, mentions=("'short'", f"{CONTEXT - 1}", "steps", "context"))


@pytest.mark.parametrize("command", READERS)
def test_a_series_that_is_all_missing_is_refused(command: str, workplace: Path, tmp_path: Path, refused):
    lines = ["id,time,prey,predator"]
    for name in ("seen", "unseen", "partly"):
        for step in range(24):
            cell = "" if name == "unseen" else step % 5
            lines.append(f"{name},{step},{cell},{cell if name == 'seen' or step else 'NaN'}")
    data = tmp_path / "gaps.csv"
    data.write_text("\n".join(lines))
    words = reading_command(command, data, workplace, tmp_path / "out")
    refused(*words, mentions=("unseen", "no observed value of prey, predator"))


@pytest.mark.parametrize("command", ["forecast", "evaluate"])
def test_another_number_of_variables_than_tuned_on_is_refused(command, workplace: Path, tmp_path: Path, refused):
    data = tmp_path / "three.csv"
    data.write_text("a,b,c\n" + "".join(f"{step % 7},{step % 3},{step % 5}\n" for step in range(24)))
    words = reading_command(command, data, workplace, tmp_path / "out")
    refused(*words, "--adapter", workplace / "adapter", mentions=("2 variables (prey, predator)", "3 (a, b, c)"))


@pytest.mark.parametrize("command", ["finetune", "evaluate"])
@pytest.mark.parametrize(
    ("split", "mentions"),
    [
        ('{"train": [0], "validation": [1], "test": [8]}', ("test", "8", "0 to 7")),
        ('{"train": [0], "validation": [-1], "test": []}', ("validation", "-1")),
        ('{"train": [0], "validation": [0], "test": []}', ("position 0", "train", "validation")),
        ('{"train": [], "validation": [1], "test": []}', ("is empty",)),
        ('{"train": [0]}', ("'validation'",)),
        ("[0, 1]", ("'train'",)),
        ("{", ("JSON",)),
        (None, ("No such file",)),
    ],
)
def test_a_bad_split_is_refused(command, split, mentions, workplace: Path, tmp_path: Path, refused):
    path = tmp_path / "split.json"
    if split is not None:
        path.write_text(split)
    words = reading_command(command, workplace / "data.h5", workplace, tmp_path / "out")
    refused(*words, "--split", path, mentions=("split.json", *mentions))


# -- bad models and adapters -------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("command", READERS)
def test_a_truncated_model_is_refused(command: str, workplace: Path, tmp_path: Path, table: Path, refused):
    shutil.copytree(workplace / "model", tmp_path / "cut")
    truncate(tmp_path / "cut" / "model.safetensors")
    words = with_option(reading_command(command, table, workplace, tmp_path / "out"), "--model", tmp_path / "cut")
    refused(*words, mentions=("cut/model.safetensors", "not a whole safetensors file"))


@pytest.mark.parametrize("command", ["forecast", "evaluate", "merge"])
def test_a_bad_adapter_is_refused(command: str, workplace: Path, tmp_path: Path, table: Path, refused):
    def attempt(adapter: Path, *more: object, mentions: tuple[object, ...]) -> None:
        if command == "merge":
            words: tuple[object, ...] = ("merge", adapter, "-o", tmp_path / "merged")
        else:
            words = ("--horizon", 2, "--samples", 2, "--context", CONTEXT, "--adapter", adapter)
            output = tmp_path / ("f.csv" if command == "forecast" else "scores")
            words = (command, table, "-o", output, *words)
        refused(*words, *more, mentions=mentions)

    cut = tmp_path / "cut"
    shutil.copytree(workplace / "adapter", cut)
    truncate(cut / "adapter_model.safetensors")
    attempt(cut, mentions=("cut/adapter_model.safetensors", "not a whole safetensors file"))
    (cut / "adapter_config.json").write_text('{"peft_type": ')
    attempt(cut, mentions=("cut/adapter_config.json",))
    shutil.copy(workplace / "adapter/adapter_config.json", cut)
    (cut / "loracast.json").write_text("[]")
    attempt(cut, mentions=("cut/",))
    attempt(tmp_path / "absent", mentions=("absent", "adapter_config.json"))
    attempt(workplace / "model", mentions=("adapter_config.json",))
    attempt(workplace / "adapter", "--model", workplace / "other", mentions=("another base model", workplace / "model"))

    foreign = tmp_path / "foreign"
    shutil.copytree(workplace / "adapter", foreign)
    record = json.loads((foreign / "loracast.json").read_text())
    record["codec"]["layuot"] = "fixed"
    (foreign / "loracast.json").write_text(json.dumps(record))
    if command != "merge":
        attempt(foreign, mentions=("foreign", "layuot"))


def test_inspect_refuses_what_is_no_model(workplace: Path, tmp_path: Path, refused):
    refused("inspect", tmp_path / "absent", mentions=("absent", "does not exist"))
    refused("inspect", workplace / "data.h5", mentions=("is a file",))
    refused("inspect", tmp_path, mentions=("has no config.json",))
    shutil.copytree(workplace / "model", tmp_path / "model")
    refused("inspect", tmp_path / "model", "--rank", 0, mentions=("rank must be at least 1",))
    refused("inspect", tmp_path / "model", "--rank", 2, "--targets", "q,x", mentions=("'x'", "all-linear"))
    (tmp_path / "model/config.json").write_text("{")
    refused("inspect", tmp_path / "model", mentions=("config.json", "JSON"))
    (tmp_path / "model/config.json").write_text('{"model_type": "gpt2"}')
    refused("inspect", tmp_path / "model", mentions=("'gpt2'", "qwen2"))


# -- bad options -------------------------------------------------------------------------------------------------

DATA = "data.h5"  # refused before it is looked for


@pytest.mark.parametrize(
    ("words", "mentions"),
    [
        (("finetun",), ('"finetun"', "finetune")),
        (("finetune",), ("DATA is missing", "loracast finetune --help")),
        (("finetune", DATA), ("--output is missing",)),
        (("finetune", DATA, "-o", "a", "--rnak", "8"), ("--rnak", "--rank")),
        (("forecast", DATA, "-o", "f.csv", "--horizn", "8"), ("--horizon is missing", "--horizn is unknown")),
        (("forecast", DATA, "-o", "f.csv", "--horizon"), ("--horizon needs a value",)),
        (("forecast", DATA, "-o", "f.csv", "--horizon", "ten"), ("--horizon", '"ten"')),
        (("forecast", DATA, "-o", "f.csv", "--horizon", "2.5"), ("--horizon takes a whole number, not 2.5",)),
        (("forecast", DATA, "-o", "f.csv", "--horizon", "2", "--horizon", "3"), ("--horizon", "multiple times")),
        (("forecast", DATA, "more.csv", "-o", "f.csv", "--horizon", "2"), ("nothing takes the value more.csv",)),
        (("forecast", DATA, "-o", "f.csv", "--horizon", "2", "--samples", "0"), ("samples must be at least 1",)),
        (("forecast", DATA, "-o", "f.csv", "--horizon", "2", "--device", "tpu"), ('"tpu"', "cpu", "cuda")),
        (("forecast", DATA, "-o", "f.txt", "--horizon", "2"), ("f.txt", ".parquet or .csv")),
        (("forecast", DATA, "-o", "f", "--horizon", "2"), ("f: ", ".parquet or .csv")),
        (("forecast", DATA, "-o", "f.csv", "--horizon", "2", "--paths", "p.h5"), ("p.h5", ".parquet or .csv")),
        (("forecast", DATA, "-o", "f.csv", "--horizon", "2", "--plot", "p.txt"), ("p.txt", ".png or .pdf or .svg")),
        (("evaluate", DATA, "-o", "e", "--horizon", "2"), ("--context is missing",)),
        (("simulate", "predator-prey", "-o", "x.txt", "--n", "1000000"), ("x.txt", ".h5", ".csv", ".parquet")),
        (("simulate", "prey", "-o", "x.csv"), ("'prey'", "predator-prey", "lotka-volterra")),
        (("simulate", "predator-prey", "-o", "x.csv", "--n", "0", "--noise", "-1"), ("n must", "noise must")),
        (("pretrain", "-o", "m", "--heads", "4", "--steps", "0"), ("heads (4)", "steps must be at least 1")),
        (("demo", "-o", "d", "--series", "0"), ("n must be at least 1",)),
        (("finetune", DATA, "-o", "a", "--config"), ("--config needs a value",)),
        (("finetune", DATA, "-o", "a", "--config", "no.yaml"), ("no.yaml", "No such file")),
    ],
)
def test_a_bad_command_line_is_refused(words, mentions, tmp_path: Path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    refused(*words, mentions=mentions)


def test_all_bad_settings_are_said_at_once(tmp_path: Path, refused):
    words = ("--rank", 0, "--batch", 3, "--accumulate", 2, "--dropout", 1.5, "--targets", "q,z")
    outcome = refused("finetune", DATA, "-o", tmp_path / "a", *words, mentions=("rank", "batch", "dropout", "'z'"))
    assert outcome.err.count("error: ") == 4


@pytest.mark.parametrize(
    ("text", "mentions"),
    [
        ("rnak: 8\nstep: 3\nzzz: 1\n", ("'rnak'", "did you mean 'rank'", "'step'", "'steps'", "'zzz'", "--help")),
        ("rank: eight\nsteps: 2.5\nwarmup: [1]\nresume: perhaps\ndevice: tpu\nnames: {a: b}\n",
         ("rank must be a whole number, not 'eight'", "steps must be a whole number, not 2.5",
          "warmup must be a number, not [1]", "resume must be true or false, not 'perhaps'",
          "device must be one of auto, cpu, cuda, not 'tpu'", "names must be a list of names")),
        ("rank: 0\nbatch: -1\n", ("rank must be at least 1", "batch must be at least 1")),
        ("rank: true\n", ("rank must be a whole number, not True",)),
        ("data: x.csv\n", ("'data'",)),
        ("config: x.yaml\n", ("'config'",)),
        ("rank: [8\nsteps: 3\n", ("line 2", "not YAML")),
        ("rank: 8\n\tsteps: 3\n", ("line 2", "not YAML")),
        ("- rank\n", ("name: value",)),
        ("just words", ("name: value",)),
    ],
)  # fmt: skip
def test_a_bad_configuration_is_refused(text, mentions, workplace: Path, tmp_path: Path, refused):
    config = tmp_path / "tune.yaml"
    config.write_text(text)
    words = ("finetune", workplace / "data.h5", "-o", tmp_path / "a", "--config", config)
    outcome = refused(*words, mentions=mentions)
    if "must be at least" not in mentions[0]:  # which is said of the setting, wherever it came from
        assert all(str(config) in line for line in outcome.err.splitlines())


def test_a_configuration_does_not_outlive_its_run(tmp_path: Path, run: Run):
    config = tmp_path / "simulate.yaml"
    config.write_text("n: 3\nsteps: 5\n")
    assert "3 series of 5 steps" in run("simulate", "lotka-volterra", "-o", tmp_path / "x.csv", "--config", config).ok()
    assert "2 series of 100 steps" in run("simulate", "lotka-volterra", "-o", tmp_path / "x.csv", "--n", 2).ok()


@pytest.mark.parametrize(
    ("words", "mentions"),
    [
        (("--horizon", 0), ("horizon must be at least 1, not 0",)),
        (("--horizon", 2, "--context", 0), ("context must be at least 1, not 0",)),
        (("--horizon", 2, "--event", "wolf < 1"), ("'wolf < 1'", "prey, predator")),
        (("--horizon", 2, "--event", "prey"), ("'prey'", "found the end where a comparison")),
        (("--horizon", 2, "--event", "prey < few"), ("found 'few' where a variable or a number",)),
        (("--horizon", 2, "--event", "prey < nan"), ("found 'nan' where a variable or a number",)),
        (("--horizon", 2, "--time", "when"), ("'when'", "time, prey, predator")),
        (("--horizon", 2, "--names", "a", "--names", "b", "--names", "c"), ("2 variables (prey, predator), not 3",)),
    ],
)
def test_a_forecast_that_cannot_be_is_refused(words, mentions, workplace: Path, tmp_path: Path, table: Path, refused):
    refused("forecast", table, "-o", tmp_path / "f.csv", "--model", workplace / "model", *words, mentions=mentions)


@pytest.mark.parametrize("option", ["--context", "--horizon", "--stride"])
def test_windows_of_no_steps_are_refused(option: str, workplace: Path, tmp_path: Path, refused):
    words = (*reading_command("evaluate", workplace / "data.h5", workplace, tmp_path), "--stride", 1)
    refused(*with_option(words, option, 0), mentions=(f"{option[2:]} must be at least 1, not 0",))


# -- places that cannot be written -------------------------------------------------------------------------------


def writing_commands(workplace: Path, table: Path, folder: Path) -> dict[str, tuple[object, ...]]:
    """Every command that writes, and would write into `folder`."""
    readers = {name: reading_command(name, table, workplace, folder) for name in READERS}
    return {
        **readers,
        "simulate": ("simulate", "lotka-volterra", "-o", folder / "x.csv", "--n", 2),
        "merge": ("merge", workplace / "adapter", "-o", folder / "merged"),
        "pretrain": ("pretrain", "-o", folder / "model", *FEW),
        "demo": ("demo", "-o", folder / "demo"),
    }


WRITERS = (*READERS, "simulate", "merge", "pretrain", "demo")


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch):
    """Fails the test if anything is loaded or simulated, before which a place must have been refused."""

    def work(*_: object, **__: object) -> None:
        pytest.fail("work began before the place to write to was looked at")

    for name in ("forecaster.load_model", "language_model.load_model", "systems.simulate", "engine.pretrain.Pool"):
        monkeypatch.setattr(f"loracast.{name}", work)


@pytest.mark.parametrize("command", WRITERS)
@pytest.mark.usefixtures("no_work")
def test_a_place_under_a_file_is_refused_before_any_work(command, workplace: Path, tmp_path, table: Path, refused):
    (tmp_path / "file").write_text("in the way")
    words = writing_commands(workplace, table, tmp_path / "file" / "deeper")[command]
    refused(*words, mentions=(tmp_path / "file", "is a file", "choose another folder"))


@pytest.mark.parametrize("command", WRITERS)
@pytest.mark.usefixtures("no_work")
def test_a_read_only_folder_is_refused_before_any_work(
    command, workplace: Path, tmp_path: Path, table: Path, refused, monkeypatch
):
    locked = tmp_path / "locked"
    locked.mkdir()
    monkeypatch.setattr("os.access", lambda place, _mode: Path(place) != locked)  # root may write everywhere
    words = writing_commands(workplace, table, locked)[command]
    refused(*words, mentions=(locked, "is read-only", "choose another folder"))


def test_check_folder_takes_what_can_be_made(tmp_path: Path):
    check_folder(tmp_path / "not" / "yet" / "there")
    check_folder(tmp_path)


@pytest.mark.parametrize("command", WRITERS[:-1])
@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_write_that_fails_leaves_nothing(
    command, reason: int, workplace: Path, tmp_path: Path, table: Path, refused, monkeypatch
):
    def fail(path: Path, *_: object, **__: object) -> None:
        raise OSError(reason, os.strerror(reason), str(path))

    words = writing_commands(workplace, table, tmp_path / "out")[command]
    if reason == errno.ENOSPC:
        monkeypatch.setattr(Path, "replace", fail)
    else:
        monkeypatch.setattr(Path, "mkdir", fail)
    refused(*words, mentions=(os.strerror(reason), "choose a writable place with enough room"))


def test_a_full_disk_leaves_nothing_of_a_simulation(tmp_path: Path):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    for suffix in ("h5", "csv", "parquet"):
        words = ("simulate", "lotka-volterra", "-o", tmp_path / f"x.{suffix}", "--n", 20)
        outcome = finish(spawn(*words, preexec_fn=limit))
        assert outcome.status == 2
        assert outcome.err.startswith(f"error: {tmp_path / 'x'}.{suffix}: cannot be written")
        assert "Traceback" not in outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("command", "room"), [("forecast", 300), ("evaluate", 300), ("merge", 20_000)])
def test_a_full_disk_leaves_nothing_half_written(
    command, room: int, workplace: Path, tmp_path: Path, table: Path, refused
):
    words = writing_commands(workplace, table, tmp_path / "out")[command]
    with disk_with_room_for(room):
        refused(*words, mentions=(tmp_path / "out", "cannot be written"))


def test_a_full_disk_while_tuning_leaves_no_adapter(workplace: Path, tmp_path: Path, table: Path, run: Run):
    words = reading_command("finetune", table, workplace, tmp_path)
    with disk_with_room_for(5_000):  # the log fits, the adapter does not
        outcome = run(*words)
    assert outcome.status == 2
    assert ".safetensors: cannot be written" in outcome.err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["metrics.jsonl"]
    run(*words).ok()  # nothing is in its way
    with disk_with_room_for(300):  # not even the log fits
        outcome = run(*reading_command("finetune", table, workplace, tmp_path / "again"))
    assert outcome.status == 2
    assert "metrics.jsonl" in outcome.err
    assert "Traceback" not in outcome.err


def test_an_earlier_run_is_not_overwritten(workplace: Path, tmp_path: Path, table: Path, refused, run: Run):
    shutil.copytree(workplace / "adapter", tmp_path / "run")
    words = reading_command("finetune", table, workplace, tmp_path)
    refused(*words, mentions=(tmp_path / "run", "holds an adapter already", "choose another folder"))
    refused(*words, "--resume", mentions=("no interrupted run to resume",))
    shutil.copytree(workplace / "model", tmp_path / "model")
    refused("pretrain", "-o", tmp_path / "model", *FEW, mentions=(tmp_path / "model", "already holds a model"))
    refused("pretrain", "-o", tmp_path / "new", *FEW, "--resume", mentions=("no interrupted pretraining",))
    refused("merge", workplace / "adapter", "-o", workplace / "adapter", mentions=("is the adapter itself",))
    refused("merge", workplace / "adapter", "-o", workplace / "model", mentions=("is the base model itself",))


def test_a_demo_only_replaces_a_demo(tmp_path: Path, refused):
    (tmp_path / "training.h5").touch()
    (tmp_path / "thesis.tex").touch()
    refused("demo", "-o", tmp_path, mentions=(tmp_path, "thesis.tex", "choose another folder"))


SMALL_DEMO = ("--series", 6, "--held-out", 2, "--samples", 2, "--batch", 2, "--context", 10, "--horizon", 10)


def test_a_demo_of_another_model_says_what_it_writes_of_itself(tmp_path: Path, run: Run, qwen2_directory: Path):
    said = run("demo", "-o", tmp_path / "demo", *SMALL_DEMO, "--steps", 1, "--model", qwen2_directory).ok()
    assert re.search(r"2\. untouched and free to write anything, \S+ writes numbers in \d+% of all steps", said)
    summary = (tmp_path / "demo" / "summary.md").read_text()
    assert f"--model {qwen2_directory}" in summary
    assert json.loads((tmp_path / "demo" / "adapter" / "loracast.json").read_text())["base"]["model"] == str(
        qwen2_directory.resolve()
    )


def test_a_demo_replaces_an_earlier_one_only_when_it_has_ended(tmp_path: Path, run: Run, monkeypatch):
    words = ("demo", "-o", tmp_path / "demo", *SMALL_DEMO, "--steps", 2)
    said = run(*words).ok()
    assert {path.name for path in (tmp_path / "demo").iterdir()} == set(demo.WRITES)
    assert str(tmp_path / "demo" / "forecasts.png") in said
    first = contents(tmp_path)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    places = ("systems.simulate", "forecaster.Forecaster.from_pretrained", "forecaster.Forecaster.predict")
    for place in (*places, "evaluation.backtest.Backtest.save", "evaluation.figures.before_and_after"):
        with monkeypatch.context() as patch:
            patch.setattr(f"loracast.{place}", stop)
            outcome = run(*words, "--seed", 1)
        assert outcome.status == 130, place
        assert "the earlier demo" in outcome.err
        assert "The same command starts again" in outcome.err
        assert "--resume" not in outcome.err  # which a demo does not have
        assert contents(tmp_path) == first, place
    run(*words, "--seed", 1).ok()
    assert contents(tmp_path).keys() == first.keys()
    assert contents(tmp_path) != first


def test_ctrl_c_in_a_demo_s_tuning_leaves_the_earlier_demo(tmp_path: Path, run: Run):
    words = ("demo", "-o", tmp_path / "demo", *SMALL_DEMO)
    process = spawn(*words, "--steps", 5000)
    deadline = time.monotonic() + 60
    while not (logs := list(tmp_path.glob(".demo.*.partial/adapter/metrics.jsonl"))):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    outcome = interrupt(process, logs[0], after=3)
    assert outcome.status == 130, outcome.err
    assert "nothing of it is kept. The same command starts again" in outcome.err
    assert list(tmp_path.iterdir()) == []
    run(*words, "--steps", 1).ok()


# -- Ctrl-C ------------------------------------------------------------------------------------------------------


def interrupt(process: subprocess.Popen[str], log: Path, after: int) -> Outcome:
    """Sends the process what Ctrl-C sends once it has logged that many lines."""
    deadline = time.monotonic() + 60
    while not log.is_file() or len(log.read_text().splitlines()) < after:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    return finish(process)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_interrupted_run_is_resumed_exactly(workplace: Path, tmp_path: Path, refused):
    def words(folder: str, *more: object) -> tuple[object, ...]:
        tuning = (*with_option(with_option(TUNING, "--steps", 200), "--validate-every", 20), "--dropout", 0.1)
        model = ("--model", workplace / "model")
        return ("finetune", workplace / "data.h5", "-o", tmp_path / folder, *tuning, *model, *more)

    outcome = interrupt(spawn(*words("parts")), tmp_path / "parts" / "metrics.jsonl", after=15)
    assert outcome.status == 130, outcome.err
    assert "stopped after step" in outcome.err
    assert "--resume" in outcome.err
    assert "Traceback" not in outcome.err
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["metrics.jsonl", "training.safetensors"]

    refused(*words("parts"), mentions=(tmp_path / "parts", "interrupted run", "--resume"))
    refused(*with_option(words("parts", "--resume"), "--rank", 3), mentions=("rank was 2, now 3", "resume with those"))
    finish(spawn(*words("parts", "--resume"))).ok()
    finish(spawn(*words("whole"))).ok()
    weights = "adapter_model.safetensors"
    assert digest(tmp_path / "parts" / weights) == digest(tmp_path / "whole" / weights)
    assert not (tmp_path / "parts" / "training.safetensors").exists()
    steps = [
        event["step"]
        for event in map(json.loads, (tmp_path / "parts/metrics.jsonl").read_text().splitlines())
        if event["event"] == "train"
    ]
    assert steps == list(range(1, 201))


def test_ctrl_c_while_the_result_is_judged_keeps_the_training(workplace: Path, tmp_path: Path, run: Run):
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    words = reading_command("finetune", workplace / "data.h5", workplace, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("loracast.forecaster.Forecaster.predict", stop)
        outcome = run(*words)
    assert outcome.status == 130
    assert f"--resume from {tmp_path / 'run' / 'training.safetensors'}" in outcome.err
    run(*words, "--resume").ok()
    weights = "adapter_model.safetensors"
    assert digest(tmp_path / "run" / weights) == digest(workplace / "adapter" / weights)


def test_a_file_error_that_nothing_foresaw_is_no_traceback(tmp_path: Path, refused, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "somewhere")

    monkeypatch.setattr("loracast.systems.simulate", fail)
    refused("simulate", "predator-prey", "-o", tmp_path / "x.csv", mentions=("Permission denied: 'somewhere'",))


def test_a_reader_may_leave_early():
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen([str(PROGRAM), "--help"], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (1, "")


def test_ctrl_c_before_there_is_anything_to_save(workplace: Path, tmp_path: Path, run: Run, monkeypatch):
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("loracast.systems.simulate", stop)
    outcome = run("simulate", "predator-prey", "-o", tmp_path / "x.csv")
    assert outcome.status == 130
    assert outcome.err.startswith("stopped: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("output", "more"),
    [
        ("data.csv", ()),
        ("other.csv", ("--paths", "data.csv")),
        ("other.csv", ("--paths", "other.csv")),
        ("other.csv", ("--paths", "folder/../data.csv")),
    ],
)
def test_what_is_read_is_never_written_over(run: Run, tmp_path: Path, output: str, more: tuple[str, ...]):
    data = tmp_path / "data.csv"
    data.write_text("year,hare\n2001,1\n2002,2\n2003,3\n2004,2\n")
    before = data.read_bytes()
    more = tuple(str(tmp_path / word) if word.endswith(".csv") else word for word in more)
    outcome = run("forecast", data, "--horizon", 2, "-o", tmp_path / output, *more)
    assert outcome.status != 0
    assert "would be written over a file that is read or written here" in outcome.err
    assert data.read_bytes() == before


def test_scores_are_not_written_over_the_series(run: Run, tmp_path: Path):
    data = tmp_path / "series.csv"
    data.write_text("year,hare\n2001,1\n2002,2\n2003,3\n2004,2\n")
    outcome = run("evaluate", data, "--context", 2, "--horizon", 1, "-o", tmp_path)
    assert outcome.status != 0
    assert "series.csv: would be written over a file that is read" in outcome.err


def test_a_name_that_holds_a_comma_stands_in_quotes(run: Run, tmp_path: Path):
    data = tmp_path / "data.csv"
    data.write_text('year,"hare, north",lynx\n2001,1,4\n2002,2,5\n2003,3,6\n2004,2,7\n2005,1,6\n')
    out = run("forecast", data, "--horizon", 2, "-o", tmp_path / "a.csv", "--columns", '"hare, north",lynx').ok()
    assert "variables hare, north, lynx" in out
    out = run("forecast", data, "--horizon", 2, "-o", tmp_path / "a.csv", "--columns", '"hare, north"').ok()
    assert "variables hare, north; " in out

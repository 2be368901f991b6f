"""`loracast study` and `loracast report`, as their user meets them."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import loracast.study
from loracast.cli import main
from loracast.errors import ConfigError, Interrupted
from loracast.ledger import SharedLedger
from loracast.series import write_series
from loracast.study import launch, worker
from loracast.systems import simulate

TINY: dict[str, Any] = {
    "convention": "executed",
    "budget": 3e9,
    "layout": "fixed",
    "data": {"train": 0.5, "validation": 0.25, "test": 0.25},
    "forecasts": {"context": 20, "horizon": 20, "validation_series": 2, "validation_samples": 2, "test_samples": 3},
    "baseline": [1],
    "tuning": {"rank": 2, "decimals": 1, "batch": 2, "validate_every": 2, "validation_windows": 2},
    "default": {"steps": 4},
    "search": {
        "method": "both", "learning_rate": [5e-2, 1e-3], "rank": [2], "decimals": [1], "steps": 4, "first_rung": 2,
    },
    "context": {"tokens": [60, 120], "steps": 4},
    "final": {"steps": 6},
}  # fmt: skip
STAGES = ("data", "baseline", "default", "search", "context", "final", "test")
HERE = ("--device", "cpu", "--precision", "float32")


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
    """Runs a command in this process."""

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        status = call_main(*words)
        said = capsys.readouterr()
        return Outcome(status, str(said.out), str(said.err))

    return run


@pytest.fixture
def refused(run: Run, tmp_path: Path) -> Callable[..., None]:
    """Runs what must be refused: status 2, each of `mentions` in the error lines, and no file made or changed."""

    def refused(*words: object, mentions: tuple[object, ...]) -> None:
        before = contents(tmp_path)
        outcome = run(*words)
        assert outcome.status == 2, outcome
        said = "\n".join(line for line in outcome.err.splitlines() if line.startswith("error: "))
        for mention in mentions:
            assert str(mention) in said
        assert "Traceback" not in outcome.err
        assert contents(tmp_path) == before

    return refused


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", autouse=True)
def _threads() -> Iterator[None]:
    """A study of several processes shares the processor between them."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the report out, which takes longer to draw than so small a study to compute."""
    monkeypatch.setattr("loracast.report.write_report", lambda directory: directory / "report.html")


@pytest.fixture(scope="module")
def workplace(make_numeric: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data.h5`, `tiny.yaml` and a link `model`. To be read only."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "model").symlink_to(make_numeric(num_hidden_layers=1))
    write_series(simulate("predator-prey", 12, steps=40), folder / "data.h5")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return folder


def words_of(workplace: Path, output: Path, *more: object) -> tuple[object, ...]:
    settings = ("--protocol", workplace / "tiny.yaml", "--model", workplace / "model")
    return ("study", workplace / "data.h5", "-o", output, *settings, *HERE, *more)


@pytest.fixture(scope="module")
def finished(workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole study, without its report. To be read only."""
    folder = tmp_path_factory.mktemp("finished") / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("loracast.report.write_report", lambda directory: directory / "report.html")
        assert call_main(*words_of(workplace, folder)) == 0
    return folder


def tables(folder: Path) -> dict[str, str]:
    """All tables but for the seconds that things took."""
    frames = {path.stem: pd.read_csv(path, dtype=str) for path in (folder / "tables").glob("*.csv")}
    return {name: frame.drop(columns="seconds", errors="ignore").to_csv() for name, frame in frames.items()}


# -- the good paths ----------------------------------------------------------------------------------------------


def test_a_study_goes_from_a_file_to_its_report(workplace: Path, tmp_path: Path, run: Run, monkeypatch):
    folder = tmp_path / "study"
    said = run(*words_of(workplace, folder, "--budget", "2.5e9")).ok()
    for stage in STAGES:
        assert f"{stage}: ended" in said
    assert "budget 2.500e+09 FLOPs, executed convention" in " ".join(said.split())
    spent = SharedLedger(folder / "ledger").spent
    assert f"spent {spent.executed:.4e} FLOPs (executed), {spent.published:.4e} (published)" in said
    assert f"{spent.executed / 2.5e9:.2%} of the budget (executed)" in said
    test = pd.read_csv(folder / "tables" / "test.csv").query("variable == 'all'")
    for row in test.to_dict("records"):
        assert f"{row['forecaster']}: MAE {row['mae']:.4f}, CRPS {row['crps']:.4f}" in said
    default = json.loads((folder / "runs" / "default" / "result.json").read_text())
    assert f"  default: MAE {default['scores']['mae']:.4f} · " in said
    assert (
        "  baseline-1-free: nothing of its text can be read as numbers · " in said
    )  # by a model that was never taught
    assert "stopped (pruned)" in said
    assert f"report → {folder / 'report.html'}" in said
    record = json.loads((folder / "study.json").read_text())
    assert (record["name"], record["data"]["source"], record["budget"]) == ("tiny", "data.h5", 2.5e9)
    assert record["model"]["precision"] == "float32"
    page = (folder / "report.html").read_bytes()
    assert b"Study tiny" in page
    assert b"not finished" not in page
    figures = list((folder / "figures").glob("*.png"))
    assert len(figures) > 10

    (folder / "report.html").unlink()
    drawn: list[Path] = []
    monkeypatch.setattr("loracast.report.build.write_png", lambda figure, path: drawn.append(path))  # takes seconds
    assert run("report", folder).ok() == f"report → {folder / 'report.html'}\n"
    assert (folder / "report.html").read_bytes() == page
    assert sorted(drawn) == sorted(figures)


@pytest.mark.usefixtures("undrawn")
def test_the_same_command_goes_on_where_it_was(workplace: Path, finished: Path, tmp_path: Path, run: Run):
    folder = tmp_path / "study"
    said = run(*words_of(workplace, folder, "--until", "baseline")).ok()
    assert "baseline: ended" in said
    assert "default: " not in said
    assert "tuned: MAE" not in said
    assert sorted(path.name for path in (folder / "runs").iterdir()) == ["baseline-1-constrained", "baseline-1-free"]
    said = run(*words_of(workplace, folder)).ok()
    assert [line for line in said.splitlines() if line.endswith("skipped")] == ["data: skipped", "baseline: skipped"]
    assert "  baseline-1-free: " not in said
    assert "test: ended" in said
    assert tables(folder) == tables(finished)
    assert run(*words_of(workplace, folder)).ok().count(": skipped") == len(STAGES)


@pytest.mark.usefixtures("undrawn")
def test_a_split_is_read_from_its_file(workplace: Path, tmp_path: Path, run: Run, refused):
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": [0, 1, 2], "validation": [3, 4], "test": [5]}))
    run(*words_of(workplace, tmp_path / "study", "--split", split, "--until", "data")).ok()
    counts = pd.read_csv(tmp_path / "study" / "tables" / "splits.csv").set_index("subset")["series"].to_dict()
    assert counts == {"train": 3, "validation": 2, "test": 1, "unused": 6}
    split.write_text(json.dumps({"train": [0, 1, 2], "validation": [3, 4], "test": []}))
    refused(*words_of(workplace, tmp_path / "other", "--split", split), mentions=("no series to test", "at least one"))


@pytest.mark.parametrize(
    ("options", "protocol", "budget"),
    [
        (("--device", "cpu"), "laptop", 1e15),
        (("--device", "cpu", "--model", "bundled", "--budget", "2e14"), "laptop", 2e14),
        (("--device", "cpu", "--model", "Qwen/Qwen2.5-0.5B-Instruct"), "published", 1e17),
        (("--device", "cpu", "--protocol", "published"), "published", 1e17),
    ],
)
def test_a_protocol_is_chosen_by_model_and_machine(
    options, protocol: str, budget: float, workplace: Path, tmp_path: Path, run: Run, monkeypatch
):
    asked: list[Any] = []

    def prepare(series: Any, output: Path, settings: Any, **given: Any) -> None:
        asked.append((settings.budget, given["name"], given["model"]))
        raise KeyboardInterrupt

    monkeypatch.setattr("loracast.study.launch.prepare", prepare)
    assert run("study", workplace / "data.h5", "-o", tmp_path / "study", *options).status == 130
    model = options[options.index("--model") + 1] if "--model" in options else "bundled"
    assert asked == [(budget, protocol, model)]


# -- once more -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("undrawn")
def test_a_study_is_done_once_more(finished: Path, tmp_path: Path, run: Run):
    said = run("study", "--rerun", finished, "-o", tmp_path / "again", "--device", "cpu").ok()
    assert "test: ended" in said
    assert tables(tmp_path / "again") == tables(finished)


def test_a_run_is_done_once_more_and_compared(finished: Path, tmp_path: Path, run: Run):
    for name, figures in (("default", 4), ("test-zero-shot", 3)):
        said = run("study", "--rerun", finished / "runs" / name, "-o", tmp_path / "again", *HERE).ok()
        scores = json.loads((finished / "runs" / name / "result.json").read_text())["scores"]
        compared = [line for line in said.splitlines() if " then, " in line]
        assert len(compared) == figures
        assert compared[0] == f"MAE: {scores['mae']:.6g} then, {scores['mae']:.6g} now"
        assert not [line for line in compared if "(" in line.split("now")[1]]  # nothing differs
        assert said.splitlines()[-1] == f"{name} → {tmp_path / 'again' / 'runs' / name}"
    assert sorted(path.name for path in (tmp_path / "again" / "runs").iterdir()) == ["default", "test-zero-shot"]


def test_figures_that_differ_are_told(finished: Path, tmp_path: Path, run: Run):
    shutil.copytree(finished, tmp_path / "study")
    result = tmp_path / "study" / "runs" / "test-zero-shot" / "result.json"
    stored = json.loads(result.read_text())
    now = stored["scores"]["mae"]
    stored["scores"]["mae"] = now - 0.25
    result.write_text(json.dumps(stored))
    said = run("study", "--rerun", result.parent, "-o", tmp_path / "again", *HERE).ok()
    assert f"MAE: {now - 0.25:.6g} then, {now:.6g} now (+0.25)" in said


# -- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "mentions"),
    [
        ((), ("name a file of series to study, or a folder with --rerun",)),
        (("{data}", "--rerun", "{study}"), ("not both",)),
        (("--rerun", "{study}", "--budget", "1e9"), ("--budget cannot go with --rerun",)),
        (
            ("--rerun", "{study}", "--protocol", "laptop", "--model", "bundled", "--split", "x.json"),
            ("--protocol cannot go with --rerun", "--split cannot go with", "--model cannot go with"),
        ),
        (("--rerun", "{data}/nothing"), ("nothing/study.json cannot be read", "its folder is that of a study")),
        (("--rerun", "{study}", "-o", "{study}"), ("is the study to do once more", "another folder")),
        (("--rerun", "{study}/runs/default", "-o", "{study}"), ("is the study to do once more",)),
        (("{data}", "--processes", "0"), ("processes must be at least 1, not 0",)),
        (("{data}", "--until", "dinner"), ("dinner", "until")),
        (("{data}", "--log", "diary"), ("diary", "log")),
        (("{data}", "--protocol", "corse"), ("corse cannot be read", "laptop, published")),
        (("{data}", "--budget", "-5"), ("budget", "not -5")),
        (("{data}", "--split", "nowhere.json"), ("nowhere.json",)),
        (("{data}x",), ("data.h5x",)),
    ],
)
def test_what_makes_no_sense_is_refused(words, mentions, workplace: Path, finished: Path, tmp_path: Path, refused):
    places = {"data": workplace / "data.h5", "study": finished}
    before = contents(finished)
    filled = [str(word).format(**places) for word in words]
    if "-o" not in filled:
        filled += ["-o", str(tmp_path / "study")]
    refused("study", *filled, "--device", "cpu", mentions=mentions)
    assert contents(finished) == before


def test_a_budget_that_is_too_small_is_refused(workplace: Path, tmp_path: Path, refused):
    mentions = ("the study needs", "the budget is 1.00e+06", "search", "raise --budget")
    refused(*words_of(workplace, tmp_path / "study", "--budget", "1e6"), mentions=mentions)


def test_other_settings_are_refused_in_a_study_s_folder(workplace: Path, finished: Path, refused):
    before = contents(finished)
    mentions = (finished, "protocol.budget was 3000000000.0, now 2900000000.0", "choose another folder")
    refused(*words_of(workplace, finished, "--budget", "2.9e9"), mentions=mentions)
    assert contents(finished) == before


@pytest.mark.parametrize(("absent", "asked"), [(("plotly",), "plotly"), (("plotly", "pydantic"), "plotly, pydantic")])
def test_packages_of_the_extra_are_asked_for_first(absent, asked: str, tmp_path: Path, refused, monkeypatch):
    monkeypatch.setattr("loracast.study.find_spec", lambda name: None if name in absent else SimpleNamespace())
    mentions = (f"studies need {asked}; install it with pip install '.[study]' in the clone",)
    refused("study", tmp_path / "no.h5", "-o", tmp_path / "study", mentions=mentions)


def test_tensorboard_is_asked_for_before_anything_is_spent(workplace: Path, tmp_path: Path, refused, monkeypatch):
    monkeypatch.delitem(sys.modules, "loracast.tracking.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    words = words_of(workplace, tmp_path / "study", "--log", "tensorboard")
    refused(*words, mentions=("needs the package tensorboard", "loracast[tensorboard]"))


def test_a_folder_that_is_no_study_has_no_report(tmp_path: Path, refused):
    refused("report", tmp_path, mentions=(tmp_path / "study.json", "loracast study"))


# -- logs and processes ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("undrawn")
def test_training_is_logged_for_tensorboard(workplace: Path, tmp_path: Path, run: Run):
    run(*words_of(workplace, tmp_path / "study", "--log", "tensorboard", "--until", "default")).ok()
    directory = tmp_path / "study" / "runs" / "default"
    board = EventAccumulator(str(directory / "tensorboard"))
    board.Reload()
    logged = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    for kind, name in (("train", "loss"), ("train", "learning_rate"), ("validation", "nats")):
        wanted = {event["step"]: event[name] for event in logged if event["event"] == kind}
        found = {event.step: event.value for event in board.Scalars(f"{kind}/{name}")}
        assert found == pytest.approx(wanted)
    assert [path.name for path in (tmp_path / "study" / "runs").glob("*/tensorboard")] == ["tensorboard"]


@pytest.mark.parametrize("form", ["option", "joined", "file"])
@pytest.mark.usefixtures("undrawn")
def test_other_processes_are_told_what_to_do_as_data(
    form: str, workplace: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
):
    started: list[tuple[list[str], dict[str, str]]] = []

    def start(command: list[str], *, env: dict[str, str], **_: Any) -> SimpleNamespace:
        started.append((command, env))
        return SimpleNamespace(wait=lambda: len(started) - 1)

    monkeypatch.setattr("loracast.study.launch.subprocess.Popen", start)
    (tmp_path / "options.yaml").write_text("processes: 3\n")
    options = {
        "option": ("--processes", 3),
        "joined": ("--processes=3",),
        "file": ("--config", tmp_path / "options.yaml"),
    }[form]
    threads = torch.get_num_threads()
    outcome = run(*words_of(workplace, tmp_path / "study", *options, "--until", "data"))
    assert outcome.status == 0
    assert len(started) == 2
    for command, environment in started:
        assert command[:3] == [sys.executable, "-m", "loracast.study.worker"]
        request = {"directory": str(tmp_path / "study"), "until": "data", "log": None}
        assert json.loads(command[3]) == {**request, "device": "cpu", "precision": "float32", "compute": "auto"}
        assert int(environment["OMP_NUM_THREADS"]) == max(1, (os.cpu_count() or 1) // 3)
    assert torch.get_num_threads() == threads
    assert sorted(path.name for path in (tmp_path / "study").glob("*.log")) == ["process-1.log", "process-2.log"]
    assert f"process 1 failed, and others did its work; see {tmp_path / 'study'}/process-1.log" in outcome.err


@pytest.mark.parametrize(
    ("visible", "found", "given"),
    [(None, 0, None), (None, 2, ["1", "0", "1"]), ("4,7", 2, ["7", "4", "7"]), ("", 0, None)],
)
def test_processes_are_spread_over_the_gpus_that_are_seen(visible, found, given, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr("torch.cuda.device_count", lambda: found)
    spread = [launch._gpu(number).get("CUDA_VISIBLE_DEVICES") for number in (1, 2, 3)]
    assert spread == (given or [None] * 3)


@pytest.mark.usefixtures("undrawn")
def test_ctrl_c_ends_the_other_processes_too(
    workplace: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
):
    ended: list[str] = []

    def start(command: list[str], **_: Any) -> SimpleNamespace:
        return SimpleNamespace(terminate=lambda: ended.append("terminate"), wait=lambda: ended.append("wait"))

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("loracast.study.launch.subprocess.Popen", start)
    monkeypatch.setattr("loracast.study.launch.conduct", interrupted)
    assert run(*words_of(workplace, tmp_path / "study", "--processes", 2)).status == 130
    assert ended == ["terminate", "wait"]


# -- from Python -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("undrawn")
def test_python_runs_the_same_study_with_one_bar(workplace: Path, finished: Path, tmp_path: Path):
    told: list[tuple[str, float]] = []
    plans: list[dict[str, Any]] = []
    folder = loracast.study.run(
        workplace / "tiny.yaml",
        workplace / "data.h5",
        directory=tmp_path / "study",
        model=str(workplace / "model"),
        device="cpu",
        precision="float32",
        progress=lambda name, share: told.append((name, share)),
        on_plan=plans.append,
    )
    assert tables(folder.path) == tables(finished)
    assert {**folder.record(), "made": None} == {**json.loads((finished / "study.json").read_text()), "made": None}
    assert plans == [folder.record()]
    assert {name for name, _ in told} == {"study"}
    shares = [share for _, share in told]
    assert shares[-1] == 1
    assert folder.table("test")["mae"].notna().to_numpy().all()


def test_python_is_told_what_is_wrong_before_anything_is_written(workplace: Path, tmp_path: Path):
    for wrong, mention in (({"processes": 0}, "at least 1, not 0"), ({"until": "serach"}, "did you mean 'search'?")):
        with pytest.raises(ConfigError, match=re.escape(mention)):
            loracast.study.run(workplace / "tiny.yaml", workplace / "data.h5", directory=tmp_path / "study", **wrong)
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Interrupted("stopped after step 3 of 8")])
def test_a_worker_that_is_interrupted_says_so(
    stop: BaseException, finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupted(*_: Any) -> None:
        raise stop

    monkeypatch.setattr("loracast.study.worker.conduct", interrupted)
    request = {"directory": str(finished), "until": None, "log": None, "device": "cpu"}
    assert worker.main(request) == 130
    assert capsys.readouterr().out.startswith("stopped: ")


@pytest.mark.slow
def test_a_worker_that_fails_says_so_in_its_log(workplace: Path, tmp_path: Path):
    """The folder holds no study: status 2, a line of what is wrong, and no traceback."""
    request = {"directory": str(tmp_path), "until": None, "log": None, "device": "cpu"}
    command = [sys.executable, "-m", "loracast.study.worker", json.dumps(request)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert ended.stdout.startswith(f"error: {tmp_path / 'study.json'} cannot be read")
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_two_processes_do_one_study(workplace: Path, finished: Path, tmp_path: Path):
    (tmp_path / "options.yaml").write_text("processes: 2\n")
    words = words_of(workplace, tmp_path / "study", "--config", tmp_path / "options.yaml")
    program = Path(sys.executable).parent / "loracast"
    environment = {**os.environ, "GOMP_SPINCOUNT": "1000", "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run([program, *map(str, words)], capture_output=True, text=True, env=environment, timeout=240)
    assert ended.returncode == 0, ended.stderr
    assert "warning" not in ended.stderr
    assert [path.name for path in (tmp_path / "study").glob("process-*.log")] == ["process-1.log"]
    other = (tmp_path / "study" / "process-1.log").read_text()
    assert "test: ended" in other or "test: skipped" in other
    runs = [line.strip().split(":")[0] for line in (ended.stdout + other).splitlines() if line.startswith("  ")]
    runs = [run for run in runs if (tmp_path / "study" / "runs" / run).is_dir()]
    assert sorted(runs) == sorted(path.name for path in (finished / "runs").iterdir())  # each by one of them
    found, wanted = tables(tmp_path / "study"), tables(finished)
    assert found.keys() == wanted.keys()
    assert (tmp_path / "study" / "report.html").is_file()
    for name in ("dynamics", "baseline", "splits"):
        assert found[name] == wanted[name]

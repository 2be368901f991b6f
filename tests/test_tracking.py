"""Events as the programs that they are given to read them themselves."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast, get_args

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from loracast.errors import ConfigError
from loracast.tracking import SCALARS, Log, Tracker, tracker


def train(step: int, **changes: Any) -> dict[str, Any]:
    event = {"event": "train", "step": step, "steps": 9, "loss": 1 / step, "learning_rate": 0.01 * step}
    return {**event, "gradient_norm": 2.0 + step, "tokens_per_second": 1000 * step, "flops": 7, **changes}


def validation(step: int, loss: float) -> dict[str, Any]:
    return {"event": "validation", "step": step, "loss": loss, "nats": loss - 3, "flops": 7}


def tensorboard(directory: Path) -> Tracker:
    return tracker("tensorboard", directory)


def scalars(directory: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard shows of a run: {tag: {step: value}}."""
    events = EventAccumulator(str(directory / "tensorboard"))
    events.Reload()
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def test_events_become_scalars_by_step(tmp_path: Path):
    board = tensorboard(tmp_path)
    for event in (validation(0, 4.0), train(1), train(2), validation(2, 3.5)):
        board(event)
    found = scalars(tmp_path)
    assert found.keys() == {f"{kind}/{name}" for kind, names in SCALARS.items() for name in names}
    assert found["validation/loss"] == {0: 4.0, 2: 3.5}
    assert found["validation/nats"] == {0: 1.0, 2: 0.5}
    assert found["train/loss"] == {1: 1.0, 2: 0.5}
    assert found["train/learning_rate"] == pytest.approx({1: 0.01, 2: 0.02})
    assert found["train/gradient_norm"] == {1: 3.0, 2: 4.0}
    assert found["train/tokens_per_second"] == {1: 1000, 2: 2000}


def test_each_event_can_be_seen_at_once(tmp_path: Path):
    board = tensorboard(tmp_path)
    for step in (1, 2, 3):
        board(train(step))
        assert list(scalars(tmp_path)["train/loss"]) == list(range(1, step + 1))


def test_a_run_that_is_taken_up_again_forgets_what_came_after(tmp_path: Path):
    """The process died at step 4, its checkpoint was of step 2: steps 3 and 4 are done anew."""
    dying = tensorboard(tmp_path)
    for event in (validation(0, 4.0), train(1), train(2), validation(2, 3.5), train(3), train(4), validation(4, 9.0)):
        dying(event)
    resumed = tensorboard(tmp_path)
    for event in (train(3, loss=0.25), train(4, loss=0.125), validation(4, 3.0), train(5)):
        resumed(event)
    found = scalars(tmp_path)
    assert found["train/loss"] == pytest.approx({1: 1.0, 2: 0.5, 3: 0.25, 4: 0.125, 5: 0.2})
    assert found["validation/loss"] == {0: 4.0, 2: 3.5, 4: 3.0}


def test_a_run_that_begins_anew_forgets_everything(tmp_path: Path):
    for losses in ((4.0, 3.0, 2.0), (5.0,)):
        board = tensorboard(tmp_path)
        for step, loss in enumerate(losses):
            board(validation(step, loss))
    assert scalars(tmp_path)["validation/loss"] == {0: 5.0}


def test_what_is_no_curve_is_left_out(tmp_path: Path):
    board = tensorboard(tmp_path / "run")
    board({"event": "run", "stage": "default"})
    board({"event": "result", "scores": None, "seconds": 1.0})
    board({"event": "verdict", "step": 4, "windows": 2})
    assert not (tmp_path / "run").exists()  # nor is there a file before there is something to write


def test_a_loss_that_diverged_is_written(tmp_path: Path):
    board = tensorboard(tmp_path)
    board(train(1, loss=math.nan))
    board(train(2, loss=math.inf))
    losses = scalars(tmp_path)["train/loss"]
    assert math.isnan(losses[1])
    assert losses[2] == math.inf


@pytest.mark.parametrize("log", get_args(Log))
def test_the_package_is_asked_for_by_the_name_of_its_extra(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, f"loracast.tracking.{log}", raising=False)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard" if log == "tensorboard" else log, None)
    advice = rf"needs the package {log}; .* pip install 'loracast\[{log}\]'"
    with pytest.raises(ConfigError, match=advice):
        tracker(log, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_tracker_that_is_none_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="log must be one of tensorboard, mlflow, wandb, trackio, not 'paper'"):
        tracker(cast("Log", "paper"), tmp_path)


EVENTS = (validation(0, 4.0), train(1), train(2), validation(2, 3.5), {"event": "verdict", "step": 2})


def followed(log: Log, directory: Path) -> None:
    """A short run whose events go to a tracker."""
    watching = tracker(log, directory)
    for event in EVENTS:
        watching(event)
    watching.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "my run"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what MLflow asks of its database
def test_mlflow_shows_the_curves_of_each_start(folder: Path, monkeypatch: pytest.MonkeyPatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for _ in range(2):
        followed("mlflow", folder)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("loracast").experiment_id])
    assert [(run.info.run_name, run.info.status) for run in runs] == [("my run", "FINISHED")] * 2
    for run in runs:
        history = client.get_metric_history(run.info.run_id, "validation/loss")
        assert [(point.step, point.value) for point in history] == [(0, 4.0), (2, 3.5)]
        assert run.data.metrics.keys() == {f"{kind}/{name}" for kind, names in SCALARS.items() for name in names}


def test_wandb_keeps_the_curves_and_sends_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch):
    records = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    followed("wandb", folder)
    (kept,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    data, place, curve = kept.read_bytes(), 7, {}  # a log of LevelDB's kind: checksum, length, type, record
    while place + 7 <= len(data):
        length = int.from_bytes(data[place + 4 : place + 6], "little")
        record = records.Record()
        record.ParseFromString(data[place + 7 : place + 7 + length])
        place += 7 + length
        items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
        if "validation/loss" in items:
            curve[record.history.step.num] = float(items["validation/loss"])
    assert curve == {0: 4.0, 2: 3.5}


def test_trackio_shows_the_curves(folder: Path, tmp_path: Path):
    pytest.importorskip("trackio")
    told = (
        "from pathlib import Path\nimport sys, test_tracking\n"
        "test_tracking.followed('trackio', Path(sys.argv[1]))\n"
        "from trackio.sqlite_storage import SQLiteStorage as kept\n"
        "rows = kept.get_logs('loracast', 'my run')\n"
        "print([(row['step'], row['validation/loss']) for row in rows if 'validation/loss' in row])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TRACKIO_DIR"}
    environment["PYTHONPATH"] = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    done = subprocess.run([sys.executable, "-c", told, str(folder)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[(0, 4.0), (2, 3.5)]\n"
    assert (folder / "trackio").is_dir()

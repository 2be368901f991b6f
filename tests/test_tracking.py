"""Events in TensorBoard's files, as TensorBoard itself reads them."""

import math
import sys
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from loracast.errors import ConfigError
from loracast.tracking import SCALARS, TensorBoard


def train(step: int, **changes: Any) -> dict[str, Any]:
    event = {"event": "train", "step": step, "steps": 9, "loss": 1 / step, "learning_rate": 0.01 * step}
    return {**event, "gradient_norm": 2.0 + step, "tokens_per_second": 1000 * step, "flops": 7, **changes}


def validation(step: int, loss: float) -> dict[str, Any]:
    return {"event": "validation", "step": step, "loss": loss, "nats": loss - 3, "flops": 7}


def scalars(directory: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard shows of a run: {tag: {step: value}}."""
    events = EventAccumulator(str(directory / "tensorboard"))
    events.Reload()
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def test_events_become_scalars_by_step(tmp_path: Path):
    board = TensorBoard(tmp_path)
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
    board = TensorBoard(tmp_path)
    for step in (1, 2, 3):
        board(train(step))
        assert list(scalars(tmp_path)["train/loss"]) == list(range(1, step + 1))


def test_a_run_that_is_taken_up_again_forgets_what_came_after(tmp_path: Path):
    """The process died at step 4, its checkpoint was of step 2: steps 3 and 4 are done anew."""
    dying = TensorBoard(tmp_path)
    for event in (validation(0, 4.0), train(1), train(2), validation(2, 3.5), train(3), train(4), validation(4, 9.0)):
        dying(event)
    resumed = TensorBoard(tmp_path)
    for event in (train(3, loss=0.25), train(4, loss=0.125), validation(4, 3.0), train(5)):
        resumed(event)
    found = scalars(tmp_path)
    assert found["train/loss"] == pytest.approx({1: 1.0, 2: 0.5, 3: 0.25, 4: 0.125, 5: 0.2})
    assert found["validation/loss"] == {0: 4.0, 2: 3.5, 4: 3.0}


def test_a_run_that_begins_anew_forgets_everything(tmp_path: Path):
    for losses in ((4.0, 3.0, 2.0), (5.0,)):
        board = TensorBoard(tmp_path)
        for step, loss in enumerate(losses):
            board(validation(step, loss))
    assert scalars(tmp_path)["validation/loss"] == {0: 5.0}


def test_what_is_no_curve_is_left_out(tmp_path: Path):
    board = TensorBoard(tmp_path / "run")
    board({"event": "run", "stage": "default"})
    board({"event": "result", "scores": None, "seconds": 1.0})
    board({"event": "verdict", "step": 4, "windows": 2})
    assert not (tmp_path / "run").exists()  # nor is there a file before there is something to write


def test_a_loss_that_diverged_is_written(tmp_path: Path):
    board = TensorBoard(tmp_path)
    board(train(1, loss=math.nan))
    board(train(2, loss=math.inf))
    losses = scalars(tmp_path)["train/loss"]
    assert math.isnan(losses[1])
    assert losses[2] == math.inf


def test_the_package_is_asked_for_by_the_name_of_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"needs the package tensorboard; .* pip install 'loracast\[tensorboard\]'"):
        TensorBoard(tmp_path)
    assert list(tmp_path.iterdir()) == []

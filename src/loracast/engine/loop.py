"""What the loops of fine-tuning and pretraining share: schedule, interruption, log and exact checkpoints."""

from __future__ import annotations

import json
import math
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from loracast.errors import DataError, Diverged, ModelError
from loracast.files import json_text, write_text
from loracast.model.tensors import check_finite, read_metadata, read_tensors, write_tensors


def cosine_schedule(step: int, steps: int, peak: float, warmup: float, floor: float) -> float:
    """The learning rate of a step: a linear rise over `warmup` · steps, then a cosine down to `floor` · peak."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return peak * (step + 1) / rising
    progress = (step - rising) / max(1, steps - rising)
    return peak * (floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2)


def trapezoid_schedule(step: int, steps: int, peak: float, warmup: float, decay: float) -> float:
    """The learning rate of a step: a linear rise over `warmup` · steps, a plateau, a linear fall over `decay` · steps.

    Warmup, stable, decay; Hu et al. (2024, arXiv:2404.06395).
    """
    rising, falling = max(1, round(warmup * steps)), max(1, round(decay * steps))
    return peak * min(1.0, (step + 1) / rising, (steps - step) / falling)


def check_converges(
    measured: dict[str, float],
    step: int,
    rate: float,
    checkpoint: Path | None,
    record: Callable[[], dict[str, Any]] = dict,
) -> None:
    """Raises Diverged where a loss or a norm is not finite: all that followed would be NaN, too.

    Args:
        measured: losses and norms by their names.
        step: how many there were, for the message.
        rate: the peak learning rate, for the message.
        checkpoint: of an earlier step, which stays as it is.
        record: of the training, for whoever takes the error.
    """
    broken = [
        f"the {name.replace('_', ' ')} is {value}" for name, value in measured.items() if not math.isfinite(value)
    ]
    if not broken:
        return
    kept = f"; {checkpoint} is kept as it was before" if checkpoint and checkpoint.is_file() else ""
    raise Diverged(
        f"training diverged: after step {step}, {' and '.join(broken)}{kept}. Begin again, in another folder, with a "
        f"lower --learning-rate (its peak was {rate:.3g}) or a longer --warmup",
        record(),
    )


class Interruption:
    """Turns the first Ctrl-C into a request to stop after the current step; a second one stops at once."""

    def __init__(self):
        self.requested = False

    def _request(self, _signal: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def __enter__(self) -> Interruption:
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = signal.signal(signal.SIGINT, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        if self._main:
            signal.signal(signal.SIGINT, self._before)


class JsonLines:
    """A log of one JSON object a line. Opened at a step, it forgets what a run that died wrote after that step.

    A number that JSON cannot write, such as a loss that diverged, becomes null.
    """

    def __init__(self, path: Path, step: int = 0):
        self.path = path
        kept = ""
        if step and path.is_file():
            lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
            kept = "".join(f"{line}\n" for line in lines if json.loads(line)["step"] <= step)
        write_text(path, kept)
        try:
            self.stream = path.open("a", buffering=1)
        except OSError as error:
            raise DataError(f"{path}: cannot be written: {error.strerror}") from None

    def write(self, event: dict[str, Any]) -> None:
        try:
            self.stream.write(json_text(event) + "\n")
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot be written: {error.strerror}; choose a place with enough room"
            ) from None

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # what a full disk did not take has been told already
            self.stream.close()


def save_training(
    path: Path,
    groups: dict[str, dict[str, Tensor]],
    optimizers: Sequence[torch.optim.Optimizer],
    record: dict[str, Any],
) -> None:
    """Writes named groups of tensors, the optimisers' states and a record as one safetensors file."""
    tensors = {f"{group}/{name}": tensor for group, members in groups.items() for name, tensor in members.items()}
    for position, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            place = f"optimizer {position}/{index}"
            tensors |= {f"{place}/{name}": torch.as_tensor(value) for name, value in state.items()}
    write_tensors(path, tensors, {"record": json.dumps(record)})


def load_training(
    path: Path, optimizers: Sequence[torch.optim.Optimizer]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The groups and the record that `save_training` wrote; the optimisers get their states back."""
    groups: dict[str, dict[str, Tensor]] = {}
    tensors = read_tensors(path)
    check_finite(tensors, path, "the checkpoint is damaged; begin again, without --resume and in another folder")
    for full_name, tensor in tensors.items():
        group, name = full_name.split("/", 1)
        groups.setdefault(group, {})[name] = tensor
    for position, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for full_name, tensor in groups.pop(f"optimizer {position}", {}).items():
            index, name = full_name.split("/")
            state.setdefault(int(index), {})[name] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return groups, read_record(path)


def read_record(path: Path) -> dict[str, Any]:
    """The record of a training checkpoint, without its tensors."""
    metadata = read_metadata(path)
    if "record" not in metadata:
        raise ModelError(f"{path} is not a training checkpoint of loracast")
    return json.loads(metadata["record"])


def check_same(path: Path, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuses to resume a run with other settings than it began with."""
    wanted = json.loads(json.dumps(wanted))  # tuples become lists, as in the file
    changed = [
        f"{name} was {stored.get(name)!r}, now {wanted.get(name)!r}"
        for name in wanted.keys() | stored.keys()
        if stored.get(name) != wanted.get(name)
    ]
    if changed:
        raise ModelError(
            f"{path} belongs to a run with other settings ({'; '.join(sorted(changed))}); resume with those"
        )

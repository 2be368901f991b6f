"""Events for TensorBoard, in the folder `tensorboard` of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from loracast.tracking import scalars


class Tracker:
    """A run that is taken up again goes on in the same files, and what it had written beyond that step is forgotten."""

    def __init__(self, directory: Path):
        self._directory, self._writer = directory, None

    def __call__(self, event: dict[str, Any]) -> None:
        if not (found := scalars(event)):
            return
        if self._writer is None:  # what a run that died wrote from this step on is to be forgotten
            self._writer = SummaryWriter(str(self._directory / "tensorboard"), purge_step=event["step"])
        for name, value in found.items():
            self._writer.add_scalar(name, value, event["step"])
        self._writer.flush()

    def close(self) -> None:
        if self._writer:
            self._writer.close()

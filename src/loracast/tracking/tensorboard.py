"""Events for TensorBoard, in the folder `tensorboard` of the run."""

from __future__ import annotations

from torch.utils.tensorboard import SummaryWriter

from loracast import tracking


class Tracker(tracking.Tracker):
    """A run that is taken up again goes on in the same files, and what it had written beyond that step is forgotten."""

    def open(self, step: int) -> None:
        self._writer = SummaryWriter(str(self.directory / "tensorboard"), purge_step=step)

    def write(self, curves: dict[str, float], step: int) -> None:
        for name, value in curves.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def end(self) -> None:
        self._writer.close()

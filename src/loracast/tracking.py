"""Events of training for TensorBoard. The JSON lines of a run are always written; this is beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from loracast.errors import ConfigError, install_advice

Log = Literal["tensorboard"]
SCALARS = {"train": ("loss", "learning_rate", "gradient_norm", "tokens_per_second"), "validation": ("loss", "nats")}


class TensorBoard:
    """Writes the events of a run into its folder as TensorBoard reads them. Called with each event."""

    def __init__(self, directory: str | Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            advice = install_advice("tensorboard")
            raise ConfigError([f"--log tensorboard needs the package tensorboard; {advice}"]) from None
        self._open, self._directory, self._writer = SummaryWriter, Path(directory), None

    def __call__(self, event: dict[str, Any]) -> None:
        kind, step = event["event"], event.get("step", 0)
        if kind not in SCALARS:
            return
        if self._writer is None:  # what a run that died wrote from this step on is to be forgotten
            self._writer = self._open(str(self._directory / "tensorboard"), purge_step=step)
        for name in SCALARS[kind]:
            self._writer.add_scalar(f"{kind}/{name}", event[name], step)
        self._writer.flush()

    def close(self) -> None:
        if self._writer:
            self._writer.close()

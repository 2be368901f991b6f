"""Events of a training for those who watch it elsewhere, beside the JSON lines that a run always writes.

A tracker is made with a run's folder, which is also its name, and called with each event of the run. It writes nothing,
and opens nothing, before the first event that has a curve; its package is asked for at once.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

from loracast.errors import ConfigError, install_advice

Log = Literal["tensorboard", "mlflow", "wandb", "trackio"]
SCALARS = {"train": ("loss", "learning_rate", "gradient_norm", "tokens_per_second"), "validation": ("loss", "nats")}


class Tracker:
    """What takes the events of one run; each of its kinds says how a run is opened, written to and ended."""

    def __init__(self, directory: Path):
        self.directory, self.name, self._opened = directory, directory.resolve().name, False

    def __call__(self, event: dict[str, Any]) -> None:
        if not (found := scalars(event)):
            return
        if not self._opened:
            self.open(event["step"])
            self._opened = True
        self.write(found, event["step"])

    def close(self) -> None:
        """Ends the run, if anything was written of it."""
        if self._opened:
            self.end()

    def open(self, step: int) -> None:
        """Begins the run, whose first event is of this step."""
        raise NotImplementedError

    def write(self, curves: dict[str, float], step: int) -> None:
        raise NotImplementedError

    def end(self) -> None:
        raise NotImplementedError


def tracker(log: Log, directory: str | Path) -> Tracker:
    """The one of that name, whose package is an extra of loracast of the same name.

    Raises:
        ConfigError: for a name that is none, and where its package is not installed.
    """
    if log not in get_args(Log):
        raise ConfigError([f"log must be one of {', '.join(get_args(Log))}, not {log!r}"])
    try:
        return import_module(f"loracast.tracking.{log}").Tracker(Path(directory))
    except ImportError:
        raise ConfigError([f"--log {log} needs the package {log}; {install_advice(log)}"]) from None


def scalars(event: dict[str, Any]) -> dict[str, float]:
    """The curves of an event by name, such as `train/loss`; none for events that are no curve."""
    kind = event["event"]
    return {f"{kind}/{name}": float(event[name]) for name in SCALARS.get(kind, ())}

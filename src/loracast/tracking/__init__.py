"""Events of a training for those who watch it elsewhere, beside the JSON lines that a run always writes.

A tracker is made with a run's folder, which is also its name, and called with each event of the run. It writes nothing,
and opens nothing, before the first event that has a curve; its package is asked for at once.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from loracast.errors import ConfigError, install_advice

Log = Literal["tensorboard", "mlflow", "wandb", "trackio"]
SCALARS = {"train": ("loss", "learning_rate", "gradient_norm", "tokens_per_second"), "validation": ("loss", "nats")}


class Tracker(Protocol):
    """What takes the events of one run."""

    def __init__(self, directory: Path): ...

    def __call__(self, event: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


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

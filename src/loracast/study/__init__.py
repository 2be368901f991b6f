"""A whole experiment under a FLOP budget: `run` does one, or goes on with it, and `rerun` does one once more.

Needs the packages of the extra `study`.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from loracast.errors import ConfigError, install_advice

if TYPE_CHECKING:
    from loracast.study.launch import rerun as rerun
    from loracast.study.launch import run as run

__all__ = ["rerun", "run"]
NEEDED = ("plotly", "pydantic")


def check_installed() -> None:
    """Asks for the packages that only studies need, before anything is read."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError([f"studies need {', '.join(missing)}; {install_advice('study')}"])


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'loracast.study' has no attribute {name!r}")
    check_installed()
    from loracast.study import launch  # which imports torch, as few of those who import a part of this room want

    return getattr(launch, name)

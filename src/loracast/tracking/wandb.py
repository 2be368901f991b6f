"""Events for Weights & Biases, kept in the folder `wandb` of the run; nothing is sent unless WANDB_MODE says so.

`wandb sync` sends later what was kept.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, cast

import wandb

from loracast.tracking import scalars

Mode = Literal["online", "offline", "disabled", "shared"]


class Tracker:
    """Each start of a run is a run of its own there, by the folder's name, also where it takes up an earlier one."""

    def __init__(self, directory: Path):
        self._directory, self._run = directory, None

    def __call__(self, event: dict[str, Any]) -> None:
        if not (found := scalars(event)):
            return
        if self._run is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "loracast"),
                name=self._directory.resolve().name,
                dir=str(self._directory),
                mode=cast("Mode", os.environ.get("WANDB_MODE", "offline")),
                reinit="create_new",  # several runs of one process, as a study has them
                settings=wandb.Settings(silent=True),
            )
        self._run.log(found, step=event["step"])

    def close(self) -> None:
        if self._run:
            self._run.finish()

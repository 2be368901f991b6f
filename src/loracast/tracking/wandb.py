"""Events for Weights & Biases, kept in the folder `wandb` of the run; nothing is sent unless WANDB_MODE says so.

`wandb sync` sends later what was kept.
"""

from __future__ import annotations

import os
from typing import Literal, cast

import wandb

from loracast import tracking

Mode = Literal["online", "offline", "disabled", "shared"]


class Tracker(tracking.Tracker):
    """Each start of a run is a run of its own there, by the folder's name, also where it takes up an earlier one."""

    def open(self, step: int) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "loracast"),
            name=self.name,
            dir=str(self.directory),
            mode=cast("Mode", os.environ.get("WANDB_MODE", "offline")),
            reinit="create_new",  # several runs of one process, as a study has them
            settings=wandb.Settings(silent=True),
        )

    def write(self, curves: dict[str, float], step: int) -> None:
        self._run.log(curves, step=step)

    def end(self) -> None:
        self._run.finish()

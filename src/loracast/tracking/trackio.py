"""Events for trackio, in the folder that TRACKIO_DIR names, or `trackio` in the run's own.

`TRACKIO_DIR=RUN/trackio trackio show` draws them.
"""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from loracast.tracking import scalars


class Tracker:
    """Each start of a run is a run of its own there, also where it takes up an earlier one."""

    def __init__(self, directory: Path):
        # before trackio is imported, which reads it once
        os.environ.setdefault("TRACKIO_DIR", str((directory / "trackio").resolve()))
        import trackio

        self._trackio, self._directory, self._run = trackio, directory, None

    def __call__(self, event: dict[str, Any]) -> None:
        if not (found := scalars(event)):
            return
        if self._run is None:
            with redirect_stdout(sys.stderr):  # where it says what it does
                self._run = self._trackio.init(
                    "loracast",
                    self._directory.resolve().name,
                    embed=False,
                    auto_log_gpu=False,
                    auto_log_cpu=False,
                )
        self._run.log(found, step=event["step"])

    def close(self) -> None:
        if self._run:
            with redirect_stdout(sys.stderr):
                self._trackio.finish()  # the run alone would be finished again at the end of the process

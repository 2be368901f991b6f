"""Events for trackio, in the folder that TRACKIO_DIR names, or `trackio` in the run's own.

`TRACKIO_DIR=RUN/trackio trackio show` draws them.
"""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path

from loracast import tracking


class Tracker(tracking.Tracker):
    """Each start of a run is a run of its own there, also where it takes up an earlier one."""

    def __init__(self, directory: Path):
        super().__init__(directory)
        # before trackio is imported, which reads it once
        os.environ.setdefault("TRACKIO_DIR", str((directory / "trackio").resolve()))
        import trackio

        self._trackio = trackio

    def open(self, step: int) -> None:
        with redirect_stdout(sys.stderr):  # where it says what it does
            self._run = self._trackio.init("loracast", self.name, embed=False, auto_log_gpu=False, auto_log_cpu=False)

    def write(self, curves: dict[str, float], step: int) -> None:
        self._run.log(curves, step=step)

    def end(self) -> None:
        with redirect_stdout(sys.stderr):
            self._trackio.finish()  # the run alone would be finished again at the end of the process

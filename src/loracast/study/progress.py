"""What is told of a study while it runs: the events and results of its runs, and what share of its work is settled."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loracast.progress import Described, Listener
from loracast.study.context import Report, StudyContext
from loracast.study.stages import stages_until
from loracast.tracking import Log, Tracker, tracker

PHASE = "study"
LOOK_SECONDS = 5.0  # between two looks at what other processes do


class StudyProgress:
    """Shows the events of a study's runs as one bar for the whole study.

    Work is measured by the FLOPs of the study's plan, in the study's convention. A run that ends early settles all that
    was planned for it. What other processes have ended is counted whenever a run of this one begins or ends, and
    while this one has nothing to do, it shows a run that another one is at.

    Args:
        study: one that is written down in its folder.
        display: what shows the bar.
        until: the last stage that will be done; all unless given.
    """

    def __init__(self, study: StudyContext, display: Listener, until: str | None = None):
        self._study, self._display = study, display
        done = [stage.name for stage in stages_until(until)]
        plan = [row for row in study.folder.record()["plan"] if row["stage"] in done and row["runs"]]
        self._runs = {row["stage"]: row["runs"] for row in plan}
        self._cost = {row["stage"]: row[study.protocol.convention] / row["runs"] for row in plan}  # of one run
        self._ended, self._next_look = study.folder.ended(), 0.0
        self._begin("", "")
        self._tell()

    def __call__(self, run: str, event: Mapping[str, Any]) -> None:
        """Takes an event of a run."""
        kind = event["event"]
        if kind == "run":
            self._begin(run, event["stage"])
            if self._runs.get(self._stage) == 1:  # the final run takes what the search has left, which no plan knows
                self._cost[self._stage] = event["most"]
        elif kind == "result":
            self._begin("", "")
        elif kind in ("train", "validation"):
            executed = self._study.protocol.convention == "executed"
            self._trained = min(1.0, event["flops" if executed else "flops_published"] / self._cost[self._stage])
            self._note, self._share = self._describe(event), self._trained
        elif kind == "forecast":
            self._share = self._trained + (1 - self._trained) * event["share"]
        if kind in ("run", "result"):
            self._ended = self._study.folder.ended()
        self._tell()

    def look(self) -> None:
        """Shows how far another process is with its run; called again and again while this one waits."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_SECONDS
        folder = self._study.folder
        under_way = [entry for entry in self._study.ledger.entries() if not entry.closed]
        if not under_way:
            return
        run, most = under_way[-1].run, under_way[-1].reserved.of(self._study.protocol.convention)
        if run != self._run:
            self(run, {"event": "run", "stage": folder.read_json(folder.run(run) / "run.json")["stage"], "most": most})
        if event := folder.last_event(run):
            self(run, event)

    def _begin(self, run: str, stage: str) -> None:
        self._run, self._stage, self._note, self._describe = run, stage, "", Described()
        self._trained = self._share = 0.0  # of the run

    def _tell(self) -> None:
        ended = {stage: min(self._ended[stage], runs) for stage, runs in self._runs.items()}
        total = sum(self._cost[stage] * runs for stage, runs in self._runs.items())
        settled = sum(self._cost[stage] * count for stage, count in ended.items())
        settled += self._share * self._cost.get(self._stage, 0.0)
        number, count = sum(ended.values()), sum(self._runs.values())
        if self._run:
            parts = (f"run {min(number + 1, count)} of {count}", self._run, self._note)
            self._display.note(PHASE, " · ".join(part for part in parts if part))
        self._display(PHASE, 1.0 if number == count else min(0.999, settled / total))


class RunEvents:
    """Passes on the events of the runs of one process: to a tracker, to the study's bar and to its user.

    Args:
        folder: of the study.
        log: the tracker that is given the events of tuning runs, if any. ConfigError where it is not installed.
        report: called with a run's name and each event of it.
    """

    def __init__(self, folder: Path, log: Log | None, report: Report):
        self.log: Log | None = log
        self.progress: StudyProgress | None = None  # set once the study has its plan
        self._folder, self._report = folder, report
        self._trackers: dict[str, Tracker] = {}
        if log:
            tracker(log, folder)  # writes nothing yet, but tells now and not later that its package is missing

    def __call__(self, run: str, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "result" and run in self._trackers:
            self._trackers.pop(run).close()
        elif kind in ("train", "validation") and self.log:
            if run not in self._trackers:
                self._trackers[run] = tracker(self.log, self._folder / "runs" / run)
            self._trackers[run](event)
        self._report(run, event)
        if self.progress:
            self.progress(run, event)


def describe_result(result: Mapping[str, Any]) -> str:
    """What a run found, in a few words: `MAE 0.0517 · 12 s`."""
    scores, seconds = result["scores"], f"{result['seconds']:.0f} s"
    if not scores:
        return f"stopped ({result['stopped']}) · {seconds}"
    if scores["mae"] is None:
        return f"nothing of its text can be read as numbers · {seconds}"
    valid = f", {scores['valid_share']:.1%} valid" if scores["valid_share"] < 1 else ""
    return f"MAE {scores['mae']:.4f}{valid} · {seconds}"

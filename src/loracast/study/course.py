"""How far a study is: which of its runs is under way, and what share of its work is settled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loracast.progress import Described, Listener
from loracast.study.bench import Bench
from loracast.study.stages import STAGES

PHASE = "study"


class Course:
    """Shows the events of a study's runs as one bar for the whole study.

    Work is measured by the FLOPs of the study's plan, in the study's convention. A run that ends early settles all that
    was planned for it. What other processes have ended is counted whenever a run of this one begins or ends.

    Args:
        bench: of a study that is written down in its folder.
        display: what is told.
        until: the last stage that will be done; all unless given.
    """

    def __init__(self, bench: Bench, display: Listener, until: str | None = None):
        self._bench, self._display = bench, display
        names = [stage.name for stage in STAGES]
        done = names[: names.index(until) + 1] if until else names
        plan = [row for row in bench.folder.record()["plan"] if row["stage"] in done and row["runs"]]
        self._runs = {row["stage"]: row["runs"] for row in plan}
        self._cost = {row["stage"]: row[bench.protocol.convention] / row["runs"] for row in plan}  # of one run
        self._ended = bench.folder.ended()
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
            hardware = self._bench.protocol.convention == "hardware"
            self._trained = min(1.0, event["flops" if hardware else "flops_course"] / self._cost[self._stage])
            self._note, self._share = self._describe(event), self._trained
        elif kind == "forecast":
            self._share = self._trained + (1 - self._trained) * event["share"]
        if kind in ("run", "result"):
            self._ended = self._bench.folder.ended()
        self._tell()

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

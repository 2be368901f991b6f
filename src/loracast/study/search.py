"""Which settings are best: every combination (a grid), or successive halving with Optuna, which spends less.

Runs are compared by their validation loss in nats a value, which is comparable between decimals and costs nothing more;
those that go on to the end are judged by their forecasts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
from filelock import FileLock

from loracast.errors import ConfigError, install_advice
from loracast.study.bench import Bench
from loracast.study.protocol import Tuning, with_changes
from loracast.study.runs import TuningRun, perform

PRUNED = "pruned"
SETTINGS = ("decimals", "rank", "learning_rate")


def combinations(bench: Bench) -> Iterator[dict[str, Any]]:
    for values in product(*(getattr(bench.protocol.search, name) for name in SETTINGS)):
        yield dict(zip(SETTINGS, values))


def priced(bench: Bench) -> list[Tuning]:
    """The settings that differ in what they cost: all combinations, at one learning rate."""
    rates = bench.protocol.search.learning_rate
    return [tuning(bench, one) for one in combinations(bench) if one["learning_rate"] == rates[0]]


def tuning(bench: Bench, settings: dict[str, Any]) -> Tuning:
    return with_changes(bench.protocol.tuning, {"steps": bench.protocol.search.steps, **settings})


def grid(bench: Bench) -> list[TuningRun]:
    """One run a combination of settings."""
    return [
        TuningRun(f"search-grid-{index:03}", "search", tuning(bench, settings))
        for index, settings in enumerate(combinations(bench))
    ]


def promoted(value: float, competing: list[float], reduction: int) -> bool:
    """Whether a run with this loss goes on from a rung: it is among the best 1 / `reduction` of those that came so far.

    The rule of asynchronous successive halving (Li et al. 2020, arXiv:1810.05934), and the first runs go on anyway, if
    each is the best so far. It depends on losses alone, so that a run that died after it asked gets the same answer.
    A loss that is not a number is worse than any other.
    """
    value = math.inf if math.isnan(value) else value
    better = sum(other < value for other in competing)
    return better < max(1, len(competing) // reduction)


class Halving:
    """Successive halving over all combinations, in an order drawn from the seed, by any number of processes at once.

    Optuna's journal holds who tries what; it lies in the study's folder and survives crashes.
    """

    def __init__(self, bench: Bench):
        try:
            import optuna
        except ImportError:
            advice = install_advice("study")
            raise ConfigError([f"successive halving needs optuna; {advice}, or set search.method to grid"]) from None
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.bench, self.optuna = bench, optuna
        self.directory = bench.folder.path / "search"
        self.directory.mkdir(parents=True, exist_ok=True)
        # also for the journal: Optuna's own lock is a file, which a process that is killed leaves behind
        self.lock: Any = FileLock(self.directory / ".lock")
        with self.lock:
            storage = JournalStorage(JournalFileBackend(str(self.directory / "optuna.journal"), self.lock))
            self.study = optuna.create_study(storage=storage, study_name="halving", load_if_exists=True)
            known = len(self.study.get_trials(deepcopy=False))
            settings = list(combinations(bench))
            order = np.random.default_rng(bench.protocol.seed).permutation(len(settings))
            for index in order[known:]:  # all of them, unless a process died while it wrote them down
                self.study.enqueue_trial(settings[index])

    def work(self) -> bool:
        """Does what no other process is at; True when every run has ended."""
        running = self.study.get_trials(deepcopy=False, states=(self.optuna.trial.TrialState.RUNNING,))
        for frozen in running:  # of processes that died: before new ones, as if they had not
            self._try(self.optuna.trial.Trial(self.study, frozen._trial_id))
        while trial := self._next():
            self._try(trial)
        return all(trial.state.is_finished() for trial in self.study.get_trials(deepcopy=False))

    def _next(self) -> Any:
        with self.lock:  # or `ask` might make up a combination when another process took the last one
            waiting = self.study.get_trials(deepcopy=False, states=(self.optuna.trial.TrialState.WAITING,))
            return self.study.ask() if waiting else None

    def _try(self, trial: Any) -> None:
        search = self.bench.protocol.search
        settings = {name: trial.suggest_categorical(name, list(getattr(search, name))) for name in SETTINGS}
        run = TuningRun(f"search-halving-{trial.number:03}", "search", tuning(self.bench, settings))
        if not perform(self.bench, run, self._stop(trial)):
            return
        result = self.bench.folder.result(run.name) or {}
        with self.lock:  # another process may have found the same result
            if result["scores"] is None:  # stopped early, or diverged
                self.study.tell(trial, state=self.optuna.trial.TrialState.PRUNED, skip_if_finished=True)
            else:
                self.study.tell(trial, result["scores"]["mae"], skip_if_finished=True)

    def _stop(self, trial: Any) -> Callable[[int, float], str | None]:
        search = self.bench.protocol.search

        def stop(step: int, nats: float) -> str | None:
            if step not in search.rungs:
                return None
            others = self.study.get_trials(deepcopy=False)
            reported = {one.number: one.intermediate_values[step] for one in others if step in one.intermediate_values}
            if trial.number not in reported:
                trial.report(nats, step)
            return None if promoted(nats, [*({**reported, trial.number: nats}.values())], search.reduction) else PRUNED

        return stop

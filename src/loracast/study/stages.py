"""The stages of a study, in their order. A stage is skipped once its table is there; its runs are skipped one by one.

A stage says what its runs will cost at most before anything is computed, which runs they are once earlier stages have
ended, and which tables they give.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from typing import Any

import pandas as pd

from loracast.errors import BudgetError, ConfigError, DataError, ModelError, did_you_mean
from loracast.flops import Flops
from loracast.study import tables
from loracast.study.context import StudyContext
from loracast.study.protocol import TuningSettings, with_changes
from loracast.study.runs import ForecastRun, Run, TuningRun, perform, read_tuning
from loracast.study.search import grid, halving, priced, stop_at_rungs


class Stage(ABC):
    """One step of the protocol. `table` is the table that is written last: where it is, the stage has ended."""

    name: str
    table: str

    @abstractmethod
    def estimate(self, study: StudyContext) -> list[Flops]:
        """What each run may cost, whatever the stages before find."""

    @abstractmethod
    def runs(self, study: StudyContext) -> Sequence[Run]:
        """The runs, given what the stages before found."""

    @abstractmethod
    def tables(self, study: StudyContext) -> dict[str, pd.DataFrame]:
        """The tables of all ended runs, `table` last."""

    def work(self, study: StudyContext) -> bool:
        """Does what no other process is at; True when every run has ended."""
        ended = [perform(study, run) for run in self.runs(study)]
        return all(ended)

    def ended(self, study: StudyContext) -> bool:
        return study.folder.has_table(self.table)

    def conclude(self, study: StudyContext) -> None:
        """Writes the tables. Several processes may: they write the same."""
        for name, frame in self.tables(study).items():
            study.folder.write_table(name, frame)


class DataStage(Stage):
    """What the series are like. Computes no forecast."""

    name, table = "data", "dynamics"

    def estimate(self, study: StudyContext) -> list[Flops]:
        return []

    def runs(self, study: StudyContext) -> Sequence[Run]:
        return []

    def tables(self, study: StudyContext) -> dict[str, pd.DataFrame]:
        return tables.data_tables(study)


class BaselineStage(Stage):
    """The untouched model at each decimals, constrained to what parses and free."""

    name = table = "baseline"

    def estimate(self, study: StudyContext) -> list[Flops]:
        return [run.cost(study) for run in self.runs(study)]

    def runs(self, study: StudyContext) -> Sequence[Run]:
        return [
            ForecastRun(
                f"baseline-{'' if layout == 'auto' else f'{layout}-'}{decimals}-{'constrained' if tied else 'free'}",
                self.name,
                "validation",
                decimals,
                tied,
                layout=layout,
            )
            for layout, decimals, tied in product(
                study.protocol.baseline_layouts, study.protocol.baseline, (True, False)
            )
        ]

    def tables(self, study: StudyContext) -> dict[str, pd.DataFrame]:
        return {"baseline": tables.baseline_table(study)}


class DefaultStage(Stage):
    """One adapter with the default settings."""

    name = table = "default"

    def estimate(self, study: StudyContext) -> list[Flops]:
        return [run.most(study) for run in self.runs(study)]

    def runs(self, study: StudyContext) -> Sequence[TuningRun]:
        return [TuningRun("default", self.name, with_changes(study.protocol.tuning, study.protocol.default))]

    def tables(self, study: StudyContext) -> dict[str, pd.DataFrame]:
        return {"default": tables.tuning_table(study, self.name)}


class SearchStage(Stage):
    """All combinations of settings, by a grid, by successive halving, or by both."""

    name, table = "search", "search_methods"

    def estimate(self, study: StudyContext) -> list[Flops]:
        search = study.protocol.search
        methods = 2 if search.method == "both" else 1
        costs = [TuningRun("search", self.name, one).most(study) for one in priced(study)]
        return costs * len(search.learning_rate) * methods

    def runs(self, study: StudyContext) -> Sequence[Run]:
        return grid(study) if study.protocol.search.method != "halving" else []

    def work(self, study: StudyContext) -> bool:
        ended = super().work(study)
        if study.protocol.search.method != "grid":
            halved = [perform(study, run, stop_at_rungs(study, run)) for run in halving(study)]
            ended = ended and all(halved)
        return ended

    def tables(self, study: StudyContext) -> dict[str, pd.DataFrame]:
        return tables.search_tables(study)


class ContextStage(Stage):
    """The best settings of the search, over lengths of the training window."""

    name = table = "context"

    def estimate(self, study: StudyContext) -> list[Flops]:
        return [
            _largest(study, [run.most(study) for run in runs])
            for runs in zip(*(self._runs(study, best) for best in priced(study)))
        ]

    def runs(self, study: StudyContext) -> Sequence[Run]:
        return self._runs(study, _best_of(study, "search"))

    def _runs(self, study: StudyContext, best: TuningSettings) -> list[TuningRun]:
        changes = {name: value for name, value in study.protocol.context.items() if name != "tokens"}
        lengths = study.protocol.context.get("tokens", [])
        return [
            TuningRun(f"context-{tokens}", self.name, with_changes(best, {**changes, "tokens": tokens}))
            for tokens in lengths
        ]

    def tables(self, study: StudyContext) -> dict[str, pd.DataFrame]:
        return {"context": tables.context_table(study)}


class FinalStage(Stage):
    """The best settings so far with what remains of the budget, the test's forecasts left out."""

    name = table = "final"

    def estimate(self, study: StudyContext) -> list[Flops]:
        """What its first validation interval costs at most: the least that is worth the name."""
        runs = self._candidates(study)
        return [_largest(study, [run.cost(study, run.tuning.validate_every) for run in runs])]

    def most(self, study: StudyContext, left: float) -> Flops:
        """What it costs at most where so much is left, beside the test."""
        runs = self._candidates(study)
        return _largest(study, [run.cost(study, run.affordable(study, left)) for run in runs])

    def _candidates(self, study: StudyContext) -> list[TuningRun]:
        """What the final run may turn out to be."""
        lengths = study.protocol.context.get("tokens") or [study.protocol.tuning.tokens]
        return [self._run(study, with_changes(one, {"tokens": tokens})) for one in priced(study) for tokens in lengths]

    def runs(self, study: StudyContext) -> Sequence[Run]:
        stage = "context" if study.protocol.context.get("tokens") else "search"
        run = self._run(study, _best_of(study, stage))
        others = [entry.committed for entry in study.ledger.entries() if entry.run != run.name]  # it may be under way
        taken = Flops.sum([*others, *TestStage().estimate(study)]).of(study.protocol.convention)
        steps = run.affordable(study, study.protocol.budget - taken)
        return [TuningRun("final", self.name, with_changes(run.tuning, {"steps": steps}))]

    def _run(self, study: StudyContext, best: TuningSettings) -> TuningRun:
        return TuningRun("final", self.name, with_changes(best, study.protocol.final))

    def tables(self, study: StudyContext) -> dict[str, pd.DataFrame]:
        return {"final": tables.tuning_table(study, self.name)}


class TestStage(Stage):
    """Forecasts of the test series, untouched and tuned, beside the naive baselines."""

    name = table = "test"

    def estimate(self, study: StudyContext) -> list[Flops]:
        finals = [with_changes(one, study.protocol.final) for one in priced(study)]
        untouched = [study.forecast_cost("test", study.codec_of(final), None) for final in finals]
        tuned = [study.forecast_cost("test", study.codec_of(final), final.lora) for final in finals]
        return [_largest(study, untouched), _largest(study, tuned)]

    def runs(self, study: StudyContext) -> Sequence[Run]:
        final = read_tuning(study.folder.read_json(study.folder.run("final") / "run.json")).tuning
        return [
            ForecastRun("test-zero-shot", self.name, "test", final.decimals, layout=final.layout),
            ForecastRun("test-tuned", self.name, "test", final.decimals, adapter="final", layout=final.layout),
        ]

    def tables(self, study: StudyContext) -> dict[str, pd.DataFrame]:
        return tables.test_tables(study)


STAGES: tuple[Stage, ...] = (
    *(DataStage(), BaselineStage(), DefaultStage(), SearchStage(), ContextStage(), FinalStage(), TestStage()),
)


def stages_until(last: str | None) -> tuple[Stage, ...]:
    """The stages up to the one of this name; all where there is none."""
    if last is None:
        return STAGES
    names = [stage.name for stage in STAGES]
    if last not in names:
        raise ConfigError([f"until: unknown stage {last!r}{did_you_mean(last, names)}; there are {', '.join(names)}"])
    return STAGES[: names.index(last) + 1]


def plan(study: StudyContext) -> list[dict[str, Any]]:
    """What each stage costs at most, by both conventions; the final model takes what is left, up to its steps.

    Raises BudgetError where the budget does not hold all of it, and says what is largest.
    """
    budget, convention = study.protocol.budget, study.protocol.convention
    costs = {stage.name: stage.estimate(study) for stage in STAGES}
    totals = {name: Flops.sum(flops) for name, flops in costs.items()}
    needed = Flops.sum(totals.values()).of(convention)
    if needed > budget:
        shares = sorted(totals.items(), key=lambda pair: -pair[1].of(convention))
        largest = ", ".join(f"{name} {flops.of(convention):.2e}" for name, flops in shares if flops.of(convention))
        raise BudgetError(
            f"the study needs {needed:.2e} FLOPs ({convention}), the budget is {budget:.2e}; it would be spent on: "
            f"{largest}. Shrink the first of them in the protocol (fewer steps, settings, series or samples) or raise "
            "--budget"
        )
    final = next(stage for stage in STAGES if isinstance(stage, FinalStage))
    left = budget - needed + totals["final"].of(convention)
    totals["final"] = final.most(study, left)
    return [{"stage": name, "runs": len(costs[name]), **asdict(flops)} for name, flops in totals.items()]


def check_lengths(study: StudyContext) -> None:
    """Refuses series that are too short for what the protocol asks for, before anything is computed."""
    task, search = study.protocol.forecasts, study.protocol.search
    needed = task.context + task.horizon
    shortest = min(study.series, key=lambda one: one.steps)
    if shortest.steps < needed:
        raise DataError(
            f"series {shortest.id!r} has {shortest.steps} steps, but forecasts of {task.horizon} steps from "
            f"{task.context} need {needed}; shorten them under forecasts in the protocol, or leave it out"
        )
    lengths = study.protocol.context.get("tokens", [])
    written = with_changes(study.protocol.tuning, {"decimals": max(search.decimals)})
    steps = {tokens: study.steps_of(tokens, study.codec_of(written)) for tokens in lengths}
    long = {tokens: count for tokens, count in steps.items() if count > study.shortest}
    if long:
        listed = ", ".join(f"{tokens} tokens are about {count} steps" for tokens, count in long.items())
        raise DataError(
            f"the shortest series has {study.shortest} steps, too few for context.tokens even at "
            f"{max(search.decimals)} decimals: {listed}; take these lengths out of the protocol, or longer series"
        )


def _best_of(study: StudyContext, stage: str) -> TuningSettings:
    """The settings of a stage's run with the least MAE on validation series."""
    results = study.folder.results(stage).values()
    judged = [result for result in results if result["scores"]]
    if not judged:
        raise ModelError(
            f"no run of the stage {stage} came to its end; lower the learning rates in the protocol, and begin in "
            "another folder"
        )
    best = min(judged, key=lambda result: result["scores"]["mae"] or math.inf)
    return with_changes(study.protocol.tuning, best["run"]["tuning"])


def _largest(study: StudyContext, costs: Sequence[Flops]) -> Flops:
    return max(costs, key=lambda flops: flops.of(study.protocol.convention))

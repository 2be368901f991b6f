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

from loracast.errors import BudgetError, DataError, ModelError
from loracast.flops import Flops
from loracast.study import tables
from loracast.study.bench import Bench
from loracast.study.protocol import Tuning, with_changes
from loracast.study.runs import ForecastRun, Run, TuningRun, perform
from loracast.study.search import Halving, grid, priced


class Stage(ABC):
    """One step of the protocol. `table` is the table that is written last: where it is, the stage has ended."""

    name: str
    table: str

    @abstractmethod
    def predict(self, bench: Bench) -> list[Flops]:
        """What each run may cost, whatever the stages before find."""

    @abstractmethod
    def runs(self, bench: Bench) -> Sequence[Run]:
        """The runs, given what the stages before found."""

    @abstractmethod
    def tables(self, bench: Bench) -> dict[str, pd.DataFrame]:
        """The tables of all ended runs, `table` last."""

    def work(self, bench: Bench) -> bool:
        """Does what no other process is at; True when every run has ended."""
        ended = [perform(bench, run) for run in self.runs(bench)]
        return all(ended)

    def ended(self, bench: Bench) -> bool:
        return bench.folder.has_table(self.table)

    def conclude(self, bench: Bench) -> None:
        """Writes the tables. Several processes may: they write the same."""
        for name, frame in self.tables(bench).items():
            bench.folder.write_table(name, frame)


class Data(Stage):
    """What the series are like. Computes no forecast."""

    name, table = "data", "dynamics"

    def predict(self, bench: Bench) -> list[Flops]:
        return []

    def runs(self, bench: Bench) -> Sequence[Run]:
        return []

    def tables(self, bench: Bench) -> dict[str, pd.DataFrame]:
        return tables.data_tables(bench)


class Baseline(Stage):
    """The untouched model at each decimals, constrained to what parses and free."""

    name = table = "baseline"

    def predict(self, bench: Bench) -> list[Flops]:
        return [run.cost(bench) for run in self.runs(bench)]

    def runs(self, bench: Bench) -> Sequence[Run]:
        return [
            ForecastRun(
                f"baseline-{decimals}-{'constrained' if constrained else 'free'}",
                self.name,
                "validation",
                decimals,
                constrained,
            )
            for decimals, constrained in product(bench.protocol.baseline, (True, False))
        ]

    def tables(self, bench: Bench) -> dict[str, pd.DataFrame]:
        return {"baseline": tables.baseline_table(bench)}


class Default(Stage):
    """One adapter with the default settings."""

    name = table = "default"

    def predict(self, bench: Bench) -> list[Flops]:
        return [run.most(bench) for run in self.runs(bench)]

    def runs(self, bench: Bench) -> Sequence[TuningRun]:
        return [TuningRun("default", self.name, with_changes(bench.protocol.tuning, bench.protocol.default))]

    def tables(self, bench: Bench) -> dict[str, pd.DataFrame]:
        return {"default": tables.tuning_table(bench, self.name)}


class Search(Stage):
    """All combinations of settings, by a grid, by successive halving, or by both."""

    name, table = "search", "search_methods"

    def predict(self, bench: Bench) -> list[Flops]:
        search = bench.protocol.search
        methods = 2 if search.method == "both" else 1
        costs = [TuningRun("search", self.name, one).most(bench) for one in priced(bench)]
        return costs * len(search.learning_rate) * methods

    def runs(self, bench: Bench) -> Sequence[Run]:
        return grid(bench) if bench.protocol.search.method != "halving" else []

    def work(self, bench: Bench) -> bool:
        ended = super().work(bench)
        if bench.protocol.search.method != "grid":
            ended &= Halving(bench).work()
        return ended

    def tables(self, bench: Bench) -> dict[str, pd.DataFrame]:
        return tables.search_tables(bench)


class Context(Stage):
    """The best settings of the search, over lengths of the training window."""

    name = table = "context"

    def predict(self, bench: Bench) -> list[Flops]:
        return [
            _largest(bench, [run.most(bench) for run in runs])
            for runs in zip(*(self._runs(bench, best) for best in priced(bench)))
        ]

    def runs(self, bench: Bench) -> Sequence[Run]:
        return self._runs(bench, _best_of(bench, "search"))

    def _runs(self, bench: Bench, best: Tuning) -> list[TuningRun]:
        changes = {name: value for name, value in bench.protocol.context.items() if name != "tokens"}
        lengths = bench.protocol.context.get("tokens", [])
        return [
            TuningRun(f"context-{tokens}", self.name, with_changes(best, {**changes, "tokens": tokens}))
            for tokens in lengths
        ]

    def tables(self, bench: Bench) -> dict[str, pd.DataFrame]:
        return {"context": tables.context_table(bench)}


class Final(Stage):
    """The best settings so far with what remains of the budget, the test's forecasts left out."""

    name = table = "final"

    def predict(self, bench: Bench) -> list[Flops]:
        """What its first validation interval costs at most: the least that is worth the name."""
        runs = self._candidates(bench)
        return [_largest(bench, [run.cost(bench, run.tuning.validate_every) for run in runs])]

    def most(self, bench: Bench, left: float) -> Flops:
        """What it costs at most where so much is left, beside the test."""
        runs = self._candidates(bench)
        return _largest(bench, [run.cost(bench, run.affordable(bench, left)) for run in runs])

    def _candidates(self, bench: Bench) -> list[TuningRun]:
        """What the final run may turn out to be."""
        lengths = bench.protocol.context.get("tokens") or [bench.protocol.tuning.tokens]
        return [self._run(bench, with_changes(one, {"tokens": tokens})) for one in priced(bench) for tokens in lengths]

    def runs(self, bench: Bench) -> Sequence[Run]:
        stage = "context" if bench.protocol.context.get("tokens") else "search"
        run = self._run(bench, _best_of(bench, stage))
        others = [entry.committed for entry in bench.ledger.entries() if entry.run != run.name]  # it may be under way
        taken = Flops.sum([*others, *Test().predict(bench)]).of(bench.protocol.convention)
        steps = run.affordable(bench, bench.protocol.budget - taken)
        return [TuningRun("final", self.name, with_changes(run.tuning, {"steps": steps}))]

    def _run(self, bench: Bench, best: Tuning) -> TuningRun:
        return TuningRun("final", self.name, with_changes(best, bench.protocol.final))

    def tables(self, bench: Bench) -> dict[str, pd.DataFrame]:
        return {"final": tables.tuning_table(bench, self.name)}


class Test(Stage):
    """Forecasts of the test series, untouched and tuned, beside the naive baselines."""

    name = table = "test"

    def predict(self, bench: Bench) -> list[Flops]:
        finals = [with_changes(one, bench.protocol.final) for one in priced(bench)]
        untouched = [bench.forecast_cost("test", final.decimals, None) for final in finals]
        tuned = [bench.forecast_cost("test", final.decimals, final.lora) for final in finals]
        return [_largest(bench, untouched), _largest(bench, tuned)]

    def runs(self, bench: Bench) -> Sequence[Run]:
        final = bench.folder.read_json(bench.folder.run("final") / "run.json")
        decimals = final["tuning"]["decimals"]
        return [
            ForecastRun("test-zero-shot", self.name, "test", decimals),
            ForecastRun("test-tuned", self.name, "test", decimals, adapter="final"),
        ]

    def tables(self, bench: Bench) -> dict[str, pd.DataFrame]:
        return tables.test_tables(bench)


STAGES: tuple[Stage, ...] = (Data(), Baseline(), Default(), Search(), Context(), Final(), Test())


def plan(bench: Bench) -> list[dict[str, Any]]:
    """What each stage costs at most, by both conventions; the final model takes what is left, up to its steps.

    Raises BudgetError where the budget does not hold all of it, and says what is largest.
    """
    budget, convention = bench.protocol.budget, bench.protocol.convention
    costs = {stage.name: stage.predict(bench) for stage in STAGES}
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
    final = next(stage for stage in STAGES if isinstance(stage, Final))
    left = budget - needed + totals["final"].of(convention)
    totals["final"] = final.most(bench, left)
    return [{"stage": name, "runs": len(costs[name]), **asdict(flops)} for name, flops in totals.items()]


def check_lengths(bench: Bench) -> None:
    """Refuses series that are too short for what the protocol asks for, before anything is computed."""
    task, search = bench.protocol.forecasts, bench.protocol.search
    needed = task.context + task.horizon
    shortest = min(bench.series, key=lambda one: one.steps)
    if shortest.steps < needed:
        raise DataError(
            f"series {shortest.id!r} has {shortest.steps} steps, but forecasts of {task.horizon} steps from "
            f"{task.context} need {needed}; shorten them under forecasts in the protocol, or leave it out"
        )
    lengths = bench.protocol.context.get("tokens", [])
    steps = {tokens: bench.steps_of(tokens, max(search.decimals)) for tokens in lengths}
    long = {tokens: count for tokens, count in steps.items() if count > bench.shortest}
    if long:
        listed = ", ".join(f"{tokens} tokens are about {count} steps" for tokens, count in long.items())
        raise DataError(
            f"the shortest series has {bench.shortest} steps, too few for context.tokens even at "
            f"{max(search.decimals)} decimals: {listed}; take these lengths out of the protocol, or longer series"
        )


def _best_of(bench: Bench, stage: str) -> Tuning:
    """The settings of a stage's run with the least MAE on validation series."""
    results = bench.folder.results(stage).values()
    judged = [result for result in results if result["scores"]]
    if not judged:
        raise ModelError(
            f"no run of the stage {stage} came to its end; lower the learning rates in the protocol, and begin in "
            "another folder"
        )
    best = min(judged, key=lambda result: result["scores"]["mae"] or math.inf)
    return with_changes(bench.protocol.tuning, best["run"]["tuning"])


def _largest(bench: Bench, costs: Sequence[Flops]) -> Flops:
    return max(costs, key=lambda flops: flops.of(bench.protocol.convention))

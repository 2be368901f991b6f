"""The two kinds of runs that a study is made of: one tunes an adapter and judges it, one forecasts.

A run knows what it will cost before it begins, works in a folder of its own, and ends with `result.json` there. What it
does depends on its settings, the data and the model alone, so that it may die at any time and be taken up again, by any
process.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from loracast.engine.train import CHECKPOINT, affordable_steps, tuning_costs
from loracast.errors import Diverged, UnseenWarning
from loracast.evaluation.backtest import TUNED, ZERO_SHOT, backtest
from loracast.evaluation.baselines import BASELINES
from loracast.files import RECORD
from loracast.flops import Flops
from loracast.forecast import write_frame
from loracast.forecaster import Forecaster
from loracast.ledger import Ledger
from loracast.settings import TuneConfig
from loracast.study.bench import Bench
from loracast.study.protocol import Tuning

ESTIMATE_MARGIN = 1.1  # of the reservation over the estimate, where the lengths of texts differ

Stop = Callable[[int, float], str | None]
PATHS = "paths.parquet"
COMPARED = "search", "context"  # stages that go on where a run diverges: its settings are not the best


@dataclass(frozen=True)
class TuningRun:
    """Tunes an adapter and, unless it is stopped as one of the worse, forecasts the validation series with it."""

    name: str
    stage: str
    tuning: Tuning

    def settings(self) -> dict[str, Any]:
        return {"kind": "tuning", **asdict(self)}

    def config(self, bench: Bench) -> TuneConfig:
        """The engine's settings; the first half of a window is context."""
        steps = bench.window_steps(self.tuning.tokens, self.tuning.decimals)
        return self.tuning.config(steps // 2, steps - steps // 2, bench.protocol.seed)

    def cost(self, bench: Bench, steps: int | None = None) -> Flops:
        """Of so many steps, all unless given, and the forecasts after them."""
        config = self.config(bench)
        return self._costs(bench, config).of(config, steps or config.steps) + self._judgement(bench, config)

    def affordable(self, bench: Bench, flops: float) -> int:
        """The most steps that so many FLOPs allow, beside the forecasts; BudgetError where that is not even one."""
        config = self.config(bench)
        ledger = Ledger(flops / self._margin(bench), bench.protocol.convention)
        return affordable_steps(config, self._costs(bench, config), self._judgement(bench, config), ledger)

    def most(self, bench: Bench) -> Flops:
        """What to reserve: the cost, and a margin where it is an estimate."""
        cost, margin = self.cost(bench), self._margin(bench)
        return Flops(int(cost.hardware * margin), int(cost.course * margin))

    def _margin(self, bench: Bench) -> float:
        return 1.0 if bench.codec(self.tuning.decimals).layout == "fixed" else ESTIMATE_MARGIN

    def _costs(self, bench: Bench, config: TuneConfig):
        held_out = bench.held_out(config.context, config.horizon, config.validation_windows)
        return tuning_costs(bench.model, bench.train, held_out, bench.codec(self.tuning.decimals), config)

    def _judgement(self, bench: Bench, config: TuneConfig) -> Flops:
        return bench.forecast_cost("validation", self.tuning.decimals, config.lora)

    def perform(self, bench: Bench, ledger: Ledger, stop: Stop) -> dict[str, Any]:
        base, directory = bench.forecaster(self.tuning.decimals), bench.folder.run(self.name)
        interrupted = (directory / CHECKPOINT).is_file()
        if (directory / RECORD).is_file() and not interrupted:
            tuned = base.with_adapter(directory)
        else:
            config = self.config(bench)
            kept_back = self._judgement(bench, config).of(ledger.convention)  # training may take longer than estimated
            spent = Ledger(None if ledger.budget is None else ledger.budget - kept_back, ledger.convention)
            try:
                tuned = base.fit(
                    bench.train,
                    tune=config,
                    validation=bench.validation,
                    directory=directory,
                    resume=interrupted,
                    ledger=spent,
                    stop=stop,
                    report=lambda event: bench.report(self.name, event),
                )
            except Diverged as error:
                if self.stage not in COMPARED:
                    raise
                ledger.restore(spent.to_dict())
                return {
                    **error.record,
                    "window": {"context": config.context, "horizon": config.horizon},
                    "scores": None,
                }
        ledger.restore(tuned.record["flops"])
        found = tuned.record["result"]
        window = {"context": tuned.record["tune"]["context"], "horizon": tuned.record["tune"]["horizon"]}
        result = {**found, "window": window, "scores": None}
        if found["stopped"] not in (None, "patience", "budget"):
            return result
        began = time.perf_counter()
        scores, _ = _judge(bench, self.name, {TUNED: tuned}, "validation", ledger)
        return {**result, "scores": scores[TUNED], "seconds": found["seconds"] + time.perf_counter() - began}


@dataclass(frozen=True)
class ForecastRun:
    """Forecasts the series of a subset, untouched or with the adapter of another run, beside the naive baselines."""

    name: str
    stage: str
    subset: str
    decimals: int
    constrained: bool = True
    adapter: str | None = None

    def settings(self) -> dict[str, Any]:
        return {"kind": "forecast", **asdict(self)}

    def forecaster(self, bench: Bench) -> Forecaster:
        base = bench.forecaster(self.decimals, constrained=self.constrained)
        return base.with_adapter(bench.folder.run(self.adapter)) if self.adapter else base

    def cost(self, bench: Bench) -> Flops:
        lora = self.forecaster(bench).lora
        return bench.forecast_cost(self.subset, self.decimals, lora, constrained=self.constrained)

    most = cost

    def perform(self, bench: Bench, ledger: Ledger, stop: Stop) -> dict[str, Any]:
        began = time.perf_counter()
        name = TUNED if self.adapter else ZERO_SHOT
        forecaster = self.forecaster(bench)
        scores, forecast = _judge(bench, self.name, {name: forecaster}, self.subset, ledger, self.constrained)
        write_frame(forecast.paths_frame(), bench.folder.run(self.name) / PATHS)
        baselines = {name: scores[name] for name in BASELINES}
        return {"scores": scores[name], "baselines": baselines, "seconds": time.perf_counter() - began}


Run = TuningRun | ForecastRun


def read_run(settings: dict[str, Any]) -> Run:
    """The run whose settings these are."""
    stored = dict(settings)
    kind = TuningRun if stored.pop("kind") == "tuning" else ForecastRun
    return TypeAdapter(kind).validate_python(stored)


def perform(bench: Bench, run: Run, stop: Stop = lambda step, nats: None) -> bool:
    """Does a run, goes on with one that died, or finds that it has ended; False where another process is at it.

    A run is charged to the study's ledger: reserved before it begins, with what it spent when it ends.
    """
    folder = bench.folder
    with folder.lock(run.name) as ours:
        if not ours:
            return False
        if folder.result(run.name) is not None:
            return True
        settings = folder.run(run.name) / "run.json"
        if settings.is_file():  # what it began with counts: a final run's steps depend on what was left then
            run = read_run(folder.read_json(settings))
        else:
            folder.write_json(settings, run.settings())
        most = run.most(bench)
        ledger = bench.ledger.open(run.name, most)
        bench.report(run.name, {"event": "run", "stage": run.stage, "most": most.of(bench.protocol.convention)})
        result = run.perform(bench, ledger, stop)
        bench.ledger.close(run.name, ledger)
        hardware = bench.forecaster(1).hardware
        folder.write_json(
            folder.run(run.name) / "result.json", {**result, "flops": ledger.to_dict(), "hardware": hardware}
        )
        bench.report(run.name, {"event": "result", **result})
        return True


def _judge(
    bench: Bench,
    run: str,
    forecasters: dict[str, Forecaster],
    subset: str,
    ledger: Ledger,
    constrained: bool = True,
):
    """Scores by forecaster's name, and the forecast of the first one."""
    task = bench.protocol.forecasts
    with warnings.catch_warnings():  # a study compares lengths of windows on purpose
        warnings.simplefilter("ignore", UnseenWarning)
        result = backtest(
            forecasters,
            bench.judged(subset),
            task.context,
            task.horizon,
            sample=bench.sampling(subset),
            constrained=constrained,
            ledger=ledger,
            progress=lambda name, share: bench.report(run, {"event": "forecast", "share": share}),
        )
    return {row["forecaster"]: row for row in result.rows}, next(iter(result.forecasts.values()))

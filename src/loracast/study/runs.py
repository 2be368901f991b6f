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

from loracast.baselines import BASELINES
from loracast.engine.train import affordable_steps, tuning_costs
from loracast.errors import Diverged, UnseenWarning
from loracast.evaluation.backtest import TUNED, ZERO_SHOT, backtest
from loracast.files import CHECKPOINT, RECORD, write_json
from loracast.flops import Flops
from loracast.forecast import write_frame
from loracast.forecaster import Forecaster
from loracast.ledger import Ledger
from loracast.settings import TuneConfig
from loracast.study.context import StudyContext
from loracast.study.protocol import AnyLayout, TuningSettings

ESTIMATE_MARGIN = 1.1  # of the reservation over the estimate, where the lengths of texts differ

Stop = Callable[[int, float], str | None]
PATHS = "paths.parquet"
COMPARED = "search", "context"  # stages that go on where a run diverges: its settings are not the best


@dataclass(frozen=True)
class TuningRun:
    """Tunes an adapter and, unless it is stopped as one of the worse, forecasts the validation series with it."""

    name: str
    stage: str
    tuning: TuningSettings

    def settings(self) -> dict[str, Any]:
        return {"kind": "tuning", **asdict(self)}

    def config(self, study: StudyContext) -> TuneConfig:
        """The engine's settings; the first half of a window is context."""
        steps = study.window_steps(self.tuning.tokens, study.codec_of(self.tuning))
        return self.tuning.config(steps // 2, steps - steps // 2, study.protocol.seed)

    def cost(self, study: StudyContext, steps: int | None = None) -> Flops:
        """Of so many steps, all unless given, and the forecasts after them."""
        config = self.config(study)
        return self._costs(study, config).of(config, steps or config.steps) + self._judgement(study, config)

    def affordable(self, study: StudyContext, flops: float) -> int:
        """The most steps that so many FLOPs allow, beside the forecasts; BudgetError where that is not even one."""
        config = self.config(study)
        ledger = Ledger(flops / self._margin(study), study.protocol.convention)
        return affordable_steps(config, self._costs(study, config), self._judgement(study, config), ledger)

    def most(self, study: StudyContext) -> Flops:
        """What to reserve: the cost, and a margin where it is an estimate."""
        cost, margin = self.cost(study), self._margin(study)
        return Flops(int(cost.executed * margin), int(cost.published * margin))

    def _margin(self, study: StudyContext) -> float:
        return 1.0 if study.codec_of(self.tuning).layout == "fixed" else ESTIMATE_MARGIN

    def _costs(self, study: StudyContext, config: TuneConfig):
        held_out = study.held_out(config.context, config.horizon, config.validation_windows)
        return tuning_costs(study.model, study.train, held_out, study.codec_of(self.tuning), config)

    def _judgement(self, study: StudyContext, config: TuneConfig) -> Flops:
        return study.forecast_cost("validation", study.codec_of(self.tuning), config.lora)

    def perform(self, study: StudyContext, ledger: Ledger, stop: Stop) -> dict[str, Any]:
        base, directory = study.forecaster(study.codec_of(self.tuning)), study.folder.run(self.name)
        interrupted = (directory / CHECKPOINT).is_file()
        if (directory / RECORD).is_file() and not interrupted:
            tuned = base.with_adapter(directory)
        else:
            config = self.config(study)
            kept_back = self._judgement(study, config).of(ledger.convention)  # training may take longer than estimated
            spent = Ledger(None if ledger.budget is None else ledger.budget - kept_back, ledger.convention)
            try:
                tuned = base.fit(
                    study.train,
                    tune=config,
                    validation=study.validation,
                    directory=directory,
                    resume=interrupted,
                    ledger=spent,
                    stop=stop,
                    report=lambda event: study.report(self.name, event),
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
        scores, _ = _judge(study, self.name, {TUNED: tuned}, "validation", ledger)
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
    layout: AnyLayout = "auto"

    def settings(self) -> dict[str, Any]:
        return {"kind": "forecast", **asdict(self)}

    def forecaster(self, study: StudyContext) -> Forecaster:
        base = study.forecaster(study.codec(self.decimals, self.layout), constrained=self.constrained)
        return base.with_adapter(study.folder.run(self.adapter)) if self.adapter else base

    def cost(self, study: StudyContext) -> Flops:
        forecaster = self.forecaster(study)
        return study.forecast_cost(self.subset, forecaster.codec, forecaster.lora, constrained=self.constrained)

    most = cost

    def perform(self, study: StudyContext, ledger: Ledger, stop: Stop) -> dict[str, Any]:
        began = time.perf_counter()
        name = TUNED if self.adapter else ZERO_SHOT
        forecaster = self.forecaster(study)
        scores, forecast = _judge(study, self.name, {name: forecaster}, self.subset, ledger, self.constrained)
        write_frame(forecast.paths_frame(), study.folder.run(self.name) / PATHS)
        baselines = {name: scores[name] for name in BASELINES}
        return {"scores": scores[name], "baselines": baselines, "seconds": time.perf_counter() - began}


Run = TuningRun | ForecastRun


def read_run(settings: dict[str, Any]) -> Run:
    """The run whose settings these are."""
    return read_tuning(settings) if settings["kind"] == "tuning" else read_forecast(settings)


def read_tuning(settings: dict[str, Any]) -> TuningRun:
    """The tuning run whose settings these are; what the version that wrote them did not know is as by default."""
    return _read(TuningRun, settings)


def read_forecast(settings: dict[str, Any]) -> ForecastRun:
    """The same of a forecast."""
    return _read(ForecastRun, settings)


def _read(kind: Any, settings: dict[str, Any]) -> Any:
    return TypeAdapter(kind).validate_python({name: value for name, value in settings.items() if name != "kind"})


def perform(study: StudyContext, run: Run, stop: Stop = lambda step, nats: None) -> bool:
    """Does a run, goes on with one that died, or finds that it has ended; False where another process is at it.

    A run is charged to the study's ledger: reserved before it begins, with what it spent when it ends.
    """
    folder = study.folder
    with folder.lock(run.name) as ours:
        if not ours:
            return False
        if folder.result(run.name) is not None:
            return True
        settings = folder.run(run.name) / "run.json"
        if settings.is_file():  # what it began with counts: a final run's steps depend on what was left then
            run = read_run(folder.read_json(settings))
        else:
            write_json(settings, run.settings())
        most = run.most(study)
        ledger = study.ledger.open(run.name, most)
        study.report(run.name, {"event": "run", "stage": run.stage, "most": most.of(study.protocol.convention)})
        result = run.perform(study, ledger, stop)
        study.ledger.close(run.name, ledger)
        hardware = study.forecaster(study.codec(1)).hardware
        found = {**result, "flops": ledger.to_dict(), "hardware": hardware}
        write_json(folder.run(run.name) / "result.json", found)
        study.report(run.name, {"event": "result", **result})
        return True


def _judge(
    study: StudyContext,
    run: str,
    forecasters: dict[str, Forecaster],
    subset: str,
    ledger: Ledger,
    constrained: bool = True,
):
    """Scores by forecaster's name, and the forecast of the first one."""
    task = study.protocol.forecasts
    with warnings.catch_warnings():  # a study compares lengths of windows on purpose
        warnings.simplefilter("ignore", UnseenWarning)
        result = backtest(
            forecasters,
            study.judged(subset),
            task.context,
            task.horizon,
            sample=study.sampling(subset),
            constrained=constrained,
            ledger=ledger,
            progress=lambda name, share: study.report(run, {"event": "forecast", "share": share}),
        )
    return {row["forecaster"]: row for row in result.rows}, next(iter(result.forecasts.values()))

"""Fine-tuning an adapter on windows of series. The base is frozen; the adapter that validates best is kept."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from loracast.codec import Codec
from loracast.compute import choose
from loracast.compute.device import own_random_numbers
from loracast.engine.batch import Batch, encode_batch, gaps
from loracast.engine.loop import check_same, cosine_schedule, load_training, read_record, trapezoid_schedule
from loracast.engine.observation import observed
from loracast.engine.session import Emit, StepResult, TrainingSession
from loracast.engine.step import TrainingStep
from loracast.errors import BudgetError, ConfigError, ModelError
from loracast.files import CHECKPOINT
from loracast.flops import Flops, PassCost
from loracast.language_model import LanguageModel
from loracast.ledger import Ledger
from loracast.model.lora import adapter_layers, adapter_state, attach, load_adapter_state
from loracast.model.transformer import Transformer
from loracast.progress import Described, Listener
from loracast.series import Series, Window
from loracast.series.checks import not_known
from loracast.series.windows import WindowSource, fingerprint
from loracast.settings import TuneConfig

TUNING, JUDGEMENT = "tuning", "validation forecasts"  # the phases of a tuning, as its display names them
FLOOR = 0.1  # of the peak learning rate, at the end of the cosine
GAPS = 0.05, 0.6  # least and most share of the numbers that are hidden in a window with gaps
MEASURED_BATCHES = 8  # batches whose mean length gives the cost of a step


@dataclass(frozen=True, eq=False)
class TuneResult:
    """A tuned adapter by PEFT's tensor names, and what is worth knowing of how it came about."""

    state: dict[str, Tensor]
    record: dict[str, Any]


@dataclass
class Progress:
    """How far a run has come; its checkpoint holds it."""

    planned: int  # steps
    step: int = 0
    tokens: int = 0
    saturated: int = 0
    seconds: float = 0.0
    validated: int = -1  # the step whose adapter was validated last
    start_loss: float = float("nan")
    best_step: int = 0
    best_loss: float = float("inf")
    best_nats: float = float("nan")
    nats: float = float("nan")
    stale: int = 0  # validations since the best one


def draw_batch(source: WindowSource, codec: Codec, config: TuneConfig, step: int) -> Batch:
    """The windows of a step as text: some with gaps, all in sizes of their own and, as they are read, with noise.

    See `TuneConfig.observation_noise`, `gaps`, `jitter` and `noise`. Sizes by the scale of a whole data set mean
    something and stay.
    """
    drawn, draws = source.draw(step, config.batch), np.random.default_rng([config.seed, step, 1])
    if most := config.observation_noise:  # from draws of its own, as the gaps below
        drawn = observed(drawn, config.context, most, source.targets, np.random.default_rng([config.seed, step, 3]))
    if config.gaps:  # from draws of their own: without gaps, windows are as if there were no such thing
        context = drawn[:, : config.context]
        context[gaps(context, config.gaps, GAPS, np.random.default_rng([config.seed, step, 2]))] = np.nan
    columns = 1 if codec.scale == "joint" else drawn.shape[2]
    stretch = np.exp(config.jitter * draws.uniform(-1, 1, (len(drawn), columns)))
    stretch = None if codec.scale == "dataset" else stretch
    batch = encode_batch(codec, drawn, config.context, stretch, source.targets)
    return batch.noisy(config.noise, draws) if config.noise else batch


def held_out_batch(validation: Sequence[Window], codec: Codec, config: TuneConfig, targets: NDArray[np.bool_]) -> Batch:
    """The windows that validate as text: what is to be read of them is as noisy as what is tuned on, and only what
    follows their contexts counts, since the context of a lone series' window has been trained on.
    """
    judged = np.stack([window.values for window in validation])
    if most := config.observation_noise:
        judged = observed(judged, config.context, most, targets, np.random.default_rng(config.seed))
    batch = encode_batch(codec, judged, config.context, targets=targets).after(config.context)
    return batch.noisy(config.noise, np.random.default_rng(config.seed)) if config.noise else batch


class Tuning:
    """What a session trains to tune an adapter; see `session.Training`.

    Args:
        model: the base, which is not changed.
        training: series that windows are drawn from.
        validation: windows whose loss after their context decides which adapter is kept.
        ledger: charged for all training and validation.
        reserve: FLOPs of the budget to leave for the caller.
        stop: asked before a step that follows a validation; see `tune`.
    """

    def __init__(
        self,
        model: LanguageModel,
        training: Sequence[Series],
        validation: Sequence[Window],
        codec: Codec,
        config: TuneConfig,
        ledger: Ledger,
        reserve: Flops,
        stop: Callable[[int, float], str | None],
    ):
        self.codec, self.config, self.ledger, self.reserve, self.stop = codec, config, ledger, reserve, stop
        self.data = {"series": len(training), "fingerprint": fingerprint(training)}
        self.identity = {**asdict(config), "codec": codec.to_dict(), "base": model.fingerprint}
        self.identity |= {"data": self.data["fingerprint"], "precision": model.precision}
        self.identity["validation_data"] = fingerprint([window.series for window in validation])
        # the adapter's start comes before anything else that is random, and its seeds are its own
        self.network = attach(model.network, config.lora, config.seed)
        self.training_step = TrainingStep(choose(self.network, model.kind), model.rows, config)
        self.source = WindowSource(training, config.context + config.horizon, config.seed)
        self.held_out = held_out_batch(validation, codec, config, self.source.targets)
        self.to_nats = _nats_a_value(codec, validation, self.held_out)
        self.cost = PassCost.of(self.network, config.lora)
        self.costs = tuning_costs(model, training, validation, codec, config)
        self.best_state, self.progress = adapter_state(self.network), Progress(config.steps)

    def begin(self) -> None:
        """Plans as many steps as the budget allows."""
        self.progress.planned = affordable_steps(self.config, self.costs, self.reserve, self.ledger)

    def resume(self, checkpoint: Path) -> None:
        """Goes on from a checkpoint; a ModelError where that was of other settings, data or another base."""
        # a setting that the version which wrote it did not know had the value that is the default now, but for one
        stored = {**asdict(TuneConfig()), "observation_noise": 0.0, **read_record(checkpoint)["identity"]}
        check_same(checkpoint, stored, self.identity)
        groups, stored = load_training(checkpoint, self.optimizers)
        load_adapter_state(self.network, groups["adapter"], str(checkpoint))
        self.best_state, self.progress = groups["best"], Progress(**stored["progress"])
        self.ledger.restore(stored["ledger"])

    @property
    def steps(self) -> int:
        return self.progress.planned

    @property
    def peak(self) -> float:
        return self.training_step.peak

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.training_step.optimizer]

    def batches(self, first: int) -> Iterator[Batch]:
        return (draw_batch(self.source, self.codec, self.config, step) for step in count(first))

    def reason_to_stop(self, step: int, batch: Batch) -> str | None:
        """Patience or the caller after a validation, also when a run goes on from there; or the budget.

        Batches of the decimal layout differ in length, so that the steps that were planned are an estimate.
        """
        if step and self.progress.validated == step:
            if self.config.patience and self.progress.stale >= self.config.patience:
                return "patience"
            if reason := self.stop(step, self.progress.nats):
                return reason
        following = self._step_flops(batch) + self.costs.validation + self.reserve
        return None if self.ledger.affords(following) else "budget"

    def train(self, step: int, batch: Batch) -> StepResult:
        self.ledger.charge("training", self._step_flops(batch))
        if self.config.dropout:  # of a step depends on nothing before it
            torch.manual_seed(self.config.seed * 1_000_003 + step)
        rate = self._rate(step)
        loss, norm = self.training_step.run(batch, rate)
        self.progress.step = step + 1
        self.progress.tokens += batch.symbols.size
        self.progress.saturated += batch.saturated
        return StepResult(loss, norm, rate)

    def _rate(self, step: int) -> float:
        if self.config.decay is None:
            return cosine_schedule(step, self.steps, self.peak, self.config.warmup, FLOOR)
        return trapezoid_schedule(step, self.steps, self.peak, self.config.warmup, self.config.decay)

    def _step_flops(self, batch: Batch) -> Flops:
        return self.cost.training(self.config.batch, batch.symbols.shape[1] - 1).total

    def is_logged(self, step: int) -> bool:
        return True

    def is_validated(self, step: int) -> bool:
        return step % self.config.validate_every == 0 or step == self.steps

    def validate(self, step: int, emit: Emit) -> float:
        progress = self.progress
        self.ledger.charge("validation", self.costs.validation)
        loss = self.training_step.mean_loss(self.held_out)
        progress.validated, progress.nats, progress.stale = step, self.to_nats(loss), progress.stale + 1
        emit({"event": "validation", "step": step, "loss": loss, "nats": progress.nats, **self.spent()})
        if step == 0:
            progress.start_loss = loss
            if not np.isfinite(loss):
                precision = self.identity["precision"]
                raise ModelError(
                    f"the untouched model's validation loss is {loss}: its weights are damaged or too large for "
                    f"{precision}; copy or download it again, or take --precision float32"
                )
        return loss

    def accept(self, step: int, loss: float) -> None:
        progress = self.progress
        if loss < progress.best_loss:
            self.best_state = adapter_state(self.network)
            progress.best_step, progress.best_loss = step, loss
            progress.best_nats, progress.stale = progress.nats, 0

    def is_saved(self, step: int) -> bool:
        return step % self.config.validate_every == 0

    def state(self, step: int, seconds: float) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        self.progress.seconds = seconds
        known = {"identity": self.identity, "progress": asdict(self.progress), "ledger": self.ledger.to_dict()}
        return {"adapter": adapter_state(self.network), "best": self.best_state}, known

    def spent(self) -> dict[str, int]:
        return {"flops": self.ledger.total.executed, "flops_published": self.ledger.total.published}

    def record(self, stopped: str | None, seconds: float) -> dict[str, Any]:
        progress, layers = self.progress, [layer for _, layer in adapter_layers(self.network)]
        return {
            "steps": progress.step,
            "tokens": progress.tokens,
            "saturated_values": progress.saturated,
            "planned_steps": self.config.steps,
            "stopped": stopped or ("budget" if progress.planned < self.config.steps else None),
            "best_step": progress.best_step,
            "validation_loss": {"untouched": progress.start_loss, "tuned": progress.best_loss},
            "validation_nats_per_value": progress.best_nats,
            "learning_rate": self.peak,
            "trainable_parameters": sum(layer.lora_A.numel() + layer.lora_B.numel() for layer in layers),
            "seconds": round(seconds, 2),
            "data": self.data,
        }


def tune(
    model: LanguageModel,
    training: Sequence[Series],
    validation: Sequence[Window],
    codec: Codec,
    config: TuneConfig,
    ledger: Ledger,
    *,
    reserve: Flops | None = None,
    stop: Callable[[int, float], str | None] = lambda step, nats: None,
    directory: Path | None = None,
    resume: bool = False,
    report: Emit = lambda event: None,
    watch: Callable[[int, Transformer], None] | None = None,
    display: Listener | None = None,
) -> TuneResult:
    """Tunes a new adapter of `model`, which is not changed.

    Args:
        training: series that windows are drawn from.
        validation: windows whose loss after their context decides which adapter is kept.
        ledger: charged for all training and validation. Training ends early rather than pass its budget.
        reserve: FLOPs of the budget to leave for the caller.
        stop: asked before a step that follows a validation, with the steps so far and the loss in nats a value; a
            reason to stop ends training.
        directory: where metrics.jsonl and a checkpoint are written, the latter at each validation, on Ctrl-C and at
            the end, so that neither a crash nor an interruption of what the caller does next costs much training.
        resume: continue from that checkpoint; on a CPU the adapter is bit-identical to an undisturbed run's.
        report: called with every event that is logged.
        watch: called after each validation with the steps so far and the network as it is then, to look at and to
            leave as it is.
        display: told how far the tuning is, as the share of its FLOPs that is spent.

    Raises:
        Diverged: the loss or the gradient is no longer finite; the checkpoint of the last validation is kept.
    """
    checkpoint = directory / CHECKPOINT if directory else None
    if resume and (checkpoint is None or not checkpoint.is_file()):
        raise ConfigError([f"{directory} holds no interrupted run to resume ({CHECKPOINT} is not there)"])
    reserve, display, describe = reserve or Flops(), display or Listener(), Described()
    tuning = Tuning(model, training, validation, codec, config, ledger, reserve, stop)
    if resume and checkpoint is not None:
        tuning.resume(checkpoint)
    else:
        tuning.begin()
    planned_flops = tuning.costs.of(config, tuning.steps).executed
    display.plan({TUNING: planned_flops, JUDGEMENT: reserve.executed})

    def show() -> None:
        if tuning.progress.step < tuning.steps:  # after the last step, a validation may be to come
            display(TUNING, min(0.999, ledger.total.executed / planned_flops))

    def pass_on(event: dict[str, Any]) -> None:
        report(event)
        display.note(TUNING, describe(event))
        show()
        if watch and event["event"] == "validation":
            watch(event["step"], tuning.network)

    with own_random_numbers(model.device):
        progress = tuning.progress
        session = TrainingSession(
            tuning, step=progress.step, seconds=progress.seconds, directory=directory, report=pass_on
        )
        show()
        stopped = session.run()
    display(TUNING, 1.0)
    session.save()
    return TuneResult(tuning.best_state, tuning.record(stopped, session.seconds))


@dataclass(frozen=True)
class TuningCosts:
    """What a step and a measurement of the validation loss cost.

    The latter is exact; so is the former where all windows are equally long: layout `fixed`, nothing missing and no
    gaps (`TuneConfig.gaps`). Elsewhere it is the mean of a few batches.
    """

    step: Flops
    validation: Flops

    def of(self, config: TuneConfig, steps: int) -> Flops:
        """So many steps, with a validation before the first, one every so often, and one after the last."""
        return steps * self.step + (1 + -(-steps // config.validate_every)) * self.validation


def tuning_costs(
    model: LanguageModel, training: Sequence[Series], validation: Sequence[Window], codec: Codec, config: TuneConfig
) -> TuningCosts:
    """What `tune` would cost with the same arguments, before it begins."""
    cost = PassCost.of(model.network, config.lora)
    source = WindowSource(training, config.context + config.horizon, config.seed)
    drawn = [draw_batch(source, codec, config, step) for step in range(MEASURED_BATCHES)]
    tokens = round(np.mean([batch.symbols.shape[1] for batch in drawn]))
    held_out = encode_batch(codec, np.stack([window.values for window in validation]), config.context).symbols
    step, measured = cost.training(config.batch, tokens - 1), cost.forward(len(held_out), held_out.shape[1] - 1)
    return TuningCosts(step.total, measured.total)


def affordable_steps(config: TuneConfig, costs: TuningCosts, reserve: Flops, ledger: Ledger) -> int:
    """The most steps that a budget allows beside a reserve, and no more than were asked for.

    Raises BudgetError where that is not even one.
    """
    if ledger.budget is None:
        return config.steps

    def total(steps: int) -> Flops:
        return costs.of(config, steps) + reserve

    steps = bisect_left(range(1, config.steps + 1), True, key=lambda steps: not ledger.affords(total(steps)))
    if steps < 1:
        raise BudgetError(
            f"{ledger.left:.3e} FLOPs ({ledger.convention}) do not allow one step with its validation "
            f"({total(1).of(ledger.convention):.3e}); raise --flops or lower --batch, --validation-windows or "
            "--validation-series"
        )
    return steps


def _nats_a_value(codec: Codec, validation: Sequence[Window], batch: Batch) -> Callable[[float], float]:
    """Turns a mean loss in nats a token into nats a value, as a density in the series' own units.

    A token says more of a number where the number has fewer digits; only the density can be compared between codecs
    (LLMTIME, section 3).
    """
    future = np.stack([window.future_values for window in validation])
    observed = ~np.isnan(future) & not_known(validation[0].series)  # [N, H, D]
    unit = np.stack([codec.fit_scale(window.context_values).unit for window in validation])  # [N, D]
    values = max(1, observed.sum())
    log_unit = (observed * np.log(unit)[:, None]).sum() / values
    tokens = batch.in_loss.sum()
    return lambda loss: float(loss * tokens / values + log_unit)

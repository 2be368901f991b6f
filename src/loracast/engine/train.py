"""Fine-tuning an adapter on windows of series. The base is frozen; the adapter that validates best is kept."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from loracast.codec import Codec
from loracast.compute import choose
from loracast.compute.device import own_random_numbers
from loracast.engine.batch import Batch, encode_batch, gaps
from loracast.engine.loop import (
    Interruption,
    JsonLines,
    check_converges,
    check_same,
    cosine_schedule,
    load_training,
    read_record,
    save_training,
)
from loracast.engine.step import TrainingStep
from loracast.errors import BudgetError, ConfigError, Interrupted, ModelError
from loracast.flops import Flops, PassCost
from loracast.language_model import LanguageModel
from loracast.ledger import Ledger
from loracast.model.lora import adapter_layers, adapter_state, attach, load_adapter_state
from loracast.progress import Described, Listener
from loracast.series import Series, Window
from loracast.series.checks import not_known
from loracast.series.training_windows import WindowSource, fingerprint
from loracast.settings import TuneConfig

CHECKPOINT = "training.safetensors"
TUNING, JUDGEMENT = "tuning", "validation forecasts"  # the phases of a tuning, as its display names them
FLOOR = 0.1  # of the peak learning rate, at the end of the cosine
GAPS = 0.05, 0.6  # share of the numbers that are hidden where some are
MEASURED_BATCHES = 8  # that the cost of a step is measured by


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

    See `TuneConfig.gaps`, `jitter` and `noise`. Sizes by the scale of a whole data set mean something and stay.
    """
    drawn, draws = source.draw(step, config.batch), np.random.default_rng([config.seed, step, 1])
    if config.gaps:  # from draws of their own: without gaps, windows are as if there were no such thing
        context = drawn[:, : config.context]
        context[gaps(context, config.gaps, GAPS, np.random.default_rng([config.seed, step, 2]))] = np.nan
    columns = 1 if codec.scale == "joint" else drawn.shape[2]
    stretch = np.exp(config.jitter * draws.uniform(-1, 1, (len(drawn), columns)))
    stretch = None if codec.scale == "dataset" else stretch
    batch = encode_batch(codec, drawn, config.context, stretch, source.targets)
    return batch.noisy(config.noise, draws) if config.noise else batch


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
    report: Callable[[dict[str, Any]], None] = lambda event: None,
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
        display: told how far the tuning is, as the share of its FLOPs that is spent.

    Raises:
        Diverged: the loss or the gradient is no longer finite; the checkpoint of the last validation is kept.
    """
    checkpoint = directory / CHECKPOINT if directory else None
    identity = {**asdict(config), "codec": codec.to_dict(), "base": model.fingerprint, "data": fingerprint(training)}
    identity["precision"] = model.precision
    identity["validation_data"] = fingerprint([window.series for window in validation])
    if resume:
        if checkpoint is None or not checkpoint.is_file():
            raise ConfigError([f"{directory} holds no interrupted run to resume ({CHECKPOINT} is not there)"])
        check_same(checkpoint, read_record(checkpoint)["identity"], identity)

    # the adapter's start comes before anything else that is random, and its seeds are its own
    network = attach(model.network, config.lora, config.seed)
    training_step = TrainingStep(choose(network, model.kind), model.rows, config)
    source = WindowSource(training, config.context + config.horizon, config.seed)
    judged = np.stack([window.values for window in validation])
    held_out = encode_batch(codec, judged, config.context, targets=source.targets)
    held_out = held_out.after(config.context)  # the context of a lone series' window has been trained on
    if config.noise:  # an adapter that is to read such numbers is judged by such numbers
        held_out = held_out.noisy(config.noise, np.random.default_rng(config.seed))
    to_nats = _nats_a_value(codec, validation, held_out)
    cost, reserve = PassCost.of(network, config.lora), reserve or Flops()
    costs = tuning_costs(model, training, validation, codec, config)
    validation_flops = costs.validation

    best_state = adapter_state(network)
    if resume and checkpoint is not None:
        groups, stored = load_training(checkpoint, [training_step.optimizer])
        load_adapter_state(network, groups["adapter"], str(checkpoint))
        best_state, progress = groups["best"], Progress(**stored["progress"])
        ledger.restore(stored["ledger"])
    else:
        progress = Progress(affordable_steps(config, costs, reserve, ledger))
    began = time.perf_counter() - progress.seconds
    display, describe = display or Listener(), Described()
    planned_flops = costs.of(config, progress.planned).hardware
    display.plan({TUNING: planned_flops, JUDGEMENT: reserve.hardware})

    def emit(event: dict[str, Any]) -> None:
        if log:
            log.write(event)
        report(event)
        display.note(TUNING, describe(event))
        tell()

    def tell() -> None:
        if progress.step < progress.planned:  # after the last step, a validation may be to come
            display(TUNING, min(0.999, ledger.total.hardware / planned_flops))

    def validate() -> None:
        nonlocal best_state
        ledger.charge("validation", validation_flops)
        loss = training_step.mean_loss(held_out)
        progress.validated, progress.nats, progress.stale = progress.step, to_nats(loss), progress.stale + 1
        emit({"event": "validation", "step": progress.step, "loss": loss, "nats": progress.nats, **spent()})
        if progress.step == 0:
            progress.start_loss = loss
            if not np.isfinite(loss):
                raise ModelError(
                    f"the untouched model's validation loss is {loss}: its weights are damaged or too large for "
                    f"{model.precision}; copy or download it again, or take --precision float32"
                )
        check(validation_loss=loss)
        if loss < progress.best_loss:
            progress.best_step, progress.best_loss, best_state = progress.step, loss, adapter_state(network)
            progress.best_nats, progress.stale = progress.nats, 0

    def check(**measured: float) -> None:
        check_converges(measured, progress.step, training_step.peak, checkpoint, lambda: record("diverged"))

    def record(stopped: str | None) -> dict[str, Any]:
        return {
            "steps": progress.step,
            "tokens": progress.tokens,
            "saturated_values": progress.saturated,
            "planned_steps": config.steps,
            "stopped": stopped or ("budget" if progress.planned < config.steps else None),
            "best_step": progress.best_step,
            "validation_loss": {"untouched": progress.start_loss, "tuned": progress.best_loss},
            "validation_nats_per_value": progress.best_nats,
            "learning_rate": training_step.peak,
            "trainable_parameters": sum(
                layer.lora_A.numel() + layer.lora_B.numel() for _, layer in adapter_layers(network)
            ),
            "seconds": round(time.perf_counter() - began, 2),
            "data": {"series": len(training), "fingerprint": identity["data"]},
        }

    def spent() -> dict[str, int]:
        return {"flops": ledger.total.hardware, "flops_course": ledger.total.course}

    def reason_to_stop() -> str | None:
        """After a validation, and again when a run goes on from the checkpoint that was saved then."""
        if progress.step == 0 or progress.validated < progress.step:
            return None
        if config.patience and progress.stale >= config.patience:
            return "patience"
        return stop(progress.step, progress.nats)

    def save() -> None:
        progress.seconds = time.perf_counter() - began
        if checkpoint:
            known = {"identity": identity, "progress": asdict(progress), "ledger": ledger.to_dict()}
            groups = {"adapter": adapter_state(network), "best": best_state}
            save_training(checkpoint, groups, [training_step.optimizer], known)

    def draw(step: int) -> Batch:
        return draw_batch(source, codec, config, step)

    with (
        own_random_numbers(model.device),
        JsonLines(directory / "metrics.jsonl", progress.step) if directory else nullcontext() as log,
        Interruption() as interruption,
    ):
        tell()
        if progress.validated < 0:
            validate()
        since, stopped, batch = time.perf_counter(), None, draw(progress.step)
        while progress.step < progress.planned and not (stopped := reason_to_stop()):
            step = progress.step
            step_flops = cost.training(config.batch, batch.symbols.shape[1] - 1).total
            if not ledger.affords(step_flops + validation_flops + reserve):
                stopped = "budget"  # batches of the decimal layout differ in length, so the plan is an estimate
                break
            ledger.charge("training", step_flops)
            if config.dropout:  # of a step depends on nothing before it
                torch.manual_seed(config.seed * 1_000_003 + step)
            rate = cosine_schedule(step, progress.planned, training_step.peak, config.warmup, FLOOR)
            loss, norm = training_step.run(batch, rate)
            progress.step += 1
            progress.tokens += batch.symbols.size
            progress.saturated += batch.saturated
            tokens, batch = batch.symbols.size, draw(progress.step)  # the next batch, while a GPU computes this one
            value, now = loss.item(), time.perf_counter()
            pace = round(tokens / (now - since))
            event = {"event": "train", "step": progress.step, "steps": progress.planned, "loss": value}
            event |= {"learning_rate": rate, "gradient_norm": norm.item(), "tokens_per_second": pace}
            emit({**event, **spent()})
            check(loss=value, gradient_norm=event["gradient_norm"])
            if progress.step % config.validate_every == 0:
                validate()
                save()
            since = time.perf_counter()
            if interruption.requested and progress.step < progress.planned:
                save()
                where = f"; continue with --resume from {checkpoint}" if checkpoint else ""
                raise Interrupted(f"stopped after step {progress.step} of {progress.planned}{where}")
        if progress.validated < progress.step:
            validate()
    display(TUNING, 1.0)
    save()
    return TuneResult(best_state, record(stopped))


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

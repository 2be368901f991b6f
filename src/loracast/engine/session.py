"""The loop that tuning and pretraining share: steps, their log, validation, checkpoints and Ctrl-C.

Shapes: B windows, L tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from loracast.engine.batch import Batch
from loracast.engine.loop import Interruption, JsonLines, check_converges, save_training
from loracast.errors import Interrupted
from loracast.files import CHECKPOINT

Emit = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class StepResult:
    """What a step measured; loss and norm of the gradient stay on the device and are not waited for."""

    loss: Tensor
    norm: Tensor
    rate: float
    details: dict[str, Any] = field(default_factory=dict)  # that stand in the log, too


class Training(Protocol):
    """What is trained: its data, its step, its validation and what a checkpoint of it holds.

    Attributes:
        steps: so many optimiser steps are planned.
        peak: the highest learning rate, for messages.
        optimizers: whose states a checkpoint holds.
    """

    @property
    def steps(self) -> int: ...

    @property
    def peak(self) -> float: ...

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]: ...

    def batches(self, first: int) -> Iterator[Batch]:
        """The batches of steps from `first` on."""
        ...

    def reason_to_stop(self, step: int, batch: Batch) -> str | None:
        """Asked before each step: why the training ends early, or None."""
        ...

    def train(self, step: int, batch: Batch) -> StepResult:
        """One step, charged."""
        ...

    def is_logged(self, step: int) -> bool:
        """Whether what was measured is waited for and logged after so many steps."""
        ...

    def is_validated(self, step: int) -> bool:
        """Whether the validation loss is to be measured after so many steps."""
        ...

    def validate(self, step: int, emit: Emit) -> float:
        """Measures the validation loss, which is charged, and emits its event."""
        ...

    def accept(self, step: int, loss: float) -> None:
        """Takes note of a validation loss that is finite."""
        ...

    def is_saved(self, step: int) -> bool:
        """Whether a checkpoint is written after so many steps."""
        ...

    def state(self, step: int, seconds: float) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """The groups of tensors and the record of a checkpoint."""
        ...

    def spent(self) -> dict[str, int]:
        """FLOPs so far, as the log has them."""
        ...

    def record(self, stopped: str | None, seconds: float) -> dict[str, Any]:
        """What is worth knowing of the training, also where it diverged."""
        ...


class TrainingSession:
    """Trains from a step on until all steps are done, something asks to stop, or Ctrl-C.

    Args:
        training: what is trained.
        step, seconds: how many steps were done before, and how long they took.
        directory: where metrics.jsonl and the checkpoint are written; neither is without one.
        report: called with every event that is logged.
    """

    def __init__(
        self,
        training: Training,
        *,
        step: int,
        seconds: float,
        directory: Path | None,
        report: Emit = lambda event: None,
    ):
        self.training, self.step, self.report = training, step, report
        self.checkpoint = directory / CHECKPOINT if directory else None
        self.log = JsonLines(directory / "metrics.jsonl", step) if directory else None
        self._began = time.perf_counter() - seconds
        self._last: StepResult | None = None

    @property
    def seconds(self) -> float:
        """How long the training has taken, with what came before the session."""
        return time.perf_counter() - self._began

    def emit(self, event: dict[str, Any]) -> None:
        """Logs and reports an event."""
        if self.log:
            self.log.write(event)
        self.report(event)

    def run(self) -> str | None:
        """Trains. Returns why it ended early, or None; a Diverged or an Interrupted is raised where that ended it."""
        training, reason = self.training, None
        batches = training.batches(self.step)
        with self.log or nullcontext(), Interruption() as interruption:
            if self.step == 0 and training.is_validated(0):
                self._validate()
            batch, tokens, since = next(batches, None), 0, time.perf_counter()
            while batch is not None and self.step < training.steps:
                if reason := training.reason_to_stop(self.step, batch):
                    break
                self._last = training.train(self.step, batch)
                self.step += 1
                tokens += batch.symbols.size
                batch = next(batches, None)  # while a GPU computes this one
                logged = training.is_logged(self.step)
                if logged:
                    self._log(tokens, since)
                if training.is_validated(self.step):
                    self._validate()
                if training.is_saved(self.step):
                    self.save()
                if interruption.requested and self.step < training.steps:
                    self.save()
                    where = f" from {self.checkpoint}" if self.checkpoint else ""
                    raise Interrupted(
                        f"stopped after step {self.step} of {training.steps}; continue with --resume{where}"
                    )
                if logged:
                    tokens, since = 0, time.perf_counter()
            if reason and not training.is_validated(self.step):
                self._validate()
        return reason

    def save(self) -> None:
        """Writes the checkpoint, unless the last step diverged: never instead of a checkpoint that is sound."""
        if self.checkpoint is None:
            return
        self._check_last()
        groups, record = self.training.state(self.step, self.seconds)
        save_training(self.checkpoint, groups, self.training.optimizers, record)

    def _log(self, tokens: int, since: float) -> None:
        last = self._last
        assert last is not None  # a step came before
        value = last.loss.item()  # the device is waited for only here
        self.emit(
            {
                "event": "train",
                "step": self.step,
                "steps": self.training.steps,
                "loss": value,
                "learning_rate": last.rate,
                "gradient_norm": last.norm.item(),
                **last.details,
                "tokens_per_second": round(tokens / (time.perf_counter() - since)),
                **self.training.spent(),
            }
        )
        self._check_last()

    def _validate(self) -> None:
        loss = self.training.validate(self.step, self.emit)
        self._check(validation_loss=loss)
        self.training.accept(self.step, loss)

    def _check_last(self) -> None:
        if self._last is not None:
            self._check(loss=self._last.loss.item(), gradient_norm=self._last.norm.item())

    def _check(self, **measured: float) -> None:
        check_converges(
            measured,
            self.step,
            self.training.peak,
            self.checkpoint,
            lambda: self.training.record("diverged", self.seconds),
        )

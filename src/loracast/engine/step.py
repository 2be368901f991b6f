"""One step of fine-tuning: gradients of the adapters, part by part, then the optimiser.

What computes them is the model's `compute`. A batch that does not fit the memory is computed in more parts; the
gradient stays the same.

Shapes: B windows, L tokens.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from loracast.compute.device import on_gpu, release_memory
from loracast.compute.plain import PlainCompute
from loracast.engine.batch import Batch, to_device
from loracast.engine.muon import Muon
from loracast.errors import ConfigError
from loracast.settings import TuneConfig

VALIDATION_TOKENS = 16_384  # fed at once


class TrainingStep:
    """Steps of the optimiser on the adapters of a network.

    Args:
        compute: of a network with an adapter, the only parameters that require a gradient.
        rows: [A] the embedding's row of each symbol.
    """

    def __init__(self, compute: PlainCompute, rows: Tensor, config: TuneConfig):
        self.rows, self.config, network = rows, config, compute.network
        self.adapters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.peak = config.peak_learning_rate(network.config.hidden_size)
        self.optimizer = optimizer_of(self.adapters, self.peak, config)
        self.passes = compute.passes(self.adapters)
        self.parts = config.accumulate

    def run(self, batch: Batch, rate: float) -> tuple[Tensor, Tensor]:
        """Mean loss in nats and norm of the gradient, both on the device and not waited for."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.gradients(batch)
        norm = nn.utils.clip_grad_norm_(self.adapters, self.config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss, norm

    def gradients(self, batch: Batch) -> Tensor:
        """Sets the gradients of the batch's mean loss, computed in parts, and returns that loss."""
        if self.parts is None:
            self.parts = self.passes.parts(*batch.symbols.shape)
        while True:
            try:
                return self._gradients(batch, self.parts)
            except torch.OutOfMemoryError:
                if self.parts >= len(batch.symbols):
                    raise ConfigError(
                        [
                            "the GPU's memory does not hold one window of this batch; shorten --context or --horizon, "
                            "or load the numeric vocabulary"
                        ]
                    ) from None
            # only here, where the error no longer holds what it was raised in
            self.parts = min(2 * self.parts, len(batch.symbols))
            self.optimizer.zero_grad(set_to_none=True)
            self.passes.forget()
            release_memory()

    def _gradients(self, batch: Batch, parts: int) -> Tensor:
        share = torch.full((), 1 / max(1, int(batch.in_loss.sum())), device=self.rows.device)
        total = torch.zeros((), device=self.rows.device)
        for part in batch.parts(parts):
            part = padded(part, self.passes.length_multiple)
            total += self.passes.add_gradients(*to_device(part, self.rows), share)
        return total

    @torch.no_grad()
    def mean_loss(self, batch: Batch) -> float:
        """Mean loss in nats of a batch, some windows at a time."""
        parts = -(-batch.symbols.size // VALIDATION_TOKENS)
        total = 0.0
        for part in batch.parts(min(parts, len(batch.symbols))):
            total += self.passes.loss_sum(*to_device(part, self.rows)).item()
        return total / max(1, int(batch.in_loss.sum()))


def optimizer_of(adapters: list[nn.Parameter], rate: float, config: TuneConfig) -> torch.optim.Optimizer:
    """The optimiser of an adapter's matrices."""
    if config.optimizer == "muon":
        return Muon(adapters, lr=rate, weight_decay=config.weight_decay)
    return torch.optim.AdamW(
        adapters, lr=rate, weight_decay=config.weight_decay, betas=(0.9, 0.99), fused=on_gpu(adapters[0].device)
    )


def padded(batch: Batch, multiple: int) -> Batch:
    """A batch whose length is a multiple of so many tokens, and one for the token that is only predicted."""
    spare = -(batch.symbols.shape[1] - 1) % multiple
    if not spare:
        return batch
    ends = ((0, 0), (0, spare))
    fed = None if batch.fed is None else np.pad(batch.fed, ends)
    return Batch(np.pad(batch.symbols, ends), np.pad(batch.in_loss, ends), batch.saturated, fed)

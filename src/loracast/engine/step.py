"""One step of fine-tuning: gradients of the adapters, part by part, then the optimiser.

On a GPU the fused network computes them, and a part's forward and backward pass is one CUDA graph for each shape. A
batch that does not fit the memory is computed in more parts; the gradient stays the same.

Shapes: B windows, L tokens.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from loracast.engine.batch import Batch, loss_sum, to_device
from loracast.errors import ConfigError
from loracast.model.config import Qwen2Config
from loracast.model.fused import FusedQwen2, can_fuse
from loracast.model.qwen2 import Qwen2
from loracast.settings import TuneConfig

VALIDATION_TOKENS = 16_384  # fed at once
LENGTH_BUCKET = 32  # on a GPU, batches are padded to a multiple of it, so that few shapes occur
MEMORY_SHARE = 0.8  # of a GPU's free memory that a part may take as it was estimated


class Passes(Protocol):
    """What computes losses and gradients; ids, targets and in_loss are [B, L]."""

    def loss_sum(self, ids: Tensor, targets: Tensor, in_loss: Tensor) -> Tensor:
        """Summed cross-entropy in nats."""
        ...

    def add_gradients(self, ids: Tensor, targets: Tensor, in_loss: Tensor, share: Tensor) -> Tensor:
        """Adds the gradients of share · loss_sum to the adapters' and returns that loss."""
        ...


class PlainPasses:
    """Computed as `qwen2.py` and `lora.py` are written."""

    def __init__(self, network: Qwen2):
        self.network = network

    def loss_sum(self, ids: Tensor, targets: Tensor, in_loss: Tensor) -> Tensor:
        self.network.eval()
        return loss_sum(self.network, ids, targets, in_loss)

    def add_gradients(self, ids: Tensor, targets: Tensor, in_loss: Tensor, share: Tensor) -> Tensor:
        self.network.train()
        loss = share * loss_sum(self.network, ids, targets, in_loss)
        loss.backward()
        return loss.detach()


class FusedPasses:
    """Computed by the fused network, in CUDA graphs that share their memory."""

    def __init__(self, network: Qwen2, adapters: list[nn.Parameter]):
        self.network, self.adapters = FusedQwen2(network), adapters
        self.graphs: dict[tuple[int, ...], Graph] = {}

    def loss_sum(self, ids: Tensor, targets: Tensor, in_loss: Tensor) -> Tensor:
        self.network.refresh()
        return self.network.loss_sum(ids, targets, in_loss)

    def add_gradients(self, ids: Tensor, targets: Tensor, in_loss: Tensor, share: Tensor) -> Tensor:
        shape = tuple(ids.shape)
        if shape not in self.graphs:
            pool = next(iter(self.graphs.values())).graph.pool() if self.graphs else None
            self.graphs[shape] = Graph(self._gradients, (ids, targets, in_loss, share), pool)
        loss, *gradients = self.graphs[shape].replay(ids, targets, in_loss, share)
        present = [parameter.grad for parameter in self.adapters if parameter.grad is not None]
        if present:
            torch._foreach_add_(present, gradients)
        else:
            for parameter, gradient in zip(self.adapters, torch._foreach_mul(gradients, 1.0)):  # copies
                parameter.grad = gradient
        return loss.clone()

    def _gradients(self, ids: Tensor, targets: Tensor, in_loss: Tensor, share: Tensor) -> tuple[Tensor, ...]:
        self.network.refresh()
        loss = share * self.network.loss_sum(ids, targets, in_loss)
        return loss.detach(), *torch.autograd.grad(loss, self.adapters)


class Graph:
    """A function of tensors of fixed shapes, recorded once: a replay launches all of its kernels in one call."""

    def __init__(self, function, arguments: tuple[Tensor, ...], pool):
        self.arguments = [argument.clone() for argument in arguments]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # compiles kernels and sets libraries up, which cannot be recorded
            function(*self.arguments)
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.empty_cache()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=pool):
            self.results = function(*self.arguments)

    def replay(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        """The results, which the next replay overwrites."""
        for kept, argument in zip(self.arguments, arguments):
            kept.copy_(argument)
        self.graph.replay()
        return self.results


class TrainingStep:
    """Steps of AdamW on the adapters of a network.

    Args:
        network: with an adapter, the only parameters that require a gradient.
        rows: [A] the embedding's row of each symbol.
        fast: whether the fused network may be taken where it can be; the plain one computes the same.
    """

    def __init__(self, network: Qwen2, rows: Tensor, config: TuneConfig, *, fast: bool = True):
        self.rows, self.config = rows, config
        self.adapters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.peak = config.peak_learning_rate(network.config.hidden_size)
        self.optimizer = torch.optim.AdamW(
            self.adapters, lr=self.peak, weight_decay=config.weight_decay, betas=(0.9, 0.99), fused=rows.is_cuda
        )
        self.fused = fast and can_fuse(network) and not config.dropout
        self.passes: Passes = FusedPasses(network, self.adapters) if self.fused else PlainPasses(network)
        self.shape = network.config
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
            self.parts = self._parts_that_fit(*batch.symbols.shape)
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
            if isinstance(self.passes, FusedPasses):
                self.passes.graphs.clear()
            torch.cuda.empty_cache()

    def _gradients(self, batch: Batch, parts: int) -> Tensor:
        share = torch.full((), 1 / max(1, int(batch.in_loss.sum())), device=self.rows.device)
        total = torch.zeros((), device=self.rows.device)
        for part in batch.parts(parts):
            total += self.passes.add_gradients(*to_device(padded(part) if self.fused else part, self.rows), share)
        return total

    @torch.no_grad()
    def mean_loss(self, batch: Batch) -> float:
        """Mean loss in nats of a batch, some windows at a time."""
        parts = -(-batch.symbols.size // VALIDATION_TOKENS)
        total = 0.0
        for part in batch.parts(min(parts, len(batch.symbols))):
            total += self.passes.loss_sum(*to_device(part, self.rows)).item()
        return total / max(1, int(batch.in_loss.sum()))

    def _parts_that_fit(self, windows: int, tokens: int) -> int:
        """As few parts as the free memory holds by an estimate; one on a CPU."""
        if not self.rows.is_cuda:
            return 1
        free = torch.cuda.mem_get_info(self.rows.device)[0] + torch.cuda.memory_reserved(self.rows.device)
        free -= torch.cuda.memory_allocated(self.rows.device)
        needed = windows * tokens * kept_bytes(self.shape, self.adapters[0].element_size() if not self.fused else 2)
        return min(windows, max(1, -(-needed // int(MEMORY_SHARE * free))))


def kept_bytes(config: Qwen2Config, size: int) -> int:
    """About how much a token of a forward pass keeps for its backward pass: what the fused network keeps, or twice."""
    projections = config.projections()
    wide = 2 * config.intermediate_size + 3 * config.hidden_size + sum(projections[name][1] for name in "qkv")
    return size * config.num_hidden_layers * (wide + projections["o"][0])


def padded(batch: Batch) -> Batch:
    """A batch whose length is a multiple of `LENGTH_BUCKET`, and one for the token that is only predicted."""
    spare = -(batch.symbols.shape[1] - 1) % LENGTH_BUCKET
    ends = ((0, 0), (0, spare))
    fed = None if batch.fed is None else np.pad(batch.fed, ends)
    return Batch(np.pad(batch.symbols, ends), np.pad(batch.in_loss, ends), batch.saturated, fed)

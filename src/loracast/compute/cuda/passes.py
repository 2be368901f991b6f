"""Losses and gradients on a GPU: the fused network, each shape's passes recorded once as a CUDA graph.

Shapes: B windows, L tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from loracast.compute.cuda.network import CAPTURE, FusedNetwork
from loracast.compute.plain import parts_that_fit
from loracast.model.transformer import Transformer


class FusedPasses:
    """See `interface.Passes`; forward and backward pass are one CUDA graph for each shape, which share their memory."""

    length_multiple = 32  # few shapes occur, and so few graphs

    def __init__(self, network: Transformer, adapters: list[nn.Parameter]):
        self.network, self.adapters = FusedNetwork(network), adapters
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

    def parts(self, windows: int, tokens: int) -> int:
        size, device = self.network.embedding.element_size(), self.network.embedding.device
        return parts_that_fit(self.network.config, size, windows, tokens, device)

    def forget(self) -> None:
        self.graphs.clear()

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
        with torch.cuda.graph(self.graph, pool=pool, capture_error_mode=CAPTURE):
            self.results = function(*self.arguments)

    def replay(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        """The results, which the next replay overwrites."""
        for kept, argument in zip(self.arguments, arguments):
            kept.copy_(argument)
        self.graph.replay()
        return self.results

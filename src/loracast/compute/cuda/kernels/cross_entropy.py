"""The loss of a frozen head without keeping its logits; the twin is `plain.loss_sum`'s cross-entropy.

Logits of a full vocabulary are made for some tokens at a time and turned into their own gradient where they stand.

Shapes: M tokens, C hidden size, V rows of the head, W its rows padded to a multiple of 8, which products are fast at.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

LOGITS_BYTES = 512 * 2**20  # that are held at once


@triton.jit
def _in_place(logits_ptr, target_ptr, wanted_ptr, loss_ptr, columns, stride, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    logits_ptr += row * stride
    wanted = tl.load(wanted_ptr + row).to(tl.float32)
    target = tl.load(target_ptr + row)
    highest = tl.full((), float("-inf"), tl.float32)
    mass = tl.full((), 0.0, tl.float32)
    at_target = tl.full((), 0.0, tl.float32)
    for start in range(0, columns, BLOCK):
        column = start + tl.arange(0, BLOCK)
        logits = tl.load(logits_ptr + column, column < columns, float("-inf")).to(tl.float32)
        new = tl.maximum(highest, tl.max(logits, 0))
        mass = mass * tl.exp(highest - new) + tl.sum(tl.exp(logits - new), 0)
        at_target += tl.sum(tl.where(column == target, logits, 0.0), 0)
        highest = new
    tl.store(loss_ptr + row, wanted * (highest + tl.log(mass) - at_target))
    for start in range(0, stride, BLOCK):
        column = start + tl.arange(0, BLOCK)
        logits = tl.load(logits_ptr + column, column < columns, float("-inf")).to(tl.float32)
        gradient = tl.exp(logits - highest) / mass - tl.where(column == target, 1.0, 0.0)
        tl.store(logits_ptr + column, wanted * gradient, column < stride)


def padded_head(weight: Tensor) -> Tensor:
    """The head [W, C] with rows of zeros after its own."""
    return torch.nn.functional.pad(weight, (0, 0, 0, -len(weight) % 8))


class HeadLoss(torch.autograd.Function):
    """Summed cross-entropy in nats of the tokens that are wanted.

    Args:
        hidden: [M, C].
        head: [W, C], frozen, of which `columns` rows count.
        target, wanted: [M].
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, columns: int, target: Tensor, wanted: Tensor) -> Tensor:
        loss = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        at_once = max(1, LOGITS_BYTES // (len(head) * hidden.element_size()))
        for start in range(0, len(hidden), at_once):
            part = slice(start, start + at_once)
            logits = hidden[part] @ head.T  # [some, W]
            block = min(4096, triton.next_power_of_2(len(head)))
            _in_place[(len(logits),)](logits, target[part], wanted[part], loss[part], columns, len(head), BLOCK=block)
            if gradient is not None:
                torch.mm(logits, head, out=gradient[part])
        ctx.save_for_backward(gradient)
        return loss.sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0].to(gradient.dtype), None, None, None, None

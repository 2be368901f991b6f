"""RMSNorm with the addition to the residual stream before it; the twin is `transformer.RMSNorm` after a plus sign.

Shapes: M tokens, C hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from loracast.compute.room import empty_with_room


@triton.jit
def _forward(
    x_ptr, delta_ptr, weight_ptr, total_ptr, normed_ptr, scale_ptr,
    columns, x_stride, delta_stride, normed_stride, eps,
    ADDS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < columns
    x = tl.load(x_ptr + row * x_stride + column, inside, 0.0).to(tl.float32)
    if ADDS:
        x += tl.load(delta_ptr + row * delta_stride + column, inside, 0.0).to(tl.float32)
        total = x.to(total_ptr.dtype.element_ty)
        tl.store(total_ptr + row * columns + column, total, inside)
        x = total.to(tl.float32)  # what the next layer reads, so that both see the same
    scale = tl.rsqrt(tl.sum(x * x, 0) / columns + eps)
    tl.store(scale_ptr + row, scale)
    weight = tl.load(weight_ptr + column, inside, 0.0).to(tl.float32)
    tl.store(normed_ptr + row * normed_stride + column, x * scale * weight, inside)


@triton.jit
def _backward(
    d_total_ptr, d_normed_ptr, total_ptr, scale_ptr, weight_ptr, d_x_ptr, columns, d_total_stride, d_x_stride,
    ADDS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < columns
    scale = tl.load(scale_ptr + row)
    normed = tl.load(total_ptr + row * columns + column, inside, 0.0).to(tl.float32) * scale
    weight = tl.load(weight_ptr + column, inside, 0.0).to(tl.float32)
    d_normed = tl.load(d_normed_ptr + row * columns + column, inside, 0.0).to(tl.float32) * weight
    d_x = scale * (d_normed - normed * (tl.sum(normed * d_normed, 0) / columns))
    if ADDS:
        d_x += tl.load(d_total_ptr + row * d_total_stride + column, inside, 0.0).to(tl.float32)
    tl.store(d_x_ptr + row * d_x_stride + column, d_x, inside)


def add_norm(
    x: Tensor, delta: Tensor | None, weight: Tensor, eps: float, extra: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """x + delta [M, C] (x itself without a delta), its norm [M, C] with room, and the scale [M] that normalised it."""
    rows, columns = x.shape
    total = x if delta is None else torch.empty(x.shape, dtype=x.dtype, device=x.device)
    normed = empty_with_room(x, columns, extra)
    scale = torch.empty(rows, dtype=torch.float32, device=x.device)
    _forward[(rows,)](
        x, x if delta is None else delta, weight, total, normed, scale,
        columns, x.stride(0), x.stride(0) if delta is None else delta.stride(0), normed.stride(0), eps,
        ADDS=delta is not None, BLOCK=triton.next_power_of_2(columns),
    )  # fmt: skip
    return total, normed, scale


class AddNorm(torch.autograd.Function):
    """(x + delta, its norm), differentiable in x and delta, whose gradients are one tensor. The weight is frozen.

    The norm has room for `extra` columns, and the gradient for `extra_back`.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, delta: Tensor, weight: Tensor, eps: float, extra: int, extra_back: int
    ) -> tuple[Tensor, Tensor]:
        total, normed, scale = add_norm(x, delta, weight, eps, extra)
        ctx.save_for_backward(total, scale, weight)
        ctx.extra_back = extra_back
        ctx.set_materialize_grads(False)
        return total, normed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        total, scale, weight = ctx.saved_tensors
        d_total, d_normed = gradients
        assert d_normed is not None  # every norm is read
        d_x = empty_with_room(total, total.shape[1], ctx.extra_back)
        _backward[(len(total),)](
            d_normed if d_total is None else d_total, d_normed, total, scale, weight, d_x, total.shape[1],
            0 if d_total is None else d_total.stride(0), d_x.stride(0),
            ADDS=d_total is not None, BLOCK=triton.next_power_of_2(total.shape[1]),
        )  # fmt: skip
        return d_x, d_x, None, None, None, None

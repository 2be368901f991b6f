"""silu(gate) · up of one product; the twin is the line in `transformer.MLP`.

Shapes: M tokens, I inner size.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from loracast.compute.room import empty_with_room

BLOCK = 1024


@triton.jit
def _forward(gate_up_ptr, out_ptr, inner, out_stride, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < inner
    gate = tl.load(gate_up_ptr + row * 2 * inner + column, inside, 0.0).to(tl.float32)
    up = tl.load(gate_up_ptr + row * 2 * inner + inner + column, inside, 0.0).to(tl.float32)
    tl.store(out_ptr + row * out_stride + column, gate * tl.sigmoid(gate) * up, inside)


@triton.jit
def _backward(gate_up_ptr, d_out_ptr, d_gate_up_ptr, inner, d_stride, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < inner
    place = row * 2 * inner + column
    gate = tl.load(gate_up_ptr + place, inside, 0.0).to(tl.float32)
    up = tl.load(gate_up_ptr + place + inner, inside, 0.0).to(tl.float32)
    d_out = tl.load(d_out_ptr + row * inner + column, inside, 0.0).to(tl.float32)
    sigmoid = tl.sigmoid(gate)
    silu = gate * sigmoid
    d_gate_up_ptr += row * d_stride + column
    tl.store(d_gate_up_ptr, d_out * up * (sigmoid + silu * (1 - sigmoid)), inside)
    tl.store(d_gate_up_ptr + inner, d_out * silu, inside)


def swiglu(gate_up: Tensor, extra: int = 0) -> Tensor:
    """silu(gate) · up [M, I], with room, of [M, 2I]."""
    rows, inner = len(gate_up), gate_up.shape[1] // 2
    out = empty_with_room(gate_up, inner, extra)
    _forward[(rows, triton.cdiv(inner, BLOCK))](gate_up, out, inner, out.stride(0), BLOCK=BLOCK)
    return out


class SwiGLU(torch.autograd.Function):
    """`swiglu`, differentiable; the result has room for `extra` columns and the gradient for `extra_back`."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor, extra: int, extra_back: int) -> Tensor:
        ctx.save_for_backward(gate_up)
        ctx.extra_back = extra_back
        return swiglu(gate_up, extra)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gate_up,), (d_out,) = ctx.saved_tensors, gradients
        inner = gate_up.shape[1] // 2
        d_gate_up = empty_with_room(gate_up, 2 * inner, ctx.extra_back)
        grid = len(gate_up), triton.cdiv(inner, BLOCK)
        _backward[grid](gate_up, d_out, d_gate_up, inner, d_gate_up.stride(0), BLOCK=BLOCK)
        return d_gate_up, None, None

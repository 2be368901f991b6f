"""A block on a CPU, forward and backward, in as few passes over memory as PyTorch's own operations allow.

Each function here computes what its plain twin in `model/transformer.py` and `model/lora.py` does, up to rounding. It
saves passes: a residual and an adapter's part are added by the matrix product that makes them, the adapters of
projections that share an input read it once, and the backward passes of norms, rotation and SwiGLU are written out.

Shapes: B rows, T tokens, N = B·T, C hidden size, I inputs, O outputs, R rank, H heads, E head size, M inner size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from loracast.model.transformer import Attend, Block


@cache
def keep_freed_memory() -> None:
    """Has the C library keep freed blocks below 32 MiB for the next tensors, which it learns from freeing one so large.

    Otherwise each tensor of some MiB is made of new pages, and the kernel's clearing them takes longer than the work.
    """
    torch.empty(32 * 2**20 - 8192, dtype=torch.uint8)


def compute_block(block: Block, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
    """What a block makes of x [B, T, C]; cos and sin are [B or 1, 1, T, E]."""
    keep_freed_memory()
    attention, mlp = block.self_attn, block.mlp
    heads = (*x.shape[:2], -1, attention.head_dim)
    rows = x.flatten(0, 1)  # [N, C]
    normed = rms_norm(rows, block.input_layernorm)
    query, key, value = project(normed, (attention.q_proj, attention.k_proj, attention.v_proj))  # [N, H*E]
    query, key, value = (part.view(heads) for part in (query, key, value))
    if hasattr(attention, "q_norm"):
        query, key = attention.q_norm(query), attention.k_norm(key)
    query, key = (Rotation.apply(part.transpose(1, 2), cos, sin) for part in (query, key))  # [B, H, T, E]
    mixed = attend(attention.layer, query, key, value.transpose(1, 2))  # [B, H, T, E]
    (rows,) = project(mixed.transpose(1, 2).reshape(len(rows), -1), (attention.o_proj,), rows)
    gate, up = project(rms_norm(rows, block.post_attention_layernorm), (mlp.gate_proj, mlp.up_proj))  # [N, M]
    (rows,) = project(SwiGLU.apply(gate, up), (mlp.down_proj,), rows)
    return rows.view_as(x)


def rms_norm(x: Tensor, norm: nn.Module) -> Tensor:
    if torch.is_grad_enabled():
        return RMSNorm.apply(x, norm.weight, norm.eps)
    return norm(x)  # few operations, which is what few tokens want


class RMSNorm(Function):
    """x / sqrt(mean(x²) + eps) · weight, for x [N, C]; the weight gets no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        square = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32).square_()
        length = square.add_(x.shape[1] * eps).sqrt_()  # [N, 1] sqrt(C) times the root mean square
        ctx.save_for_backward(x, weight, length)
        return (x * (math.sqrt(x.shape[1]) / length)).mul_(weight).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        x, weight, length = ctx.saved_tensors
        # PyTorch's one kernel for the gradient of g · x / |x|, which this is with g = sqrt(C) and eps within |x|
        root = x.new_full((len(x), 1), math.sqrt(x.shape[1]))
        backward = torch.ops.aten._weight_norm_interface_backward
        return backward(gradient * weight, x, root, length, 0)[0], None, None


class Rotation(Function):
    """`transformer.rotate`: each pair (i, i + E/2) of x [B, H, T, E] by its position's angle."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos[..., :half], sin[..., :half])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        half = gradient.shape[-1] // 2
        return _rotated(gradient, cos[..., :half], -sin[..., :half]), None, None


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    low, high = x.chunk(2, -1)
    out = torch.empty_like(x)
    out_low, out_high = out.chunk(2, -1)
    torch.mul(low, cos, out=out_low).addcmul_(high, sin, value=-1)
    torch.mul(high, cos, out=out_high).addcmul_(low, sin)
    return out


class SwiGLU(Function):
    """silu(gate) · up; the backward pass computes silu(gate) again."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(gradient * up, gate), F.silu(gate).mul_(gradient)


def project(x: Tensor, projections: Sequence[nn.Module], residual: Tensor | None = None) -> tuple[Tensor, ...]:
    """Outputs [N, O] of projections, adapted or not, that all read x [N, I], each added to the residual [N, O]."""
    adapters = [(layer.lora_A, layer.lora_B) for layer in projections if hasattr(layer, "lora_A")]
    return Projections.apply(x, residual, projections, *(tensor for pair in adapters for tensor in pair))


class Projections(Function):
    """W x + b + s·B A x of frozen projections that share an input; `adapters` are A, B, A, B … of those with one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor | None, projections: Sequence[Any], *adapters: Tensor):
        down = x @ _down_weight(adapters, x.dtype).T if adapters else x.new_empty(0)  # [N, ΣR]
        parts = iter(down.split([len(a) for a in adapters[::2]], -1))
        outputs = []
        for layer in projections:
            base = getattr(layer, "base", layer)
            start = base.bias if residual is None else residual
            output = x @ base.weight.T if start is None else torch.addmm(start, x, base.weight.T)
            if layer is not base:
                output.addmm_(next(parts), _up_weight(layer, x.dtype).T)
            outputs.append(output)
        ctx.projections, ctx.has_residual = projections, residual is not None
        ctx.save_for_backward(x, down, *adapters)
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor):
        x, down, *adapters = ctx.saved_tensors
        ranks = [len(a) for a in adapters[::2]]
        parts = iter(down.split(ranks, -1))
        down_gradients, b_gradients = [], []
        for layer, gradient in zip(ctx.projections, gradients):
            if hasattr(layer, "lora_A"):
                down_gradients.append(gradient @ _up_weight(layer, x.dtype))  # [N, R]
                b_gradients.append((gradient.T @ next(parts)).float() * layer.scaling)  # [O, R]
        x_gradient, adapter_gradients = None, []
        if adapters:
            down_gradient = torch.cat(down_gradients, 1)  # [N, ΣR]
            a_gradients = (down_gradient.T @ x).float().split(ranks)  # each [R, I]
            adapter_gradients = [tensor for pair in zip(a_gradients, b_gradients) for tensor in pair]
            if ctx.needs_input_grad[0]:
                x_gradient = down_gradient @ _down_weight(adapters, x.dtype)
        if ctx.needs_input_grad[0]:
            for layer, gradient in zip(ctx.projections, gradients):
                weight = getattr(layer, "base", layer).weight
                x_gradient = gradient @ weight if x_gradient is None else x_gradient.addmm_(gradient, weight)
        return x_gradient, gradients[0] if ctx.has_residual else None, None, *adapter_gradients


def _down_weight(adapters: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """All A in one matrix [ΣR, I]."""
    return torch.cat(list(adapters[::2])).to(dtype)


def _up_weight(layer: Any, dtype: torch.dtype) -> Tensor:
    """An adapter's s·B [O, R]."""
    return (layer.scaling * layer.lora_B).to(dtype)

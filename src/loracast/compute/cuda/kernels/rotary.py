"""Rotary embedding of queries and keys that one product made; the twin is `transformer.rotate`.

Shapes: B rows, T tokens, H query heads, K key-value heads, E head size.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _rotate(
    q_ptr, k_ptr, v_ptr, cos_ptr, sin_ptr, out_ptr, tokens, out_stride,
    q_row, q_token, q_head, k_row, k_token, k_head, v_row, v_token, v_head,
    H: tl.constexpr, K: tl.constexpr, E: tl.constexpr, BACK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    half: tl.constexpr = E // 2
    row, token = tl.program_id(1).to(tl.int64), tl.program_id(0).to(tl.int64)
    head = tl.arange(0, BLOCK)[:, None]
    pair = tl.arange(0, half)[None]
    is_q, is_k, is_v = head < H, (head >= H) & (head < H + K), (head >= H + K) & (head < H + 2 * K)
    q = q_ptr + row * q_row + token * q_token + head * q_head + pair
    k = k_ptr + row * k_row + token * k_token + (head - H) * k_head + pair
    v = v_ptr + row * v_row + token * v_token + (head - H - K) * v_head + pair
    low = tl.load(q, is_q, 0.0).to(tl.float32) + tl.load(k, is_k, 0.0).to(tl.float32)
    high = tl.load(q + half, is_q, 0.0).to(tl.float32) + tl.load(k + half, is_k, 0.0).to(tl.float32)
    low += tl.load(v, is_v, 0.0).to(tl.float32)
    high += tl.load(v + half, is_v, 0.0).to(tl.float32)
    cos = tl.where(is_v, 1.0, tl.load(cos_ptr + token * half + pair))  # values are not rotated
    sin = tl.where(is_v, 0.0, tl.load(sin_ptr + token * half + pair))
    if BACK:
        sin = -sin
    out = out_ptr + (row * tokens + token) * out_stride + head * E + pair
    tl.store(out, low * cos - high * sin, head < H + 2 * K)
    tl.store(out + half, high * cos + low * sin, head < H + 2 * K)


def _launch(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, back: bool, extra: int = 0) -> Tensor:
    """Rotated queries [B, H, T, E] and keys, and values [B, K, T, E], as one tensor [B, T, H + 2K, E].

    Each token's row has room for `extra` columns.
    """
    rows, heads, tokens, size = q.shape
    groups = k.shape[1]
    width = (heads + 2 * groups) * size
    out = torch.empty(rows, tokens, width + extra, dtype=q.dtype, device=q.device)
    strides = [part.stride(axis) for part in (q, k, v) for axis in (0, 2, 1)]
    block = triton.next_power_of_2(heads + 2 * groups)
    _rotate[(tokens, rows)](
        q, k, v, cos, sin, out, tokens, width + extra, *strides, H=heads, K=groups, E=size, BACK=back, BLOCK=block
    )  # fmt: skip
    return out[..., :width].unflatten(-1, (-1, size))


def split_heads(merged: Tensor, heads: int, groups: int) -> tuple[Tensor, ...]:
    """Queries [B, H, T, E], keys and values [B, K, T, E] as views of [B, T, H + 2K, E]."""
    return merged.transpose(1, 2).split([heads, groups, groups], 1)


class Rotate(torch.autograd.Function):
    """Rotated q [B, H, T, E], k and v [B, K, T, E] of one product [B, T, H + 2K, E].

    Cosine and sine [T, E/2] are those of the tokens' positions, in float32. The gradient has room for `extra_back`.
    """

    @staticmethod
    def forward(
        ctx: Any, merged: Tensor, cos: Tensor, sin: Tensor, heads: int, groups: int, extra_back: int
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(cos, sin)
        ctx.extra_back = extra_back
        return split_heads(_launch(*split_heads(merged, heads, groups), cos, sin, False), heads, groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        d_q, d_k, d_v = (one if one.stride(-1) == 1 else one.contiguous() for one in gradients)
        return _launch(d_q, d_k, d_v, *ctx.saved_tensors, True, ctx.extra_back), None, None, None, None, None

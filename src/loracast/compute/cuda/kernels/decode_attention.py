"""Attention of one or a few new tokens of each sample path; the twin is `attention.shared_prefix_attention`.

Two kernels. The first attends to the prompts: all paths of a series are rows of one program, so that a prompt is read
once for many of them. The second goes on from that result, path by path, over the path's own tokens, and stores the new
keys and values on its way. Both rotate queries as they read them. A softmax over both parts needs no more than the
logarithm of the first part's mass beside its weighted sum (Dao et al. 2022, arXiv:2205.14135, section 3.1).

Shapes: N series, B paths, T new tokens, H query heads, K key-value heads, G = H / K, E head size, P prompt tokens
(padded), U own tokens at most.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from loracast.compute.room import empty_with_room

LOG2_E = 1.4426950408889634


@triton.jit
def _rotated(low_ptr, inside, position, cos_ptr, sin_ptr, half: tl.constexpr):
    """Both halves [rows, half] of rows at pointers [rows, 1], rotated by their positions [rows, 1], in float32."""
    pair = tl.arange(0, half)[None]
    low = tl.load(low_ptr + pair, inside, 0.0).to(tl.float32)
    high = tl.load(low_ptr + half + pair, inside, 0.0).to(tl.float32)
    cos = tl.load(cos_ptr + position * half + pair, inside, 0.0)
    sin = tl.load(sin_ptr + position * half + pair, inside, 0.0)
    return low * cos - high * sin, high * cos + low * sin


@triton.jit
def _accumulate(scores, value, highest, mass, mixed):
    """Goes on with a softmax in base 2: scores [rows, columns], value [columns, E]."""
    new = tl.maximum(highest, tl.max(scores, 1))
    weights = tl.exp2(scores - new[:, None])
    fade = tl.exp2(highest - new)
    mass = mass * fade + tl.sum(weights, 1)
    mixed = mixed * fade[:, None] + tl.dot(weights.to(value.dtype), value, input_precision="ieee")
    return new, mass, mixed


@triton.jit
def _attend(
    low, high, key_ptr, value_ptr, tokens, highest, mass, mixed, E: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    """Goes on with queries, as halves [rows, E/2], over keys and values [tokens, E]."""
    half: tl.constexpr = E // 2
    pair, size = tl.arange(0, half), tl.arange(0, E)
    for start in range(0, tokens, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        known = column < tokens
        key = key_ptr + column[None] * E + pair[:, None]  # [half, COLUMNS]
        scores = tl.dot(low, tl.load(key, known[None], 0.0), input_precision="ieee")
        scores = tl.dot(high, tl.load(key + half, known[None], 0.0), scores, input_precision="ieee")
        value = tl.load(value_ptr + column[:, None] * E + size[None], known[:, None], 0.0)
        scores = tl.where(known[None], scores, float("-inf"))
        highest, mass, mixed = _accumulate(scores, value, highest, mass, mixed)
    return highest, mass, mixed


@triton.jit
def _prompts(
    qkv_ptr, key_ptr, value_ptr, length_ptr, first_ptr, fed_ptr, cos_ptr, sin_ptr, mixed_ptr, log_mass_ptr,
    padded, scale,
    T: tl.constexpr, H: tl.constexpr, K: tl.constexpr, E: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    half: tl.constexpr = E // 2
    share: tl.constexpr = H // K
    series, group = tl.program_id(0) // K, tl.program_id(0) % K
    first, last = tl.load(first_ptr + series), tl.load(first_ptr + series + 1)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    if tl.program_id(1) * ROWS < (last - first) * T * share:
        inside = (row < (last - first) * T * share)[:, None]
        token = (first * T + row // share).to(tl.int64)[:, None]  # of all paths' new tokens
        head = (group * share + row % share)[:, None]
        length = tl.load(length_ptr + series)
        position = length + tl.load(fed_ptr) + token % T
        query = qkv_ptr + token * (H + 2 * K) * E + head * E
        low, high = _rotated(query, inside, position, cos_ptr, sin_ptr, half)
        low = (low * scale).to(key_ptr.dtype.element_ty)
        high = (high * scale).to(key_ptr.dtype.element_ty)
        highest = tl.full((ROWS,), float("-inf"), tl.float32)
        mass = tl.zeros((ROWS,), tl.float32)
        mixed = tl.zeros((ROWS, E), tl.float32)
        base = tl.program_id(0).to(tl.int64) * padded * E
        highest, mass, mixed = _attend(
            low, high, key_ptr + base, value_ptr + base, length, highest, mass, mixed, E, COLUMNS
        )
        place, size = token * H + head, tl.arange(0, E)
        tl.store(mixed_ptr + place * E + size[None], mixed / mass[:, None], inside)
        tl.store(log_mass_ptr + place, (highest + tl.log2(mass))[:, None], inside)


@triton.jit
def _own(
    qkv_ptr, key_ptr, value_ptr, length_ptr, fed_ptr, cos_ptr, sin_ptr, prompt_ptr, log_mass_ptr, out_ptr,
    most, out_stride, scale,
    T: tl.constexpr, H: tl.constexpr, K: tl.constexpr, E: tl.constexpr,
    ROWS: tl.constexpr, NEW: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    half: tl.constexpr = E // 2
    share: tl.constexpr = H // K
    path, group = (tl.program_id(0) // K).to(tl.int64), tl.program_id(0) % K
    fed = tl.load(fed_ptr)
    length = tl.load(length_ptr + path)
    row = tl.arange(0, ROWS)
    inside = (row < T * share)[:, None]
    new = (row // share)[:, None]  # which new token
    token = path * T + new
    head = (group * share + row % share)[:, None]
    pair, size = tl.arange(0, half), tl.arange(0, E)
    low, high = _rotated(
        qkv_ptr + token * (H + 2 * K) * E + head * E, inside, length + fed + new, cos_ptr, sin_ptr, half
    )
    low = (low * scale).to(key_ptr.dtype.element_ty)
    high = (high * scale).to(key_ptr.dtype.element_ty)
    place = token * H + head
    highest = tl.sum(tl.load(log_mass_ptr + place, inside, 0.0), 1)  # a sum over one column
    mass = tl.full((ROWS,), 1.0, tl.float32)
    mixed = tl.load(prompt_ptr + place * E + size[None], inside, 0.0)
    base = tl.program_id(0).to(tl.int64) * most * E
    highest, mass, mixed = _attend(low, high, key_ptr + base, value_ptr + base, fed, highest, mass, mixed, E, COLUMNS)

    column = tl.arange(0, NEW)  # the new tokens, padded
    known = (column < T)[:, None]
    source = qkv_ptr + (path * T + column[:, None]) * (H + 2 * K) * E + (H + group) * E
    key_low, key_high = _rotated(source, known, length + fed + column[:, None], cos_ptr, sin_ptr, half)
    key_low, key_high = key_low.to(key_ptr.dtype.element_ty), key_high.to(key_ptr.dtype.element_ty)
    value = tl.load(source + K * E + size[None], known, 0.0)
    target = base + (fed + column[:, None]) * E
    tl.store(key_ptr + target + pair[None], key_low, known)
    tl.store(key_ptr + target + half + pair[None], key_high, known)
    tl.store(value_ptr + target + size[None], value, known)
    scores = tl.dot(low, tl.trans(key_low), input_precision="ieee")
    scores = tl.dot(high, tl.trans(key_high), scores, input_precision="ieee")
    scores = tl.where((column[None] <= new) & (column[None] < T), scores, float("-inf"))
    highest, mass, mixed = _accumulate(scores, value, highest, mass, mixed)
    tl.store(out_ptr + token * out_stride + head * E + size[None], mixed / mass[:, None], inside)


@dataclass(frozen=True, eq=False)
class PathLayout:
    """What all layers' keys and values have in common, on the device.

    Attributes:
        lengths: [N] the prompts' lengths.
        first: [N + 1] the first path of each series, and the number of paths.
        path_lengths: [B] the length of each path's prompt.
        fed: [1] tokens that each path was fed since its prompt.
        cos, sin: [positions, E/2] in float32.
        most_paths: paths of the series that has most.
        heads, groups: H, K.
    """

    lengths: Tensor
    first: Tensor
    path_lengths: Tensor
    fed: Tensor
    cos: Tensor
    sin: Tensor
    most_paths: int
    heads: int
    groups: int


def decode_attention(
    qkv: Tensor, prompt: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor], layout: PathLayout, new: int, extra: int
) -> Tensor:
    """Attention [B·T, H·E], with room, of new tokens, whose keys and values are stored on the way.

    Args:
        qkv: [B·T, (H + 2K)·E] what one product made, not yet rotated; a path's tokens beside each other.
        prompt: keys and values [N·K, P, E] of the prompts.
        own: keys and values [B·K, U, E] of the paths.
        new: T.
        extra: columns to leave room for.
    """
    heads, groups, size = layout.heads, layout.groups, prompt[0].shape[2]
    mixed = torch.empty(len(qkv), heads, size, dtype=torch.float32, device=qkv.device)
    log_mass = torch.empty(len(qkv), heads, dtype=torch.float32, device=qkv.device)
    out = empty_with_room(qkv, heads * size, extra)
    scale = size**-0.5 * LOG2_E
    most_rows = layout.most_paths * new * heads // groups
    rows, columns = min(64, max(16, triton.next_power_of_2(most_rows))), 64
    if len(prompt[0]) * triton.cdiv(most_rows, rows) < 128:  # few programs, fewer than a GPU has processors
        rows, columns = 16, 128
    shape = {"T": new, "H": heads, "K": groups, "E": size}
    _prompts[(len(prompt[0]), triton.cdiv(most_rows, rows))](
        qkv, *prompt, layout.lengths, layout.first, layout.fed, layout.cos, layout.sin, mixed, log_mass,
        prompt[0].shape[1], scale, ROWS=rows, COLUMNS=columns, num_warps=4, **shape,
    )  # fmt: skip
    _own[(len(own[0]),)](
        qkv, *own, layout.path_lengths, layout.fed, layout.cos, layout.sin, mixed, log_mass, out,
        own[0].shape[1], out.stride(0), scale,
        ROWS=max(16, triton.next_power_of_2(new * heads // groups)), NEW=max(16, triton.next_power_of_2(new)),
        COLUMNS=64, num_warps=1, num_stages=2, **shape,
    )  # fmt: skip
    return out

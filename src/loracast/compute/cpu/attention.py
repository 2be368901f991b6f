"""Causal attention on a CPU in bfloat16, by blocks of queries; the twin is `model.attention.causal_attention`.

Shapes: B rows, T tokens, H query heads, K key-value heads, G = H / K, E head size, R queries of a block, S keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

QUERY_BLOCK = 128  # tokens whose queries are computed together on a CPU
PARTS = 3  # of bfloat16's 8 bits each, for the 24 of float32


class BlockedAttention(Function):
    """Attention by blocks of queries, each with the keys up to its end: a CPU's fastest way in bfloat16.

    Query heads that share keys are one batch of the matrix products. The backward pass computes the scores again.
    Rounding a score of 20 to bfloat16 would change its weight by several percent, and there are models with scores of
    hundreds. So the forward pass has them in float32, and in the backward pass what is rounded is the score less its
    row's normaliser, which is near zero wherever a weight is large.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        batch, heads, tokens, size = query.shape
        mixed = query.new_empty(batch, tokens, heads, size).transpose(1, 2)  # laid out as the next product reads it
        by_head, queries = (part.unflatten(1, (key.shape[1], -1)) for part in (mixed, query))  # [B, K, G, T, E]
        keys, values = (part.reshape(-1, tokens, size) for part in (key, value))  # [B*K, T, E]
        wide_keys = keys.float()
        normalisers = []
        for rows, seen, unseen in _query_blocks(queries):
            part = queries[:, :, :, rows]  # [B, K, G, R, E]
            wide = part.reshape(len(keys), -1, size).float() * size**-0.5
            scores = wide @ wide_keys[:, seen].mT  # [B*K, G*R, S]
            scores[..., rows] += unseen
            weights = torch.softmax(scores, -1)
            normalisers.append(scores.amax(-1, keepdim=True) - weights.amax(-1, keepdim=True).log_())  # [B*K, G*R, 1]
            by_head[:, :, :, rows] = (weights.to(query.dtype) @ values[:, seen]).view_as(part)
        ctx.save_for_backward(query, key, value, mixed, *normalisers)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, mixed, *normalisers = ctx.saved_tensors
        query, mixed = (part.unflatten(1, (key.shape[1], -1)) for part in (query, mixed))  # [B, K, G, T, E]
        key, value = (part.reshape(-1, *part.shape[2:]) for part in (key, value))  # [B*K, T, E]
        gradient = gradient.unflatten(1, query.shape[1:3])  # [B, K, G, T, E]
        query_gradient = torch.empty_like(query)
        key_gradient, value_gradient = (torch.zeros_like(key, dtype=torch.float32) for _ in range(2))
        scale, dtype = query.shape[-1] ** -0.5, query.dtype

        def block(x: Tensor) -> Tensor:  # [B, K, G, T, E] -> [B*K, G*R, E]
            return x[:, :, :, rows].reshape(len(key), -1, x.shape[-1])

        # a row's normaliser is taken from its scores by further columns of their product, before anything is rounded
        long_keys = torch.cat([key, key.new_ones(*key.shape[:2], PARTS)], -1)  # [B*K, T, E + 3]
        for (rows, seen, unseen), normaliser in zip(_query_blocks(query), normalisers):
            part, keys, mixed_gradient = block(query), key[:, seen], block(gradient)
            long_part = torch.cat([part, *_split(normaliser / -scale, dtype)], -1)  # [B*K, G*R, E + 3]
            weights = (long_part @ long_keys[:, seen].mT).mul_(scale)  # [B*K, G*R, S]
            weights[..., rows] += unseen
            weights.exp_()
            value_gradient[:, seen] += weights.mT @ mixed_gradient
            mean = (mixed_gradient * block(mixed)).sum(-1, keepdim=True)  # [B*K, G*R, 1] of the weights' gradient
            weight_gradient = torch.baddbmm(-mean, mixed_gradient, value[:, seen].mT)
            score_gradient = torch.ops.aten._softmax_backward_data(weight_gradient, weights, -1, dtype).mul_(scale)
            query_gradient[:, :, :, rows] = (score_gradient @ keys).view_as(query[:, :, :, rows])
            key_gradient[:, seen] += score_gradient.mT @ part
        split = (len(query), -1, *key.shape[1:])
        key_gradient, value_gradient = key_gradient.to(dtype).view(split), value_gradient.to(dtype).view(split)
        return query_gradient.flatten(1, 2), key_gradient, value_gradient


def _split(x: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """x in float32 as a sum of `PARTS` tensors of a type of fewer digits."""
    parts = []
    for _ in range(PARTS):
        parts.append(x.to(dtype))
        x = x - parts[-1]
    return parts


def _query_blocks(query: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """The rows of each block of queries [B, K, G, T, E], the keys up to its end, and what bars later ones [G*R, R]."""
    share, tokens = query.shape[2:4]
    for start in range(0, tokens, QUERY_BLOCK):
        end = min(start + QUERY_BLOCK, tokens)
        bar = query.new_full((end - start, end - start), float("-inf")).triu_(1)
        yield slice(start, end), slice(end), bar.repeat(share, 1)


def blocked_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention [B, H, T, E] of each token to itself and to what came before; key and value are [B, K, T, E]."""
    return BlockedAttention.apply(query, key, value)

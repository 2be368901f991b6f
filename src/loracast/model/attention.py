"""Attention, and the keys and values that the sample paths of a series share.

Shapes: N series, S samples a series, B = N·S paths, T new tokens, P prompt tokens (padded), U own tokens in blocks,
H query heads, K key-value heads, G = H / K, E head size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from loracast.model.config import CACHE_BLOCK


def causal_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention [B, H, T, E] of each token to itself and to what came before; key and value are [B, K, T, E]."""
    if query.device.type == "cpu" and query.dtype == torch.bfloat16:
        return BlockedAttention.apply(query, key, value)
    return F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)


QUERY_BLOCK = 128  # tokens whose queries are computed together on a CPU
PARTS = 3  # of bfloat16's 8 bits each, for the 24 of float32


class BlockedAttention(Function):
    """`causal_attention` by blocks of queries, each with the keys up to its end: a CPU's fastest way in bfloat16.

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


def shared_prefix_attention(
    query: Tensor,  # [B, H, T, E]
    prefix_key: Tensor,  # [N*K, P, E]
    prefix_value: Tensor,  # [N*K, P, E]
    prefix_bias: Tensor | None,  # [N*K, 1, P] minus infinity where the prompt is padding
    suffix_key: Tensor,  # [N, K, S, U, E] the paths' own tokens, filled up to the query's own
    suffix_value: Tensor,  # [N, K, S, U, E]
    fed: int,  # own tokens before the query's
) -> Tensor:
    """Attention [B, H, T, E] over a prompt that the S paths of a series share and over each path's own tokens.

    The prompt is read once for all heads of a group and all paths of a series, in one matrix product a series. With
    the paths of a group beside each other, what a series and what a path multiplies are two views of one tensor.
    """
    new, size = query.shape[2:]
    series, groups, samples, own = suffix_key.shape[:4]
    prompt = prefix_key.shape[1]
    ordered = (query * size**-0.5).view(series, samples, groups, -1, new, size).transpose(1, 2)  # [N, K, S, G, T, E]
    by_path = ordered.reshape(series * groups * samples, -1, size)  # [N*K*S, G*T, E]
    by_series = by_path.view(series * groups, -1, size)  # [N*K, S*G*T, E]

    prefix_scores = by_series @ prefix_key.mT  # [N*K, S*G*T, P]
    if prefix_bias is not None:
        prefix_scores += prefix_bias
    suffix_scores = by_path @ suffix_key.flatten(0, 2).mT  # [N*K*S, G*T, U]
    last = fed + torch.arange(new, device=query.device).repeat(ordered.shape[3])  # [G*T] own token that may be seen
    unseen = torch.arange(own, device=query.device) > last[:, None]  # [G*T, U]
    suffix_scores += torch.zeros_like(unseen, dtype=query.dtype).masked_fill_(unseen, float("-inf"))
    scores = torch.cat([prefix_scores, suffix_scores.view(*by_series.shape[:2], own)], -1)  # [N*K, S*G*T, P+U]
    weights = torch.softmax(scores, -1)
    mixed = (weights[..., :prompt] @ prefix_value).view_as(by_path)  # [N*K*S, G*T, E]
    own_weights = weights.view(*by_path.shape[:2], -1)[..., prompt:]  # [N*K*S, G*T, U]
    mixed = torch.baddbmm(mixed, own_weights, suffix_value.flatten(0, 2))
    return mixed.view_as(ordered).transpose(1, 2).reshape(query.shape)


class SharedPrefixCache:
    """Keys and values of N prompts and of S paths that continue each of them.

    The first forward pass must be over the prompts, [N, P] padded on the right; each later one over T tokens of all
    N·S paths, [N·S, T], a series' paths beside each other.

    Args:
        lengths: [N] the prompts' true lengths.
        samples: paths a series.
    """

    def __init__(self, lengths: Tensor, samples: int):
        self.lengths, self.samples = lengths, samples
        self.fed = 0  # tokens that each path was fed since its prompt
        self.prefix: dict[int, tuple[Tensor, Tensor]] = {}
        self.suffix: dict[int, tuple[Tensor, Tensor]] = {}  # [N, K, S, U, E], U in whole blocks
        self.bias: Tensor | None = None

    def positions(self, ids: Tensor) -> Tensor:
        """The positions of tokens [N or B, T]."""
        new = torch.arange(ids.shape[1], device=ids.device)
        if not self.prefix:
            return new.expand(len(ids), -1)
        return self.lengths.repeat_interleave(self.samples)[:, None] + self.fed + new  # [B, T]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Stores a layer's new keys and values and attends to all that the query may see."""
        if layer not in self.prefix:
            self.prefix[layer] = key.flatten(0, 1).contiguous(), value.flatten(0, 1).contiguous()
            return causal_attention(query, key, value)
        own = tuple(part.unflatten(0, (-1, self.samples)).transpose(1, 2) for part in (key, value))  # [N, K, S, T, E]
        end = self.fed + key.shape[2]
        for kept, part in zip(self._room(layer, own[0], end), own):
            kept[:, :, :, self.fed : end] = part
        return shared_prefix_attention(query, *self.prefix[layer], self.bias, *self.suffix[layer], self.fed)

    def _room(self, layer: int, key: Tensor, end: int) -> tuple[Tensor, Tensor]:
        """A layer's keys and values of the paths' own tokens, with room for so many of them.

        They grow by whole blocks, so that few shapes of products occur: a CPU compiles each of them.
        """
        kept = self.suffix.get(layer, (key[:, :, :, :0], key[:, :, :, :0]))
        if end > kept[0].shape[3]:  # by zeros, since what is not seen yet is multiplied by a weight of zero
            more = -(-end // CACHE_BLOCK) * CACHE_BLOCK - kept[0].shape[3]
            room = key.new_zeros(*key.shape[:3], more, key.shape[4])
            kept = self.suffix[layer] = torch.cat([kept[0], room], 3), torch.cat([kept[1], room], 3)
        return kept

    def advance(self, tokens: int) -> None:
        """Ends a forward pass over `tokens` tokens a row."""
        if self.suffix:
            self.fed += tokens
        elif int(self.lengths.min()) < tokens:  # right after the prompts
            padding = torch.arange(tokens, device=self.lengths.device) >= self.lengths[:, None]  # [N, P]
            keys = self.prefix[0][0]  # [N*K, P, E]
            bias = keys.new_zeros(padding.shape).masked_fill(padding, float("-inf"))
            self.bias = bias.repeat_interleave(len(keys) // len(bias), 0)[:, None]  # [N*K, 1, P]

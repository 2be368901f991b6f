"""Attention, and the keys and values that the sample paths of a series share.

Shapes: N series, S samples a series, B = N·S paths, T new tokens, P prompt tokens (padded), U own tokens in blocks,
H query heads, K key-value heads, G = H / K, E head size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from loracast.model.config import CACHE_BLOCK

CausalAttention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Attention [B, H, T, E] of each token to itself and to what came before, of queries, keys and values [B, K, T, E]."""


def causal_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention [B, H, T, E] of each token to itself and to what came before; key and value are [B, K, T, E]."""
    return F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)


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
        attention: what computes the attention of the prompts.
    """

    def __init__(self, lengths: Tensor, samples: int, attention: CausalAttention = causal_attention):
        self.lengths, self.samples, self.attention = lengths, samples, attention
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
            return self.attention(query, key, value)
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

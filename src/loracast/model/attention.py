"""Attention, and the keys and values that the sample paths of a series share.

Shapes: N series, S samples a series, B = N·S paths, T new tokens, P prompt tokens (padded), U own tokens in blocks,
H query heads, K key-value heads, G = H / K, E head size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from loracast.model.config import CACHE_BLOCK


def causal_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention [B, H, T, E] of each token to itself and to what came before; key and value are [B, K, T, E]."""
    return F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)


def shared_prefix_attention(
    query: Tensor,  # [B, H, T, E]
    prefix_key: Tensor,  # [N*K, P, E]
    prefix_value: Tensor,  # [N*K, P, E]
    prefix_bias: Tensor | None,  # [N*K, 1, P] minus infinity where the prompt is padding
    suffix_keys: list[Tensor],  # blocks [B*K, CACHE_BLOCK, E] of the paths' own tokens, filled up to the query's own
    suffix_values: list[Tensor],  # the same
    fed: int,  # own tokens before the query's
) -> Tensor:
    """Attention [B, H, T, E] over a prompt that the S paths of a series share and over each path's own tokens.

    The prompt is read once for all heads of a group and all paths of a series, in one matrix product a series. All
    products are of three dimensions and of whole blocks: others are copied before they are computed.
    """
    paths, heads, new, size = query.shape
    groups = len(suffix_keys[0]) // paths
    series, share = len(prefix_key) // groups, heads // groups
    samples = paths // series

    def by_series(x: Tensor) -> Tensor:  # [B*K, G*T, X] -> [N*K, S*G*T, X]
        return x.view(series, samples, groups, share * new, -1).transpose(1, 2).reshape(series * groups, -1, x.shape[2])

    def by_path(x: Tensor) -> Tensor:  # [N*K, S*G*T, X] -> [B*K, G*T, X]
        return x.view(series, groups, samples, share * new, -1).transpose(1, 2).reshape(paths * groups, -1, x.shape[2])

    query = (query * size**-0.5).reshape(paths * groups, share * new, size)
    prefix_scores = by_series(query) @ prefix_key.mT  # [N*K, S*G*T, P]
    if prefix_bias is not None:
        prefix_scores = prefix_scores + prefix_bias
    suffix_scores = torch.cat([query @ keys.mT for keys in suffix_keys], -1)  # [B*K, G*T, U]
    last = fed + torch.arange(new, device=query.device).repeat(share)  # [G*T] the last own token that may be seen
    unseen = torch.arange(suffix_scores.shape[2], device=query.device) > last[:, None]  # [G*T, U]
    suffix_scores = suffix_scores.masked_fill_(unseen, float("-inf"))
    scores = torch.cat([prefix_scores, by_series(suffix_scores)], -1)  # [N*K, S*G*T, P+U]
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(query.dtype)
    mixed = by_path(weights[..., : prefix_key.shape[1]] @ prefix_value)  # [B*K, G*T, E]
    own_weights = by_path(weights[..., prefix_key.shape[1] :].contiguous())  # [B*K, G*T, U]
    for block_weights, values in zip(own_weights.split(CACHE_BLOCK, -1), suffix_values):
        mixed = torch.baddbmm(mixed, block_weights.contiguous(), values)
    return mixed.view(paths, heads, new, size)


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
        self.suffix: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
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
        key, value = key.flatten(0, 1), value.flatten(0, 1)  # [B*K, T, E]
        keys, values = self.suffix.setdefault(layer, ([], []))
        for token in range(key.shape[1]):
            place = (self.fed + token) % CACHE_BLOCK
            if place == 0:  # zeros, since what is not seen yet is multiplied by a weight of zero
                keys.append(key.new_zeros(len(key), CACHE_BLOCK, key.shape[2]))
                values.append(torch.zeros_like(keys[-1]))
            keys[-1][:, place], values[-1][:, place] = key[:, token], value[:, token]
        return shared_prefix_attention(query, *self.prefix[layer], self.bias, keys, values, self.fed)

    def advance(self, tokens: int) -> None:
        """Ends a forward pass over `tokens` tokens a row."""
        if self.suffix:
            self.fed += tokens
        elif int(self.lengths.min()) < tokens:  # right after the prompts
            padding = torch.arange(tokens, device=self.lengths.device) >= self.lengths[:, None]  # [N, P]
            keys = self.prefix[0][0]  # [N*K, P, E]
            bias = keys.new_zeros(padding.shape).masked_fill(padding, float("-inf"))
            self.bias = bias.repeat_interleave(len(keys) // len(bias), 0)[:, None]  # [N*K, 1, P]

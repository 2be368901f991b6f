"""Keeps attention scores small while a model is pretrained, as QK-Clip does (Kimi Team 2025, arXiv:2507.20534, 2.1).

Under Muon the scores of some heads grew to thousands in our runs (docs/log.md). Queries and keys are rounded to
bfloat16, and scores with them, so that such heads compute something else on other hardware, and their gradients are
poor.

Shapes: B windows, T tokens, H query heads, K key-value heads, G = H / K, E head size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from loracast.flops import Flops, PassCost
from loracast.model.attention import causal_attention
from loracast.model.config import ModelConfig
from loracast.model.rotary import rotary
from loracast.model.transformer import Attention, Block, Transformer


@torch.no_grad()
def clip_scores(network: Transformer, ids: Tensor, limit: float) -> float:
    """Shrinks queries and keys of each head that has a score above `limit` on ids [B, T], by as much as it is above.

    Returns the largest score that was found. Later layers are measured with the earlier ones as they are afterwards.
    """
    body, config = network.model, network.config
    x = body.embed_tokens(ids)
    cos, sin = rotary(torch.arange(ids.shape[1], device=ids.device)[None], config, x.dtype)
    found = []
    for block in body.layers:
        assert isinstance(block, Block)
        largest = _largest_scores(block.self_attn, block.input_layernorm(x), cos, sin)  # [H]
        _shrink(block.self_attn, (limit / largest).clamp(max=1))
        found.append(largest.max())
        x = block(x, cos, sin, lambda _, query, key, value: causal_attention(query, key, value))
    return torch.stack(found).max().item()


def clip_cost(config: ModelConfig, windows: int, tokens: int) -> Flops:
    """Of one call on ids [windows, tokens]: a forward pass without its head, with queries, keys and scores twice."""
    forward = PassCost(config, 0).prefill(windows, tokens)
    return forward.total + Flops.sum(forward.terms[term] for term in ("projections", "rotary", "scores"))


def _largest_scores(attention: Attention, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The largest magnitude [H] of a score between a token of x [B, T, C] and one that it may see."""
    query, key, _ = attention.heads(x, cos, sin)
    by_key = query.unflatten(1, (key.shape[1], -1))  # [B, K, G, T, E]
    scores = by_key @ key[:, :, None].mT * attention.head_dim**-0.5  # [B, K, G, T, T]
    return scores.float().abs_().tril_().amax((0, 3, 4)).flatten().clamp_min(torch.finfo(torch.float32).tiny)


def _shrink(attention: Attention, factor: Tensor) -> None:
    """Multiplies the scores of each head by its factor [H]: half the way in the keys, as far as heads share them.

    Where queries and keys are normalised, the weights of the norms decide, which all heads share: the smallest factor
    counts for all of them.
    """
    if hasattr(attention, "q_norm"):
        for norm in (attention.q_norm, attention.k_norm):
            norm.weight.mul_(factor.amin().sqrt())
        return
    query, key, size = attention.q_proj, attention.k_proj, attention.head_dim
    shared = factor.view(key.out_features // size, -1).amin(1).sqrt()  # [K]
    own = factor / shared.repeat_interleave(len(factor) // len(shared))  # [H]
    for projection, factors in ((query, own), (key, shared)):
        by_row = factors.repeat_interleave(size)
        projection.weight.mul_(by_row[:, None])
        if projection.bias is not None:
            projection.bias.mul_(by_row)

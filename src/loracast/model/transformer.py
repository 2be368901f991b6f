"""The reference: pre-norm blocks of grouped-query attention and a SwiGLU MLP, as in Llama, Mistral, Qwen2 and Qwen3.

What is computed stands here and in `attention.py`; where and how fast is for `loracast.compute`, which may put its own
functions in place of a block or of attention. Module names are those of Hugging Face, so that a checkpoint's tensors
load by name. Adapters are not part of it: `lora.attach` replaces projections afterwards.

Sources: Llama (arXiv:2302.13971), Qwen2 (arXiv:2407.10671), Qwen3 (arXiv:2505.09388), Mistral (arXiv:2310.06825).

Shapes: B rows, T tokens, C hidden size, H query heads, K key-value heads, E head size, V vocabulary rows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loracast.model.attention import CausalAttention, SharedPrefixCache, causal_attention
from loracast.model.config import ModelConfig
from loracast.model.rotary import rotary

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Attention [B, H, T, E] of queries [B, H, T, E] to keys and values [B, K, T, E], after the layer's number."""


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates each pair (i, i + E/2) of x [B, H, T, E] by its position's angle."""
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat([-high, low], -1) * sin


class Attention(nn.Module):
    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        shapes = config.projections()
        self.layer, self.head_dim = layer, config.head_dim
        self.q_proj = nn.Linear(*shapes["q"], bias=config.qkv_bias)
        self.k_proj = nn.Linear(*shapes["k"], bias=config.qkv_bias)
        self.v_proj = nn.Linear(*shapes["v"], bias=config.qkv_bias)
        self.o_proj = nn.Linear(*shapes["o"], bias=False)
        if config.qk_norm:
            self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
            self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)

    def heads(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, H, T, E] and keys [B, K, T, E], rotated, and values [B, K, T, E] of x [B, T, C]."""
        query, key, value = (
            projection(x).unflatten(-1, (-1, self.head_dim)) for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        if hasattr(self, "q_norm"):
            query, key = self.q_norm(query), self.k_norm(key)
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        return rotate(query, cos, sin), rotate(key, cos, sin), value

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        mixed = attend(self.layer, *self.heads(x, cos, sin))
        return self.o_proj(mixed.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        shapes = config.projections()
        self.gate_proj = nn.Linear(*shapes["gate"], bias=False)
        self.up_proj = nn.Linear(*shapes["up"], bias=False)
        self.down_proj = nn.Linear(*shapes["down"], bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, attend)
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    """The model without its head; Hugging Face calls it `model`."""

    def __init__(self, config: ModelConfig, rows: int):
        super().__init__()
        self.embed_tokens = nn.Embedding(rows, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Transformer(nn.Module):
    """A causal language model over `rows` rows of its vocabulary (all of them unless given)."""

    def __init__(self, config: ModelConfig, rows: int | None = None):
        super().__init__()
        self.config = config
        rows = config.vocab_size if rows is None else rows
        self.model = Body(config, rows)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, rows, bias=False)

    def hidden(
        self,
        ids: Tensor,
        cache: SharedPrefixCache | None = None,
        *,
        attention: CausalAttention = causal_attention,
        compute_block: Callable[[Block, Tensor, Tensor, Tensor, Attend], Tensor] | None = None,
    ) -> Tensor:
        """Normalised hidden states [B, T, C] of ids [B, T].

        Args:
            cache: what the ids continue; it takes them up.
            attention: what computes causal attention where there is no cache.
            compute_block: what computes a block, given it, x, cosine, sine and its attention; the block itself unless
                given.
        """
        body = self.model
        x = body.embed_tokens(ids)
        positions = torch.arange(ids.shape[1], device=ids.device)[None] if cache is None else cache.positions(ids)
        cos, sin = rotary(positions, self.config, x.dtype)

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return attention(query, key, value) if cache is None else cache.attend(layer, query, key, value)

        for block in body.layers:
            x = compute_block(block, x, cos, sin, attend) if compute_block else block(x, cos, sin, attend)  # type: ignore[arg-type]
        if cache is not None:
            cache.advance(ids.shape[1])
        return body.norm(x)

    @property
    def head(self) -> Tensor:
        """The rows [V, C] that hidden states are compared with."""
        return (self.model.embed_tokens if self.config.tie_word_embeddings else self.lm_head).weight

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., C], in float32."""
        return F.linear(hidden, self.head).float()

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [B, T, V] of ids [B, T]."""
        return self.logits(self.hidden(ids))

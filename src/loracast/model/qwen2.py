"""Qwen2, for reading: pre-norm blocks of grouped-query attention and a SwiGLU MLP (arXiv:2407.10671).

Module names are those of Hugging Face, so that a checkpoint's tensors load by name. Adapters are no part of it:
`lora.attach` replaces projections afterwards.

Shapes: B rows, T tokens, C hidden size, H query heads, K key-value heads, E head size, V vocabulary rows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loracast.model import cpu
from loracast.model.attention import SharedPrefixCache, causal_attention
from loracast.model.config import Qwen2Config


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def angles(positions: Tensor, size: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine [..., E/2] of the rotary embedding (Su et al. 2021, arXiv:2104.09864), in float32."""
    exponent = torch.arange(0, size, 2, device=positions.device, dtype=torch.float32) / size  # [E/2]
    frequency = 1.0 / theta**exponent  # divided as transformers does: rounded otherwise, far positions would differ
    angle = positions[..., None].float() * frequency
    return angle.cos(), angle.sin()


def rotary(positions: Tensor, size: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine [B, 1, T, E] of positions [B, T], once for each half of a head."""
    cos, sin = (torch.cat([half, half], -1)[:, None] for half in angles(positions, size, theta))
    return cos.to(dtype), sin.to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates each pair (i, i + E/2) of x [B, H, T, E] by its position's angle."""
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat([-high, low], -1) * sin


class Attention(nn.Module):
    def __init__(self, config: Qwen2Config, layer: int):
        super().__init__()
        shapes = config.projections()
        self.layer, self.head_dim = layer, config.head_dim
        self.q_proj = nn.Linear(*shapes["q"], bias=True)
        self.k_proj = nn.Linear(*shapes["k"], bias=True)
        self.v_proj = nn.Linear(*shapes["v"], bias=True)
        self.o_proj = nn.Linear(*shapes["o"], bias=False)

    def heads(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, H, T, E] and keys [B, K, T, E], rotated, and values [B, K, T, E] of x [B, T, C]."""
        query, key, value = (
            projection(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        return rotate(query, cos, sin), rotate(key, cos, sin), value

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: SharedPrefixCache | None) -> Tensor:
        query, key, value = self.heads(x, cos, sin)
        if cache is None:
            mixed = causal_attention(query, key, value)
        else:
            mixed = cache.attend(self.layer, query, key, value)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, config: Qwen2Config):
        super().__init__()
        shapes = config.projections()
        self.gate_proj = nn.Linear(*shapes["gate"], bias=False)
        self.up_proj = nn.Linear(*shapes["up"], bias=False)
        self.down_proj = nn.Linear(*shapes["down"], bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, config: Qwen2Config, layer: int):
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: SharedPrefixCache | None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    """The model without its head; Hugging Face calls it `model`."""

    def __init__(self, config: Qwen2Config, rows: int):
        super().__init__()
        self.embed_tokens = nn.Embedding(rows, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Qwen2(nn.Module):
    """A Qwen2 causal language model over `rows` rows of its vocabulary (all of them unless given)."""

    def __init__(self, config: Qwen2Config, rows: int | None = None):
        super().__init__()
        self.config = config
        rows = config.vocab_size if rows is None else rows
        self.model = Body(config, rows)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, rows, bias=False)

    def hidden(self, ids: Tensor, cache: SharedPrefixCache | None = None) -> Tensor:
        """Normalised hidden states [B, T, C] of ids [B, T]; with a cache, the ids continue what it holds."""
        body = self.model
        x = body.embed_tokens(ids)
        positions = torch.arange(ids.shape[1], device=ids.device)[None] if cache is None else cache.positions(ids)
        cos, sin = rotary(positions, self.config.head_dim, self.config.rope_theta, x.dtype)
        fast = cpu.applies(self)  # the same in fewer passes over memory
        for block in body.layers:
            x = cpu.compute_block(block, x, cos, sin, cache) if fast else block(x, cos, sin, cache)
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

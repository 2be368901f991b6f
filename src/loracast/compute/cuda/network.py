"""The fast twin of `model.transformer` on a GPU: packed products, fused kernels, gradients of adapters alone.

Shapes: B rows, T tokens, M = B·T, C hidden size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from loracast.compute.cuda.kernels.cross_entropy import HeadLoss, padded_head
from loracast.compute.cuda.kernels.norm import AddNorm, add_norm
from loracast.compute.cuda.kernels.rotary import Rotate
from loracast.compute.cuda.kernels.swiglu import SwiGLU
from loracast.compute.packed import PACKED, PackedNetwork
from loracast.model.rotary import angles
from loracast.model.transformer import Transformer

CAPTURE = "thread_local"  # what another thread does meanwhile, such as loading an adapter, spoils no recording
FASTEST_ATTENTION = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]


class FusedNetwork(PackedNetwork):
    """Hidden states and losses of a plain network, whose adapters it is differentiable in."""

    def __init__(self, network: Transformer):
        super().__init__(network)
        self._padded_head: Tensor | None = None

    def hidden(self, ids: Tensor) -> Tensor:
        """Normalised hidden states [M, C] of ids [B, T]."""
        config, (rows, tokens) = self.config, ids.shape
        heads, groups, eps = config.num_attention_heads, config.num_key_value_heads, config.rms_norm_eps
        cos, sin = angles(torch.arange(tokens, device=ids.device), config)
        qkv, o, gate_up, down = (self.blocks[0][name].extra for name in PACKED)  # alike in all layers
        x = F.embedding(ids.flatten(), self.embedding)  # [M, C]
        _, normed, _ = add_norm(x, None, self.norms[0][0], eps, qkv)
        for index, block in enumerate(self.blocks):
            merged = self.qkv(block["qkv"](normed), index).view(rows, tokens, heads + 2 * groups, -1)
            query, key, value = Rotate.apply(merged, cos, sin, heads, groups, qkv)
            with sdpa_kernel(FASTEST_ATTENTION, set_priority=True):
                mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
            delta = block["o"](mixed.transpose(1, 2).reshape(rows * tokens, -1))
            x, normed = AddNorm.apply(x, delta, self.norms[index][1], eps, gate_up, o)
            delta = block["down"](SwiGLU.apply(block["gate_up"](normed), down, gate_up))
            following = self.norms[index + 1][0] if index + 1 < len(self.blocks) else self.last_norm
            x, normed = AddNorm.apply(x, delta, following, eps, qkv, down)
        return normed

    def loss_sum(self, ids: Tensor, targets: Tensor, in_loss: Tensor) -> Tensor:
        """Summed cross-entropy in nats of next tokens, as `plain.loss_sum`: ids, targets and in_loss are [B, L]."""
        if self._padded_head is None:
            self._padded_head = padded_head(self.head)
        hidden = self.hidden(ids[:, :-1])
        wanted = in_loss[:, 1:].reshape(-1)
        return HeadLoss.apply(hidden, self._padded_head, len(self.head), targets[:, 1:].reshape(-1), wanted)

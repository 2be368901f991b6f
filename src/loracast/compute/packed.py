"""A network whose projections that read the same input are one product, adapters included.

It reads the weights of a plain network and computes the same. Frozen weights get no gradient, so that what they read is
not kept. A GPU takes these products in training and decoding, and a CPU in decoding.

Shapes: B rows, T tokens, M = B·T, C inputs and N outputs of a product.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loracast.compute.room import with_room
from loracast.model.lora import LoraLinear
from loracast.model.transformer import Transformer

PACKED = {  # the modules whose outputs one product makes
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "o": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}


class Packed:
    """Projections of one input as one product, W x + b + B (s·A x) over those that have an adapter.

    The adapters are further columns: what is read is [x, s·A x], and the weight [W, B]. Backwards, the gradient
    [d, d B] meets [W; s·A]. So both passes are one product a direction, beside thin ones for what the columns hold.

    Attributes:
        forward: [N, C + extra] W and the B of each adapter on the rows of its projection, zeros elsewhere.
        backward: [N + extra, C] W and the s·A of each adapter, then zeros up to a multiple of 8 rows.
        bias: [N] or None.
        adapters: each adapted projection with its rows of the product and its ranks among all of them.
        extra: columns that the adapters take.
    """

    def __init__(self, modules: list[nn.Module]):
        linears: list[Any] = [module.base if isinstance(module, LoraLinear) else module for module in modules]
        weight = _joined([linear.weight for linear in linears])
        self.bias = None if linears[0].bias is None else _joined([linear.bias for linear in linears])
        self.outputs, self.inputs = weight.shape
        self.adapters: list[tuple[LoraLinear, slice, slice]] = []
        row = rank = 0
        for module, linear in zip(modules, linears):
            if isinstance(module, LoraLinear):
                ranks = len(module.lora_A)
                self.adapters.append((module, slice(row, row + len(linear.weight)), slice(rank, rank + ranks)))
                rank += ranks
            row += len(linear.weight)
        self.extra = rank + -rank % 8
        self.forward = F.pad(weight, (0, self.extra)) if self.extra else weight
        self.backward = F.pad(weight, (0, 0, 0, self.extra)) if self.extra else weight

    def parts(self) -> list[tuple[LoraLinear, Tensor, Tensor]]:
        """Each adapted projection and where its s·A and its B are."""
        a, b = self.backward[self.outputs :], self.forward[:, self.inputs :]
        return [(layer, a[ranks], b[rows, ranks]) for layer, rows, ranks in self.adapters]

    def product(self, x: Tensor) -> Tensor:
        """[M, N] of x [M, C] and of the columns beside it, which are filled here."""
        x = with_room(x, self.extra)
        if self.extra:
            torch.mm(x[:, : self.inputs], self.backward[self.outputs :].T, out=x[:, self.inputs :])
        return F.linear(x, self.forward, self.bias)

    def __call__(self, x: Tensor) -> Tensor:
        """`product`, differentiable in x and in the adapters."""
        parameters = [one for layer, _, _ in self.adapters for one in (layer.lora_A, layer.lora_B)]
        return Project.apply(x, self, *parameters)


def _joined(tensors: list[Tensor]) -> Tensor:
    """Tensors of one shape but the first axis as one; alone, a tensor is not copied."""
    return tensors[0].detach() if len(tensors) == 1 else torch.cat([one.detach() for one in tensors])


class Project(torch.autograd.Function):
    """`Packed.product` with gradients of x [M, C] and of the adapters (A, B, A, B, ...)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Packed, *parameters: Tensor) -> Tensor:
        ctx.packed = packed
        x = with_room(x, packed.extra)
        if packed.adapters:
            ctx.save_for_backward(x)
        return packed.product(x[:, : packed.inputs])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        packed, (d_out,) = ctx.packed, gradients
        if not packed.adapters:
            return d_out @ packed.backward, None
        (x,) = ctx.saved_tensors
        x, down = x[:, : packed.inputs], x[:, packed.inputs :]
        wide = with_room(d_out, packed.extra)
        d_down = wide[:, packed.outputs :]  # [M, extra]
        torch.mm(d_out, packed.forward[:, packed.inputs :], out=d_down)
        d_x = wide @ packed.backward if ctx.needs_input_grad[0] else None
        d_a = _transposed_product(d_down, x)  # [extra, C]
        d_a *= packed.adapters[0][0].scaling
        of_parameters: list[Tensor] = []
        for _, rows, ranks in packed.adapters:
            of_parameters += [d_a[ranks], _transposed_product(d_out[:, rows], down[:, ranks])]
        return d_x, None, *of_parameters


def _transposed_product(a: Tensor, b: Tensor) -> Tensor:
    """aᵀ b of a [M, n] and b [M, m] in float32."""
    if a.dtype == torch.float32:
        return a.T @ b
    return torch.mm(a.T, b, out_dtype=torch.float32)


class PackedNetwork:
    """The weights of a plain network, packed; `refresh` reads its adapters anew."""

    def __init__(self, network: Transformer):
        self.config = network.config
        self.embedding = network.model.embed_tokens.weight.detach()
        self.head = network.head.detach()
        self.blocks = [
            {name: Packed([block.get_submodule(part) for part in parts]) for name, parts in PACKED.items()}
            for block in network.model.layers
        ]
        self.norms: list[tuple[Tensor, Tensor]] = []
        for block in network.model.layers:
            before_attention, before_mlp = block.input_layernorm, block.post_attention_layernorm
            self.norms.append((before_attention.weight.detach(), before_mlp.weight.detach()))  # pyright: ignore
        self.last_norm = network.model.norm.weight.detach()
        self.head_norms: list[tuple[Tensor, Tensor]] = []  # of queries and keys, where the model normalises them
        if network.config.qk_norm:
            attentions: list[Any] = [block.self_attn for block in network.model.layers]
            self.head_norms = [(one.q_norm.weight.detach(), one.k_norm.weight.detach()) for one in attentions]
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Reads the adapters anew, after an optimiser's step has changed them."""
        parts = [part for block in self.blocks for packed in block.values() for part in packed.parts()]
        if parts:
            layers, a, b = zip(*parts)
            scaled = torch._foreach_mul([layer.lora_A for layer in layers], [layer.scaling for layer in layers])
            torch._foreach_copy_(a, scaled)
            torch._foreach_copy_(b, [layer.lora_B for layer in layers])

    def qkv(self, product: Tensor, layer: int) -> Tensor:
        """What a layer's product made [M, (H + 2K)·E], its queries and keys normalised where the model does that."""
        if not self.head_norms:
            return product
        heads, groups, eps = self.config.num_attention_heads, self.config.num_key_value_heads, self.config.rms_norm_eps
        query, key, value = product.unflatten(-1, (-1, self.config.head_dim)).split([heads, groups, groups], -2)
        of_queries, of_keys = self.head_norms[layer]
        query, key = F.rms_norm(query, of_queries.shape, of_queries, eps), F.rms_norm(key, of_keys.shape, of_keys, eps)
        return torch.cat([query, key, value], -2).flatten(-2)

    def decode(self, ids: Tensor, attend: Any, add_norm: Any, swiglu: Any) -> tuple[Tensor, Tensor]:
        """The residual stream [M, C] of new tokens before the last layer's MLP is added, and what it adds.

        Args:
            attend: attention [M, H·E] of what a layer's product made, given it, the layer's number and room to leave.
            add_norm, swiglu: as those of `cuda.kernels`.
        """
        eps = self.config.rms_norm_eps
        x, delta = F.embedding(ids.flatten(), self.embedding), None
        for layer, (block, norms) in enumerate(zip(self.blocks, self.norms)):
            x, normed, *_ = add_norm(x, delta, norms[0], eps, block["qkv"].extra)
            qkv = self.qkv(block["qkv"].product(normed), layer)
            delta = block["o"].product(attend(qkv, layer, block["o"].extra))
            x, normed, *_ = add_norm(x, delta, norms[1], eps, block["gate_up"].extra)
            delta = block["down"].product(swiglu(block["gate_up"].product(normed), block["down"].extra))
        assert delta is not None
        return x, delta

"""Several adapters of one base in one network: each series of a batch is computed with its own.

What each series gets is what its adapter alone would give it: every adapter's part is computed for all rows, which is
little beside the base's product, and set to zero but in the rows that are its own.

Shapes: N series of a batch, B rows, N or N times the paths of each, T tokens, C inputs of a projection.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loracast.model.lora import LoraLinear, owner
from loracast.model.transformer import Transformer
from loracast.settings import PROJECTIONS


class Members:
    """Which network each series of a batch is computed by.

    Attributes:
        of: [N] positions among the networks.
    """

    def __init__(self) -> None:
        self.of = torch.zeros(1, dtype=torch.int64)


class MixedLinear(nn.Module):
    """A frozen projection and the adapters of several networks, side by side: [A1; A2; …] x, in which all but a row's
    own are zero, times [s·B1, s·B2, …].

    Args:
        adapters: of each network, None where it has none here.
    """

    def __init__(self, base: nn.Linear, adapters: Sequence[LoraLinear | None], members: Members):
        super().__init__()
        self.base, self.members = base, members
        present = [(place, one) for place, one in enumerate(adapters) if one is not None]
        self.down = torch.cat([one.lora_A.detach() for _, one in present])  # [ranks, C]
        self.up = torch.cat([one.scaling * one.lora_B.detach() for _, one in present], 1)  # [out, ranks]
        self.whose = torch.cat([torch.full((len(one.lora_A),), place) for place, one in present])  # [ranks]

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, out] of x [B, T, C]."""
        of = self.members.of.repeat_interleave(len(x) // len(self.members.of))  # [B]
        own = (of[:, None] == self.whose)[:, None].to(x.dtype)  # [B, 1, ranks]
        return self.base(x) + F.linear(F.linear(x, self.down.to(x.dtype)) * own, self.up.to(x.dtype))


def mix(networks: Sequence[Transformer]) -> tuple[Transformer, Members]:
    """One network of several that share their frozen weights, each with an adapter or none.

    What it returns beside it is told before each batch which of its series are whose.
    """
    shared = {id(tensor): tensor for network in networks for tensor in (*network.parameters(), *network.buffers())}
    mixed = copy.deepcopy(networks[0], shared)
    members = Members()
    for index, block in enumerate(mixed.model.layers):
        for target in PROJECTIONS:
            found = []
            for network in networks:
                parent, name = owner(network.model.layers[index], target)
                found.append(getattr(parent, name))
            adapters = [one if isinstance(one, LoraLinear) else None for one in found]
            if any(adapters):
                first = found[0]
                base = first.base if isinstance(first, LoraLinear) else first
                parent, name = owner(block, target)
                setattr(parent, name, MixedLinear(base, adapters, members))
    return mixed, members

"""Decoding as `qwen2.py` computes it: prompts once, then some tokens a pass of all paths."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from loracast.model.attention import SharedPrefixCache
from loracast.model.fused import can_fuse
from loracast.model.qwen2 import Qwen2


class Decoder(Protocol):
    """Continues N prompts by S paths each. Shapes: B = N·S paths, T new tokens, C hidden size."""

    def prefill(self) -> Tensor:
        """Normalised hidden state [B, C] of the last prompt token of each path; called first and once."""
        ...

    def buffer(self, new: int) -> Tensor:
        """[B, T] where the ids of the next pass are to be put."""
        ...

    def advance(self, ids: Tensor) -> Tensor:
        """Feeds ids [B, T] of a `buffer`; the normalised hidden state [B, C] after each path's last one."""
        ...


class PlainDecoder:
    """See `Decoder`; the prompts [N, P] are padded on the right to the longest of `lengths` [N]."""

    def __init__(self, network: Qwen2, prompt: Tensor, lengths: Tensor, samples: int):
        self.network, self.prompt, self.lengths, self.samples = network, prompt, lengths, samples
        self.cache = SharedPrefixCache(lengths, samples)

    def prefill(self) -> Tensor:
        hidden = self.network.hidden(self.prompt, self.cache)  # [N, P, C]
        last = hidden[torch.arange(len(hidden), device=hidden.device), self.lengths - 1]
        return last.repeat_interleave(self.samples, 0)

    def buffer(self, new: int) -> Tensor:
        paths = len(self.prompt) * self.samples
        return torch.empty(paths, new, dtype=torch.int64, device=self.prompt.device)

    def advance(self, ids: Tensor) -> Tensor:
        return self.network.hidden(ids, self.cache)[:, -1]


def make_decoder(network: Qwen2, prompt: Tensor, lengths: Tensor, samples: int, most: int) -> Decoder:
    """The fastest decoder that the device allows; a path is fed `most` tokens of its own at most."""
    if can_fuse(network):
        from loracast.model.fused_decoder import FusedDecoder

        return FusedDecoder(network, prompt, lengths, samples, most)
    from loracast.model.native_decoder import NativeDecoder, can_decode_natively

    if can_decode_natively(network):
        return NativeDecoder(network, prompt, lengths, samples, most)
    return PlainDecoder(network, prompt, lengths, samples)

"""Computing on a CPU in bfloat16: blocks in few passes over memory, attention by blocks of queries, decoding in C."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from loracast.compute.cpu import decoder
from loracast.compute.cpu.attention import blocked_attention
from loracast.compute.cpu.blocks import compute_block
from loracast.compute.device import on_gpu
from loracast.compute.interface import Decoder, Passes
from loracast.compute.plain import PlainCompute, PlainDecoder, PlainPasses
from loracast.model.attention import SharedPrefixCache
from loracast.model.transformer import Transformer


def refusal(network: Transformer) -> str | None:
    """Why this way does not compute a network; None where it does."""
    weight = network.model.norm.weight
    if on_gpu(weight.device):
        return "its weights are on a GPU"
    if weight.dtype != torch.bfloat16:
        return f"its precision is {str(weight.dtype).removeprefix('torch.')}, not bfloat16"
    trained = [name for name, one in network.named_parameters() if one.requires_grad]
    return None if all(name.endswith(("lora_A", "lora_B")) for name in trained) else "its own weights are trained"


class CpuCompute(PlainCompute):
    """See `plain.PlainCompute`."""

    name = "cpu"

    def hidden(self, ids: Tensor, cache: SharedPrefixCache | None = None) -> Tensor:
        return self.network.hidden(ids, cache, attention=blocked_attention, compute_block=compute_block)

    def passes(self, adapters: list[nn.Parameter]) -> Passes:
        hidden = self.hidden
        if self.drops_out:  # which these blocks do not compute
            hidden = partial(self.network.hidden, attention=blocked_attention)
        return PlainPasses(self.network, hidden, adapters[0].element_size())

    def decoder(self, prompt: Tensor, lengths: Tensor, samples: int, most: int) -> Decoder:
        reader = PlainDecoder(self.hidden, prompt, lengths, samples, blocked_attention)
        return reader if decoder.refusal(self.network.config) else decoder.NativeDecoder(self.network, reader, most)

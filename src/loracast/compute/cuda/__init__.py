"""Computing on an NVIDIA GPU in half precision: fused kernels, CUDA graphs, one kernel for drawing."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from loracast.compute.device import free_memory, on_gpu
from loracast.compute.interface import Decoder, Drawing, Passes
from loracast.compute.plain import PlainCompute, token_bytes
from loracast.model.config import ModelConfig
from loracast.model.transformer import Transformer

MEMORY_SHARE = 0.8  # of a GPU's free memory, for keys and values
HEAD_SIZES = (16, 32, 64, 128)


def refusal(network: Transformer) -> str | None:
    """Why the kernels do not compute a network; None where they do."""
    weight = network.model.norm.weight
    if not on_gpu(weight.device):
        return "its weights are not on a GPU"
    if weight.dtype not in (torch.bfloat16, torch.float16):
        return f"its precision is {str(weight.dtype).removeprefix('torch.')}, not bfloat16 or float16"
    return unsupported(network.config) or (None if find_spec("triton") else "Triton is not installed")


def unsupported(config: ModelConfig) -> str | None:
    """Why the kernels compute no model of this shape; None where they do."""
    if config.head_dim in HEAD_SIZES:
        return None
    return f"its heads have {config.head_dim} values, not {', '.join(map(str, HEAD_SIZES))}"


class CudaCompute(PlainCompute):
    """See `plain.PlainCompute`."""

    name = "cuda"

    def passes(self, adapters: list[nn.Parameter]) -> Passes:
        if self.drops_out:
            return super().passes(adapters)  # what is dropped differs from pass to pass, which a graph does not
        from loracast.compute.cuda.passes import FusedPasses

        return FusedPasses(self.network, adapters)

    def decoder(self, prompt: Tensor, lengths: Tensor, samples: int, most: int) -> Decoder:
        from loracast.compute.cuda.decoder import FusedDecoder

        return FusedDecoder(self.network, prompt, lengths, samples, most)

    def drawing_kind(self) -> Callable[..., Drawing]:
        from loracast.compute.cuda.drawing import FusedDrawing

        return FusedDrawing

    def together(self, longest: int, samples: int, new: int) -> tuple[int, int]:
        """Prompts are read in parts, and each is kept once."""
        free = free_memory(self.device)
        assert free is not None  # this is a GPU's way
        budget = int(free * MEMORY_SHARE)
        kept = token_bytes(self.network.config, self.network.model.norm.weight.element_size())
        paths = min(samples, max(1, (budget // kept - longest) // new))
        return max(1, budget // (kept * (longest + paths * new))), paths

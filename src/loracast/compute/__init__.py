"""How fast a model is computed, and the one place that chooses how.

`choose` is asked once, when a model is loaded or gets an adapter; the loaded model holds what it returns.
"""

from __future__ import annotations

from loracast.compute import cpu, cuda
from loracast.compute.plain import PlainCompute
from loracast.model.config import ModelConfig
from loracast.model.transformer import Transformer
from loracast.settings import ComputeKind

__all__ = ["PlainCompute", "choose", "unsupported"]


def choose(network: Transformer, kind: ComputeKind = "auto") -> PlainCompute:
    """The fastest way to compute a network where it is; `plain` takes the reference instead.

    Example: ``choose(network, "plain").hidden(ids)``
    """
    if kind == "auto":
        for way, compute in ((cuda, cuda.CudaCompute), (cpu, cpu.CpuCompute)):
            if way.refusal(network) is None:
                return compute(network)
    return PlainCompute(network)


def unsupported(config: ModelConfig) -> dict[str, str]:
    """Why a faster way does not compute models of a shape, wherever they are, by what it is; nothing for one that does.

    Example: ``unsupported(model.network.config)``
    """
    found = {
        "fused kernels on an NVIDIA GPU": cuda.unsupported(config),
        "decoding in C on a CPU": cpu.decoder.refusal(config),
    }
    return {name: reason for name, reason in found.items() if reason}

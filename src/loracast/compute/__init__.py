"""How fast a model is computed, and the one place that chooses how.

`choose` is asked once, when a model is loaded or gets an adapter; the loaded model holds what it returns.
"""

from __future__ import annotations

from loracast.compute import cpu, cuda
from loracast.compute.plain import PlainCompute
from loracast.model.transformer import Transformer
from loracast.settings import ComputeKind

__all__ = ["PlainCompute", "choose", "refusals"]


def choose(network: Transformer, kind: ComputeKind = "auto") -> PlainCompute:
    """The fastest way to compute a network where it is; `plain` takes the reference instead.

    Example: ``choose(network, "plain").hidden(ids)``
    """
    if kind == "auto":
        for way, compute in ((cuda, cuda.CudaCompute), (cpu, cpu.CpuCompute)):
            if way.refusal(network) is None:
                return compute(network)
    return PlainCompute(network)


def refusals(network: Transformer) -> dict[str, str]:
    """Why each faster way does not compute a network, by the name of the way; nothing for one that does."""
    found = {"cuda": cuda.refusal(network), "cpu": cpu.refusal(network), "cpu, decoding": None}
    if found["cpu"] is None:
        found["cpu, decoding"] = cpu.decoder.refusal(network.config)
    return {name: reason for name, reason in found.items() if reason}

"""Decoding on a GPU: prompts once, then one or a few tokens a pass of all paths, each pass one CUDA graph.

All buffers are allocated once and what changes from pass to pass lives on the device, so that a pass is the same work
at the same addresses and nothing waits for the host. The twin is `plain.PlainDecoder`.

Shapes: N series, S samples, B paths, T new tokens, P prompt tokens (padded), C hidden size, U own tokens at most.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import sdpa_kernel

from loracast.compute.cuda.kernels.decode_attention import PathLayout, decode_attention
from loracast.compute.cuda.kernels.norm import add_norm
from loracast.compute.cuda.kernels.rotary import Rotate
from loracast.compute.cuda.kernels.swiglu import swiglu
from loracast.compute.cuda.network import CAPTURE, FASTEST_ATTENTION
from loracast.compute.packed import PackedNetwork
from loracast.model.rotary import angles
from loracast.model.transformer import Transformer

PREFILL_TOKENS = 65_536  # read at once


class FusedDecoder:
    """Reads N prompts, then continues S paths of each.

    Args:
        prompt: [N, P] ids, padded on the right.
        lengths: [N] the prompts' true lengths.
        samples: S.
        most: own tokens a path is fed at most.
    """

    def __init__(self, network: Transformer, prompt: Tensor, lengths: Tensor, samples: int, most: int):
        self.network, self.config, self.prompt, self.samples = PackedNetwork(network), network.config, prompt, samples
        config, device = network.config, prompt.device
        series, paths = len(prompt), len(prompt) * samples
        kept = {"dtype": self.network.embedding.dtype, "device": device}
        groups, size = config.num_key_value_heads, config.head_dim
        layers = range(config.num_hidden_layers)

        def keys_and_values(rows: int, tokens: int) -> tuple[Tensor, Tensor]:
            return torch.empty(rows, tokens, size, **kept), torch.empty(rows, tokens, size, **kept)

        self.prompts = [keys_and_values(series * groups, prompt.shape[1]) for _ in layers]
        self.own = [keys_and_values(paths * groups, most) for _ in layers]
        cos, sin = angles(torch.arange(prompt.shape[1] + most, device=device), config)
        lengths = lengths.int()
        self.layout = PathLayout(
            lengths,
            (torch.arange(series + 1, device=device) * samples).int(),
            lengths.repeat_interleave(samples),
            torch.zeros(1, dtype=torch.int32, device=device),
            cos,
            sin,
            samples,
            config.num_attention_heads,
            groups,
        )
        self.graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}
        self.seen: set[int] = set()
        self.pool = None

    def prefill(self) -> Tensor:
        """Normalised hidden state [B, C] of the last prompt token of each path."""
        config, groups = self.config, self.config.num_key_value_heads
        tokens = self.prompt.shape[1]
        at_once = max(1, PREFILL_TOKENS // tokens)
        cos, sin = self.layout.cos[:tokens], self.layout.sin[:tokens]
        last = []
        for start in range(0, len(self.prompt), at_once):
            ids = self.prompt[start : start + at_once]  # [n, P]
            rows = slice(start * groups, (start + len(ids)) * groups)

            def attend(qkv: Tensor, layer: int, extra: int, rows: slice = rows, series: int = len(ids)) -> Tensor:
                heads = config.num_attention_heads
                merged = qkv.view(series, tokens, heads + 2 * groups, -1)
                query, key, value = Rotate.apply(merged, cos, sin, heads, groups, 0)
                for kept, new in zip(self.prompts[layer], (key, value)):
                    kept[rows].view(key.shape).copy_(new)
                # not cuDNN, which would plan anew for each shape of prompts
                with sdpa_kernel(FASTEST_ATTENTION[1:], set_priority=True):
                    mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
                return mixed.transpose(1, 2).reshape(series * tokens, -1)

            x, delta = self.network.decode(ids, attend, add_norm, swiglu)
            ends = (
                torch.arange(len(ids), device=ids.device) * tokens + self.layout.lengths[start : start + len(ids)] - 1
            )
            last.append(self._normalised(x[ends], delta[ends]))
        return torch.cat(last).repeat_interleave(self.samples, 0)

    def buffer(self, new: int) -> Tensor:
        """[B, T] where the next ids are to be put; the same one in every pass of T tokens."""
        if new in self.graphs:
            return self.graphs[new][1]
        return torch.empty(len(self.layout.path_lengths), new, dtype=torch.int64, device=self.prompt.device)

    def advance(self, ids: Tensor) -> Tensor:
        """Feeds ids [B, T] in a `buffer`; the normalised hidden state [B, C] after each path's last one.

        The first pass of T tokens also compiles what it runs; the second becomes a graph, which the later ones replay.
        """
        new = ids.shape[1]
        if new not in self.seen:
            self.seen.add(new)
            return self._pass(ids)
        if new not in self.graphs:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self.pool, capture_error_mode=CAPTURE):
                out = self._pass(ids)
            self.pool = graph.pool()
            self.graphs[new] = graph, ids, out
        graph, _, out = self.graphs[new]
        graph.replay()
        return out

    def _pass(self, ids: Tensor) -> Tensor:
        new = ids.shape[1]

        def attend(qkv: Tensor, layer: int, extra: int) -> Tensor:
            return decode_attention(qkv, self.prompts[layer], self.own[layer], self.layout, new, extra)

        x, delta = self.network.decode(ids, attend, add_norm, swiglu)
        last = slice(new - 1, None, new)
        out = self._normalised(x[last], delta[last])
        self.layout.fed.add_(new)
        return out

    def _normalised(self, x: Tensor, delta: Tensor) -> Tensor:
        return add_norm(x, delta, self.network.last_norm, self.config.rms_norm_eps)[1]

"""Decoding on a CPU: the matrix products are PyTorch's, what lies between them is `native/decode.c`.

The twin is `plain.PlainDecoder`, which is also what a machine without a C compiler takes.

Shapes: N series, S samples, B paths, T new tokens, P prompt tokens (padded), C hidden size, H query heads,
K key-value heads, E head size.
"""

from __future__ import annotations

import ctypes

import torch
import torch.nn.functional as F
from torch import Tensor

from loracast.compute.cpu.native import CallLayout, library
from loracast.compute.packed import PackedNetwork
from loracast.compute.plain import PlainDecoder
from loracast.compute.room import empty_with_room, with_room
from loracast.model.config import ModelConfig
from loracast.model.rotary import angles
from loracast.model.transformer import Transformer

CHUNK, LANES, MOST_ROWS, MOST_SIZE = 64, 16, 64, 128  # as in `decode.c`


def refusal(config: ModelConfig) -> str | None:
    """Why the C functions do not decode a network of this shape; None where they do."""
    share = config.num_attention_heads // config.num_key_value_heads
    odd = [size for size in (config.head_dim // 2, config.hidden_size, config.intermediate_size) if size % LANES]
    if odd:
        return f"half a head, hidden size or inner size is {odd[0]}, which is not a multiple of {LANES}"
    if config.head_dim > MOST_SIZE or share > MOST_ROWS:
        return f"its heads have more than {MOST_SIZE} values, or more than {MOST_ROWS} share their keys"
    return None if library() else "there is no C compiler, nor a decoder compiled for this processor"


class NativeDecoder:
    """See `interface.Decoder`.

    Args:
        reader: what reads the prompts.
        most: own tokens that a path is fed at most.
    """

    def __init__(self, network: Transformer, reader: PlainDecoder, most: int):
        functions = library()
        assert functions is not None
        self.functions, self.network, self.reader = functions, PackedNetwork(network), reader
        self.series, self.samples, self.lengths, self.fed = len(reader.prompt), reader.samples, reader.lengths.int(), 0
        config, rows = network.config, self.series * self.samples * network.config.num_key_value_heads
        self.config, self.threads = config, torch.get_num_threads()
        shape = rows, -(-most // CHUNK) * CHUNK, 2 * config.head_dim
        # of zeros, since what is not there yet is multiplied by a weight of zero
        self.own = [torch.zeros(shape, dtype=torch.bfloat16) for _ in network.model.layers]
        self.prompts: list[Tensor] = []
        positions = torch.arange(reader.prompt.shape[1] + most)
        self.cos, self.sin = angles(positions, config)

    def prefill(self) -> Tensor:
        """Normalised hidden state [B, C] of the last prompt token of each path."""
        hidden = self.reader.prefill()
        self.prompts = [in_pairs(*self.reader.cache.prefix.pop(layer)) for layer in range(len(self.own))]
        return hidden

    def buffer(self, new: int) -> Tensor:
        return self.reader.buffer(new)

    def advance(self, ids: Tensor) -> Tensor:
        """Feeds ids [B, T]; the normalised hidden state [B, C] after each path's last one."""
        share = self.config.num_attention_heads // self.config.num_key_value_heads
        *before, last = ids.split(MOST_ROWS // share, 1)  # the rows of a path that one task has room for
        for part in before:
            self._pass(part)
        return self._pass(last)

    def _pass(self, ids: Tensor) -> Tensor:
        new, layout = ids.shape[1], self._layout()

        def attend(qkv: Tensor, layer: int, extra: int) -> Tensor:
            return self._attend(layout, qkv, layer, new, extra)

        x, delta = self.network.decode(ids, attend, self._add_norm, self._swiglu)
        self.fed += new
        last = slice(new - 1, None, new)
        final = self.network.last_norm, self.config.rms_norm_eps, 0
        return self._add_norm(x[last].contiguous(), delta[last].contiguous(), *final)[1]

    def _layout(self) -> CallLayout:
        config = self.config
        groups = config.num_key_value_heads
        return CallLayout(
            *(one.data_ptr() for one in (self.lengths, self.cos, self.sin)),
            *(self.series, self.samples, groups, config.num_attention_heads // groups, config.head_dim, self.fed),
            *(self.prompts[0].shape[1], self.own[0].shape[1], self.threads),
        )

    def _attend(self, layout: CallLayout, qkv: Tensor, layer: int, new: int, extra: int) -> Tensor:
        out = _with_zero_room(qkv, self.config.num_attention_heads * self.config.head_dim, extra)
        kept = self.prompts[layer].data_ptr(), self.own[layer].data_ptr()
        arguments = qkv.data_ptr(), *kept, out.data_ptr(), out.stride(0), new
        self.functions.decode_attention(ctypes.byref(layout), *arguments)
        return out

    def _add_norm(
        self, x: Tensor, delta: Tensor | None, weight: Tensor, eps: float, extra: int
    ) -> tuple[Tensor, Tensor]:
        rows, columns = x.shape
        normed = _with_zero_room(x, columns, extra)
        added = None if delta is None else delta.data_ptr()
        arguments = x.data_ptr(), added, weight.data_ptr(), normed.data_ptr(), rows, columns, normed.stride(0)
        self.functions.add_norm(*arguments, eps, self.threads)
        return x, normed

    def _swiglu(self, gate_up: Tensor, extra: int) -> Tensor:
        rows, inner = len(gate_up), gate_up.shape[1] // 2
        out = _with_zero_room(gate_up, inner, extra)
        self.functions.swiglu(gate_up.data_ptr(), out.data_ptr(), rows, inner, out.stride(0), self.threads)
        return out


def _with_zero_room(like: Tensor, columns: int, extra: int) -> Tensor:
    """`empty_with_room`, with zeros in the room.

    A product on a CPU with matrix tiles reads past the end of rows that are not whole tiles long. What it reads
    there is multiplied by zeros, which makes NaN of a NaN that was left in that memory.
    """
    out = empty_with_room(like, columns, extra)
    if extra:
        with_room(out, extra)[:, columns:] = 0
    return out


def in_pairs(key: Tensor, value: Tensor) -> Tensor:
    """Keys and values [N*K, P, E] in whole chunks as `decode.c` lays them out, [N*K, P', 2E]."""
    chunks = (F.pad(one, (0, 0, 0, -one.shape[1] % CHUNK)).unflatten(1, (-1, CHUNK)) for one in (key, value))
    keys, values = chunks  # [N*K, chunks, CHUNK, E]
    keys = keys.unflatten(-1, (-1, 2)).transpose(2, 3)  # [N*K, chunks, E/2, CHUNK, 2]
    values = values.unflatten(2, (-1, 2)).transpose(3, 4)  # [N*K, chunks, CHUNK/2, E, 2]
    return torch.cat([keys.flatten(2), values.flatten(2)], 2).view(len(key), -1, 2 * key.shape[2])

"""GGUF files: what a header says of a model, and its tensors, read and dequantised when they are wanted.

The format is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The header is read here, in a tenth of
a second and with every size checked against the file, where the reader of the package `gguf` takes two and checks
little; that package dequantises.

Shapes: R rows that are wanted.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from loracast.errors import ModelError, install_advice

MAGIC, VERSIONS = b"GGUF", (2, 3)
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}  # by type number
STRING, ARRAY = 8, 9
MOST_AXES = 4
KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K")  # that are read


@dataclass(frozen=True)
class Stored:
    """A tensor in a file: its shape (rows first), kind of numbers, and where its bytes begin."""

    shape: tuple[int, ...]
    kind: str
    begin: int
    row_bytes: int


class GgufFile:
    """One GGUF file. A ModelError names what is wrong with one that is not whole.

    Attributes:
        fields: what the header says, by key.
        tensors: what is stored, by name.
    """

    def __init__(self, path: Path):
        self.path = path
        self.kinds, self.sizes = _library()
        with path.open("rb") as file:
            try:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError:
                raise self.problem("the file is empty") from None
        self._at = 0
        if self._bytes[:4] != MAGIC:
            raise self.problem("it does not begin with GGUF")
        self._at = 4
        version = self._scalar("I")
        if version not in VERSIONS:
            big = " (of a machine that stores numbers the other way round)" if version >> 16 else ""
            raise self.problem(f"its version is {version}{big}; {' and '.join(map(str, VERSIONS))} are read")
        tensors, fields = self._scalar("Q"), self._scalar("Q")
        self.fields: dict[str, Any] = {}
        for _ in range(self._many(fields, 12)):
            key = self._string()
            if key in self.fields:
                raise self.problem(f"the key {key!r} appears twice")
            self.fields[key] = self._value(self._scalar("I"))
        headers = [self._tensor() for _ in range(self._many(tensors, 24))]
        alignment = self.fields.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise self.problem(f"general.alignment is {alignment!r}")
        begin = -(-self._at // alignment) * alignment
        self.tensors = {name: self._placed(name, begin, shape, kind, at) for name, shape, kind, at in headers}
        if len(self.tensors) < len(headers):
            raise self.problem("two tensors have one name")

    def problem(self, message: str) -> ModelError:
        return ModelError(f"{self.path} is not a whole GGUF file: {message}; copy or download it again")

    def read(self, name: str, rows: Sequence[int] | None = None) -> Tensor:
        """A tensor as float32, or as float16 or bfloat16 where it is stored so; with `rows` [R], only those."""
        stored = self.tensors[name]
        count = stored.shape[0] if len(stored.shape) > 1 else 1
        data = np.frombuffer(self._bytes, np.uint8, count * stored.row_bytes, stored.begin).reshape(count, -1)
        if rows is not None:
            data = data[list(rows)]
        shape = stored.shape if rows is None else (len(rows), *stored.shape[1:])
        plain = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}.get(stored.kind)
        if plain is not None:
            return torch.frombuffer(bytearray(data.tobytes()), dtype=plain).view(shape)
        from gguf import quants

        return torch.from_numpy(quants.dequantize(data, self.kinds[stored.kind])).view(shape)

    # -- the header --------------------------------------------------------------------------------------------------

    def _take(self, count: int) -> bytes:
        if count > len(self._bytes) - self._at:
            raise self.problem(f"it ends within its header, after {len(self._bytes):,} bytes")
        self._at += count
        return self._bytes[self._at - count : self._at]

    def _scalar(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self._take(struct.calcsize(code)))[0]

    def _string(self) -> str:
        try:
            return self._take(self._scalar("Q")).decode("utf-8")
        except UnicodeDecodeError:
            raise self.problem(f"the text before byte {self._at:,} is not UTF-8") from None

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind in SCALARS:
            return self._scalar(SCALARS[kind])
        if kind != ARRAY:
            raise self.problem(f"a value before byte {self._at:,} is of the unknown type {kind}")
        inner, count = self._scalar("I"), self._scalar("Q")
        if inner == STRING:
            return [self._string() for _ in range(self._many(count, 8))]
        if inner not in SCALARS:
            raise self.problem(f"a list before byte {self._at:,} is of the unknown type {inner}")
        size = struct.calcsize(SCALARS[inner])
        return list(struct.unpack(f"<{self._many(count, size)}{SCALARS[inner]}", self._take(count * size)))

    def _many(self, count: int, size: int) -> int:
        """A count of items of at least so many bytes, if the rest of the file can hold them."""
        if count * size > len(self._bytes) - self._at:
            raise self.problem(f"a list of {count:,} items before byte {self._at:,} goes beyond its end")
        return count

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name, axes = self._string(), self._scalar("I")
        if not 1 <= axes <= MOST_AXES:
            raise self.problem(f"tensor {name} has {axes} axes")
        shape = tuple(self._scalar("Q") for _ in range(axes))[::-1]
        return name, shape, self._scalar("I"), self._scalar("Q")

    def _placed(self, name: str, begin: int, shape: tuple[int, ...], number: int, offset: int) -> Stored:
        kind = next((one for one in KINDS if self.kinds[one] == number), None)
        if kind is None:
            known = {value: one for one, value in self.kinds.items()}
            raise ModelError(
                f"{self.path}: tensor {name} is stored as {known.get(number, f'type {number}')}, which is not read; "
                f"take a file that is quantised as one of {', '.join(KINDS)}"
            )
        block, block_bytes = self.sizes[self.kinds[kind]]
        if shape[-1] % block:
            raise self.problem(f"tensor {name} has rows of {shape[-1]} numbers, not a multiple of {block} ({kind})")
        row_bytes = shape[-1] // block * block_bytes
        end = begin + offset + prod(shape[:-1]) * row_bytes
        if end > len(self._bytes):
            raise self.problem(f"tensor {name} ends at byte {end:,} of {len(self._bytes):,}")
        return Stored(shape, kind, begin + offset, row_bytes)


def _library() -> tuple[dict[str, Any], dict[Any, tuple[int, int]]]:
    """The numbers of the kinds of quantisation by their names, and the numbers and bytes in a block of each."""
    try:
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    except ImportError:
        raise ModelError(f"GGUF files need the package gguf; {install_advice('gguf')}") from None
    return {kind.name: kind for kind in GGMLQuantizationType}, GGML_QUANT_SIZES

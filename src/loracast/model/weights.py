"""Where a model's weights come from: named tensors that are read when they are wanted, and only the rows that are.

Shapes: R rows that are wanted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from loracast.errors import ModelError
from loracast.model.config import read_json
from loracast.model.tensors import opened

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
DIGEST_SAMPLE = 4096  # about how many elements of a tensor go into the fingerprint of a model


class WeightSource(Protocol):
    """Named tensors on a disk."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor by its name."""
        ...

    def read(self, name: str, rows: Sequence[int] | None = None) -> Tensor:
        """A tensor on the CPU, as it is stored; with `rows` [R], only those of its first axis."""
        ...

    def place(self, name: str) -> Path:
        """The file that holds a tensor, for messages."""
        ...


class SafetensorsSource:
    """The weights of a Hugging Face directory, in one file or in shards."""

    def __init__(self, directory: Path):
        self._places: dict[str, Path] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        for path in _weight_files(directory):
            with opened(path) as file:
                for name in file.keys():  # noqa: SIM118, which is not a dictionary
                    self._places[name] = path
                    self._shapes[name] = tuple(file.get_slice(name).get_shape())

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self._shapes

    def read(self, name: str, rows: Sequence[int] | None = None) -> Tensor:
        with opened(self._places[name]) as file:
            if rows is None:
                return file.get_tensor(name)
            part = file.get_slice(name)
            return torch.cat([part[row : row + 1] for row in rows])

    def place(self, name: str) -> Path:
        return self._places[name]


def _weight_files(directory: Path) -> list[Path]:
    single, index = directory / WEIGHTS, directory / INDEX
    if single.is_file() or not index.is_file():  # one file goes before shards, as in transformers
        return [single]
    try:
        shards = sorted(set(read_json(index)["weight_map"].values()))
    except (KeyError, AttributeError, TypeError) as error:
        raise ModelError(
            f"{index} cannot be read as an index of weight files ({type(error).__name__}: {error}); download it again"
        ) from None
    return [directory / shard for shard in shards]


def digest(tensor: Tensor) -> str:
    """Identifies a tensor by some thousand evenly spaced elements: reading all of a large model would take seconds."""
    flat = tensor.flatten()
    stride = len(flat) // DIGEST_SAMPLE | 1  # odd, so that it is not a multiple of a row's size and all columns are met
    return hashlib.sha256(flat[::stride].contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()

"""Matrices whose rows have room for further columns, which the adapters of a product fill."""

from __future__ import annotations

import torch
from torch import Tensor


def empty_with_room(like: Tensor, columns: int, extra: int) -> Tensor:
    """An empty [M, columns] for the rows of `like` [M, ...], with room for `extra` more."""
    return torch.empty(len(like), columns + extra, dtype=like.dtype, device=like.device)[:, :columns]


def with_room(x: Tensor, extra: int) -> Tensor:
    """The whole [M, columns + extra] that x [M, columns] is the beginning of; a copy where x was made without room."""
    if not extra:
        return x
    rows, columns = x.shape
    strides = columns + extra, 1
    if x.stride() == strides:
        return x.as_strided((rows, columns + extra), strides)
    whole = x.new_empty(rows, columns + extra)
    whole[:, :columns] = x
    return whole

"""safetensors files, whole or not at all, and of finite numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from loracast.errors import ModelError
from loracast.files import atomic_path

NAMED = 3  # tensors that an error names


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, on the CPU; a missing, truncated or foreign file is a ModelError that names it."""
    _check(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def read_metadata(path: Path) -> dict[str, str]:
    """The text that was stored beside the tensors of a file."""
    with opened(path) as file:
        return file.metadata() or {}


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A file whose tensors are read one by one; a missing, truncated or foreign one is a ModelError that names it."""
    _check(path)
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes a file beside its place and renames it; a NaN or an infinity is refused before anything is written."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    check_finite(
        contiguous, path, "nothing was written; if a training diverged, begin again with a lower learning rate"
    )
    with atomic_path(path) as temporary:
        try:
            save_file(contiguous, temporary, {"format": "pt", **(metadata or {})})
        except SafetensorError as error:  # so a full disk reads like any other failed write
            raise OSError(str(error)) from None


def not_finite(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """What is wrong with each tensor that holds a NaN or an infinity, by name; empty where all is well.

    The smallest and the largest value of a tensor tell, in one reduction, and the device is waited for once.
    """
    floating = {name: tensor.detach() for name, tensor in tensors.items() if tensor.is_floating_point()}
    floating = {name: tensor for name, tensor in floating.items() if tensor.numel()}
    if not floating:
        return {}
    extremes = torch.stack([torch.stack(torch.aminmax(tensor)).double() for tensor in floating.values()])  # [.., 2]
    found = {}
    for (name, tensor), finite in zip(floating.items(), extremes.isfinite().all(1).tolist()):
        if not finite:
            counts = {"NaN": int(tensor.isnan().sum()), "infinite": int(tensor.isinf().sum())}
            listed = " and ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)
            found[name] = f"{name} holds {listed} among its {tensor.numel():,} values"
    return found


def check_finite(
    tensors: Mapping[str, Tensor], where: str | Path, remedy: str, stored: Callable[[str], Tensor] | None = None
) -> None:
    """Raises a ModelError that names what holds a NaN or an infinity, and what to do about it.

    Args:
        tensors: as they are computed with.
        where: the file, for the message.
        remedy: what to do, for the message.
        stored: gives a tensor as it was before it was converted. Where that is finite, the precision is to blame.
    """
    found = not_finite(tensors)
    if not found:
        return
    if stored is not None and not not_finite({name: stored(name) for name in found}):
        kind = dtype_name(tensors[next(iter(found))].dtype)
        remedy = f"what is stored is finite, but too large for {kind}"
        remedy += "" if kind == "float32" else ": take --precision float32"
    listed = "; ".join([*found.values()][:NAMED])
    more = f"; and so do {len(found) - NAMED} other tensors" if len(found) > NAMED else ""
    raise ModelError(f"{where}: {listed}{more}; {remedy}")


def _check(path: Path) -> None:
    if not Path(path).is_file():
        raise ModelError(f"{path} does not exist")


def _unreadable(path: Path, error: Exception) -> ModelError:
    return ModelError(f"{path} is not a whole safetensors file ({error}); copy or download it again")


def dtype_name(dtype: torch.dtype) -> str:
    """`bfloat16` for torch.bfloat16."""
    return str(dtype).removeprefix("torch.")

"""safetensors files, whole or not at all."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from loracast.errors import ModelError
from loracast.files import atomic_path


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, on the CPU; a missing, truncated or foreign file is a ModelError that names it."""
    _check(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def read_metadata(path: Path) -> dict[str, str]:
    """The text that was stored beside the tensors of a file."""
    _check(path)
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes a file beside its place and renames it."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(contiguous, temporary, {"format": "pt", **(metadata or {})})
        except SafetensorError as error:  # so a full disk reads like any other failed write
            raise OSError(str(error)) from None


def _check(path: Path) -> None:
    if not Path(path).is_file():
        raise ModelError(f"{path} does not exist")


def _unreadable(path: Path, error: Exception) -> ModelError:
    return ModelError(f"{path} is not a whole safetensors file ({error}); copy or download it again")

"""What differs between processors, asked in this one place: which there is, its memory, its number formats."""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from loracast.errors import ModelError
from loracast.settings import Device, Precision


def choose_device(device: Device) -> torch.device:
    """The device of a name; `auto` is a GPU where there is one. A ModelError for a GPU that is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("device 'cuda' was asked for, but this PyTorch sees no GPU; use --device cpu or auto")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def choose_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """The number format of a name; `auto` is bfloat16 on a GPU and on a processor with instructions for it."""
    if precision != "auto":
        return getattr(torch, precision)
    fast = on_gpu(device) or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def describe_hardware(device: torch.device) -> str:
    """What a device is, for the records of what was computed on it."""
    if on_gpu(device):
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"


def on_gpu(device: torch.device) -> bool:
    """Whether a device is a GPU, which begins what it is told to do and does not wait for its end."""
    return device.type == "cuda"


def free_memory(device: torch.device, *, reserved: bool = False) -> int | None:
    """Free bytes of a GPU; None on a CPU.

    reserved: whether to count what PyTorch has reserved for itself and does not use.
    """
    if not on_gpu(device):
        return None
    free = torch.cuda.mem_get_info(device)[0]
    return free + (torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device) if reserved else 0)


def release_memory() -> None:
    """Gives a GPU's memory that PyTorch keeps and does not use back, after a batch did not fit."""
    torch.cuda.empty_cache()


def send(array: NDArray, device: torch.device) -> Tensor:
    """An array as a tensor on a device, without waiting for a GPU to have it."""
    tensor = torch.from_numpy(array)
    if on_gpu(device):  # from other memory, a copy waits for all work before it
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def autocast(device: torch.device, **options: Any) -> AbstractContextManager:
    """Products in bfloat16 on a GPU; nothing on a CPU."""
    return torch.autocast(device.type, torch.bfloat16, enabled=on_gpu(device), **options)


def own_random_numbers(device: torch.device) -> AbstractContextManager:
    """Random numbers that are drawn within leave those that are drawn afterwards as they were."""
    return torch.random.fork_rng(devices=[device] if on_gpu(device) else [])

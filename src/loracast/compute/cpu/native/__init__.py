"""The C functions of `decode.c`: from the wheel or compiled where they run, once a machine, in half a second."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from contextlib import suppress
from ctypes import c_float, c_int64, c_void_p
from functools import cache
from pathlib import Path

import torch  # noqa: F401, whose OpenMP the functions are linked with

from loracast.compute.cpu.native.packaged import packaged_library

FLAGS = ("-O3", "-march=native", "-fno-strict-aliasing", "-fno-math-errno", "-fopenmp", "-fPIC", "-c")
COMPILERS = ("cc", "gcc", "clang")
SOURCE = Path(__file__).with_name("decode.c")


class CallLayout(ctypes.Structure):
    """See the structure of that name in `decode.c`; the tensors behind its pointers must be kept alive."""

    _fields_ = (
        *((name, c_void_p) for name in ("lengths", "cosine", "sine")),
        *((name, c_int64) for name in ("series", "samples", "groups", "share", "size", "fed")),
        *((name, c_int64) for name in ("prompt_room", "own_room", "threads")),
    )


SIGNATURES = {
    "decode_attention": (ctypes.POINTER(CallLayout), *[c_void_p] * 4, c_int64, c_int64),
    "add_norm": (*[c_void_p] * 4, c_int64, c_int64, c_int64, c_float, c_int64),
    "swiglu": (c_void_p, c_void_p, c_int64, c_int64, c_int64, c_int64),
}


@cache
def library() -> ctypes.CDLL | None:
    """The functions; None where there is no compiler that understands them, and whoever asks takes a slower way.

    Those that came with the package go first, where the processor has their instructions.
    """
    with suppress(OSError):
        if came := packaged_library():
            return _load(came)
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", ""), *COMPILERS))), None)
    if compiler is None or platform.system() != "Linux":
        return None
    try:
        version = subprocess.run([compiler, "--version"], check=True, capture_output=True, timeout=60).stdout
        what = hashlib.sha256(b"\0".join([SOURCE.read_bytes(), " ".join(FLAGS).encode(), version, _processor()]))
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "loracast"
        kept = home / f"decode-{what.hexdigest()[:16]}.so"
        with suppress(OSError):  # it is not there, or broken
            return _load(kept)
        with tempfile.TemporaryDirectory(prefix="loracast-") as place:
            built = _compile(compiler, Path(place))
            try:
                home.mkdir(parents=True, exist_ok=True)
                partial = home / f".{Path(place).name}.partial"
                shutil.copyfile(built, partial)
                partial.replace(kept)
            except OSError:  # a home that cannot be written
                return _load(built)
        return _load(kept)
    except (OSError, RuntimeError, subprocess.SubprocessError):  # RuntimeError: there is no home
        return None


def _compile(compiler: str, place: Path) -> Path:
    object_file, built = place / "decode.o", place / "decode.so"
    # linked without OpenMP: its functions are found in the one that PyTorch has loaded, whose threads are awake
    for arguments in ([*FLAGS, SOURCE, "-o", object_file], ["-shared", "-Wl,-z,now", object_file, "-o", built]):
        subprocess.run([compiler, *arguments], check=True, capture_output=True, timeout=60)
    return built


def _processor() -> bytes:
    """What `-march=native` depends on: a home may be shared by machines."""
    lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    kinds = (b"model name", b"flags", b"Features", b"CPU part")
    return b"\n".join(sorted({line for line in lines if line.startswith(kinds)}))


def _load(path: Path) -> ctypes.CDLL:
    functions = ctypes.CDLL(str(path))
    for name, arguments in SIGNATURES.items():
        getattr(functions, name).argtypes, getattr(functions, name).restype = arguments, None
    return functions

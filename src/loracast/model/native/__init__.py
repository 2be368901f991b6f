"""The C functions of `decode.c`, compiled where they run: once for a machine, in about half a second."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from ctypes import c_float, c_int64, c_void_p
from functools import cache
from pathlib import Path

import torch  # noqa: F401, whose OpenMP the functions are linked with

FLAGS = ("-O3", "-march=native", "-fno-strict-aliasing", "-fno-math-errno", "-fopenmp", "-fPIC", "-c")
COMPILERS = ("cc", "gcc", "clang")
SOURCE = Path(__file__).with_name("decode.c")


class Layout(ctypes.Structure):
    """See the structure of that name in `decode.c`; the tensors behind its pointers must be kept alive."""

    _fields_ = (
        *((name, c_void_p) for name in ("lengths", "cosine", "sine")),
        *((name, c_int64) for name in ("series", "samples", "groups", "share", "size", "fed")),
        *((name, c_int64) for name in ("prompt_room", "own_room", "threads")),
    )


SIGNATURES = {
    "decode_attention": (ctypes.POINTER(Layout), *[c_void_p] * 4, c_int64, c_int64),
    "add_norm": (*[c_void_p] * 4, c_int64, c_int64, c_int64, c_float, c_int64),
    "swiglu": (c_void_p, c_void_p, c_int64, c_int64, c_int64, c_int64),
}


@cache
def library() -> ctypes.CDLL | None:
    """The functions; None where there is no compiler that understands them, and whoever asks takes a slower way."""
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", ""), *COMPILERS))), None)
    if compiler is None or platform.system() != "Linux":
        return None
    try:
        return _load(_compiled(compiler))
    except (OSError, subprocess.SubprocessError):
        return None


def _compiled(compiler: str) -> Path:
    """The library's file in the user's cache, or in a temporary folder where that cannot be written."""
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True, timeout=60).stdout
    what = hashlib.sha256(b"\0".join([SOURCE.read_bytes(), " ".join(FLAGS).encode(), version, _processor()]))
    name = f"decode-{what.hexdigest()[:16]}.so"
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "loracast"
    if (home / name).exists():
        return home / name
    place = Path(tempfile.mkdtemp(prefix="loracast-"))
    object_file, built = place / "decode.o", place / name
    # linked without OpenMP: its functions are found in the one that PyTorch has loaded, whose threads are awake
    commands = ([*FLAGS, str(SOURCE), "-o", str(object_file)], ["-shared", "-Wl,-z,now", str(object_file), "-o", built])
    for command in commands:
        subprocess.run([compiler, *command], check=True, capture_output=True, timeout=60)
    try:
        home.mkdir(parents=True, exist_ok=True)
        partial = home / f".{place.name}.partial"
        shutil.copyfile(built, partial)
        partial.replace(home / name)
    except OSError:
        return built
    shutil.rmtree(place)
    return home / name


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

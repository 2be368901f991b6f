"""The compiled functions that a wheel brings along, for x86-64 Linux with AVX-512 and bfloat16 instructions.

Nothing but the standard library is imported here: the build of a wheel reads this file before anything is installed.
"""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

FLAGS = (
    "-O3",
    "-march=x86-64-v4",
    "-mavx512bf16",
    "-fno-strict-aliasing",
    "-fno-math-errno",
    "-fopenmp",
    "-fPIC",
    "-c",
)
LINK = ("-shared", "-Wl,-z,now")
NEEDS = frozenset(("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512_bf16", "bmi2", "fma"))
SOURCE = Path(__file__).with_name("decode.c")


def packaged_name() -> str:
    """The file's name, which changes with the source and the flags, so that an old one is never taken for a new one."""
    what = hashlib.sha256(SOURCE.read_bytes() + " ".join((*FLAGS, *LINK)).encode())
    return f"decode-{what.hexdigest()[:16]}.so"


def can_be_packaged() -> bool:
    """Whether this is a system whose wheels may hold the file."""
    return platform.system() == "Linux" and platform.machine() in ("x86_64", "AMD64")


def packaged_library() -> Path | None:
    """The file that came with the package, where there is one and the processor has the instructions that it uses."""
    path = Path(__file__).with_name(packaged_name())
    if not can_be_packaged() or not path.is_file():
        return None
    lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    flags = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
    return path if flags >= NEEDS else None

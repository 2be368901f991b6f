"""Compiles the decoder's C functions into a wheel, where a C compiler is there; elsewhere the wheel is pure Python.

The code is for x86-64 Linux with AVX-512 and bfloat16 instructions, whatever machine builds it; another processor
compiles its own when loracast runs.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = Path("src/loracast/compute/cpu/native")


class NativeDecoder(BuildHookInterface):
    """See the module's first line."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # which compiles on the machine that it runs on
            return
        packaged = _packaged(Path(self.root) / NATIVE / "packaged.py")
        compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", ""), "cc", "gcc", "clang"))), None)
        if compiler is None or not packaged.can_be_packaged():
            self.app.display_info("no C compiler for x86-64 Linux: the wheel is pure Python")
            return
        self.place = tempfile.mkdtemp(prefix="loracast-wheel-")
        objects, built = Path(self.place) / "decode.o", Path(self.place) / packaged.packaged_name()
        try:
            for arguments in (
                [*packaged.FLAGS, packaged.SOURCE, "-o", objects],
                [*packaged.LINK, objects, "-o", built],
            ):
                subprocess.run([compiler, *arguments], check=True, capture_output=True, timeout=120)
        except subprocess.SubprocessError as error:
            self.app.display_warning(f"{compiler} does not compile decode.c ({error}): the wheel is pure Python")
            return
        build_data["force_include"][str(built)] = f"loracast/compute/cpu/native/{built.name}"
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-linux_x86_64"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if place := getattr(self, "place", None):
            shutil.rmtree(place, ignore_errors=True)


def _packaged(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("packaged", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

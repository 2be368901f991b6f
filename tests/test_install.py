"""What is installed: the wheel and what is in it, `python -m loracast`, and what importing the package sets."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from loracast.compute.cpu import native
from loracast.compute.cpu.native import packaged
from loracast.errors import install_advice

ROOT = Path(__file__).parents[1]


def python(*words: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env={**kept, **environment}, check=True, timeout=120
    )
    return done.stdout.strip()


def test_the_package_is_a_command():
    assert python("-m", "loracast", "--version") == python("-c", "import loracast; print(loracast.__version__)")


def test_importing_loracast_keeps_waiting_threads_from_spinning():
    show = "import os, loracast; print(os.environ.get('GOMP_SPINCOUNT'))"
    assert python("-c", show) == "1000"
    assert python("-c", show, GOMP_SPINCOUNT="7") == "7"
    assert python("-c", f"import torch; {show}") == "None"  # too late, so that nothing is claimed


def test_importing_loracast_imports_nothing_heavy():
    show = "import sys, loracast; print([name for name in ('torch', 'pandas', 'numpy') if name in sys.modules])"
    assert python("-c", show) == "[]"


def test_completion_can_be_installed():
    assert "completion" in python("-m", "loracast", "--help")


def test_advice_works_in_a_clone_and_elsewhere():
    assert "pip install '.[study]' in the clone" in install_advice("study")


def test_a_packaged_decoder_fits_source_and_processor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert packaged.packaged_library() is None  # an editable installation has none
    monkeypatch.setattr(packaged, "SOURCE", tmp_path / "decode.c")
    (tmp_path / "decode.c").write_text("// another")
    other = packaged.packaged_name()
    (tmp_path / "decode.c").write_text("// and another")
    assert packaged.packaged_name() != other


@pytest.mark.slow
@pytest.mark.skipif(native.library() is None, reason="no C compiler")
def test_a_wheel_holds_the_compiled_decoder_and_the_model(tmp_path: Path):
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        str(ROOT),
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(tmp_path),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "loracast/bundled/model.safetensors" in names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "docs"))]
    if packaged.can_be_packaged():
        assert wheel.name.endswith("-py3-none-linux_x86_64.whl")
        assert f"loracast/compute/cpu/native/{packaged.packaged_name()}" in names
        zipfile.ZipFile(wheel).extractall(tmp_path / "site")
        show = "from loracast.compute.cpu import native; from loracast.compute.cpu.native import packaged; "
        show += "print(packaged.packaged_library(), native.library() is not None)"
        said = python("-c", show, PYTHONPATH=str(tmp_path / "site"), PATH="/nowhere", HOME=str(tmp_path / "home"))
        fits = set(Path("/proc/cpuinfo").read_text().split()) >= packaged.NEEDS
        assert said.endswith("True") is fits

"""The examples run as they stand, offline, and end in what they promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, folder: Path) -> str:
    """What an example prints, run in a folder of its own."""
    environment = {**os.environ, "PYTHONWARNINGS": "error::UserWarning", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(EXAMPLES / name)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def column(printed: str, name: str) -> dict[str, float]:
    """A column of the table of scores that an example prints, by forecaster."""
    lines = printed.splitlines()
    (first,) = (row for row, line in enumerate(lines) if line.split()[:1] == ["forecaster"])
    place = lines[first].split().index(name)
    return {line.split()[0]: float(line.split()[place]) for line in lines[first + 1 :]}


def test_every_example_is_tested():
    tested = Path(__file__).read_text(encoding="utf-8")
    assert all(f'run("{path.name}"' in tested for path in EXAMPLES.glob("*.py"))


@pytest.mark.slow
def test_from_a_table_to_an_answer(tmp_path: Path):
    printed = run("table_to_answer.py", tmp_path)
    assert printed.startswith("The chance that lynx falls below 10")
    crps = column(printed, "crps")
    assert crps["bundled"] < min(crps[name] for name in crps if name != "bundled")
    assert (tmp_path / "runs/examples/answer.png").stat().st_size > 10_000
    assert len((tmp_path / "runs/examples/answer.csv").read_text(encoding="utf-8").splitlines()) == 1 + 20 * 2


@pytest.mark.slow
def test_tuning_on_a_simulator_helps(tmp_path: Path):
    mae = column(run("tune_and_compare.py", tmp_path), "mae")
    assert mae["tuned"] < mae["untouched"] < mae["best-period"]
    assert (tmp_path / "runs/examples/adapter/adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_pandas_in_and_out(tmp_path: Path):
    printed = run("pandas_frames.py", tmp_path)
    assert "site      month target_name  predictions  0.1  0.9" in printed
    assert all(f"\n{site}" in printed for site in ("north", "south", "west"))


@pytest.mark.slow
def test_a_drier_future_means_less_grass(tmp_path: Path):
    lines = run("what_if.py", tmp_path).splitlines()
    grass = [float(line.split()[3]) for line in lines[:3]]
    assert grass == sorted(grass)
    assert grass[2] > 1.5 * grass[0]
    assert "conditional forecast" in lines[-1]

"""The pages: links lead somewhere, code compiles, commands have the options that are shown, the site is built."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import loracast
from loracast.cli import app
from loracast.systems import SYSTEMS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks" / "README.md"])
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def blocks(page: Path, kind: str) -> list[str]:
    """The code of a page in fences of that kind; the empty kind is the shell's."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for language, text in found if language == kind]


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as links call them."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ +(.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path):
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in LINK.findall(prose):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.is_file(), f"{link} leads nowhere"
        assert target.is_relative_to(ROOT), f"{link} leads out of the repository"
        assert not anchor or anchor in anchors(target), f"{link}: {target.name} has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_python_on_a_page_compiles(page: Path):
    for number, text in enumerate(blocks(page, "python")):
        compile(text, f"{page.name}, block {number + 1}", "exec")


def commands() -> list[tuple[str, list[str]]]:
    """Every `loracast COMMAND …` in a block of shell, with its words."""
    found = []
    for page in PAGES:
        for text in blocks(page, ""):
            for line in text.replace("\\\n", " ").splitlines():
                if line.startswith("loracast "):
                    words = shlex.split(line, comments=True)
                    found.append((f"{page.name}: {' '.join(words)}", words[1:]))
    return found


@pytest.mark.parametrize(("line", "words"), commands(), ids=[line for line, _ in commands()])
def test_a_command_has_the_options_that_are_shown(line: str, words: list[str]):
    arguments = app[words[0]].assemble_argument_collection()
    known = {name for argument in arguments for name in argument.names} | {"--config"}
    shown = {word for word in words if re.match(r"--?[a-z]", word)}
    assert shown <= known, f"{line}: unknown {shown - known}"


def test_the_same_checks_run_before_a_commit_and_on_github():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^lint:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    checks = re.findall(r"\$\(BIN\)/(.+)", recipe)
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    assert [hook["entry"] for hook in hooks] == [f".venv/bin/{check}" for check in checks]
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    run = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    targets = re.findall(r"^([\w-]+):(?!=)", makefile, re.MULTILINE)
    for command in run:
        make, *asked = command.split()
        assert make == "make"
        assert asked
        assert set(asked) <= set(targets)


def test_forms_and_citation_can_be_read():
    for form in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        read = yaml.safe_load(form.read_text(encoding="utf-8"))
        fields = [part["id"] for part in read.get("body", ())]
        assert len(set(fields)) == len(fields)
        assert fields or form.name == "config.yml"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == loracast.__version__
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


def run(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Runs the Python of a page from top to bottom in a folder; returns what it defined."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"__name__": "page"}
    exec("\n".join(blocks(ROOT / page, "python")), names)
    return names


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:TUNING DID NOT HELP")
def test_the_tutorial_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    names = run("docs/tutorial.md", tmp_path, monkeypatch)
    assert names["forecast"].samples.shape == (1, 100, 20, 2)
    shown = blocks(ROOT / "docs/tutorial.md", "text")
    assert repr(names["pelts"]) == shown[0].strip()
    table = names["known"].table()
    naive = {row.split()[1]: float(row.split()[2]) for row in shown[2].splitlines()[2:]}  # the same everywhere
    for name, mae in naive.items():
        (found,) = table[(table["forecaster"] == name) & (table["variable"] == "all")]["mae"]
        assert found == pytest.approx(mae)
    assert 0 <= names["chances"][0] <= 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:TUNING DID NOT HELP")
def test_the_page_for_researchers_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ledger = run("docs/for-researchers.md", tmp_path, monkeypatch)["ledger"]
    assert {"training", "validation", "forecasts"} <= set(ledger.spent)


def test_the_page_for_engineers_forecasts_all_series_in_any_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    weeks, items = pd.date_range("2022-01-03", periods=30, freq="W-MON"), 5
    sold = 50 + 20 * np.sin(np.add.outer(np.arange(items), np.arange(30) / 3)).ravel()
    table = pd.DataFrame({"item": np.repeat(np.arange(items), 30), "week": np.tile(weeks, items), "sold": sold})
    table.to_parquet(tmp_path / "sales.parquet")
    page = ROOT / "docs" / "for-engineers.md"
    (script,) = blocks(page, "python")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["forecast.py"])
    made = []
    for series in (5000, 2):
        exec(script.replace("5000", str(series)).replace('"forecasts"', f'"{series}"'), {})
        made.append(pd.read_parquet(str(series)))
    assert len(list(Path("2").iterdir())) == 3
    pd.testing.assert_frame_equal(*made)
    assert len(made[0]) == 12 * items


def test_the_simulator_of_the_page_for_contributors_is_what_it_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("loracast.systems.system.SYSTEMS", dict(SYSTEMS))
    one = run("CONTRIBUTING.md", tmp_path, monkeypatch)["series"][3]
    random = np.random.default_rng([0, 3])
    rate, most, start = random.uniform(0.05, 0.2), random.uniform(5.0, 15.0), random.uniform(0.5, 1.5)
    expected = most / (1 + (most / start - 1) * np.exp(-rate * one.time))
    np.testing.assert_allclose(one.values[:, 0], expected, rtol=1e-4)


def test_the_site_is_built_and_fetches_nothing(tmp_path: Path):
    pytest.importorskip("mkdocs", reason="needs mkdocs-material: the dependency group docs")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(
            r"<(?:link|script|img|iframe|source)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>", text
        )
        assert not fetched, f"{page.name} fetches {fetched}"
    for style in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")), style.name

"""The page, as `loracast app` serves it, of a tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("plotly")
import httpx

import loracast
from loracast.explorer.routes import create
from loracast.explorer.work import Worker
from loracast.serve.shelf import Shelf
from served import serving


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, adapters: Path) -> Path:
    """A folder that holds one adapter and takes what is tuned."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "alpha").mkdir()
    for file in (adapters / "alpha").iterdir():
        (folder / "alpha" / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture(scope="module")
def place(base: loracast.Forecaster, kept: Path) -> Iterator[str]:
    """The page's address."""
    with serving(create(Shelf(base, kept, 4), Worker())) as address:
        yield address


@pytest.fixture(scope="module")
def page_client(place: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=place, timeout=60) as client:
        yield client

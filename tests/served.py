"""A service on loopback with three adapters of a tiny model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
import httpx
import uvicorn

import loracast
from loracast.serve.limits import Limits
from loracast.serve.run import address, bind
from loracast.serve.service import create
from loracast.serve.shelf import Shelf

NAMES = ("alpha", "beta-2", "gamma.v1")


@pytest.fixture(scope="session")
def base(numeric_directory: Path) -> loracast.Forecaster:
    return loracast.Forecaster.from_pretrained(numeric_directory, device="cpu", precision="float32")


@pytest.fixture(scope="session")
def adapters(base: loracast.Forecaster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three adapters that forecast otherwise."""
    folder = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(NAMES):
        settings = loracast.TuneConfig(
            steps=2,
            batch=2,
            context=12,
            horizon=6,
            validation_windows=2,
            validation_series=0,
            learning_rate=0.05,
            seed=seed,
        )
        series = loracast.simulate("predator-prey", n=4, steps=24, seed=seed)
        base.fit(series, tune=settings, force=True).save(folder / name)
    return folder


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The address of an application that runs in a thread, as it would by itself."""
    bound = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        with httpx.Client(base_url=address(bound), timeout=60) as client:
            for _ in range(200):
                try:
                    client.get("/healthz")
                    break
                except httpx.TransportError:
                    threading.Event().wait(0.05)
        yield address(bound)
    finally:
        server.should_exit = True
        thread.join()


Serve = Callable[..., Any]


@pytest.fixture
def serve(base: loracast.Forecaster, adapters: Path) -> Serve:
    """`with serve(most_paths=3) as address:` a service with these bounds."""

    def serve(token: str | None = None, folder: Path | None = adapters, **limits: Any) -> Any:
        made = Limits(**limits)
        return serving(create(Shelf(base, folder, made.most_adapters), made, token))

    return serve


@pytest.fixture(scope="module")
def client(base: loracast.Forecaster, adapters: Path) -> Iterator[httpx.Client]:
    """Of a service with its usual bounds, but for smaller bodies."""
    made = Limits(most_body=200_000)
    with serving(create(Shelf(base, adapters, 2), made)) as place, httpx.Client(base_url=place, timeout=60) as client:
        yield client


@pytest.fixture
def ask() -> Callable[..., dict[str, Any]]:
    """A small request that holds, with changes."""

    def ask(**changes: Any) -> dict[str, Any]:
        one = {"id": "a", "values": {"hare": [3.0, 5, 2, None, 4, 6, 3, 2], "lynx": [1.0, 2, 2, 1, 1, 3, 2, 1]}}
        return {"series": [one], "horizon": 3, "paths": 4, "transform": "none", **changes}

    return ask

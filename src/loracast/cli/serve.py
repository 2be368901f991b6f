"""`loracast serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from loracast.cli.options import Model, ModelOptions
from loracast.serve.limits import Limits


def serve(
    adapters: Path | None = None,
    /,
    *,
    model: Model = ModelOptions(),
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: Path | None = None,
    limits: Annotated[Limits, Parameter(name="*")] = Limits(),
) -> None:
    """Answer forecasts over HTTP: POST /v1/forecast, /v1/models, /healthz, /metrics and /openapi.json.

    Requests that arrive together are drawn together; each is answered as if it had come alone.

    Parameters
    ----------
    adapters
        Folder whose folders are adapters on one base; a request names one by its folder's name.
    host
        Address to listen on; anything but this machine itself needs a token.
    port
        Port to listen on; 0 takes a free one.
    token_file
        File with a token, which every request must then bring as "Authorization: Bearer TOKEN".
    """
    from loracast.cli.console import say
    from loracast.errors import ConfigError, check_installed
    from loracast.files import read_token

    check_installed("serve", ("fastapi", "uvicorn", "prometheus_client"))
    from loracast.forecaster import Forecaster
    from loracast.serve.run import address, bind, check_address, run
    from loracast.serve.service import create
    from loracast.serve.shelf import Shelf

    token = read_token(token_file) if token_file else None
    check_address(host, token)
    if adapters and not adapters.is_dir():
        raise ConfigError([f"{adapters} is no folder; name one whose folders are adapters, or leave it out"])
    bound = bind(host, port)
    base = Forecaster.from_pretrained(model.model, **model.where())
    shelf = Shelf(base, adapters, limits.most_adapters)
    names = shelf.names()
    there = f"{len(names)} adapters: {', '.join(names[:8])}" if names else "no adapters"
    say(f"{base.model.source} in {base.model.precision} on {base.hardware}; {there}")
    run(create(shelf, limits, token), bound, lambda: say(f"forecasts at {address(bound)}/v1/forecast; Ctrl-C ends"))
    say("ended; all that was begun is answered")

"""Runs an ASGI application on an address until it is told to end, and ends what it has begun first."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from loracast.errors import ConfigError
from loracast.serve.guard import is_loopback

if TYPE_CHECKING:
    from fastapi import FastAPI


def check_address(host: str, token: str | None) -> None:
    """Refuses to listen to other machines without a token."""
    if token is None and not is_loopback(host):
        raise ConfigError(
            [
                f"host {host} can be reached from other machines: name a file with a token by --token-file, or listen "
                "on 127.0.0.1"
            ]
        )


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises ConfigError where that cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
    except (OSError, OverflowError) as error:
        found.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigError([f"cannot listen on {host}, port {port}: {reason}; choose another --port"]) from None
    return found


def address(bound: socket.socket) -> str:
    """The address of a bound socket, for a browser."""
    host, port = bound.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def run(app: FastAPI, bound: socket.socket, on_ready: Callable[[], Any] = lambda: None) -> None:
    """Serves until SIGTERM or Ctrl-C; requests that were begun are answered before it ends.

    on_ready: called once connections are taken.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_ready()

    # uvicorn raises the signal anew once it has ended, which would end the program before it can say so
    signal.signal(signal.SIGTERM, lambda *_: None)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, date_header=False, backlog=1024
    )
    Server(config).run(sockets=[bound])

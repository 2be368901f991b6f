"""What stands before every route: who may ask, under which name, and what is told of an answer.

A page of another site can make a browser send requests to this machine. It cannot know a token; and where none is
needed, it is told apart by the name that it asks for, which is not this machine's.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loracast.serve.refusals import PROBLEM, document

OPEN = ("/healthz",)  # without a token


class Guard:
    """Refuses requests without the token, if one is needed, and else those for another host than this machine.

    Args:
        on_answer: told the path and the status of each answer.
    """

    def __init__(
        self, app: ASGIApp, token: str | None, on_answer: Callable[[str, int], None] = lambda path, status: None
    ):
        self.app, self.token, self.on_answer = app, token, on_answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.on_answer(scope["path"], message["status"])
                message["headers"] = [*message.get("headers", []), (b"x-content-type-options", b"nosniff")]
            await send(message)

        if refused := self._refusal(scope):
            status, problem = refused
            headers = {"www-authenticate": "Bearer"} if status == 401 else {}
            answer = JSONResponse(document(status, [problem]), status, headers, PROBLEM)
            await answer(scope, receive, told)
        else:
            await self.app(scope, receive, told)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        if self.token is None:
            if not is_loopback(host_name(headers.get("host", ""))):
                return (
                    421,
                    "without a token, only requests for this machine itself are answered, as 127.0.0.1 or localhost",
                )
            return None
        kind, _, given = headers.get("authorization", "").partition(" ")
        right = kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self.token.encode())
        if right or scope["path"] in OPEN:
            return None
        return 401, "a token is needed; send it as 'Authorization: Bearer TOKEN'"


def host_name(header: str) -> str:
    """The host of a Host header, without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

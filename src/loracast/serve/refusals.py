"""What is answered where a forecast is not: a status and a problem document (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from loracast.errors import LoracastError

PROBLEM = "application/problem+json"


class Refusal(LoracastError):
    """A request that is not answered with a forecast: the status, why, and what to do next."""

    def __init__(self, status: int, *problems: str, headers: Mapping[str, str] | None = None):
        super().__init__("; ".join(problems), problems)
        self.status, self.headers = status, dict(headers or {})

    @classmethod
    def of(cls, error: LoracastError) -> Refusal:
        """What the house says of a request that it can read and not do."""
        return cls(422, *error.problems)

    def document(self) -> dict[str, Any]:
        return document(self.status, self.problems)


def document(status: int, problems: Sequence[str]) -> dict[str, Any]:
    """A problem document; `problems` has each by itself."""
    title = HTTPStatus(status).phrase
    return {"title": title, "status": status, "detail": "; ".join(problems), "problems": list(problems)}

"""The query of an address as what its fields want: lists, numbers and truths of text."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from loracast.serve.refusals import Refusal
from loracast.serve.schema import TableOptions

READ = {"boolean": {"true": True, "false": False}.__getitem__, "integer": int, "number": float}
SPLIT = ("output", "quantiles")  # what may be given as one text with commas; names of columns may hold them


def read_query(items: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """What a query says, for `TableOptions` to check. Refusal 422 for what is no list and stands twice."""
    found: dict[str, Any] = {}
    for name, text in items:
        types = _types().get(name, set())
        parts = [_plain(part.strip(), types) for part in (text.split(",") if name in SPLIT else [text])]
        if "array" in types:
            found.setdefault(name, []).extend(parts)
        elif name in found:
            raise Refusal(422, f"{name} stands twice in the query; keep one")
        else:
            found[name] = parts[0]
    return found


def _plain(text: str, types: set[str]) -> Any:
    for kind, read in READ.items():
        if kind in types and "_" not in text:  # which Python's numbers may hold
            try:
                return read(text)
            except (KeyError, ValueError):
                continue
    return text


@cache
def _types() -> dict[str, set[str]]:
    """The types of JSON that each field may have, those of a list's items among them."""

    def visit(schema: dict[str, Any]) -> set[str]:
        own = {schema["type"]} if "type" in schema else set()
        return own.union(*map(visit, schema.get("anyOf", ())), visit(schema["items"]) if "items" in schema else set())

    return {name: visit(field) for name, field in TableOptions.model_json_schema()["properties"].items()}

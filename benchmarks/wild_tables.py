"""Writes the tables of docs/wild.md from the results of wild.py and chaos.py.

python benchmarks/wild_tables.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chaos
import wild
from tables import between_markers, caption

PAGE = Path(__file__).parents[1] / "docs" / "wild.md"
TABLES: dict[str, tuple[Path, Callable[[dict[str, Any]], str]]] = {
    "wild": (wild.OUTPUT, wild.table),
    "chaos": (chaos.OUTPUT, chaos.table),
}


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, (output, table) in TABLES.items():
        result = json.loads(output.read_text(encoding="utf-8"))
        measured = dict.fromkeys(caption(found) for found in result["forecasters"].values())
        page = between_markers(page, name, [table(result), " ".join(measured)])
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()

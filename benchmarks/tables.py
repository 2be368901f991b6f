"""Writes the tables of benchmarks/README.md from the results in benchmarks/results, so that none is copied by hand.

    python benchmarks/tables.py

Each part of the README between `<!-- NAME -->` and `<!-- end of NAME -->` becomes the tables of all results of the
benchmark NAME, file by file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LABELS = {
    "loracast-numeric": "**loracast**, numeric rows",
    "loracast-full": "**loracast**, full vocabulary",
    "loracast-plain": "loracast, plain path, numeric rows",
    "loracast": "**loracast**",
    "loracast-adapter": "**loracast** with an adapter",
    "peft-eager": "transformers + peft",
    "peft-compiled": "transformers + peft, torch.compile",
    "peft-liger": "transformers + peft, Liger kernels",
    "peft-eager-autocast": "transformers + peft, autocast",
    "peft-compiled-autocast": "transformers + peft, autocast, torch.compile",
    "unsloth": "Unsloth",
    "generate-static": "`generate`, static cache, compiled",
    "generate-dynamic": "`generate`, dynamic cache",
    "vllm": "vLLM",
}
COLUMNS = {
    "training": {"ms": "ms a step", "tokens_per_second": "tokens/s", "peak_gib": "peak GiB", "times_floor": "× floor"},
    "sampling": {"seconds": "s", "tokens_per_second": "tokens/s", "peak_gib": "peak GiB", "times_floor": "× floor"},
}
REFERENCE = {"training": "loracast-numeric", "sampling": "loracast"}  # whose time the last column is a multiple of
HEAD = ("benchmark", "hardware", "versions", "date", "commit", "settings", "peaks", "agree")


def table(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = [
        [*columns],
        ["---", *["---:" for _ in list(columns)[1:]]],
        *([shown(cell) for cell in row] for row in rows),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shown(value: Any) -> str:
    """A cell."""
    if value is None:
        return "–"
    if isinstance(value, float) and value:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def caption(result: dict[str, Any]) -> str:
    """What was measured on what, when."""
    hardware, versions = result.get("hardware", {}), result.get("versions", {})
    named = dict.fromkeys(str(value) for key, value in hardware.items() if key != "cores")
    parts = [*named, *(f"{name} {version}" for name, version in versions.items()), result.get("date")]
    if peaks := result.get("peaks"):
        parts.append(f"measured peaks {peaks['matmul_tflops']:.3g} TFLOP/s and {peaks['copy_tbs']:.2f} TB/s")
        if sustained := peaks.get("sustained_matmul_tflops"):
            parts.append(f"{sustained:.3g} TFLOP/s after two seconds")
    if commit := result.get("commit"):
        parts.append(f"commit {commit.rstrip('+')[:10]}{'+' * commit.endswith('+')}")
    return ", ".join(part for part in parts if part) + "."


def contestants(kind: str, name: str, case: dict[str, Any], model: str = "") -> str:
    """The table of one case of training or sampling; `model` comes before its title, unless it is Qwen2.5-0.5B."""
    columns = COLUMNS[kind]
    reference = next(key for key in (REFERENCE[kind], *case["contestants"]) if key in case["contestants"])
    ratios = case["times_slower_than"].get(reference, {})
    rows, notes = [], []
    for key, found in case["contestants"].items():
        label = LABELS.get(key, key)
        if "failed" in found:
            rows.append([label, "failed", *["–" for _ in columns]])
            notes.append(f"{label}: {found['failed']}.")
            continue
        rows.append([label, *(found.get(column) for column in columns), ratios.get(key)])
        if found.get("extrapolated"):
            notes.append(f"{label}: {found['share_measured']:.0%} measured, in batches of {found['batch']}.")
        if found.get("parts", 1) > 1:
            notes.append(f"{label}: in {found['parts']} parts, for want of memory.")
    if kind == "sampling":
        floor = case["floor_seconds"]
        notes.append("Floor: " + ", ".join(f"{part.replace('_', ' ')} {value:.3g} s" for part, value in floor.items()))
        notes[-1] += f". {case['tokens_forced']:,} of {case['tokens']:,} tokens are forced."
    agree = [check["agree"] for check in case["checks"].values()]
    notes.append("NOTHING WAS CHECKED." if not agree else "All checks hold." if all(agree) else "A CHECK FAILED.")
    body = table(["", *columns.values(), f"× the time of {LABELS[reference].replace('**', '')}"], rows)
    return f"**{model}{name}**\n\n{body}\n\n" + " ".join(notes)


def growth(result: dict[str, Any]) -> str:
    """One row an axis."""
    rows = []
    for kind in ("forecast", "training"):
        for name, axis in result[kind]["axes"].items():
            points = [f"{point['size']:,}: {shown(point.get('seconds'))}" for point in axis["points"]]
            rows.append([f"{kind}, {name}", axis["exponent"], "; ".join(points)])
    fixed = "; ".join(
        f"{kind}: " + ", ".join(f"{name} {value}" for name, value in result[kind]["fixed"].items())
        for kind in ("forecast", "training")
    )
    return table(["", "exponent", "size: seconds"], rows) + f"\n\nWhat does not grow stays at {fixed}."


def anything(result: dict[str, Any], title: str = "") -> str:
    """Tables of a result of any shape: dicts of dicts as rows and columns, plain values as two columns."""
    parts = []
    plain = {key: value for key, value in result.items() if not isinstance(value, dict | list)}
    if plain:
        parts.append(table([title, ""], ([LABELS.get(key, key), value] for key, value in plain.items())))
    for key, value in result.items():
        if not isinstance(value, dict):
            continue
        inner = list(value.values())
        flat = all(isinstance(row, dict) and not any(isinstance(cell, dict) for cell in row.values()) for row in inner)
        name = f"{title}, {key}" if title else key
        if inner and flat:
            columns = dict.fromkeys(k for row in inner for k, cell in row.items() if not isinstance(cell, list))
            rows = (
                [LABELS.get(label, label), *(row.get(column) for column in columns)] for label, row in value.items()
            )
            parts.append(table([name, *columns], rows))
        else:
            parts.append(anything(value, name))
    return "\n\n".join(part for part in parts if part)


def section(result: dict[str, Any]) -> str:
    kind = result["benchmark"]
    if kind in COLUMNS:
        model = "SmolLM2, " if result["settings"].get("source") == "smollm2" else ""
        body = "\n\n".join(contestants(kind, name, case, model) for name, case in result["cases"].items())
    elif kind == "growth":
        body = growth(result)
    else:
        body = anything({key: value for key, value in result.items() if key not in HEAD})
    return f"{body}\n\n{caption(result)}"


def between_markers(page: str, name: str, parts: Iterable[str]) -> str:
    """A page with these parts between `<!-- NAME -->` and `<!-- end of NAME -->`, in place of what stood there."""
    text = f"<!-- {name} -->\n\n" + "\n\n".join(parts) + f"\n\n<!-- end of {name} -->"
    return re.sub(f"<!-- {name} -->.*<!-- end of {name} -->", lambda _: text, page, flags=re.DOTALL)


def filled(readme: str, results: list[dict[str, Any]]) -> str:
    """The README with the tables of all results between its markers."""
    for name in re.findall(r"<!-- end of (\w+) -->", readme):
        sections = [section(result) for result in results if result["benchmark"] == name]
        readme = between_markers(readme, name, sections or ["No results yet."])
    return readme


def main() -> None:
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((HERE / "results").glob("*.json"))]
    readme = HERE / "README.md"
    readme.write_text(filled(readme.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    main()

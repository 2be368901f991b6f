"""An adapter's card: the README.md of its folder, which a hub shows, made of what its record says.

Layout and metadata are those of the Hugging Face hub (https://huggingface.co/docs/hub/model-cards); the words are in
card.md.jinja.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from loracast.calibration import recorded
from loracast.codec import Codec
from loracast.flops import renamed
from loracast.model.locate import is_repository
from loracast.model.packaged import PACKAGED
from loracast.settings import LoraConfig

CARD = "README.md"
TEMPLATE = Path(__file__).parent / "card.md.jinja"


def adapter_card(record: Mapping[str, Any], lora: LoraConfig, name: str | None = None, base: str | None = None) -> str:
    """The card of an adapter as Markdown with its metadata.

    Args:
        record: what `record.adapter_record` makes.
        name: the repository of the adapter on a hub, if it has one.
        base: the repository of its base there, where that is not what the record says.
    """
    from jinja2 import Environment, StrictUndefined

    base = base or public_name(record["base"]["model"])
    metadata = {"library_name": "peft", "pipeline_tag": "time-series-forecasting"}
    metadata |= {"tags": ["loracast", "lora", "time-series"]}
    if base and is_repository(base):
        metadata |= {"base_model": base, "base_model_relation": "adapter"}
        loaded = f'"{base}"'
    else:
        loaded = "loracast.model.locate.BUNDLED" if base == "bundled" else '"the folder of its base"'
    known: dict[str, Any] = {"optimizer": None, "observation_noise": None, "siblings": None}  # of older records
    record = {"known": [], "past": [], "split": {}} | dict(record)  # of older ones, too
    split = {part: record["split"].get(part, {}) for part in ("train", "validation")}
    steps = sorted(split["train"].values()) or [0]
    flops, verdict = renamed(record["flops"]), record["validation_forecasts"]
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        metadata=yaml.safe_dump(metadata, sort_keys=False),
        record=record,
        result=record["result"],
        tune=known | record["tune"],
        lora=lora,
        verdict=verdict and {"baselines": None, "kept": None} | verdict,
        widths=recorded(record),
        variables=", ".join(record["variables"]),
        steps=f"{steps[0]:,}" if steps[0] == steps[-1] else f"{steps[0]:,} to {steps[-1]:,}",
        held_out=len(split["validation"]),
        flops={convention: flops[convention]["total"] for convention in ("executed", "published")},
        codec=Codec(**record["codec"]),
        base=base,
        base_for_transformers=loaded,
        name=name or "FOLDER",
    )


def public_name(base: str) -> str | None:
    """What others can call a base by: its repository, or its name where it comes in a package; none for a folder."""
    named = base == "bundled" or base in PACKAGED or (is_repository(base) and not Path(base).is_dir())
    return base if named else None

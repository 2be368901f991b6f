"""An adapter's card: the README.md of its folder, which a hub shows, made of what its record says.

Layout and metadata are those of the Hugging Face hub (https://huggingface.co/docs/hub/model-cards).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loracast.calibration import recorded
from loracast.codec import Codec
from loracast.model.lora import LoraConfig
from loracast.model.packaged import PACKAGED

CARD = "README.md"
MANY = 6  # series, up to which the steps of each are told


def adapter_card(record: Mapping[str, Any], lora: LoraConfig, name: str | None = None, base: str | None = None) -> str:
    """The card of an adapter as Markdown with its metadata.

    Args:
        record: what `record.adapter_record` makes.
        name: the repository of the adapter on a hub, if it has one.
        base: the repository of its base there, where that is not what the record says.
    """
    from huggingface_hub import ModelCardData

    base = base or public_name(record["base"]["model"])
    data = ModelCardData(
        base_model=base if base and "/" in base else None,
        library_name="peft",
        pipeline_tag="time-series-forecasting",
        tags=["loracast", "lora", "time-series", *(f"base_model:adapter:{base}" for _ in [0] if base and "/" in base)],
    )
    parts = [f"---\n{data.to_yaml()}\n---", _title(record), _tuned_on(record), _how(record, lora), _reached(record)]
    return "\n\n".join([*parts, _limits(record), _use(record, name or "FOLDER", base)]) + "\n"


def public_name(base: str) -> str | None:
    """What others can call a base by: its repository, or its name where it comes in a package; none for a folder."""
    owned = base.count("/") == 1 and not base.startswith((".", "/", "~"))
    return base if base == "bundled" or base in PACKAGED or owned else None


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---", *["---:"] * (len(head) - 1)), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _title(record: Mapping[str, Any]) -> str:
    names = ", ".join(record["variables"])
    return (
        f"# A forecaster of {names}\n\n"
        "A LoRA adapter by which a language model forecasts time series: a series is written as text, the model continues it, and the "
        "text is read back as joint sample paths. Made by loracast "
        f"{record['loracast']}, {record['made']['date'][:10]}."
    )


def _tuned_on(record: Mapping[str, Any]) -> str:
    train, held = record["split"]["train"], record["split"]["validation"]
    steps = sorted(train.values())
    span = f"{steps[0]:,}" if steps[0] == steps[-1] else f"{steps[0]:,} to {steps[-1]:,}"
    parts = [f"{record['result']['data']['series']:,} series of {span} steps and the variables {', '.join(record['variables'])}"]
    for key, words in (("known", "known beforehand"), ("past", "read and not forecast")):
        if record[key]:
            parts.append(f"{', '.join(record[key])} {words}")
    told = "; ".join(parts)
    return (
        f"## What it was tuned on\n\n{told}. Their fingerprint is `{record['result']['data']['fingerprint']}`; {len(held):,} more "
        "chose the best adapter and judged it. The folder's loracast.json knows each of them again by a digest of its first "
        "steps, so that loracast leaves them out of an evaluation."
    )


def _how(record: Mapping[str, Any], lora: LoraConfig) -> str:
    tune, result, made = record["tune"], record["result"], record["made"]
    flops = {name: record["flops"][name]["total"] for name in ("executed", "published")}
    rows = [
        ("LoRA", f"rank {lora.rank}, alpha {lora.alpha:g}, on {', '.join(lora.targets)}"),
        ("optimiser", f"{tune.get('optimizer', 'adamw')}, learning rate {result['learning_rate']:.2g}"),
        ("steps", f"{result['best_step']:,} (the best) of {result['steps']:,}, each of {tune['batch']} windows"),
        ("window", f"{tune['context']} steps read, {tune['horizon']} written"),
        ("observation noise added", f"{tune.get('observation_noise', 0.0):.0%} at most"),
        ("simulated siblings", str(tune.get("siblings") or "none")),
        ("seed", str(tune["seed"])),
        ("FLOPs", f"{flops['executed']:.2e} executed, {flops['published']:.2e} by the published convention"),
        ("time", f"{result['seconds']:,.0f} s on {made['hardware']}, {made['precision']}, torch {made['torch']}"),
        ("base", f"{public_name(record['base']['model']) or 'a local model'}, fingerprint `{record['base']['fingerprint']}`"),
    ]
    return f"## How\n\n{_table(('', ''), rows)}"


def _reached(record: Mapping[str, Any]) -> str:
    verdict, title = record.get("validation_forecasts") or {}, "## What it reaches"
    losses = record["result"]["validation_loss"]
    told = f"Validation loss, nats a token: {losses['untouched']:.4f} untouched, {losses['tuned']:.4f} tuned."
    if not verdict:
        return f"{title}\n\n{told} It was not judged by forecasts."
    rows = [
        (f"{'**' * bold}{name}{'**' * bold}", f"{verdict[f'{name}_mae']:.4g}", f"{verdict[f'{name}_crps']:.4g}")
        for name, bold in (("untouched", False), ("tuned", True))
    ]
    rows += [(name, f"{one['mae']:.4g}", f"{one['crps']:.4g}") for name, one in verdict.get("baselines", {}).items()]
    table = _table(("forecaster", "MAE, in the data's units", "CRPS, in standard deviations of the context"), rows)
    kept = "" if verdict["kept"] == "tuned" else " Tuning did not help beyond their noise: this adapter changes nothing."
    widths = recorded(dict(record))
    calibrated = f" By them, {widths.sentence()}; they hold {widths.coverage:.0%} of the truth in place of {widths.raw_coverage:.0%}." if widths else ""
    return (
        f"{title}\n\nOn {verdict['windows']} windows that were not trained on, but chose the best step:\n\n{table}\n\n"
        f"{told}{kept}{calibrated}"
    )


def _limits(record: Mapping[str, Any]) -> str:
    tune, judged = record["tune"], (record.get("validation_forecasts") or {}).get("windows", 0)
    few = "" if judged >= 20 else " So few windows judged it that its figures say little."
    return (
        "## Limits\n\n"
        f"It knows series like those it was tuned on, of the same variables in the same order ({', '.join(record['variables'])}), with "
        f"{tune['context']} steps read and {tune['horizon']} written at a time; of other systems, other steps in time or more noise than was added it "
        f"may be wrong and too sure.{few} A forecast that is given values of the future is conditional on them and says nothing of "
        "interventions."
    )


def _use(record: Mapping[str, Any], name: str, base: str | None) -> str:
    codec = Codec.from_dict(record["codec"])
    return f"""## How to use it

```
loracast forecast mine.csv --horizon {record["tune"]["horizon"]} --adapter {name}
```

```python
import loracast

forecaster = loracast.Forecaster.from_pretrained(adapter="{name}")
forecast = forecaster.predict(loracast.read_series("mine.csv"), horizon={record["tune"]["horizon"]})
```

With transformers and peft alone the model continues text, whose numbers are written by {codec!r}:

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{_for_transformers(base)}"), "{name}")
```"""


def _for_transformers(base: str | None) -> str:
    if base and "/" in base:
        return base
    return "the folder loracast/bundled of the package" if base == "bundled" else "the folder of its base"

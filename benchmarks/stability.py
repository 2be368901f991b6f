"""The recipe on a full-size Qwen2 with random weights: does it train, in bfloat16, at the rate that it would use?

    python benchmarks/stability.py CONFIG_DIRECTORY --recipe recipes/bundled.yaml

CONFIG_DIRECTORY holds the config.json and tokenizer.json of Qwen2.5-0.5B, say. Both target sets are tuned on simulated
predator–prey series. Random weights know nothing, so that an adapter can learn little; but what diverges at this size
and rate, or is lost in bfloat16, would show in the loss and in the gradient.

Writes a JSON file with the loss and the gradient's norm of each step, and a figure of the losses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy import SEEDS, SIZES, SYSTEM, read_recipe
from harness import add_source, bare_parser, keep, note, origin, peak_memory, rounded, workplace

from loracast import Forecaster, TuneConfig, simulate
from loracast.charts.drawing import write_png
from loracast.charts.marks import Axis, Figure, Line, Panel, numbers
from loracast.settings import TARGET_SETS

OUTPUT = Path(__file__).parent / "results" / "stability.json"
FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "stability.png"
SMOOTHED = 20  # steps that the first and the last mean are taken over
ROLES = dict(zip(TARGET_SETS, ("first", "second")))


def run(model: Path, config: TuneConfig, device: str) -> dict[str, Any]:
    """Tunes once; the loss and the gradient of every step, and the validation losses."""
    base = Forecaster.from_pretrained(model, device=device, precision="bfloat16")
    training, validation = (simulate(SYSTEM, SIZES[part], seed=SEEDS[part]) for part in ("train", "validation"))
    events: list[dict[str, Any]] = []
    with peak_memory(torch.device(device)) as memory:
        tuned = base.fit(training, tune=config, validation=validation, report=events.append)
    steps = [event for event in events if event["event"] == "train"]
    losses, norms = ([event[key] for event in steps] for key in ("loss", "gradient_norm"))
    finite = all(map(math.isfinite, [*losses, *norms]))
    first, last = np.mean(losses[:SMOOTHED]), np.mean(losses[-SMOOTHED:])
    return {
        "parameters": base.model.network.config.parameters(),
        "precision": base.model.precision,
        "learning_rate": tuned.record["result"]["learning_rate"],
        "rank": config.rank,
        "batch": config.batch,
        "stable": bool(finite and last < first),
        "first_loss": rounded(first),
        "last_loss": rounded(last),
        "largest_gradient_norm": rounded(max(norms)),
        "validation": {event["step"]: rounded(event["loss"]) for event in events if event["event"] == "validation"},
        "seconds": tuned.record["result"]["seconds"],
        **memory,
        "losses": [rounded(loss) for loss in losses],
        "gradient_norms": [rounded(norm) for norm in norms],
    }


def figure(result: dict[str, Any]) -> Figure:
    panels = []
    for key, label in (("losses", "loss, nats a token"), ("gradient_norms", "norm of the gradient")):
        lines = tuple(
            Line(numbers(range(1, len(found[key]) + 1)), numbers(found[key]), ROLES[targets], targets)
            for targets, found in result["runs"].items()
        )
        panels.append(Panel("", Axis("step"), Axis(label, log=key != "losses"), lines))
    return Figure(
        name="stability",
        title="The recipe at full size, from random weights",
        caption="Loss and gradient of each step.",
        source=OUTPUT.name,
        panels=tuple(panels),
        columns=2,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = bare_parser(__doc__ or "")
    parser.set_defaults(output=OUTPUT)
    add_source(parser)
    parser.add_argument("--recipe", type=Path, help="YAML file of options of `loracast finetune`")
    parser.add_argument("--steps", type=int, default=300, help="of each target set (%(default)s)")
    parser.add_argument("--figure", type=Path, default=FIGURE, help="PNG file of the losses (%(default)s)")
    options = parser.parse_args(arguments)
    # forecasts of a model that knows nothing would say nothing
    recipe = replace(read_recipe(options.recipe), steps=options.steps, validation_series=0)
    result = {"benchmark": "stability", **origin(options), "runs": {}}
    with workplace(options) as (model, _):
        for targets in TARGET_SETS:
            note(f"{targets}: {options.steps} steps of {recipe.batch} windows")
            result["runs"][targets] = run(model, replace(recipe, targets=targets), options.device)
            keep(result, options.output)
            found = result["runs"][targets]
            note(f"  loss {found['first_loss']} → {found['last_loss']}, stable: {found['stable']}")
    write_png(figure(result), options.figure)


if __name__ == "__main__":
    main()

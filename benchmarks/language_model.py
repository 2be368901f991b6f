"""SmolLM2 on predator and prey: what a tuning of 1e17 FLOPs reaches, what led to its recipe, what language is worth.

    python benchmarks/language_model.py --data lotka_volterra_data.h5 --split split.json --processes 8
    python benchmarks/language_model.py --data … --split … --cells recipe recipe-seed-1 recipe-seed-2

A cell is one tuning, and is kept as soon as it is done; the same command goes on where it was cut off. All are judged
on the validation series; only those whose name begins with `recipe` forecast the test series and 150 new simulated
ones, beside the untouched model and the baselines. The processes are spread over the GPUs of the machine. With
`--adapters FOLDER` a cell's adapter is kept there, so that a cell that is cut off goes on from its last validation.

    recipe, recipe-seed-K    the recipe as it is
    recipe-as-published      rank 8 on q and v, AdamW at 1e-4, decimals, 2,000 steps of 4 windows
    smollm2-F                so many FLOPs; each of the following changes one thing of smollm2-2.4e16
    shuffled-F               its weights in another order: the same network without its language
    scratch-F                its shape with random weights, all of which are trained
    bundled-F                the bundled model
    adamw-*, rate-*, batch-*, rank-*, alpha-*, noise-*, jitter-*, gaps-*, digits-*, decay-*, clip-*, momentum-*, fresh
    lora-plus-*              AdamW with B's rate larger than A's
    averaged-*               the running mean of the adapter over the steps is kept
    short-first              half of the steps on windows of 20 steps after the context
    series-*                 tuned on fewer series
    layers-*                 adapters on a third of the layers
    scratch-rate-*           another rate than that of scratch-2.4e16
    short, short-dora, short-norms-embedding    500 steps; their validation losses are compared
    zero-*                   untouched: layouts and digits, one scale for both species, temperatures, a sentence before,
                             spaces between the digits

Without --data, simulated series take the place of the published ones.
"""

from __future__ import annotations

import json
import os
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accuracy import SEEDS, SYSTEM, Data, parse, read_data, read_recipe, recipe_codec
from crew import Do, shared_out
from from_scratch import cost_of, train
from harness import bare_parser, keep, note, origin
from other_ways import (
    DORA,
    NORMS_AND_EMBEDDING,
    Way,
    averaged,
    layers,
    lora_plus,
    muon_momentum,
    short_first,
    spaced,
    text_before,
)

from loracast import Forecaster, SampleConfig, TuneConfig, simulate
from loracast.codec import Codec
from loracast.evaluation.backtest import TUNED, ZERO_SHOT, Backtest, backtest
from loracast.files import ADAPTER_CONFIG, CHECKPOINT
from loracast.flops import PassCost
from loracast.language_model import LanguageModel
from loracast.model.lora import adapter_state, attach, load_adapter_state
from loracast.model.stored import open_model
from loracast.model.transformer import Transformer

RECIPE = Path(__file__).parents[1] / "recipes" / "language-model.yaml"
OUTPUT = Path(__file__).parent / "results" / "language-model.json"
ENGLISH = Path(__file__).parent / "english.txt"  # first lines of books and a speech that nobody owns
SENTENCE = "The numbers of prey and predators in each of many seasons, prey first: "
METRICS = "metrics.jsonl"  # what `Forecaster.fit` logs in an adapter's folder
QUARTER = 2.4e16  # FLOPs of most cells, published convention
BUDGETS = ("1.5e15", "6e15", "2.4e16")
SEEDED = {"1.5e15": (1, 2)}  # further seeds where they are cheap
SCRATCH_RATE = BUNDLED_RATE = 1e-3
BUNDLED_BATCH = 64  # a model of a twenty-fifth of the size: as many steps as SmolLM2 would be 25 times as many
FRESH = 20_000  # simulated series in place of the 700
SHORT = 500  # steps


@dataclass(frozen=True)
class Cell:
    """One tuning and what it is judged on.

    Attributes:
        flops: by the published convention, which steps follow from; the steps of `tune` unless given.
        series: how many are tuned on; all of the data's unless given.
        fresh: they are new, simulated ones.
        shuffled: whether the weights are put in another order.
        scratch: whether all weights are drawn and trained; see `from_scratch`.
        judged: the parts that are forecast: of validation, test and simulated.
        temperature: of the forecasts.
        sentence: what stands before the series of a model with its whole vocabulary.
        spaces: whether a space stands between the tokens of such a model's series.
        english: whether the perplexity of English is measured, too.
    """

    tune: TuneConfig
    model: str = "smollm2"
    codec: Codec = field(default_factory=Codec)
    flops: float | None = QUARTER
    series: int | None = None
    fresh: bool = False
    shuffled: bool = False
    scratch: bool = False
    way: Way | None = None
    judged: tuple[str, ...] = ("validation",)
    temperature: float = 1.0
    sentence: str = ""
    spaces: bool = False
    english: bool = False


def cells(path: Path) -> dict[str, Cell]:
    """All cells by name."""
    recipe = read_recipe(path)
    quarter = Cell(recipe, codec=recipe_codec(path))
    whole = replace(quarter, flops=None, judged=("validation", "test", "simulated"), english=True)

    def changed(**changes: Any) -> Cell:
        return replace(quarter, tune=replace(recipe, **changes))

    def adamw(rate: float, **changes: Any) -> Cell:
        return changed(**{"optimizer": "adamw", "learning_rate": rate, "decay": None, **changes})

    found = {"recipe": whole}
    found |= {f"recipe-seed-{seed}": replace(whole, tune=replace(recipe, seed=seed)) for seed in (1, 2)}
    kinds = {"smollm2": quarter, "shuffled": replace(quarter, shuffled=True)}
    kinds["scratch"] = replace(changed(learning_rate=SCRATCH_RATE), scratch=True)
    kinds["bundled"] = replace(changed(learning_rate=BUNDLED_RATE, batch=BUNDLED_BATCH), model="bundled")
    for kind, cell in kinds.items():
        for budget in BUDGETS:
            found[f"{kind}-{budget}"] = replace(cell, flops=float(budget))
            for seed in SEEDED.get(budget, ()):
                other = replace(cell, tune=replace(cell.tune, seed=seed), flops=float(budget))
                found[f"{kind}-{budget}-seed-{seed}"] = other
    found |= {f"rate-{rate:g}": changed(learning_rate=rate) for rate in (1e-3, 3e-3, 4e-3, 6e-3)}
    found |= {f"adamw-{rate:g}": adamw(rate) for rate in (6e-4, 1e-3, 1.6e-3, 2.5e-3)}
    found |= {"adamw-decay": adamw(1e-3, decay=0.95), "adamw-batch-4": adamw(6e-4, batch=4)}
    found |= {"adamw-batch-16": adamw(1.2e-3, batch=16)}
    ways = {"lora-plus-4": (6e-4, lora_plus(4)), "lora-plus-16": (3e-4, lora_plus(16))}
    found |= {name: replace(adamw(rate), way=way) for name, (rate, way) in ways.items()}
    axes: dict[str, tuple[Any, ...]] = {
        "batch": (4, 16, 32),
        "rank": (16, 32, 128),
        "decay": (0.4,),
        "clip": (0.1, 0.3),
    }
    axes |= {"noise": (0.0, 0.5), "jitter": (0.1, 0.6), "gaps": (0.0,), "alpha": (32.0, 64.0, 256.0)}
    for name, values in axes.items():
        found |= {f"{name}-{value:g}": changed(**{name: value}) for value in values}
    found |= {f"averaged-{decay:g}": replace(quarter, way=averaged(decay)) for decay in (0.99, 0.999)}
    # windows of 70 steps in place of 100 cost 0.69 times as much
    found["short-first"] = replace(quarter, flops=QUARTER / (0.5 + 0.5 * 0.69), way=short_first(20, 0.5))
    found["momentum-0.9"] = replace(quarter, way=muon_momentum(0.9))
    found["digits-4"] = replace(quarter, codec=Codec(digits=4))
    found["decimal-2"] = replace(quarter, codec=Codec("decimal", digits=2))
    found["fresh"] = replace(quarter, series=FRESH, fresh=True)
    found["scratch-rate-3e-3"] = replace(changed(learning_rate=3e-3), scratch=True)
    published = adamw(1e-4, rank=8, targets="attention", batch=4, steps=2000)
    found["recipe-as-published"] = replace(whole, tune=published.tune, codec=Codec("decimal", digits=2), english=False)
    found |= {f"series-{count}": replace(quarter, series=count) for count in (7, 70)}
    found |= {f"layers-{a}-{b}": replace(quarter, way=layers(a, b)) for a, b in ((0, 10), (10, 20), (20, 30))}
    short = replace(adamw(1e-3, steps=SHORT, validate_every=SHORT // 4), flops=None, judged=())
    found |= {"short": short, "short-dora": replace(short, way=DORA)}
    found["short-norms-embedding"] = replace(short, way=NORMS_AND_EMBEDDING)
    free = replace(quarter, flops=0.0)
    for layout, digits in (("fixed", 2), ("fixed", 3), ("fixed", 4), ("decimal", 1), ("decimal", 2), ("decimal", 3)):
        found[f"zero-{layout}-{digits}"] = replace(free, codec=Codec(layout, digits=digits))
    found["zero-joint"] = replace(free, codec=Codec(scale="joint"))
    for temperature in (0.25, 0.5, 0.75, 1.25):
        found[f"zero-temperature-{temperature:g}"] = replace(free, temperature=temperature)
    return found | {"zero-sentence": replace(free, sentence=SENTENCE), "zero-spaces": replace(free, spaces=True)}


def shuffled(model: LanguageModel, seed: int = 0) -> LanguageModel:
    """The same model with the numbers of each matrix in another order; vectors stay."""
    draws = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in model.network.state_dict().items():
        order = torch.randperm(tensor.numel(), generator=draws).to(tensor.device)
        state[name] = tensor.flatten()[order].view_as(tensor) if tensor.dim() == 2 else tensor.clone()
    with torch.device("meta"):
        network = Transformer(model.network.config, len(model.network.head))
    network.load_state_dict(state, assign=True)
    return replace(
        model.with_network(network.requires_grad_(False)), fingerprint=f"{model.fingerprint} shuffled {seed}"
    )


def run(cell: Cell, data: Data, sample: SampleConfig, device: Any, folder: Path | None = None) -> dict[str, Any]:
    """Tunes and judges; what is kept of it. The adapter is kept in `folder`, and is read if it is there already."""
    cell = replace(cell, way=cell.way or way_of_writing(cell))
    compute: Any = cell.way.compute if cell.way else "auto"
    vocabulary: Any = "full" if cell.sentence or cell.spaces else "numeric"
    base = Forecaster.from_pretrained(cell.model, device=device, compute=compute, vocabulary=vocabulary)
    model = shuffled(base.model) if cell.shuffled else base.model
    base = Forecaster(model, base.codec if cell.model == "bundled" else cell.codec)
    sample = replace(sample, temperature=cell.temperature)
    if cell.flops == 0:
        return untouched(cell, base, data, sample)
    training = simulate(SYSTEM, cell.series, seed=SEEDS["fresh"]) if cell.fresh else data.train[: cell.series]
    if cell.scratch:
        return scratch(cell, base, training, data, sample)
    config = planned(cell, base, training)
    with cell.way.begin() if cell.way else nullcontext():
        tuned, losses = tune(base, training, data.validation, config, folder)
    began, result = time.perf_counter(), tuned.record["result"]
    found = {"tune": asdict(config), "steps": result["steps"], "losses": losses, "best_step": result["best_step"]}
    found |= {"flops": tuned.record["flops"], "tuning_seconds": result["seconds"], "rows": {}}
    for part in cell.judged if cell.way is None or cell.way.whole else ():
        series = simulate(SYSTEM, 150, seed=SEEDS["test"]) if part == "simulated" else getattr(data, part)
        forecasters = {TUNED: tuned} if part == "validation" else {ZERO_SHOT: base, TUNED: tuned}
        scores = backtest(forecasters, series, config.context, config.horizon, sample=sample)
        found["rows"][part] = rows(scores)
    if cell.english:
        found["perplexity"] = {ZERO_SHOT: perplexity(cell.model, device), TUNED: perplexity(cell.model, device, tuned)}
    return {**found, "seconds": round(result["seconds"] + time.perf_counter() - began, 1)}


def tune(
    base: Forecaster, training: Sequence[Any], validation: Sequence[Any], config: TuneConfig, kept: Path | None
) -> tuple[Forecaster, list[list[float]]]:
    """The tuned forecaster and its validation losses, each with its step; what is in `kept` is not done again."""
    events: list[dict[str, Any]] = []
    if kept and (kept / ADAPTER_CONFIG).is_file():
        tuned = base.with_adapter(kept)
    else:
        resume = bool(kept and (kept / CHECKPOINT).is_file())
        tuned = base.fit(
            training, tune=config, validation=validation, directory=kept, resume=resume, report=events.append
        )
    if kept:
        events = [json.loads(line) for line in (kept / METRICS).read_text(encoding="utf-8").splitlines()]
    losses = {event["step"]: round(event["loss"], 5) for event in events if event["event"] == "validation"}
    return tuned, [[step, loss] for step, loss in losses.items()]


def scratch(cell: Cell, base: Forecaster, training: Sequence[Any], data: Data, sample: SampleConfig) -> dict[str, Any]:
    """Trains the model's shape from random weights, and judges it."""
    began, config = time.perf_counter(), planned(cell, base, training)
    trained = train(base.model, training, data.validation, base.codec, config)
    made = Forecaster(trained.model, base.codec)
    as_tuned = replace(sample, transform="none")  # a model without an adapter would choose a scale
    scores = backtest({TUNED: made}, data.validation, config.context, config.horizon, sample=as_tuned)
    found = {"tune": asdict(config), "steps": config.steps, "losses": trained.losses, "flops": trained.ledger.to_dict()}
    return {**found, "rows": {"validation": rows(scores)}, "seconds": round(time.perf_counter() - began, 1)}


def untouched(cell: Cell, base: Forecaster, data: Data, sample: SampleConfig) -> dict[str, Any]:
    """What the untouched model forecasts of values as they are: what is compared is how they are written."""
    began, sample = time.perf_counter(), replace(sample, transform="none")
    with cell.way.begin() if cell.way else nullcontext():
        scores = backtest({ZERO_SHOT: base}, data.validation, cell.tune.context, cell.tune.horizon, sample=sample)
    return {"rows": {"validation": rows(scores)}, "seconds": round(time.perf_counter() - began, 1)}


def way_of_writing(cell: Cell) -> Way | None:
    """How an untouched model's series are written otherwise."""
    if cell.sentence:
        return text_before(open_model(cell.model).tokenizer.encode(cell.sentence).ids)
    if cell.spaces:
        tokenizer = open_model(cell.model).tokenizer
        space, *separators = (tokenizer.encode(symbol).ids[0] for symbol in (" ", ",", ";"))
        return spaced(space, separators)
    return None


def rows(scores: Backtest) -> list[dict[str, Any]]:
    """The scores of each forecaster, of all variables together."""
    return [{name: value for name, value in row.items() if name != "by_variable"} for row in scores.rows]


@torch.inference_mode()
def perplexity(model: str, device: Any, tuned: Forecaster | None = None) -> float:
    """Of the sentences of english.txt, a token, by the model with its whole vocabulary, with an adapter or without."""
    whole = Forecaster.from_pretrained(model, device=device, vocabulary="full").model
    if tuned is not None and tuned.lora is not None:
        network = attach(whole.network, tuned.lora)
        load_adapter_state(network, adapter_state(tuned.model.network), "the tuned adapter")
        whole = whole.with_network(network)
    tokenizer, losses = open_model(model).tokenizer, []
    for sentence in ENGLISH.read_text(encoding="utf-8").splitlines():
        ids = torch.tensor([tokenizer.encode(sentence).ids], device=whole.device)
        logits = whole.network.logits(whole.network.hidden(ids[:, :-1])).float()
        losses.append(torch.nn.functional.cross_entropy(logits[0], ids[0, 1:], reduction="none"))
    return float(torch.cat(losses).mean().exp())


def planned(cell: Cell, base: Forecaster, training: Sequence[Any]) -> TuneConfig:
    """The settings of a cell, with as many steps as its FLOPs are, and four validations in them."""
    if cell.flops is None:
        return cell.tune
    cost = cost_of(base.model) if cell.scratch else PassCost.of(base.model.network, cell.tune.lora)
    step = cost.training(cell.tune.batch, window_tokens(cell, base, training) - 1).total
    count = int(cell.flops / step.published)
    return replace(cell.tune, steps=count, validate_every=-(-count // 4))


def window_tokens(cell: Cell, base: Forecaster, training: Sequence[Any]) -> int:
    """The mean length of a window's text."""
    steps = cell.tune.context + cell.tune.horizon
    some = [base.codec.encode(one.values[:steps], base.codec.fit_scale(one.values[:steps])) for one in training[:20]]
    return round(sum(len(text.ids) for text in some) / len(some))


# -- many processes ----------------------------------------------------------------------------------------------------


def worker(number: int, arguments: dict[str, Any]) -> Do:
    """What does a cell, on one GPU."""
    if gpus := arguments["gpus"]:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    data, known = read_data(arguments["data"], arguments["split"]), cells(arguments["recipe"])
    sample, kept = SampleConfig(arguments["samples"], seed=0), arguments["adapters"]
    return lambda name: run(known[name], data, sample, arguments["device"], kept and kept / name)


def parser() -> ArgumentParser:
    made = bare_parser(__doc__ or "")
    made.set_defaults(output=OUTPUT)
    made.add_argument("--recipe", type=Path, default=RECIPE)
    made.add_argument("--cells", nargs="+", metavar="NAME", help="those to run (default: all)")
    made.add_argument("--samples", type=int, default=20, help="paths a window (%(default)s)")
    made.add_argument("--adapters", type=Path, metavar="FOLDER", help="keep adapters there, and go on from them")
    made.add_argument("--processes", type=int, default=1, help="cells at once (%(default)s)")
    return made


def summary(found: dict[str, Any]) -> str:
    """The last validation loss of a cell and the MAE of what it is about."""
    about = TUNED if "losses" in found else ZERO_SHOT
    parts = [f"loss {found['losses'][-1][1]:.4f}"] if "losses" in found else []
    for part, rows in found["rows"].items():
        parts += [f"{part} {row['mae']:.4f}" for row in rows if row["forecaster"] == about]
    return ", ".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    made = parser()
    options = parse(made, arguments)
    known = cells(options.recipe)
    chosen = options.cells or list(known)
    if unknown := [name for name in chosen if name not in known]:
        made.error(f"unknown cells {', '.join(unknown)}; there are {', '.join(known)}")
    kept = json.loads(options.output.read_text(encoding="utf-8"))["cells"] if options.output.is_file() else {}
    wanted = [name for name in chosen if name not in kept]
    names = ("data", "split", "recipe", "samples", "device", "adapters")
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(torch.cuda.device_count()))))
    shared = {name: getattr(options, name) for name in names} | {"gpus": gpus.split(",") if gpus else []}
    failed = []
    for name, found in shared_out(worker, wanted, options.processes, shared):
        if "failed" in found:
            failed.append(name)
            note(f"{name}: {found['failed']}")
            continue
        kept[name] = {**found, **origin(options)}
        keep({"benchmark": "language_model", "cells": kept}, options.output)
        note(f"{name}: {summary(found)}; {found['seconds']} s")
    if failed:
        raise SystemExit(f"{len(failed)} of {len(wanted)} cells failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()

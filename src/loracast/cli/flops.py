"""`loracast flops`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from loracast.cli.options import Data, DataOptions
from loracast.flops import Convention
from loracast.settings import SampleConfig, TuneConfig, Vocabulary, resolve_targets

if TYPE_CHECKING:
    from rich.table import Table

    from loracast.flops import Cost
    from loracast.model.config import ModelConfig

STEP_TOKENS = 2 * (3 + 1)  # of a step of two variables: three digits and a separator each


def flops(
    model: str = "bundled",
    /,
    *,
    rank: int = TuneConfig.rank,
    targets: str = TuneConfig.targets,
    batch: int = TuneConfig.batch,
    tokens: int = (TuneConfig.context + TuneConfig.horizon) * STEP_TOKENS,
    vocabulary: Vocabulary = "numeric",
    series: int = 1,
    samples: int = SampleConfig.samples,
    prompt_tokens: int = TuneConfig.context * STEP_TOKENS,
    new_tokens: int = TuneConfig.horizon * STEP_TOKENS,
    budget: float | None = None,
    convention: Convention = "executed",
    protocol: str | None = None,
    data: Path | None = None,
    split: Path | None = None,
    columns: Data = DataOptions(),
) -> None:
    """Tell what a training step and forecasts cost, term by term, before anything runs. Weights are not needed.

    Unless given, a step is one of `loracast finetune` and a forecast one of `loracast forecast`, of two variables with
    three digits.

    With --protocol and --data: what each stage of that study costs at most. The options of steps and forecasts have no
    say in it.

    Parameters
    ----------
    model
        `bundled`, `smollm2`, a Hugging Face directory, a .gguf file or a repository of the hub, of which only what
        describes it is read. The shape of Qwen/Qwen2.5-0.5B-Instruct comes with loracast, so that it needs no network.
    rank
        Rank of the adapter's matrices.
    targets
        Projections of the adapter: all-linear, attention (q and v), or a list such as q,k,v,o.
    batch
        Windows of a training step.
    tokens
        Tokens of a window that are fed to the model.
    vocabulary
        Rows of the head that are computed: those of numbers alone, or all.
    series
        Series of a forecast.
    samples
        Sample paths a series.
    prompt_tokens
        Tokens of a series' context, which is read once.
    new_tokens
        Tokens that are written a path.
    budget
        Also tell how many training steps, or how many such forecasts, so many FLOPs allow.
    convention
        What counts for the budget: executed, the matrix products that are executed; published, every operation that the
        equations name, whoever executes them. A study's is that of its protocol.
    protocol
        Tell the plan of a study instead: published, laptop, or a YAML file of the same form. Loads the model.
    data
        Series of that study: .csv, .tsv, .xlsx, .parquet or .h5.
    split
        JSON file with lists train, validation and test of positions in the data.
    """
    if protocol is not None or data is not None:
        _tell_study(model, protocol, data, split, budget, columns)
        return
    from loracast.cli.console import out, say
    from loracast.errors import ConfigError
    from loracast.flops import PassCost
    from loracast.grammar import SYMBOLS
    from loracast.model.config import stored_shape
    from loracast.model.locate import locate
    from loracast.settings import LoraConfig

    sizes = {"rank": (rank, 1), "batch": (batch, 1), "tokens": (tokens, 2), "series": (series, 1)}
    sizes |= {"samples": (samples, 1), "prompt-tokens": (prompt_tokens, 1), "new-tokens": (new_tokens, 1)}
    problems = [f"{name} must be at least {least}, not {size}" for name, (size, least) in sizes.items() if size < least]
    if budget is not None and not 0 < budget < float("inf"):
        problems.append(f"budget must be positive, not {budget:g}")
    chosen: tuple[str, ...] = ()
    try:
        chosen = resolve_targets(targets)
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)

    shape = None if Path(model).exists() else stored_shape(model)
    config = shape or _read_config(locate(model, weights=False))
    rows = len(SYMBOLS) if vocabulary == "numeric" else config.vocab_size
    cost = PassCost(config, rows, LoraConfig(rank, targets=chosen))
    training, forecast = cost.training(batch, tokens), cost.decode(series, samples, prompt_tokens, new_tokens)
    say(
        f"{model}{' (its shape as it is stored in loracast)' if shape else ''}: "
        f"{config.parameters():,} parameters, {rows:,} rows of the head · adapter of rank {rank} on "
        f"{', '.join(chosen)}: {config.lora_parameters(rank, chosen):,} parameters\n"
        f"training step: forward and backward pass over {batch} windows × {tokens} tokens\n"
        f"forecast: {series} series × {samples} paths, {prompt_tokens} tokens read a series and {new_tokens} written a "
        "path\n"
    )
    out.print(_table(training, forecast))
    if budget is not None:
        steps, times = (int(budget) // work.total.of(convention) for work in (training, forecast))
        say(f"\n{budget:.3e} FLOPs ({convention}) allow {steps:,} training steps, or {times:,} such forecasts")


def _tell_study(
    model: str, protocol: str | None, data: Path | None, split: Path | None, budget: float | None, columns: DataOptions
) -> None:
    from loracast.cli.console import out, plan_table
    from loracast.errors import ConfigError
    from loracast.study import check_installed

    if protocol is None or data is None:
        raise ConfigError(["the plan of a study needs both --protocol and --data; text lengths depend on the series"])
    check_installed()
    from loracast.series import read_split
    from loracast.study.conduct import assemble
    from loracast.study.protocol import read_protocol
    from loracast.study.stages import plan

    settings = read_protocol(protocol, **({} if budget is None else {"budget": budget}))
    series = columns.read(data)
    chosen = read_split(split, len(series)) if split else None
    study = assemble(series, Path(), settings, model=model, split=chosen, device="cpu")
    out.print(plan_table(plan(study), settings.budget, settings.convention))


def _table(training: Cost, forecast: Cost) -> Table:
    """A row a term, with its FLOPs and their share of the whole."""
    from rich.table import Table

    from loracast.flops import TERMS

    table = Table(box=None, header_style="bold", pad_edge=False, collapse_padding=True)
    for title in ("\nterm", "training step\nexecuted", "\npublished", "forecast\nexecuted", "\npublished"):
        table.add_column(title, justify="left" if "term" in title else "right", no_wrap=True)
    columns = [
        ({term: flops.of(convention) for term, flops in cost.terms.items()}, cost.total.of(convention))
        for cost in (training, forecast)
        for convention in ("executed", "published")
    ]
    for term in TERMS:
        table.add_row(term, *(_cell(terms[term], total) for terms, total in columns))
    table.add_row("total", *(_cell(total, total) for _, total in columns), style="bold")
    return table


def _cell(flops: int, total: int) -> str:
    return f"{flops:.3e} {flops / total:>6.1%}" if flops else "–"


def _read_config(place: Path) -> ModelConfig:
    """The shape of a model; without torch, unless it is in a GGUF file."""
    from loracast.model.config import ModelConfig

    if place.is_file():
        from loracast.model.stored import open_model

        return open_model(place).config
    return ModelConfig.read(place / "config.json")[0]

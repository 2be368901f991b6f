"""`loracast inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loracast.settings import resolve_targets


def inspect(model: str = "bundled", /, *, rank: int | None = None, targets: str = "all-linear") -> None:
    """Show a model: its shape, how its tokenizer treats numbers, and an adapter's size. Weights are not needed.

    Given an adapter's folder, shows the adapter: its base, its size, what it was tuned on, and whether that helped.

    Parameters
    ----------
    model
        `bundled`, `smollm2`, a Hugging Face directory, a .gguf file, a repository of the hub, or an adapter.
    rank
        Also show the trainable parameters of an adapter of this rank.
    targets
        Projections of that adapter: all-linear, attention (q and v), or a list such as q,k,v,o.
    """
    from math import gcd

    from rich.markup import escape
    from rich.table import Table

    from loracast.cli.console import out
    from loracast.compute import unsupported
    from loracast.errors import ConfigError
    from loracast.grammar import SYMBOLS
    from loracast.model.locate import holds_adapter, locate, locate_adapter
    from loracast.model.stored import open_model

    if rank is not None and rank < 1:
        raise ConfigError([f"rank must be at least 1, not {rank}"])
    if holds_adapter(place := locate(model, weights=False)):
        if rank is not None:
            raise ConfigError([f"{model} is an adapter and has a rank of its own; leave --rank out"])
        _show(_adapter_rows(locate_adapter(model)))
        return
    opened = open_model(place, weights=False)
    config, stored = opened.config, opened.description
    queries, keys = config.num_attention_heads, config.num_key_value_heads
    common = gcd(queries, keys)
    special = {name: stored.get(f"{name}_token_id") for name in ("bos", "eos", "pad")}
    rows = {
        "name": stored.get("_name_or_path") or (model if model == "bundled" else opened.place.resolve().name),
        "type": stored["model_type"],
        "architecture": ", ".join(stored.get("architectures") or ["–"]),
        "parameters": f"{config.parameters():,}",
        "precision": str(stored.get("torch_dtype") or stored.get("dtype") or "float32"),
        "layers": config.num_hidden_layers,
        "hidden size": config.hidden_size,
        "MLP size": config.intermediate_size,
        "query heads": queries,
        "key-value heads": keys,
        "query : key-value": f"{queries // common} : {keys // common}",
        "head size": config.head_dim,
        "RMSNorm epsilon": f"{config.rms_norm_eps:g}",
        "rotary base": f"{config.rope_theta:,.0f}",
        "positions": f"{config.max_position_embeddings:,}",
        "vocabulary": f"{config.vocab_size:,}",
        "special ids": ", ".join(f"{name} {index}" for name, index in special.items() if index is not None) or "–",
        "tied embedding": "yes" if config.tie_word_embeddings else "no",
    }
    if opened.quantised:
        listed = ", ".join(f"{count} of {kind}" for kind, count in opened.quantised.items())
        rows |= {"precision": "GGUF, dequantised as it is loaded", "tensors": listed}
    if slower := unsupported(config):
        rows["computed slower"] = "; ".join(f"no {way}, since {reason}" for way, reason in slower.items())
    if rank is not None:
        chosen = resolve_targets(targets)
        trainable = config.lora_parameters(rank, chosen)
        share = trainable / config.parameters()
        rows[f"trainable, rank {rank}"] = f"{trainable:,} ({share:.3%}) on {', '.join(chosen)}"
    _show(rows)

    tokens = opened.tokens
    out.print("\n[bold]tokens of numbers[/]  (written by this table, so that symbols never merge)")
    out.print("  ".join(f"{symbol!r} {index}" for symbol, index in zip(SYMBOLS, tokens.ids.tolist())), soft_wrap=True)
    if merged := tokens.merged():
        text, pieces = merged
        out.print(
            f"The tokenizer itself would write {text} as {' '.join(pieces)}. loracast writes it digit by digit, which "
            "the untouched model has seldom seen: expect weak zero-shot forecasts, and tune it.",
            soft_wrap=True,
            markup=False,
        )
    for symbol, text in tokens.stand_ins.items():
        out.print(f"{symbol!r} has no token of its own and is written as {text!r}.", soft_wrap=True, markup=False)
    splits = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("\ntext", "\nas the tokenizer itself splits it", "\nids"):
        splits.add_column(title)
    for text, pieces, ids in tokens.splits():
        splits.add_row(text, escape(" ".join(pieces)), " ".join(map(str, ids)))
    out.print(splits)


def _adapter_rows(directory: Path) -> dict[str, Any]:
    """What is worth knowing of an adapter; of one that loracast did not make, what its tensors say."""
    from loracast.files import RECORD
    from loracast.flops import renamed
    from loracast.model.checkpoint import read_codec, recorded_base
    from loracast.model.config import read_json
    from loracast.model.lora import read_adapter

    lora, state = read_adapter(directory)
    record = read_json(directory / RECORD) if (directory / RECORD).is_file() else {}
    size = sum(tensor.numel() for tensor in state.values())
    rows: dict[str, Any] = {
        "adapter": directory,
        "base": recorded_base(directory),
        "rank": lora.rank,
        "alpha": f"{lora.alpha:g}",
        "targets": ", ".join(lora.targets),
        "parameters": f"{size:,}",
    }
    if not record:
        return rows | {"record": "none (no loracast.json: this adapter was not tuned by loracast)"}
    tune, result, verdict = record["tune"], record["result"], record["validation_forecasts"]
    losses, flops, made = result["validation_loss"], renamed(record["flops"]), record["made"]
    stopped = f", ended early: {result['stopped']}" if result["stopped"] else ""
    rows |= {
        "variables": ", ".join(record["variables"]),
        "context": f"{tune['context']} steps",
        "horizon": f"{tune['horizon']} steps",
        "codec": str(read_codec(record, directory)).removeprefix("Codec"),
        "tuned on": f"{result['data']['series']} series (fingerprint {result['data']['fingerprint']})",
        "training": f"{result['steps']} optimiser steps of {tune['batch']} windows{stopped}",
        "best step": result["best_step"],
        "validation loss": f"{losses['untouched']:.4f} untouched, {losses['tuned']:.4f} tuned",
    }
    if verdict:
        judged = "tuning helped" if verdict["improved"] else "TUNING DID NOT HELP"
        rows["validation MAE"] = (
            f"{verdict['untouched_mae']:.4g} untouched, {verdict['tuned_mae']:.4g} tuned, on {verdict['windows']} "
            f"windows: {judged}"
        )
        if verdict.get("kept") == "untouched":  # older records do not say
            rows["kept"] = "the untouched model: this adapter changes nothing"
    totals = [f"{flops[convention]['total']:.3e} ({convention})" for convention in ("executed", "published")]
    return rows | {
        "FLOPs": ", ".join(totals),
        "seed": tune["seed"],
        "made": f"{made['date']} on {made['hardware']} in {made['precision']}",
        "versions": f"loracast {record['loracast']}, torch {made['torch']}, Python {made['python']}",
    }


def _show(rows: dict[str, Any]) -> None:
    """Prints names and values in two columns."""
    from rich.markup import escape
    from rich.table import Table

    from loracast.cli.console import out

    overview = Table(box=None, show_header=False, pad_edge=False)
    overview.add_column(style="bold", no_wrap=True)
    overview.add_column(overflow="fold")
    for name, value in rows.items():
        overview.add_row(name, escape(str(value)))
    out.print(overview)

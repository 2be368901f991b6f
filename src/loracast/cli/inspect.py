"""`loracast inspect`."""

from __future__ import annotations

from loracast.settings import resolve_targets


def inspect(model: str = "bundled", /, *, rank: int | None = None, targets: str = "all-linear") -> None:
    """Show a model: its shape, how its tokenizer treats numbers, and an adapter's size. Weights are not needed.

    Parameters
    ----------
    model
        `bundled`, a Hugging Face directory or a repository of its hub.
    rank
        Also show the trainable parameters of an adapter of this rank.
    targets
        Projections of that adapter: all-linear, attention (q and v), or a list such as q,k,v,o.
    """
    from math import gcd

    from rich.markup import escape
    from rich.table import Table

    from loracast.cli.console import out
    from loracast.errors import ConfigError
    from loracast.grammar import SYMBOLS
    from loracast.model.config import Qwen2Config
    from loracast.model.locate import locate
    from loracast.model.tokenizer import NumericTokens

    if rank is not None and rank < 1:
        raise ConfigError([f"rank must be at least 1, not {rank}"])
    directory = locate(model, weights=False)
    config, stored = Qwen2Config.read(directory / "config.json")
    queries, keys = config.num_attention_heads, config.num_key_value_heads
    common = gcd(queries, keys)
    special = {name: stored.get(f"{name}_token_id") for name in ("bos", "eos", "pad")}
    rows = {
        "name": stored.get("_name_or_path") or (model if model == "bundled" else directory.resolve().name),
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
    if rank is not None:
        chosen = resolve_targets(targets)
        trainable = config.lora_parameters(rank, chosen)
        share = trainable / config.parameters()
        rows[f"trainable, rank {rank}"] = f"{trainable:,} ({share:.3%}) on {', '.join(chosen)}"
    overview = Table(box=None, show_header=False, pad_edge=False)
    overview.add_column(style="bold")
    overview.add_column(overflow="fold")
    for name, value in rows.items():
        overview.add_row(name, escape(str(value)))
    out.print(overview)

    tokens = NumericTokens.read(directory / "tokenizer.json")
    out.print("\n[bold]tokens of numbers[/]  (written by this table, so that symbols never merge)")
    out.print("  ".join(f"{symbol!r} {index}" for symbol, index in zip(SYMBOLS, tokens.ids.tolist())), soft_wrap=True)
    splits = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("\ntext", "\nas the tokenizer itself splits it", "\nids"):
        splits.add_column(title)
    for text, pieces, ids in tokens.splits():
        splits.add_row(text, escape(" ".join(pieces)), " ".join(map(str, ids)))
    out.print(splits)

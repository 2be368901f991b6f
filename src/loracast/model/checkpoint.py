"""What lies beside a model's weights: its codec, the base of an adapter, the tokenizer's files; and writing a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from loracast.codec import Codec
from loracast.errors import ConfigError, ModelError
from loracast.files import ADAPTER_CONFIG, RECORD, write_json
from loracast.model.config import ModelConfig, read_json
from loracast.model.tensors import dtype_name, write_tensors
from loracast.model.transformer import Transformer
from loracast.model.weights import WEIGHTS

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "vocab.json", "merges.txt")


def stored_record(directory: Path) -> tuple[Codec | None, dict[str, Any]]:
    """The codec that a model was taught, None where that is not told, and all else that its loracast.json tells."""
    path = directory / RECORD
    if not path.is_file():
        return None, {}
    record = read_json(path)
    return read_codec(record, path), record


def read_codec(record: dict[str, Any], where: Path) -> Codec:
    """The codec in the loracast.json of a model or an adapter."""
    try:
        return Codec(**record["codec"])
    except (ConfigError, KeyError, TypeError) as error:
        raise ModelError(
            f"{where}: the codec cannot be read ({type(error).__name__}: {error}); another version may have written "
            "it: tune or pretrain anew"
        ) from None


def recorded_base(adapter: Path) -> str:
    """The base that an adapter's loracast.json or adapter_config.json names."""
    if not (adapter / ADAPTER_CONFIG).is_file():
        raise ModelError(f"{adapter} is not the folder of an adapter, for it has no {ADAPTER_CONFIG}; check the path")
    for name, keys in ((RECORD, ("base", "model")), (ADAPTER_CONFIG, ("base_model_name_or_path",))):
        path = adapter / name
        if path.is_file():
            value: Any = read_json(path)
            for key in keys:
                value = value.get(key) if isinstance(value, dict) else None
            if value:
                return str(value)
    raise ModelError(f"{adapter} does not say which base model it belongs to; name it with --model")


def write_model(directory: Path, network: Transformer, config: ModelConfig, dtype: torch.dtype) -> None:
    """Writes config.json and model.safetensors, as transformers reads them."""
    state = {name: tensor.detach().to("cpu", dtype) for name, tensor in network.state_dict().items()}
    write_tensors(directory / WEIGHTS, state)
    write_json(directory / "config.json", config.to_dict(dtype_name(dtype)))

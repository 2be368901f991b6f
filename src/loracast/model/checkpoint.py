"""Hugging Face model directories in and out."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from loracast.codec import Codec
from loracast.errors import ConfigError, ModelError
from loracast.files import atomic_path, write_text
from loracast.grammar import SYMBOLS
from loracast.model.config import Qwen2Config, read_json
from loracast.model.locate import locate
from loracast.model.lora import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    attach,
    load_adapter_state,
    merged_weights,
    read_adapter,
)
from loracast.model.qwen2 import Qwen2
from loracast.model.tensors import check_finite, read_tensors, write_tensors
from loracast.model.tokenizer import NumericTokens
from loracast.settings import Device, LoraConfig, Precision, Vocabulary

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "vocab.json", "merges.txt")
EMBEDDINGS = ("model.embed_tokens.weight", "lm_head.weight")
DAMAGED = "the file is damaged, or the training that wrote it diverged; copy or download it again"
DIGEST_SAMPLE = 4096  # about how many elements of a tensor go into the fingerprint of a model


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A loaded model and what reading and writing numbers with it takes.

    Attributes:
        network: the model, in evaluation mode, all of its weights frozen.
        rows: [A] the row of its embedding that each symbol of the codec is; the symbol itself where only the numeric
            rows are loaded.
        tokens: the tokenizer's side of the same table.
        codec: how the model was taught to read numbers, or None where nothing is stored.
        source: where it came from: `bundled`, an absolute path, or a repository of the hub.
        fingerprint: identifies the weights, whatever precision or vocabulary they are loaded in.
        variables: the most variables of a series that it was pretrained on, or None where nothing is stored.
    """

    network: Qwen2
    rows: Tensor
    tokens: NumericTokens
    vocabulary: Vocabulary
    codec: Codec | None
    source: str
    fingerprint: str
    variables: int | None = None

    @property
    def device(self) -> torch.device:
        return self.rows.device

    @property
    def precision(self) -> str:
        """The precision of its weights, such as `bfloat16`."""
        return dtype_name(self.network.model.norm.weight.dtype)

    def with_network(self, network: Qwen2) -> LanguageModel:
        """The same model with another network, such as one with an adapter."""
        return replace(self, network=network.eval())


def choose_device(device: Device) -> torch.device:
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("device 'cuda' was asked for, but this PyTorch sees no GPU; use --device cpu or auto")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def describe_hardware(device: torch.device) -> str:
    """What a device is, for the records of what was computed on it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"


def choose_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """bfloat16 where it pays: on a GPU, and on a processor with instructions for it."""
    if precision != "auto":
        return getattr(torch, precision)
    fast = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def dtype_name(dtype: torch.dtype) -> str:
    """`bfloat16` for torch.bfloat16."""
    return str(dtype).removeprefix("torch.")


def load_model(
    source: str | Path = "bundled",
    *,
    vocabulary: Vocabulary = "numeric",
    device: Device = "auto",
    precision: Precision = "auto",
) -> LanguageModel:
    """Loads a Qwen2 directory with the numeric rows of its vocabulary (the default) or all of them."""
    directory = locate(source)
    config, _ = Qwen2Config.read(directory / "config.json")
    tokens = NumericTokens.read(directory / "tokenizer.json")
    highest = int(tokens.ids.max())
    if highest >= config.vocab_size:
        raise ModelError(f"{directory}: the tokenizer has id {highest}, the model only {config.vocab_size} rows")
    place = choose_device(device)
    dtype = choose_precision(precision, place)

    numeric = torch.from_numpy(tokens.ids)
    state, digests = {}, {}
    with torch.device("meta"):
        network = Qwen2(config, len(SYMBOLS) if vocabulary == "numeric" else None)
        expected = {name: tensor.shape for name, tensor in Qwen2(config).state_dict().items()}
    problems = []
    for path in _weight_files(directory):
        stored, loaded = read_tensors(path), {}
        for name, tensor in stored.items():
            if name not in expected:
                if name != "lm_head.weight":  # written out again by some tools although it is tied
                    problems.append(f"unknown tensor {name}")
                continue
            if tensor.shape != expected[name]:
                problems.append(f"{name} is {list(tensor.shape)}, config.json says {list(expected[name])}")
                continue
            numeric_part = tensor[numeric] if name in EMBEDDINGS else tensor
            digests[name] = _digest(numeric_part)
            loaded[name] = (numeric_part if vocabulary == "numeric" else tensor).to(place, dtype)
        check_finite(loaded, path, DAMAGED, stored)
        state |= loaded
    problems += [f"{name} is missing" for name in expected.keys() - state.keys()] if not problems else []
    if problems:
        raise ModelError(f"{directory}: " + "; ".join(sorted(problems)[:5]))
    network.load_state_dict(state, assign=True)
    network.requires_grad_(False).eval()
    rows = torch.arange(len(SYMBOLS)) if vocabulary == "numeric" else numeric
    identity = json.dumps([config.projections(), digests], sort_keys=True)  # in whichever order files hold the tensors
    fingerprint = hashlib.sha256(identity.encode()).hexdigest()[:16]
    codec, variables = _stored(directory)
    # absolute, since an adapter's record is read from other folders, too
    name = str(directory.resolve()) if Path(source).is_dir() else str(source)
    return LanguageModel(network, rows.to(place), tokens, vocabulary, codec, name, fingerprint, variables)


def _digest(tensor: Tensor) -> str:
    """Identifies a tensor by some thousand evenly spaced elements: reading all of a large model would take seconds."""
    flat = tensor.flatten()
    stride = len(flat) // DIGEST_SAMPLE | 1  # odd, so that it is no multiple of a row's size and all columns are met
    return hashlib.sha256(flat[::stride].contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


def _weight_files(directory: Path) -> list[Path]:
    single, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    if single.is_file() or not index.is_file():  # one file goes before shards, as in transformers
        return [single]
    try:
        shards = sorted(set(read_json(index)["weight_map"].values()))
    except (KeyError, AttributeError, TypeError) as error:
        raise ModelError(f"{index} is no index of shards ({type(error).__name__}: {error})") from None
    return [directory / shard for shard in shards]


def _stored(directory: Path) -> tuple[Codec | None, int | None]:
    """The codec that a model was taught, and the most variables that it was taught; None where that is not told."""
    path = directory / "loracast.json"
    if not path.is_file():
        return None, None
    record = read_json(path)
    return read_codec(record, path), record.get("pretraining", {}).get("variables")


def read_codec(record: dict[str, Any], where: Path) -> Codec:
    """The codec in the loracast.json of a model or an adapter."""
    try:
        return Codec(**record["codec"])
    except (ConfigError, KeyError, TypeError) as error:
        raise ModelError(f"{where} holds no codec of this version: {type(error).__name__}: {error}") from None


def recorded_base(adapter: Path) -> str:
    """The base that an adapter's loracast.json or adapter_config.json names."""
    if not (adapter / ADAPTER_CONFIG).is_file():
        raise ModelError(f"{adapter} is no adapter directory: it has no {ADAPTER_CONFIG}")
    for name, keys in (("loracast.json", ("base", "model")), (ADAPTER_CONFIG, ("base_model_name_or_path",))):
        path = adapter / name
        if path.is_file():
            value: Any = read_json(path)
            for key in keys:
                value = value.get(key) if isinstance(value, dict) else None
            if value:
                return str(value)
    raise ModelError(f"{adapter} does not say which base model it belongs to; name it with --model")


def load_adapted(base: LanguageModel, directory: Path) -> tuple[LanguageModel, LoraConfig, dict[str, Any]]:
    """The base with a PEFT adapter attached, its configuration, and its loracast.json (empty where it has none)."""
    config, state = read_adapter(directory)
    record_path = Path(directory) / "loracast.json"
    record = {}
    if record_path.is_file():
        record = read_json(record_path)
        tuned_on = record.get("base", {})
        if tuned_on.get("fingerprint", base.fingerprint) != base.fingerprint:
            raise ModelError(
                f"{directory} was tuned on another base model ({tuned_on.get('model')}, fingerprint "
                f"{tuned_on.get('fingerprint')}), not on {base.source} ({base.fingerprint}); load it with that one"
            )
    network = attach(base.network, config)
    load_adapter_state(network, state, str(Path(directory) / ADAPTER_WEIGHTS))
    return base.with_network(network), config, record


def write_model(directory: Path, network: Qwen2, config: Qwen2Config, dtype: torch.dtype) -> None:
    """Writes config.json and model.safetensors, as transformers reads them."""
    state = {name: tensor.detach().to("cpu", dtype) for name, tensor in network.state_dict().items()}
    write_tensors(directory / "model.safetensors", state)
    write_text(directory / "config.json", json.dumps(config.to_dict(dtype_name(dtype)), indent=2) + "\n")


def merge(source: str | Path, adapter: Path, output: Path, precision: Precision = "auto") -> dict[str, float]:
    """Writes base plus adapter as one Hugging Face directory; merged in float32, then stored.

    Args:
        precision: of the stored weights; `auto` keeps the base's own.

    Returns the largest differences of the numeric logits on 256 random digits: `float32`, of merging alone,
    and `stored`, with the rounding of the stored weights.
    """
    directory, output = locate(source), Path(output)
    for role, taken in (("base model", directory), ("adapter", Path(adapter))):
        if output.resolve() == taken.resolve():
            raise ModelError(f"{output} is the {role} itself, which merging would overwrite; choose another folder")
    base = load_model(source, vocabulary="full", device="cpu", precision="float32")
    adapted, _, record = load_adapted(base, adapter)
    _, stored_config = Qwen2Config.read(directory / "config.json")
    stored_as = stored_config.get("dtype") or stored_config.get("torch_dtype") or "float32"
    dtype = getattr(torch, stored_as if precision == "auto" else precision)
    ids = base.rows[torch.randint(10, (1, 256), generator=torch.Generator().manual_seed(0))]
    with torch.no_grad():
        adapted_logits = adapted.network(ids)[..., base.rows]
        merged = {**base.network.state_dict(), **merged_weights(adapted.network)}
        differences = {}
        for name, kind in (("float32", torch.float32), ("stored", dtype)):
            base.network.load_state_dict({key: value.to(kind).float() for key, value in merged.items()}, assign=True)
            differences[name] = (base.network(ids)[..., base.rows] - adapted_logits).abs().max().item()
    path, converted = output / "model.safetensors", {name: tensor.to(dtype) for name, tensor in merged.items()}
    check_finite(converted, path, "the adapter is too strong for this base; tune another one", merged)
    write_tensors(path, converted)
    stored_config = {**stored_config, "torch_dtype": dtype_name(dtype)}
    stored_config.pop("dtype", None)
    write_text(output / "config.json", json.dumps(stored_config, indent=2) + "\n")
    for name in TOKENIZER_FILES:
        if (directory / name).is_file():
            with atomic_path(output / name) as temporary:
                shutil.copyfile(directory / name, temporary)
    codec = record.get("codec", (base.codec or Codec()).to_dict())
    write_text(output / "loracast.json", json.dumps({"codec": codec}, indent=2) + "\n")
    return differences

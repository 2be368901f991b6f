"""A loaded model: its network and how it is computed, its tokens for numbers, and what it was taught.

Shapes: A symbols.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from loracast.codec import Codec
from loracast.compute import choose
from loracast.compute.device import choose_device, choose_precision
from loracast.compute.plain import PlainCompute
from loracast.errors import ModelError
from loracast.files import RECORD
from loracast.grammar import SYMBOLS
from loracast.model.checkpoint import stored_record
from loracast.model.config import read_json
from loracast.model.lora import ADAPTER_WEIGHTS, attach, load_adapter_state, read_adapter
from loracast.model.stored import StoredModel, open_model
from loracast.model.tensors import check_finite, dtype_name
from loracast.model.tokenizer import NumericTokens
from loracast.model.transformer import Transformer
from loracast.model.weights import WeightSource, digest
from loracast.settings import ComputeKind, Device, LoraConfig, Precision, Vocabulary

EMBEDDINGS = ("model.embed_tokens.weight", "lm_head.weight")
DAMAGED = "the file is damaged, or the training that wrote it diverged; copy or download it again"


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A loaded model and what reading and writing numbers with it takes.

    Attributes:
        compute: the network, in evaluation mode and frozen, and how it is computed, chosen when it was loaded.
        rows: [A] the row of its embedding that each symbol of the codec is; the symbol itself where only the numeric
            rows are loaded.
        tokens: the tokenizer's side of the same table.
        codec: how the model was taught to read numbers, or None where nothing is stored.
        source: where it came from: `bundled`, `smollm2`, an absolute path, or a repository of the hub.
        fingerprint: identifies the weights, whatever precision or vocabulary they are loaded in.
        variables: the most variables of a series that it was pretrained on, or None where nothing is stored.
        calibration: how wide untouched forecasts ought to be, as `calibration.Widths` stores it, where that is known.
        kind: what was asked for when its way of computing was chosen.
    """

    compute: PlainCompute
    rows: Tensor
    tokens: NumericTokens
    vocabulary: Vocabulary
    codec: Codec | None
    source: str
    fingerprint: str
    variables: int | None = None
    calibration: dict[str, Any] | None = None
    kind: ComputeKind = "auto"

    @property
    def network(self) -> Transformer:
        return self.compute.network

    @property
    def device(self) -> torch.device:
        return self.rows.device

    @property
    def precision(self) -> str:
        """The precision of its weights, such as `bfloat16`."""
        return dtype_name(self.network.model.norm.weight.dtype)

    def with_network(self, network: Transformer) -> LanguageModel:
        """The same model with another network, such as one with an adapter."""
        network.eval()
        return replace(self, compute=choose(network, self.kind))


def load_model(
    source: str | Path = "bundled",
    *,
    vocabulary: Vocabulary = "numeric",
    device: Device = "auto",
    precision: Precision = "auto",
    compute: ComputeKind = "auto",
) -> LanguageModel:
    """Loads a Hugging Face directory or a GGUF file with the numeric rows of its vocabulary (the default) or all.

    Args:
        compute: how it is computed; see `loracast.compute.choose`.

    Raises ModelError for a directory that is none, or not one of a family that is computed here.
    """
    stored = open_model(source)
    config, tokens = stored.config, stored.tokens
    highest = int(tokens.ids.max())
    if highest >= config.vocab_size:
        raise ModelError(f"{stored.place}: the tokenizer has id {highest}, the model only {config.vocab_size} rows")
    place = choose_device(device)
    dtype = choose_precision(precision, place)
    network, fingerprint = _read_network(stored, tokens, vocabulary, place, dtype)
    rows = torch.arange(len(SYMBOLS)) if vocabulary == "numeric" else torch.from_numpy(tokens.ids)
    codec, record = stored_record(stored.place)
    variables, calibration = record.get("pretraining", {}).get("variables"), record.get("calibration")
    # absolute, since an adapter's record is read from other folders, too
    name = str(stored.place.resolve()) if Path(source).exists() else str(source)
    way = choose(network, compute)
    return LanguageModel(
        way, rows.to(place), tokens, vocabulary, codec, name, fingerprint, variables, calibration, compute
    )


def _read_network(
    stored_model: StoredModel, tokens: NumericTokens, vocabulary: Vocabulary, place: torch.device, dtype: torch.dtype
) -> tuple[Transformer, str]:
    """The network with its weights, frozen, and the fingerprint of what is stored."""
    config, source = stored_model.config, stored_model.weights()
    with torch.device("meta"):
        network = Transformer(config, len(SYMBOLS) if vocabulary == "numeric" else None)
        expected = {name: tuple(tensor.shape) for name, tensor in Transformer(config).state_dict().items()}
    _check_shapes(source, expected, stored_model.place)
    numeric = tokens.ids.tolist()
    state, digests = {}, {}

    def read(name: str) -> Tensor:
        return source.read(name, numeric if name in EMBEDDINGS and vocabulary == "numeric" else None)

    for name in expected:
        stored = read(name)
        digests[name] = digest(stored[numeric] if name in EMBEDDINGS and vocabulary == "full" else stored)
        state[name] = stored.to(place, dtype)
    for file in dict.fromkeys(map(source.place, expected)):
        held = {name: tensor for name, tensor in state.items() if source.place(name) == file}
        check_finite(held, file, DAMAGED, read)
    network.load_state_dict(state, assign=True)
    network.requires_grad_(False).eval()
    identity = json.dumps([config.projections(), digests], sort_keys=True)  # in whichever order files hold the tensors
    return network, hashlib.sha256(identity.encode()).hexdigest()[:16]


def _check_shapes(source: WeightSource, expected: dict[str, tuple[int, ...]], directory: Path) -> None:
    """A ModelError that lists what the files hold otherwise than config.json says."""
    found = source.shapes()
    problems = [
        f"unknown tensor {name}"
        for name in found.keys() - expected.keys()
        if name != "lm_head.weight"  # written out again by some tools although it is tied
        and not name.endswith("rotary_emb.inv_freq")  # as older tools wrote, and anyone computes
    ]
    problems += [
        f"{name} is {list(found[name])}, config.json says {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    problems += [f"{name} is missing" for name in expected.keys() - found.keys()] if not problems else []
    if problems:
        raise ModelError(f"{directory}: " + "; ".join(sorted(problems)[:5]))


def load_adapted(base: LanguageModel, directory: Path) -> tuple[LanguageModel, LoraConfig, dict[str, Any]]:
    """The base with a PEFT adapter attached, its configuration, and its loracast.json (empty where it has none)."""
    config, state = read_adapter(directory)
    record_path = Path(directory) / RECORD
    record = {}
    if record_path.is_file():
        record = read_json(record_path)
        tuned_on = record.get("base", {})
        if tuned_on.get("fingerprint", base.fingerprint) != base.fingerprint:
            raise ModelError(
                f"{directory} was tuned on another base model ({tuned_on.get('model')}, fingerprint "
                f"{tuned_on.get('fingerprint')}), not on {base.source} ({base.fingerprint}); load it with that one"
            )
        if record.get("stand_ins", base.tokens.stand_ins) != base.tokens.stand_ins:
            raise ModelError(
                f"{directory} was tuned with {record['stand_ins']} in place of symbols that have no token, but the "
                f"base's tokenizer gives {base.tokens.stand_ins}; load it with the tokenizer that it was tuned with"
            )
    network = attach(base.network, config)
    load_adapter_state(network, state, str(Path(directory) / ADAPTER_WEIGHTS))
    return base.with_network(network), config, record

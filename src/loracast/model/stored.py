"""A model as it is stored: what describes it, its tokens, and where its weights are read from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from loracast.model.config import ModelConfig
from loracast.model.locate import locate
from loracast.model.tokenizer import NumericTokens, read_tokenizer
from loracast.model.weights import SafetensorsSource, WeightSource


@dataclass(frozen=True, eq=False)
class StoredModel:
    """A Hugging Face directory or a GGUF file, of which nothing large has been read.

    Attributes:
        place: the directory or the file.
        config: its shape and switches.
        description: the whole of its config.json, or what a GGUF file's header says of it.
        tokenizer: the text's side of its vocabulary.
        quantised: how many tensors are stored as each kind of numbers; empty for a directory.
    """

    place: Path
    config: ModelConfig
    description: dict[str, Any]
    tokenizer: Tokenizer
    quantised: dict[str, int]

    @property
    def tokens(self) -> NumericTokens:
        """The tokens of numbers. Raises ModelError where the vocabulary has none."""
        where = self.place if self.place.is_file() else self.place / "tokenizer.json"
        return NumericTokens.of(self.tokenizer, where)

    def weights(self) -> WeightSource:
        """Where its weights are read from."""
        if self.place.is_file():
            from loracast.model.gguf_model import GgufSource

            return GgufSource(self.place)
        return SafetensorsSource(self.place)


def open_model(source: str | Path, *, weights: bool = True) -> StoredModel:
    """Opens `bundled`, `smollm2`, a Hugging Face directory, a GGUF file or its folder, or a repository of the hub.

    Without `weights`, only what describes a model of the hub is downloaded.

    Example: ``open_model("bundled").config.hidden_size``
    """
    place = locate(source, weights=weights)
    if place.is_file():
        from loracast.model.gguf_model import GgufSource, tokenizer_of

        gguf = GgufSource(place)
        return StoredModel(place, gguf.config, gguf.stored, tokenizer_of(gguf.file), gguf.quantised())
    config, description = ModelConfig.read(place / "config.json")
    return StoredModel(place, config, description, read_tokenizer(place / "tokenizer.json"), {})

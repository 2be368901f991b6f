"""The model in a GGUF file, as a Hugging Face directory would hold it: configuration, weights and tokenizer.

llama.cpp keeps a model under its own names, and the rows of Llama's queries and keys in an order of its own; both are
undone here.

Shapes: R rows that are wanted, H heads, E head size, C inputs of a projection.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from loracast.errors import ModelError
from loracast.model.config import ModelConfig, RotaryScaling
from loracast.model.families import FAMILIES
from loracast.model.gguf import GgufFile
from loracast.model.rotary import frequencies

NAMES = {  # of tensors outside the layers
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
PARTS = {  # of a layer, by llama.cpp's names
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
ROTARY_FACTORS = "rope_freqs.weight"  # by which Llama 3.1's frequencies are divided
LAYER = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")
PERMUTED = ("llama",)  # architectures whose queries and keys llama.cpp stores with the pairs of a rotation side by side
CONTROL = 3  # the type of tokens that stand for no text
SPLITS = {  # how texts are split before pairs of bytes are merged, by llama.cpp's name
    "gpt-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama-bpe": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
        r"\s+(?!\S)|\s+"
    ),
    "qwen2": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
        r"\s+(?!\S)|\s+"
    ),
}


class GgufSource:
    """The weights of a GGUF file by the names of a Hugging Face directory; see `weights.WeightSource`.

    Args:
        path: the file.

    Raises ModelError for a file that is not whole, and for tensors that no family here has.
    """

    def __init__(self, path: Path):
        self.file = GgufFile(path)
        self.stored = configuration(self.file)
        self.config = ModelConfig.from_dict(self.stored, str(path))
        self._names = {_name(name): name for name in self.file.tensors if name != ROTARY_FACTORS}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: self.file.tensors[own].shape for name, own in self._names.items()}

    def read(self, name: str, rows: Sequence[int] | None = None) -> Tensor:
        tensor = self.file.read(self._names[name], rows)
        heads = {"q_proj": self.config.num_attention_heads, "k_proj": self.config.num_key_value_heads}
        part = name.split(".")[-2]
        if part in heads and self.file.fields["general.architecture"] in PERMUTED:
            return _halves(tensor, heads[part])
        return tensor

    def place(self, name: str) -> Path:
        return self.file.path

    def quantised(self) -> dict[str, int]:
        """How many tensors are stored as each kind of numbers, the most frequent first."""
        return dict(Counter(tensor.kind for tensor in self.file.tensors.values()).most_common())


def _halves(tensor: Tensor, heads: int) -> Tensor:
    """Rows [H·E, C] of queries or keys with the two halves of each head apart, where they stood pair by pair."""
    return tensor.unflatten(0, (heads, -1, 2)).transpose(1, 2).reshape(tensor.shape)


def _name(own: str) -> str:
    if own in NAMES:
        return NAMES[own]
    match = LAYER.fullmatch(own)
    if match is None or match[2] not in PARTS:
        return own  # which the loader refuses by its name
    return f"model.layers.{match[1]}.{PARTS[match[2]]}.{match[3]}"


def configuration(file: GgufFile) -> dict[str, Any]:
    """What a Hugging Face config.json says, from a file's header."""
    family = file.fields.get("general.architecture")
    if family not in FAMILIES:
        known = ", ".join(map(repr, FAMILIES))
        raise ModelError(
            f"{file.path}: general.architecture is {family!r}, which loracast does not compute; it computes {known}"
        )

    def field(key: str, default: Any = None) -> Any:
        return file.fields.get(f"{family}.{key}", default)

    tokens = file.fields.get("tokenizer.ggml.tokens")
    stored: dict[str, Any] = {
        "model_type": family,
        "architectures": [FAMILIES[family].architecture],
        "_name_or_path": file.fields.get("general.name"),
        "vocab_size": _rows(file, tokens),
        "hidden_size": field("embedding_length"),
        "intermediate_size": field("feed_forward_length"),
        "num_hidden_layers": field("block_count"),
        "num_attention_heads": field("attention.head_count"),
        "num_key_value_heads": field("attention.head_count_kv") or field("attention.head_count"),
        "head_dim": field("attention.key_length") or field("rope.dimension_count"),
        "rms_norm_eps": round(field("attention.layer_norm_rms_epsilon", 1e-6), 12),
        "rope_theta": float(field("rope.freq_base", 10_000.0)),
        "max_position_embeddings": field("context_length"),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "bos_token_id": file.fields.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": file.fields.get("tokenizer.ggml.eos_token_id"),
        "torch_dtype": "float32",
    }
    if window := field("attention.sliding_window"):
        stored |= {"sliding_window": window, "use_sliding_window": True}
    kind = field("rope.scaling.type", "none")
    if kind not in ("none", None):
        stored["rope_scaling"] = {
            "rope_type": kind,
            "factor": field("rope.scaling.factor", 1.0),
            "original_max_position_embeddings": field("rope.scaling.original_context_length"),
        }
    if ROTARY_FACTORS in file.tensors:
        stored["rope_scaling"] = _llama3(file, ModelConfig.from_dict(stored, str(file.path)))
    return {key: value for key, value in stored.items() if value is not None}


def _rows(file: GgufFile, tokens: Any) -> int | None:
    """The rows of the embedding, which may be more than there are tokens."""
    embedding = file.tensors.get("token_embd.weight")
    return embedding.shape[0] if embedding else len(tokens or []) or None


def _llama3(file: GgufFile, config: ModelConfig) -> dict[str, Any]:
    """The scaling of Llama 3.1 and later whose factors of frequencies a file holds; a ModelError where none fits."""
    factors = file.read(ROTARY_FACTORS).double()
    plain = frequencies(config)
    largest = round(float(factors.max()), 3)
    for original in (8192, 4096, 16384):
        scaling = RotaryScaling("llama3", largest, original, low_factor=1.0, high_factor=4.0)
        scaled = frequencies(_with(config, scaling))
        if factors.shape == plain.shape and torch.allclose(plain.double() / factors, scaled.double(), rtol=1e-3):
            return scaling.to_dict()
    raise ModelError(
        f"{file.path}: {ROTARY_FACTORS} scales rotations in a way that is not computed here; take another file"
    )


def _with(config: ModelConfig, scaling: RotaryScaling) -> ModelConfig:
    from dataclasses import replace

    return replace(config, rope_scaling=scaling)


def tokenizer_of(file: GgufFile) -> Tokenizer:
    """The tokenizer of a file: its vocabulary exactly, and how it splits text by what the header names."""
    kind, tokens = file.fields.get("tokenizer.ggml.model"), file.fields.get("tokenizer.ggml.tokens")
    if not tokens or not isinstance(tokens, list):
        raise ModelError(f"{file.path}: tokenizer.ggml.tokens is missing; a model needs its vocabulary")
    vocabulary = {text: index for index, text in enumerate(tokens)}
    if kind == "gpt2":
        tokenizer = _byte_pairs(file, vocabulary)
    elif kind == "llama":
        tokenizer = _sentence_pieces(file, tokens)
    else:
        raise ModelError(f"{file.path}: tokenizer.ggml.model is {kind!r}; 'gpt2' and 'llama' are read")
    types = file.fields.get("tokenizer.ggml.token_type") or []
    tokenizer.add_special_tokens([text for text, one in zip(tokens, types) if one == CONTROL])
    return tokenizer


def _byte_pairs(file: GgufFile, vocabulary: dict[str, int]) -> Tokenizer:
    merges = [tuple(merge.split(" ", 1)) for merge in file.fields.get("tokenizer.ggml.merges", [])]
    try:
        tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    except Exception as error:  # the library raises bare Exception
        raise file.problem(f"tokenizer.ggml.merges do not fit the tokens ({error})") from None
    split = file.fields.get("tokenizer.ggml.pre", "gpt-2")
    steps: list[Any] = []
    if split in ("smollm", "starcoder", "refact", "command-r"):
        steps.append(pre_tokenizers.Digits(individual_digits=True))
    pattern = SPLITS.get(split, SPLITS["gpt-2"])
    steps += [pre_tokenizers.Split(Regex(pattern), "isolated")]
    steps += [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentence_pieces(file: GgufFile, tokens: list[str]) -> Tokenizer:
    scores = file.fields.get("tokenizer.ggml.scores") or [0.0] * len(tokens)
    tokenizer = Tokenizer(models.Unigram(list(zip(tokens, map(float, scores))), 0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    return tokenizer

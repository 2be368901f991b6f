"""The shape of a Qwen2 model, as its config.json has it. Knows no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loracast.errors import ModelError

SHAPES = Path(__file__).parent / "shapes.json"  # of well-known models, by their names on the hub
CACHE_BLOCK = 64  # a path's own tokens whose keys and values are kept together in decoding


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; anything else there is a ModelError that names the file."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}; copy or download it again") from None
    if not isinstance(stored, dict):
        raise ModelError(f"{path} holds a JSON {type(stored).__name__}, not an object; copy or download it again")
    return stored


def stored_shape(name: str) -> Qwen2Config | None:
    """The shape of a model that the package knows without its files, or None."""
    stored = read_json(SHAPES).get(name)
    return None if stored is None else Qwen2Config.from_dict(stored, name)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and value > 0


@dataclass(frozen=True)
class Qwen2Config:
    """What decides a Qwen2 or Qwen2.5 model's computation (Yang et al. 2024, arXiv:2407.10671)."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float = 1e-6
    rope_theta: float = 1e6
    tie_word_embeddings: bool = True
    max_position_embeddings: int = 32768
    bos_token_id: int | None = None
    eos_token_id: int | None = None

    @classmethod
    def from_dict(cls, stored: dict[str, Any], where: str) -> Qwen2Config:
        """Reads a Hugging Face config.json, collecting everything that this implementation does not compute."""
        problems = []
        if stored.get("model_type") != "qwen2":
            problems.append(
                f"model_type is {stored.get('model_type')!r}, but loracast computes 'qwen2' (Qwen2, Qwen2.5)"
            )
        if stored.get("hidden_act", "silu") != "silu":
            problems.append(f"hidden_act is {stored['hidden_act']!r}, not 'silu'")
        if stored.get("use_sliding_window"):
            problems.append("use_sliding_window is set, which is not supported")
        rope: dict[str, Any] = {}
        for key in ("rope_scaling", "rope_parameters"):  # its older and its newer name; a file may have both
            part = stored.get(key) or {}
            kind = part.get("rope_type", part.get("type", "default"))
            if kind != "default":
                problems.append(f"{key} asks for rotary positions of type {kind!r}; only 'default' is supported")
            rope |= part
        sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        problems += [f"{name} is {stored.get(name)!r}, not a size" for name in sizes if not _is_size(stored.get(name))]
        heads: Any = stored.get("num_attention_heads")
        groups: Any = stored.get("num_key_value_heads") or heads
        if _is_size(heads) and (not _is_size(groups) or heads % groups):
            problems.append(f"num_attention_heads {heads} is no multiple of num_key_value_heads {groups!r}")
        if problems:
            raise ModelError(f"{where}: " + "; ".join(problems))
        eos = stored.get("eos_token_id")
        return cls(
            **{name: stored[name] for name in sizes},
            num_key_value_heads=groups,
            head_dim=stored.get("head_dim") or stored["hidden_size"] // heads,
            rms_norm_eps=stored.get("rms_norm_eps", 1e-6),
            rope_theta=float(rope.get("rope_theta") or stored.get("rope_theta") or 10_000.0),
            tie_word_embeddings=stored.get("tie_word_embeddings", False),
            max_position_embeddings=stored.get("max_position_embeddings", 32768),
            bos_token_id=stored.get("bos_token_id"),
            eos_token_id=eos[0] if isinstance(eos, list) else eos,
        )

    @classmethod
    def read(cls, path: Path) -> tuple[Qwen2Config, dict[str, Any]]:
        """The configuration in a config.json and the whole of that file."""
        if not path.is_file():
            raise ModelError(f"{path.parent} has no {path.name}; a model is a Hugging Face directory")
        stored = read_json(path)
        return cls.from_dict(stored, str(path)), stored

    def to_dict(self, dtype: str) -> dict[str, Any]:
        """The config.json that transformers reads."""
        return {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": self.tie_word_embeddings,
            "max_position_embeddings": self.max_position_embeddings,
            "attention_dropout": 0.0,
            "use_sliding_window": False,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_token_id,
            "torch_dtype": dtype,
        }

    def projections(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of each projection of a layer, by the short names that LoRA targets use."""
        hidden, inner = self.hidden_size, self.intermediate_size
        queries = self.num_attention_heads * self.head_dim
        keys = self.num_key_value_heads * self.head_dim
        return {
            "q": (hidden, queries),
            "k": (hidden, keys),
            "v": (hidden, keys),
            "o": (queries, hidden),
            "gate": (hidden, inner),
            "up": (hidden, inner),
            "down": (inner, hidden),
        }

    def parameters(self) -> int:
        """Exact number of parameters; a tied embedding counts once."""
        shapes = self.projections()
        matrices = sum(inputs * outputs for inputs, outputs in shapes.values())
        biases = sum(shapes[name][1] for name in "qkv")
        layer = matrices + biases + 2 * self.hidden_size
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)
        return self.num_hidden_layers * layer + self.hidden_size + embeddings

    def lora_parameters(self, rank: int, targets: tuple[str, ...]) -> int:
        """Trainable parameters of an adapter: rank · (inputs + outputs) a target and layer."""
        shapes = self.projections()
        return self.num_hidden_layers * sum(rank * sum(shapes[name]) for name in targets)

"""The shape of a model, as its config.json has it. Knows no torch."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

from loracast.errors import ModelError
from loracast.model.families import FAMILIES, Family

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


def stored_shape(name: str) -> ModelConfig | None:
    """The shape of a model that the package knows without its files, or None."""
    stored = read_json(SHAPES).get(name)
    return None if stored is None else ModelConfig.from_dict(stored, name)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and value > 0


ScalingKind = Literal["linear", "llama3", "yarn"]
SCALING_KINDS = ("linear", "llama3", "yarn")


@dataclass(frozen=True)
class RotaryScaling:
    """How rotary positions are stretched to longer texts than a model was first made for; see `rotary`.

    Attributes:
        factor: by which positions are divided.
        original_positions: the longest text at first (llama3, yarn).
        low_factor, high_factor: turns within it below which all, and above which nothing is stretched (llama3).
        beta_fast, beta_slow: the same for yarn, in turns; truncate: whether the pairs there are rounded to whole ones.
        attention_factor: by which cosine and sine are multiplied (yarn).
    """

    kind: ScalingKind
    factor: float
    original_positions: int = 0
    low_factor: float = 1.0
    high_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    attention_factor: float = 1.0

    @classmethod
    def from_dict(cls, stored: dict[str, Any], positions: int) -> RotaryScaling:
        """The scaling in a config.json's `rope_scaling` or `rope_parameters`; `positions` is what the model holds.

        ValueError or TypeError for numbers that are none.
        """
        kind = cast(ScalingKind, stored.get("rope_type", stored.get("type")))
        original = int(stored.get("original_max_position_embeddings") or positions)
        factor = float(stored.get("factor") or positions / original)
        attention = stored.get("attention_factor")
        if kind == "yarn" and attention is None:
            one, all_dim = stored.get("mscale"), stored.get("mscale_all_dim")
            attention = (
                _yarn_scale(factor, one) / _yarn_scale(factor, all_dim) if one and all_dim else _yarn_scale(factor)
            )
        return cls(
            kind,
            factor,
            original,
            low_factor=float(stored.get("low_freq_factor", 1.0)),
            high_factor=float(stored.get("high_freq_factor", 4.0)),
            beta_fast=float(stored.get("beta_fast") or 32.0),
            beta_slow=float(stored.get("beta_slow") or 1.0),
            truncate=bool(stored.get("truncate", True)),
            attention_factor=float(attention or 1.0) if kind == "yarn" else 1.0,
        )

    def to_dict(self) -> dict[str, Any]:
        """As transformers reads it."""
        stored: dict[str, Any] = {"rope_type": self.kind, "factor": self.factor}
        if self.kind != "linear":
            stored["original_max_position_embeddings"] = self.original_positions
        if self.kind == "llama3":
            stored |= {"low_freq_factor": self.low_factor, "high_freq_factor": self.high_factor}
        if self.kind == "yarn":
            stored |= {"beta_fast": self.beta_fast, "beta_slow": self.beta_slow, "truncate": self.truncate}
            stored |= {"attention_factor": self.attention_factor}
        return stored


def _yarn_scale(factor: float, weight: float = 1.0) -> float:
    """How much yarn sharpens attention for texts that are `factor` times as long."""
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


@dataclass(frozen=True)
class ModelConfig:
    """What decides a model's computation: sizes, and the switches by which families differ.

    Attributes:
        family: its `model_type`, a key of `FAMILIES`.
        qkv_bias, qk_norm: see `families.Family`.
        max_position_embeddings: the longest text that is computed as the model was trained; where attention reaches
            less far than that, as far as it reaches, since within it nothing is cut off.
    """

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
    family: str = "qwen2"
    qkv_bias: bool = True
    qk_norm: bool = False
    rope_scaling: RotaryScaling | None = None

    @classmethod
    def from_dict(cls, stored: dict[str, Any], where: str) -> ModelConfig:
        """Reads a Hugging Face config.json, collecting everything that is not computed here."""
        kind = stored.get("model_type")
        if kind not in FAMILIES:
            known = ", ".join(f"{name!r} ({family.known_as})" for name, family in FAMILIES.items())
            raise ModelError(f"{where}: model_type is {kind!r}, which loracast does not compute; it computes {known}")
        family = FAMILIES[kind]
        problems = []
        if stored.get("hidden_act", "silu") != "silu":
            problems.append(f"hidden_act is {stored['hidden_act']!r}, not 'silu'")
        for name, value in family.must_be.items():
            if stored.get(name, value) != value:
                problems.append(f"{name} is {stored[name]!r}; only {value!r} is computed")
        sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        problems += [f"{name} is {stored.get(name)!r}, not a size" for name in sizes if not _is_size(stored.get(name))]
        heads: Any = stored.get("num_attention_heads")
        groups: Any = stored.get("num_key_value_heads") or heads
        if _is_size(heads) and (not _is_size(groups) or heads % groups):
            problems.append(f"num_attention_heads {heads} is not a multiple of num_key_value_heads {groups!r}")
        positions = _positions(stored, family)
        rotary, scaling, wrong = _rotary(stored, positions)
        problems += wrong
        if problems:
            raise ModelError(f"{where}: " + "; ".join(problems))
        eos = stored.get("eos_token_id")
        return cls(
            **{name: stored[name] for name in sizes},
            num_key_value_heads=groups,
            head_dim=stored.get("head_dim") or family.head_dim or stored["hidden_size"] // heads,
            rms_norm_eps=stored.get("rms_norm_eps", 1e-6),
            rope_theta=float(rotary.get("rope_theta") or stored.get("rope_theta") or 10_000.0),
            tie_word_embeddings=stored.get("tie_word_embeddings", False),
            max_position_embeddings=positions,
            bos_token_id=stored.get("bos_token_id"),
            eos_token_id=eos[0] if isinstance(eos, list) else eos,
            family=kind,
            qkv_bias=family.qkv_bias,
            qk_norm=family.qk_norm,
            rope_scaling=scaling,
        )

    @classmethod
    def read(cls, path: Path) -> tuple[ModelConfig, dict[str, Any]]:
        """The configuration in a config.json and the whole of that file."""
        if not path.is_file():
            raise ModelError(f"{path.parent} has no {path.name}; a model is a Hugging Face directory")
        stored = read_json(path)
        return cls.from_dict(stored, str(path)), stored

    def to_dict(self, dtype: str) -> dict[str, Any]:
        """The config.json that transformers reads."""
        family = FAMILIES[self.family]
        sizes = asdict(self)
        for name in ("family", "qkv_bias", "qk_norm", "rope_scaling"):
            del sizes[name]
        stored = {
            "architectures": [family.architecture],
            "model_type": self.family,
            **sizes,
            "hidden_act": "silu",
            "attention_dropout": 0.0,
            "torch_dtype": dtype,
            **family.must_be,
        }
        if family.window:
            stored |= {family.window[0]: None} if family.window[1] is None else {family.window[1]: False}
        if self.rope_scaling:
            stored["rope_scaling"] = self.rope_scaling.to_dict()
        return stored

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
        biases = sum(shapes[name][1] for name in "qkv") if self.qkv_bias else 0
        norms = 2 * self.hidden_size + (2 * self.head_dim if self.qk_norm else 0)
        layer = matrices + biases + norms
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)
        return self.num_hidden_layers * layer + self.hidden_size + embeddings

    def lora_parameters(self, rank: int, targets: tuple[str, ...]) -> int:
        """Trainable parameters of an adapter: rank · (inputs + outputs) a target and layer."""
        shapes = self.projections()
        return self.num_hidden_layers * sum(rank * sum(shapes[name]) for name in targets)


def _positions(stored: dict[str, Any], family: Family) -> int:
    """The longest text that is computed as the model was trained."""
    positions = stored.get("max_position_embeddings", family.positions)
    if family.window:
        name, switch = family.window
        reach = stored.get(name) if switch is None or stored.get(switch) else None
        positions = min(positions, reach or positions)
    return positions


def _rotary(stored: dict[str, Any], positions: int) -> tuple[dict[str, Any], RotaryScaling | None, list[str]]:
    """What a config.json says of rotary positions, how they are scaled, and what of it is not computed."""
    rotary: dict[str, Any] = {}
    problems = []
    for key in ("rope_scaling", "rope_parameters"):  # its older and its newer name; a file may have both
        part = stored.get(key) or {}
        kind = part.get("rope_type", part.get("type", "default"))
        if kind not in ("default", *SCALING_KINDS):
            known = ", ".join(SCALING_KINDS)
            problems.append(f"{key} asks for rotary positions of type {kind!r}; 'default', {known} are computed")
        if part.get("partial_rotary_factor", 1.0) != 1.0:
            problems.append(f"{key} rotates a part of each head only, which is not computed")
        rotary |= part
    if problems or rotary.get("rope_type", rotary.get("type", "default")) == "default":
        return rotary, None, problems
    try:
        return rotary, RotaryScaling.from_dict(rotary, positions), []
    except (TypeError, ValueError, ZeroDivisionError) as error:
        return rotary, None, [f"the scaling of rotary positions cannot be read: {error}"]

"""Which models can be computed: a row for each `model_type` of Hugging Face's config.json.

A row says what that family's configuration leaves unsaid. All of them name their tensors alike, and as
`loracast.model.transformer` does. A new family whose layers differ by nothing but these switches is one row here and
one in `tests/model/test_families.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Family:
    """What distinguishes a family of models.

    Attributes:
        known_as: what people call its models.
        architecture: transformers' class for it.
        qkv_bias: whether the projections to queries, keys and values have biases.
        qk_norm: whether queries and keys are normalised in each head before they are rotated.
        head_dim: size of a head where the configuration names none; hidden size / heads unless given.
        positions: the longest text where the configuration names none.
        window: name of the setting that says how far attention reaches, and what must be set for it to count.
        must_be: settings that change what is computed, with the only value that is computed here.
    """

    known_as: str
    architecture: str
    qkv_bias: bool = False
    qk_norm: bool = False
    head_dim: int | None = None
    positions: int = 32768
    window: tuple[str, str | None] | None = None
    must_be: dict[str, Any] = field(default_factory=dict)


FAMILIES = {
    "qwen2": Family(
        "Qwen2 and Qwen2.5",
        "Qwen2ForCausalLM",
        qkv_bias=True,
        window=("sliding_window", "use_sliding_window"),
    ),
    "qwen3": Family(
        "Qwen3",
        "Qwen3ForCausalLM",
        qk_norm=True,
        head_dim=128,
        window=("sliding_window", "use_sliding_window"),
        must_be={"attention_bias": False},
    ),
    "llama": Family(
        "Llama 2 and 3, SmolLM2, TinyLlama",
        "LlamaForCausalLM",
        positions=2048,
        must_be={"attention_bias": False, "mlp_bias": False},
    ),
    "mistral": Family(
        "Mistral",
        "MistralForCausalLM",
        positions=131072,
        window=("sliding_window", None),
    ),
}

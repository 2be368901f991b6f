"""Rotary positions (Su et al. 2021, arXiv:2104.09864), and the ways in which models stretch them to longer texts.

Each is computed as transformers' `modeling_rope_utils` does, whose parity a test checks.

Shapes: T tokens, E head size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from loracast.model.config import ModelConfig, RotaryScaling


def frequencies(config: ModelConfig, device: torch.device | None = None) -> Tensor:
    """How fast each pair of a head turns, in radians a position: [E/2] in float32."""
    size = config.head_dim
    exponent = torch.arange(0, size, 2, device=device, dtype=torch.float32) / size  # [E/2]
    plain = (
        1.0 / config.rope_theta**exponent
    )  # divided as transformers does: rounded otherwise, far positions would differ
    scaling = config.rope_scaling
    if scaling is None:
        return plain
    return {"linear": _linear, "llama3": _llama3, "yarn": _yarn}[scaling.kind](plain, config, scaling)


def angles(positions: Tensor, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Cosine and sine [..., E/2] of positions [...], in float32."""
    angle = positions[..., None].float() * frequencies(config, positions.device)
    factor = 1.0 if config.rope_scaling is None else config.rope_scaling.attention_factor
    return angle.cos() * factor, angle.sin() * factor


def rotary(positions: Tensor, config: ModelConfig, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine [B, 1, T, E] of positions [B, T], once for each half of a head."""
    cos, sin = (torch.cat([half, half], -1)[:, None] for half in angles(positions, config))
    return cos.to(dtype), sin.to(dtype)


def _linear(plain: Tensor, config: ModelConfig, scaling: RotaryScaling) -> Tensor:
    """All positions are divided by the factor (Chen et al. 2023, arXiv:2306.15595)."""
    return plain / scaling.factor


def _llama3(plain: Tensor, config: ModelConfig, scaling: RotaryScaling) -> Tensor:
    """Slow pairs are divided by the factor, fast ones stay, with a smooth change between them (Llama 3.1)."""
    wavelength = 2 * math.pi / plain
    turns = scaling.original_positions / wavelength  # within the text that the model was first made for
    smooth = ((turns - scaling.low_factor) / (scaling.high_factor - scaling.low_factor)).clamp(0, 1)
    between = (1 - smooth) / scaling.factor * plain + smooth * plain
    slow, fast = turns < scaling.low_factor, turns > scaling.high_factor
    return torch.where(slow, plain / scaling.factor, torch.where(fast, plain, between))


def _yarn(plain: Tensor, config: ModelConfig, scaling: RotaryScaling) -> Tensor:
    """Pairs that turn seldom are divided by the factor, those that turn often stay (Peng 2023, arXiv:2309.00071)."""
    half = len(plain)

    def pair(turns: float) -> float:
        """The pair, as a number with a fraction, that turns so often within the original positions."""
        return (
            config.head_dim
            * math.log(scaling.original_positions / (turns * 2 * math.pi))
            / (2 * math.log(config.rope_theta))
        )

    low, high = pair(scaling.beta_fast), pair(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, config.head_dim - 1)
    ramp = (torch.arange(half, device=plain.device, dtype=torch.float32) - low) / max(high - low, 0.001)
    stretched = ramp.clamp(0, 1)
    return plain / scaling.factor * stretched + plain * (1 - stretched)

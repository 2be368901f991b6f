"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) on a frozen model, and their files in PEFT's format."""

from __future__ import annotations

import copy
import hashlib
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loracast.errors import ConfigError, ModelError
from loracast.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, RECORD, write_json
from loracast.model.config import read_json
from loracast.model.tensors import check_finite, read_tensors, write_tensors
from loracast.model.transformer import Transformer
from loracast.settings import PROJECTIONS, LoraConfig

UNSUPPORTED = (  # settings of peft that change what an adapter computes
    *("use_dora", "use_rslora", "use_qalora", "use_bdlora", "fan_in_fan_out", "lora_bias", "modules_to_save"),
    *("rank_pattern", "alpha_pattern", "layers_to_transform", "layer_replication", "target_parameters"),
    *("trainable_token_indices", "alora_invocation_tokens", "arrow_config", "kasa_config", "monteclora_config"),
)
PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva")  # of A and B; peft's other ones also alter the base


class LoraLinear(nn.Module):
    """A frozen projection plus alpha / rank · B A x. A and B are kept in float32 and used in the input's precision."""

    def __init__(self, base: nn.Linear, config: LoraConfig):
        super().__init__()
        self.base = base
        device = base.weight.device
        self.lora_A = nn.Parameter(torch.empty(config.rank, base.in_features, device=device))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, config.rank, device=device))
        self.scaling, self.dropout = config.scaling, config.dropout

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.change(x)

    def change(self, x: Tensor) -> Tensor:
        """alpha / rank · B A x."""
        dropped = F.dropout(x, self.dropout, self.training) if self.dropout else x
        down = F.linear(dropped, self.lora_A.to(x.dtype))  # [..., rank]
        return F.linear(down, (self.scaling * self.lora_B).to(x.dtype))

    def update(self) -> Tensor:
        """The change of the weight, alpha / rank · B A, in float32."""
        return self.scaling * (self.lora_B @ self.lora_A)


def attach(model: Transformer, config: LoraConfig, seed: int = 0) -> Transformer:
    """A new model that shares the frozen weights of `model` and adds an adapter that changes nothing yet (B is zero).

    A is drawn uniformly as in PEFT, from a generator of each projection's own, so that it depends on the seed and the
    projection's name alone and no other random number is spent.
    """
    if any(isinstance(module, LoraLinear) for module in model.modules()):
        raise ModelError("the model already has an adapter; attach a new one to its base")
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    adapted = copy.deepcopy(model, shared)
    for parameter in adapted.parameters():
        parameter.requires_grad_(False)
    for index, block in enumerate(adapted.model.layers):
        for target in config.targets:
            parent, name = owner(block, target)
            layer = LoraLinear(getattr(parent, name), config)
            key = hashlib.sha256(f"{seed}/{index}/{target}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "little") >> 1)
            bound = 1 / math.sqrt(layer.base.in_features)
            start = torch.empty(layer.lora_A.shape).uniform_(-bound, bound, generator=generator)
            layer.lora_A.data.copy_(start)
            setattr(parent, name, layer)
    return adapted


def owner(block: nn.Module, target: str) -> tuple[nn.Module, str]:
    """The module of a block that holds a projection, and the projection's name there."""
    return block.get_submodule("self_attn" if target in "qkvo" else "mlp"), f"{target}_proj"


def adapter_layers(model: Transformer) -> Iterator[tuple[str, LoraLinear]]:
    """Each adapted projection with its Hugging Face name, such as `model.layers.0.self_attn.q_proj`."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoraLinear))


def adapter_state(model: Transformer) -> dict[str, Tensor]:
    """Copies of the adapter's tensors by PEFT's names, in float32 on the CPU."""
    state = {}
    for name, layer in adapter_layers(model):
        state[f"base_model.model.{name}.lora_A.weight"] = layer.lora_A.detach().cpu().clone()
        state[f"base_model.model.{name}.lora_B.weight"] = layer.lora_B.detach().cpu().clone()
    return state


def load_adapter_state(model: Transformer, state: dict[str, Tensor], where: str) -> None:
    """Puts tensors by PEFT's names into an adapter.

    A tensor that is missing, left over, of another shape or, as it is computed with, not finite is refused.
    """
    expected = adapter_state(model)
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    wrong = [
        f"{name} is {list(state[name].shape)}, the model needs {list(expected[name].shape)}"
        for name in expected.keys() & state.keys()
        if state[name].shape != expected[name].shape
    ]
    problems = (
        sorted(wrong)[:3] + [f"{name} is missing" for name in missing[:3]] + [f"{n} is unknown" for n in extra[:3]]
    )
    if problems:
        raise ModelError(f"{where} does not fit this base model: " + "; ".join(problems))
    used = {}
    for name, layer in adapter_layers(model):
        names = [f"base_model.model.{name}.lora_{part}.weight" for part in "AB"]
        for parameter, key in zip((layer.lora_A, layer.lora_B), names):
            parameter.data.copy_(state[key])
        dtype = layer.base.weight.dtype
        used |= zip(names, (layer.lora_A.data.to(dtype), (layer.scaling * layer.lora_B.data).to(dtype)))
    remedy = "the adapter is damaged, or its training diverged; copy it again, or tune another one"
    check_finite(used, where, remedy, state.__getitem__)


def save_adapter(
    directory: Path, state: dict[str, Tensor], config: LoraConfig, base: str, record: dict[str, Any] | None = None
) -> None:
    """Writes an adapter directory that `peft.PeftModel.from_pretrained` loads, and `record` as loracast.json."""
    peft_config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": [f"{target}_proj" for target in config.targets],
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "use_rslora": False,
        "use_dora": False,
    }
    directory = Path(directory)
    write_tensors(directory / ADAPTER_WEIGHTS, state)
    write_json(directory / ADAPTER_CONFIG, peft_config)
    if record is not None:
        write_json(directory / RECORD, record)


def read_adapter(directory: Path) -> tuple[LoraConfig, dict[str, Tensor]]:
    """The configuration and tensors of a PEFT LoRA directory. What we do not compute is refused, never ignored."""
    directory = Path(directory)
    path = directory / ADAPTER_CONFIG
    if not path.is_file():
        raise ModelError(f"{directory} is not the folder of an adapter, for it has no {ADAPTER_CONFIG}; check the path")
    stored = read_json(path)
    problems = []
    if stored.get("peft_type") != "LORA":
        problems.append(f"peft_type is {stored.get('peft_type')!r}, not 'LORA'")
    problems += [f"{name} is set, which is not supported" for name in UNSUPPORTED if stored.get(name)]
    start = stored.get("init_lora_weights", True)
    if start not in PLAIN_STARTS:
        problems.append(f"init_lora_weights is {start!r}, which alters the base model; save the adapter as a plain one")
    if stored.get("bias", "none") != "none":
        problems.append(f"bias is {stored['bias']!r}, not 'none'")
    if not isinstance(stored.get("r"), int) or stored["r"] < 1:
        problems.append(f"r is {stored.get('r')!r}, not a rank")
    if problems:
        raise ModelError(f"{path}: " + "; ".join(problems))
    state = read_tensors(directory / ADAPTER_WEIGHTS)
    found = {match[1] for name in state if (match := re.search(r"\.(\w+)_proj\.lora_[AB]\.weight$", name))}
    targets = tuple(name for name in PROJECTIONS if name in found)
    if not targets:
        raise ModelError(
            f"{directory / ADAPTER_WEIGHTS} holds no LoRA of a known projection ({', '.join(PROJECTIONS)})"
        )
    try:
        alpha, dropout = float(stored.get("lora_alpha", 8)), float(stored.get("lora_dropout", 0.0))
        return LoraConfig(stored["r"], alpha, dropout, targets), state
    except (ConfigError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: {error}; copy the adapter again, or tune another one") from None


def merged_weights(model: Transformer) -> dict[str, Tensor]:
    """The weights W + alpha / rank · B A of each adapted projection by Hugging Face name, computed in float32."""
    return {f"{name}.weight": layer.base.weight.float() + layer.update() for name, layer in adapter_layers(model)}

"""Ways of tuning that loracast does not offer, for comparison with those that it does, at equal FLOPs.

Each is a context manager inside which `Forecaster.fit` tunes in another way. An adapter that holds more than A and B
(`whole` is False) cannot be kept: its validation loss is what is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from loracast.codec import Codec
from loracast.compute import plain as plain_module
from loracast.compute.device import on_gpu
from loracast.compute.plain import PlainCompute, PlainDecoder
from loracast.engine import step as step_module
from loracast.engine import train as train_module
from loracast.engine.batch import Batch
from loracast.engine.step import TrainingStep, optimizer_of
from loracast.engine.train import Tuning
from loracast.model import lora as lora_module
from loracast.model.lora import LoraLinear
from loracast.series.windows import WindowSource
from loracast.settings import LoraConfig, TuneConfig


@dataclass(frozen=True)
class Way:
    """A way of tuning, its name's argument given; `compute` is what can compute it."""

    begin: Callable[[], Any]
    whole: bool = True
    compute: str = "auto"


def lora_plus(ratio: float) -> Way:
    """B learns so many times as fast as A (Hayou et al. 2024, arXiv:2402.12354)."""

    class Scaled(torch.optim.AdamW):
        """The training step sets one rate for all groups; those of B are multiplied when it is taken."""

        def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            self.param_groups[1]["lr"] *= ratio
            super().step(closure)

    def optimizer(adapters: list[nn.Parameter], rate: float, config: TuneConfig) -> torch.optim.Optimizer:
        first, second = adapters[0::2], adapters[1::2]  # A and B of each projection stand side by side
        assert all(len(b) >= b.shape[1] == len(a) for a, b in zip(first, second))
        groups = [{"params": first}, {"params": second}]
        return Scaled(groups, lr=rate, betas=(0.9, 0.99), fused=on_gpu(adapters[0].device))

    return Way(lambda: patch.object(step_module, "optimizer_of", optimizer))


def muon_momentum(momentum: float) -> Way:
    """Muon with another momentum than 0.95."""

    def optimizer(adapters: list[nn.Parameter], rate: float, config: TuneConfig) -> torch.optim.Optimizer:
        made = optimizer_of(adapters, rate, config)
        made.param_groups[0]["momentum"] = momentum
        return made

    return Way(lambda: patch.object(step_module, "optimizer_of", optimizer))


def layers(first: int, last: int) -> Way:
    """Only the adapters of layers `first` to `last` - 1 learn; the others stay as they begin and change nothing."""
    original = TrainingStep.__init__

    def init(self: TrainingStep, compute: Any, rows: Tensor, config: TuneConfig) -> None:
        for index, block in enumerate(compute.network.model.layers):
            if not first <= index < last:
                block.requires_grad_(False)
        original(self, compute, rows, config)

    return Way(lambda: patch.object(TrainingStep, "__init__", init))


def averaged(decay: float) -> Way:
    """The adapter that is validated and kept is a running mean over the steps, the latest weighted by 1 - `decay`."""
    originals = {name: getattr(Tuning, name) for name in ("train", "validate", "accept")}
    means: list[Tensor] = []

    def train(self: Tuning, step: int, batch: Batch) -> Any:
        result = originals["train"](self, step, batch)
        current = [parameter.data for parameter in self.training_step.adapters]
        if not step:
            means[:] = [tensor.clone() for tensor in current]
        torch._foreach_lerp_(means, current, 1 - min(decay, (1 + step) / (10 + step)))
        return result

    def swap(self: Tuning) -> None:
        for parameter, mean in zip(self.training_step.adapters, means):
            parameter.data, mean.data = mean.data.clone(), parameter.data.clone()

    def validate(self: Tuning, step: int, emit: Any) -> float:
        if step:
            swap(self)
        return originals["validate"](self, step, emit)

    def accept(self: Tuning, step: int, loss: float) -> None:
        originals["accept"](self, step, loss)
        if step:
            swap(self)

    return Way(lambda: patch.multiple(Tuning, train=train, validate=validate, accept=accept))


def short_first(horizon: int, share: float) -> Way:
    """In the first `share` of the steps, windows end so many steps after their context."""
    original = train_module.draw_batch

    def draw(source: WindowSource, codec: Codec, config: TuneConfig, step: int) -> Batch:
        if step >= share * config.steps:
            return original(source, codec, config, step)
        short = WindowSource(source.series, source.length, source.seed)
        whole = short.draw
        short.draw = lambda step, count: whole(step, count)[:, : config.context + horizon]
        return original(short, codec, config, step)

    return Way(lambda: patch.object(train_module, "draw_batch", draw))


def text_before(ids: Sequence[int]) -> Way:
    """Forecasts whose prompts begin with these tokens, of a model with its whole vocabulary."""

    def begin() -> Any:
        kinds = [kind for kind in (PlainCompute, *PlainCompute.__subclasses__()) if "decoder" in vars(kind)]
        stack = ExitStack()
        for kind in kinds:
            stack.enter_context(patch.object(kind, "decoder", _prefixed(kind.decoder, ids)))
        return stack

    return Way(begin)


def _prefixed(decoder: Callable[..., Any], ids: Sequence[int]) -> Callable[..., Any]:
    def prefixed(self: PlainCompute, prompt: Tensor, lengths: Tensor, samples: int, most: int) -> Any:
        before = torch.tensor(ids, device=prompt.device, dtype=prompt.dtype).expand(len(prompt), -1)
        return decoder(self, torch.cat([before, prompt], 1), lengths + len(ids), samples, most)

    return prefixed


def spaced(space: int, separators: Sequence[int]) -> Way:
    """Forecasts from text in which a space follows each token but those before a separator: 1 2 3, 4 5 6; 7 8 9, …

    As LLMTIME writes for tokenizers that merge digits (Gruver et al. 2023, arXiv:2310.07820). The model has its whole
    vocabulary, and numbers have as many tokens each; `compute` must be plain.
    """
    kind = type("SpacedDecoder", (SpacedDecoder,), {"space": space, "separators": tuple(separators)})
    return Way(lambda: patch.object(plain_module, "PlainDecoder", kind), compute="plain")


class SpacedDecoder(PlainDecoder):
    """A decoder that reads and writes a space after each token that no separator follows."""

    space: int
    separators: tuple[int, ...]

    def __init__(self, hidden: Any, prompt: Tensor, lengths: Tensor, samples: int, *rest: Any):
        rows = [self.with_spaces(row[:length]) for row, length in zip(prompt, lengths)]
        lengths = lengths.new_tensor([len(row) for row in rows])
        super().__init__(hidden, nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths, samples, *rest)

    def advance(self, ids: Tensor) -> Tensor:
        return super().advance(torch.stack([self.with_spaces(row) for row in ids]))

    def with_spaces(self, ids: Tensor) -> Tensor:
        """[L] to [more than L]; the last token is followed by a space, too."""
        following = torch.isin(ids[1:], ids.new_tensor(self.separators))
        alone = torch.cat([following, following.new_zeros(1)])  # [L] where no space follows
        both = torch.stack([ids, torch.full_like(ids, self.space)], 1)  # [L, 2]
        return both[torch.stack([torch.ones_like(alone), ~alone], 1)]


class DoraLinear(LoraLinear):
    """The length of each row of the weight is learned apart from its direction (Liu et al. 2024, arXiv:2402.09353)."""

    def __init__(self, base: nn.Linear, config: LoraConfig):
        super().__init__(base, config)
        self.magnitude = nn.Parameter(base.weight.float().norm(dim=1))

    def forward(self, x: Tensor) -> Tensor:
        down = F.linear(x, self.lora_A.to(x.dtype))
        out = F.linear(x, self.base.weight) + F.linear(down, (self.scaling * self.lora_B).to(x.dtype))
        with torch.no_grad():
            length = (self.base.weight.float() + self.update()).norm(dim=1)
        out = (self.magnitude / length).to(x.dtype) * out
        return out if self.base.bias is None else out + self.base.bias


class Change(nn.Module):
    """A weight plus a change in float32 that is learned."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.change = nn.Parameter(torch.zeros_like(weight, dtype=torch.float32))

    def forward(self, weight: Tensor) -> Tensor:
        return (weight.float() + self.change).to(weight.dtype)


@contextmanager
def _norms_and_embedding() -> Iterator[None]:
    original = TrainingStep.__init__

    def init(self: TrainingStep, compute: Any, rows: Tensor, config: TuneConfig) -> None:
        for name, module in list(compute.network.named_modules()):
            if name.endswith(("norm", "embed_tokens")):
                parametrize.register_parametrization(module, "weight", Change(module.weight), unsafe=True)
        original(self, compute, rows, config)

    with patch.object(TrainingStep, "__init__", init):
        yield


DORA = Way(lambda: patch.object(lora_module, "LoraLinear", DoraLinear), whole=False, compute="plain")
NORMS_AND_EMBEDDING = Way(_norms_and_embedding, whole=False, compute="plain")

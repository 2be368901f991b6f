"""What a family of synthetic series is, and the random draws that it is made of.

Shapes: N rows, T steps, V variables.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

FLAT = 0.02
"""A variable whose range is below this share of its largest magnitude counts as constant."""

LARGEST = 1e6
"""A row with a larger magnitude counts as diverged."""


@dataclass(frozen=True)
class Draws:
    """Random tensors on the device of one generator; every draw advances that generator."""

    generator: torch.Generator

    @property
    def device(self) -> torch.device:
        return self.generator.device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=self.generator, device=self.device)

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return low * (high / low) ** self.uniform(0, 1, *shape)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.device)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Integers from `low` to `high`, both included."""
        return torch.randint(low, high + 1, shape, generator=self.generator, device=self.device)

    def coin(self, probability: float, *shape: int) -> Tensor:
        return self.uniform(0, 1, *shape) < probability

    def sign(self, *shape: int) -> Tensor:
        return self.integers(0, 1, *shape) * 2.0 - 1.0

    def period(self, steps: int, *shape: int, shortest: float = 4.0) -> Tensor:
        """Steps a cycle, from a few samples to somewhat more than the window."""
        return self.log_uniform(shortest, max(1.2 * steps, 2 * shortest), *shape)

    def pick(self, options: Sequence[Tensor], weights: Sequence[float] | None = None) -> Tensor:
        """One of several equally shaped tensors [N, ...] for each row, equally likely unless `weights` are given."""
        n = options[0].shape[0]
        shares = torch.tensor(weights or [1] * len(options), dtype=torch.float32, device=self.device)
        index = torch.multinomial(shares, n, replacement=True, generator=self.generator)  # [N]
        result = options[0]
        for position, option in enumerate(options[1:], start=1):
            result = torch.where((index == position).view(n, *[1] * (option.dim() - 1)), option, result)
        return result

    def clock(self, steps: int) -> Tensor:
        """The sample index as float32 [T]."""
        return torch.arange(steps, device=self.device, dtype=torch.float32)


Build = Callable[[Draws, int, int, int], Tensor]
"""(draws, rows N, steps T, variables V) -> [N, T, V]; rows may diverge or be flat, `Family.make` replaces them."""


@dataclass(frozen=True)
class Family:
    """One way to make series. `weight` is its relative share of a mixture, `source` its equation or paper."""

    name: str
    description: str
    weight: float
    source: str
    build: Build
    constant: bool = False  # whether flat rows are wanted rather than replaced

    def make(self, n: int, steps: int, variables: int, generator: torch.Generator) -> Tensor:
        """[n, steps, variables] float32 on the generator's device: finite, in the family's own units."""
        rows = self.build(Draws(generator), n, steps, variables).float()
        largest = rows.abs().amax(1)  # [N, V]
        usable = torch.isfinite(rows).all(1) & (largest < LARGEST)
        if not self.constant:
            usable &= rows.amax(1) - rows.amin(1) > FLAT * largest
        return _replace_unusable(rows, usable.all(1))


def _replace_unusable(rows: Tensor, usable: Tensor) -> Tensor:
    """Unusable rows become copies of usable ones, in turn: no second draw, and the host need not wait for the device.

    `synthesise` warps, scales and disturbs every row on its own afterwards, so that copies end up different. If no row
    is usable, all are zero.
    """
    position = torch.arange(len(rows), device=rows.device)
    usable_first = torch.argsort((~usable).byte(), stable=True)  # [N]
    substitute = usable_first[position % usable.sum().clamp_min(1)]
    rows = rows[torch.where(usable, position, substitute)]
    return torch.where(usable.any(), rows, torch.zeros_like(rows))

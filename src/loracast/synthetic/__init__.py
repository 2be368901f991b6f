"""Synthetic series for pretraining: many generic families, made in large batches on the CPU or a GPU.

Predator-prey, competition, consumer-resource, epidemic and every other system of the growth-rate form
x' = x f(x, y), y' = y g(x, y) are kept out, so that a forecast of such a system by a model pretrained on these series
and nothing else is zero-shot. What is drawn are waveforms, Gaussian processes, autoregressions, reaction, gene,
membrane and mechanical oscillators, random vector fields, and monotone warps of all of them. Two things come near all
the same: single variables may follow a logistic or Gompertz curve, and an exponential warp makes spiky positive series
of any oscillation, as logarithms of populations would.

Shapes: N rows, T steps, V variables.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from loracast.errors import ConfigError
from loracast.synthetic.chaos import CHAOS
from loracast.synthetic.family import FLAT, Draws, Family
from loracast.synthetic.fields import FIELDS
from loracast.synthetic.oscillators import OSCILLATORS
from loracast.synthetic.processes import PROCESSES
from loracast.synthetic.waves import WAVES

__all__ = ["FAMILIES", "FLOWS", "Family", "synthesise", "synthesise_chunk"]

FLOWS = (*OSCILLATORS, *CHAOS, *FIELDS)
FAMILIES: dict[str, Family] = {
    family.name: family for family in (*WAVES, *PROCESSES, *(flow.family() for flow in FLOWS))
}

CHUNK = 262_144
"""Rows a chunk. The integrators take a GPU the same time for a few rows as for many thousands (8 s a chunk of 128 steps
on one H200), so that fewer, larger chunks are faster there as far as its memory goes."""

NON_NEGATIVE = 0.65
NOISY = 0.3
WARPED = 0.3


def synthesise(
    n: int, steps: int, variables: int, *, seed: int, device: torch.device | str = "cpu", chunk: int = CHUNK
) -> Tensor:
    """`n` series [n, steps, variables], float32 on `device`, families mixed by weight in random order.

    The same arguments on the same device give the same series. Rows [i * chunk, (i + 1) * chunk) are those of
    `synthesise_chunk(i, ...)`. Raises ConfigError for sizes or a seed that cannot be.
    """
    sizes = {"n": (n, 1), "steps": (steps, 8), "variables": (variables, 1), "seed": (seed, 0), "chunk": (chunk, 1)}
    problems = [f"{name} is {size}, must be at least {least}" for name, (size, least) in sizes.items() if size < least]
    if problems:
        raise ConfigError(problems)
    series = torch.empty(n, steps, variables, device=device)
    for index, begin in enumerate(range(0, n, chunk)):
        rows = min(chunk, n - begin)
        series[begin : begin + rows] = synthesise_chunk(index, rows, steps, variables, seed=seed, device=device)
    return series


def synthesise_chunk(
    index: int, n: int, steps: int, variables: int, *, seed: int, device: torch.device | str = "cpu"
) -> Tensor:
    """The `n` series [n, steps, variables] of chunk `index`, which depend on no other chunk."""
    state = int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> 1)  # manual_seed is signed
    generator = torch.Generator(device).manual_seed(state)
    rows = torch.cat(
        [
            family.make(count, steps, variables, generator)
            for family, count in _shares(n, torch.Generator().manual_seed(state))
        ]
    )
    draws = Draws(generator)
    shuffled = rows[torch.randperm(n, generator=generator, device=rows.device)]
    return _place(draws, _warp(draws, _to_unit_range(shuffled)))


def _shares(n: int, generator: torch.Generator) -> Iterator[tuple[Family, int]]:
    """How many of `n` rows each family makes, drawn by weight (on the host, since sizes are needed there)."""
    families = list(FAMILIES.values())
    weights = torch.tensor([family.weight for family in families], dtype=torch.float)
    drawn = torch.multinomial(weights, n, replacement=True, generator=generator)
    for family, count in zip(families, torch.bincount(drawn, minlength=len(families)).tolist()):
        if count:
            yield family, count


def _to_unit_range(rows: Tensor) -> Tensor:
    """Every variable of every row from 0 to 1; nearly constant ones keep their range relative to their size."""
    low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)  # [N, 1, V]
    largest = torch.maximum(low.abs(), high.abs())
    extent = high - low
    return (rows - low) / torch.where(extent < FLAT * largest, largest, extent).clamp_min(1e-30)


def _warp(draws: Draws, unit: Tensor) -> Tensor:
    """A monotone map of [0, 1] onto itself for some rows: exponential (spikes, long troughs), power or logarithm."""
    n = len(unit)
    exponential, logarithmic = draws.uniform(1, 8, n, 1, 1), draws.log_uniform(1, 100, n, 1, 1)
    warped = draws.pick(
        [
            torch.expm1(exponential * unit) / torch.expm1(exponential),
            unit ** draws.log_uniform(0.4, 4, n, 1, 1),
            torch.log1p(logarithmic * unit) / torch.log1p(logarithmic),
        ],
        [3, 2, 1],
    )
    return torch.where(draws.coin(WARPED, n, 1, 1), warped, unit)


def _place(draws: Draws, unit: Tensor) -> Tensor:
    """Observation noise for some rows, then a level and an amplitude: most rows non-negative, the others signed."""
    n, _, variables = unit.shape
    deviation = draws.log_uniform(0.003, 0.15, n, 1, 1) * draws.coin(NOISY, n, 1, 1)
    noisy = unit + deviation * draws.normal(*unit.shape)
    near_zero, well_above = draws.uniform(0, 0.1, n, 1, variables), draws.log_uniform(0.1, 3, n, 1, variables)
    positive = (noisy + draws.pick([near_zero, well_above], [3, 1])).clamp_min(0)
    signed = noisy - draws.uniform(0.1, 0.9, n, 1, variables)
    placed = torch.where(draws.coin(NON_NEGATIVE, n, 1, 1), positive, signed)
    return placed * draws.log_uniform(0.1, 100, n, 1, 1) * draws.log_uniform(0.3, 3, n, 1, variables)

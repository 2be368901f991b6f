"""Synthetic series for pretraining: many generic families, made in large batches on the CPU or a GPU.

Predator-prey, competition, consumer-resource, epidemic and every other system of the growth-rate form x' = x f(x, y),
y' = y g(x, y) are kept out, so that a forecast of such a system by a model pretrained on these series and nothing else
is zero-shot. What is drawn are waveforms, Gaussian processes, autoregressions, reaction, gene, membrane and mechanical
oscillators, random vector fields and maps, and monotone warps of all of them, some of them with a trend, growth,
shifts, noise, or another series beside them. Two things come near all the same: single variables may follow a logistic
or Gompertz curve, and an exponential warp makes spiky positive series of any oscillation, as logarithms of populations
would.

Shapes: N rows, T steps, V variables.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from loracast.errors import ConfigError
from loracast.synthetic.chaos import CHAOS
from loracast.synthetic.family import Draws, Family
from loracast.synthetic.fields import FIELDS
from loracast.synthetic.kept_out import KEPT_OUT
from loracast.synthetic.maps import MAPS
from loracast.synthetic.observed import changed, joined, placed, to_unit_range, warped
from loracast.synthetic.oscillators import OSCILLATORS
from loracast.synthetic.processes import PROCESSES
from loracast.synthetic.waves import WAVES

__all__ = ["FAMILIES", "FLOWS", "KEPT_OUT", "Family", "synthesise", "synthesise_chunk"]

FLOWS = (*OSCILLATORS, *CHAOS, *FIELDS)
FAMILIES: dict[str, Family] = {
    family.name: family for family in (*WAVES, *PROCESSES, *MAPS, *(flow.family() for flow in FLOWS))
}

CHUNK = 262_144
"""Rows a chunk. The integrators take a GPU the same time for a few rows as for many thousands (8 s a chunk of 128 steps
on one H200), so that fewer, larger chunks are faster there as far as its memory goes."""


def synthesise(
    n: int,
    steps: int,
    variables: int,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    chunk: int = CHUNK,
    families: Mapping[str, Family] = FAMILIES,
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
        series[begin : begin + rows] = synthesise_chunk(
            index, rows, steps, variables, seed=seed, device=device, families=families
        )
    return series


def synthesise_chunk(
    index: int,
    n: int,
    steps: int,
    variables: int,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    families: Mapping[str, Family] = FAMILIES,
) -> Tensor:
    """The `n` series [n, steps, variables] of chunk `index`, which depend on no other chunk."""
    state = int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> 1)  # manual_seed is signed
    generator = torch.Generator(device).manual_seed(state)
    rows = torch.cat(
        [
            family.make(count, steps, variables, generator)
            for family, count in _shares(families, n, torch.Generator().manual_seed(state))
        ]
    )
    draws = Draws(generator)
    shuffled = rows[torch.randperm(n, generator=generator, device=rows.device)]
    unit = warped(draws, joined(draws, to_unit_range(shuffled)))
    return placed(draws, changed(draws, unit))


def _shares(families: Mapping[str, Family], n: int, generator: torch.Generator) -> Iterator[tuple[Family, int]]:
    """How many of `n` rows each family makes, drawn by weight (on the host, since sizes are needed there)."""
    weights = torch.tensor([family.weight for family in families.values()], dtype=torch.float)
    drawn = torch.multinomial(weights, n, replacement=True, generator=generator)
    for family, count in zip(families.values(), torch.bincount(drawn, minlength=len(families)).tolist()):
        if count:
            yield family, count

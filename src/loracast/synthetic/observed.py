"""What happens to a clean series until it stands in a table: other series beside it, changes, trends, noise, counts.

Shapes: N rows, T steps, V variables. `unit` are rows whose variables all run from 0 to 1.
"""

import torch
from torch import Tensor

from loracast.synthetic.family import FLAT, Draws

BESIDE = 0.1  # share of the rows whose variables are of two series that have nothing to do with each other
SWITCHED = 0.02  # goes on as another series from some step on
WARPED = 0.3
TREND, GROWTH, SHIFT, SWELL = 0.05, 0.05, 0.04, 0.04  # each of another kind of slow or sudden change
NOISY = 0.45
LARGEST_NOISE = 0.4  # of a variable's range or, as factors and counts, of its values
NON_NEGATIVE = 0.65


def to_unit_range(rows: Tensor) -> Tensor:
    """Every variable of every row from 0 to 1; nearly constant ones keep their range relative to their size."""
    low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)  # [N, 1, V]
    largest = torch.maximum(low.abs(), high.abs())
    extent = high - low
    return (rows - low) / torch.where(extent < FLAT * largest, largest, extent).clamp_min(1e-30)


def joined(draws: Draws, unit: Tensor) -> Tensor:
    """Some rows with the last variables of another row beside their first, and some that another row continues."""
    n, steps, variables = unit.shape
    others = unit.roll(1, 0)  # rows are in random order already
    if variables > 1:
        first = draws.integers(1, variables - 1, n, 1, 1)
        theirs = torch.arange(variables, device=draws.device) >= first
        unit = torch.where(draws.coin(BESIDE, n, 1, 1) & theirs, others, unit)
    begin = draws.uniform(0.1, 0.9, n, 1, 1) * steps
    later = draws.clock(steps)[:, None] >= begin
    continued = others * draws.uniform(0.3, 1, n, 1, variables) + draws.uniform(0, 0.5, n, 1, variables)
    return torch.where(draws.coin(SWITCHED, n, 1, 1) & later, continued, unit)


def warped(draws: Draws, unit: Tensor) -> Tensor:
    """A monotone map of [0, 1] onto itself for some rows: exponential (spikes, long troughs), power or logarithm."""
    n = len(unit)
    exponential, logarithmic = draws.uniform(1, 8, n, 1, 1), draws.log_uniform(1, 100, n, 1, 1)
    found = draws.pick(
        [
            torch.expm1(exponential * unit) / torch.expm1(exponential),
            unit ** draws.log_uniform(0.4, 4, n, 1, 1),
            torch.log1p(logarithmic * unit) / torch.log1p(logarithmic),
        ],
        [3, 2, 1],
    )
    return torch.where(draws.coin(WARPED, n, 1, 1), found, unit)


def changed(draws: Draws, unit: Tensor) -> Tensor:
    """Some rows with a trend, a growth or decline by a rate, a sudden shift of the level, or a swelling amplitude."""
    n, steps, variables = unit.shape
    time = draws.clock(steps)[:, None] / steps  # [T, 1]
    line = draws.sign(n, 1, variables) * draws.log_uniform(0.3, 6, n, 1, variables) * time
    line = torch.where(draws.coin(0.3, n, 1, 1), (time - draws.uniform(0, 1, n, 1, 1)).clamp_min(0) * line, line)
    rate = draws.sign(n, 1, 1) * draws.log_uniform(0.3, 4, n, 1, 1) * draws.uniform(0.5, 1, n, 1, variables)
    grown = (unit * draws.uniform(0.02, 0.8, n, 1, 1) + 0.2) * torch.exp(rate * (time - 0.5))
    sudden = time >= draws.uniform(0.05, 0.95, n, 1, 1)
    shifted = unit + sudden * draws.sign(n, 1, variables) * draws.log_uniform(0.2, 3, n, 1, variables)
    middle = unit.mean(1, keepdim=True)
    swell = torch.exp(draws.normal(n, 1, 1) * torch.where(draws.coin(0.5, n, 1, 1), sudden.float(), time))
    swollen = middle + (unit - middle) * swell
    found = draws.pick(
        [unit, unit + line, grown, shifted, swollen], [1 - TREND - GROWTH - SHIFT - SWELL, TREND, GROWTH, SHIFT, SWELL]
    )
    return found / (found.amax(1, keepdim=True) - found.amin(1, keepdim=True)).clamp_min(1).amax(2, keepdim=True)


def placed(draws: Draws, unit: Tensor) -> Tensor:
    """Rows at a level and an amplitude, most of them non-negative, the others signed, and some of them noisy.

    Noise is added, or multiplies, or comes of counting individuals, which leaves zeros among small numbers.
    """
    n, _, variables = unit.shape
    near_zero, well_above = draws.uniform(0, 0.1, n, 1, variables), draws.log_uniform(0.1, 3, n, 1, variables)
    raised = unit - unit.amin(1, keepdim=True).clamp_max(0)  # what has changed may lie below zero
    positive = raised + draws.pick([near_zero, well_above], [3, 1])
    signed = unit - draws.uniform(0.1, 0.9, n, 1, variables)
    is_positive = draws.coin(NON_NEGATIVE, n, 1, 1)
    rows = torch.where(is_positive, positive, signed)
    size = draws.log_uniform(0.003, LARGEST_NOISE, n, 1, 1)
    normal = draws.normal(*unit.shape)
    added, factors = rows + size * normal, rows * torch.exp(size * normal)
    individual = size**2 * positive.mean(1, keepdim=True)  # counts of the mean have that relative error
    counts = torch.poisson(positive / individual, generator=draws.generator) * individual
    noisy = draws.pick([added, factors, torch.where(is_positive, counts, factors)], [4, 2, 2])
    noisy = torch.where(draws.coin(NOISY, n, 1, 1), noisy, rows)
    noisy = torch.where(is_positive, noisy.clamp_min(0), noisy)
    return noisy * draws.log_uniform(0.1, 100, n, 1, 1) * draws.log_uniform(0.3, 3, n, 1, variables)

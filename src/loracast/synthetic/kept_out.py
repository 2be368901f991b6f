"""Families that no model is pretrained on: an untouched model's intervals are measured on them.

Shapes: N rows, T steps, V variables.
"""

import torch
from torch import Tensor

from loracast.synthetic.family import Draws, Family
from loracast.synthetic.flows import Flow, Start

LONGEST_SEASON = 16  # steps


def _chua(state: Tensor, parameters: Tensor) -> Tensor:
    (x, y, z), (pace, back) = state, parameters
    return torch.stack([pace * (y - x * x * x / 16 + x / 6), x - y + z, -back * y])


def _start_chua(draws: Draws, n: int) -> Start:
    parameters = torch.stack([draws.uniform(8, 11, n), draws.uniform(13, 18, n)])
    return Start(parameters, 0.5 * draws.normal(3, n), torch.full((n,), 2.5, device=draws.device))


def _thermostat(state: Tensor, parameters: Tensor) -> Tensor:
    (x, y, z), (heat, stiffness) = state, parameters
    return torch.stack([y, -stiffness * x - y * z, y * y - heat])


def _start_thermostat(draws: Draws, n: int) -> Start:
    heat, stiffness = draws.uniform(0.3, 2, n), draws.uniform(0.5, 2, n)
    return Start(torch.stack([heat, stiffness]), draws.normal(3, n), 6.3 / stiffness.sqrt())


def _seasons(draws: Draws, n: int, steps: int, variables: int) -> Tensor:
    """A pattern of a few steps that comes again and again, changed a little each time, on a wandering level."""
    time = torch.arange(steps, device=draws.device)
    length = draws.integers(3, LONGEST_SEASON, n, 1)
    place, cycle = time % length, time // length  # [N, T]
    pattern = draws.normal(n, LONGEST_SEASON, variables)
    change = draws.log_uniform(0.02, 0.5, n, 1, 1) * draws.normal(n, steps, variables)
    season = pattern.gather(1, place[..., None].expand(-1, -1, variables))
    drift = draws.log_uniform(0.02, 0.3, n, 1, 1) * draws.normal(n, steps, variables)
    level = torch.cumsum(drift.cpu(), 1).to(drift.device)  # whose sums on a GPU may differ between runs
    return season * (1 + 0.1 * draws.normal(n, 1, variables) * cycle[..., None] / 4) + change + level


def _switching(draws: Draws, n: int, steps: int, variables: int) -> Tensor:
    """Two autoregressions that take turns at random times."""
    kept = draws.uniform(0.3, 0.98, n, 2, variables) * draws.sign(n, 2, variables)
    level, size = draws.normal(n, 2, variables), draws.log_uniform(0.05, 0.6, n, 2, variables)
    leaves = draws.log_uniform(0.02, 0.3, n)  # the chance of a turn at each step
    state, which = draws.normal(n, variables), draws.integers(0, 1, n)
    path = []
    for shock in draws.normal(steps, n, variables):
        which = torch.where(draws.uniform(0, 1, n) < leaves, 1 - which, which)
        chosen = which[:, None, None].expand(-1, 1, variables)
        a, b, c = (part.gather(1, chosen)[:, 0] for part in (kept, level, size))
        state = b + a * (state - b) + c * shock
        path.append(state)
    return torch.stack(path, 1)


KEPT_OUT: dict[str, Family] = {
    family.name: family
    for family in (
        Flow(
            "chua",
            "a circuit with a negative resistance: scrolls and cycles",
            2,
            "x' = a (y - x^3 / 16 + x / 6) and its mates; Chua's circuit with a cubic, after Zhong (1994)",
            3,
            _chua,
            _start_chua,
            coarsest=12,
        ).family(),
        Flow(
            "thermostat",
            "a spring whose friction follows its heat: cycles within cycles, and chaos",
            2,
            "x' = y, y' = -k x - y z, z' = y^2 - a; Nosé (1984), Hoover (1985)",
            3,
            _thermostat,
            _start_thermostat,
            coarsest=10,
        ).family(),
        Family("seasons", "a pattern that comes again, on a wandering level", 2, "seasonal random walks", _seasons),
        Family("switching", "two autoregressions that take turns", 2, "Hamilton (1989)", _switching),
    )
}

"""Maps from a step to the next under noise: random networks, sines, tents, Gauss and Hénon maps, thresholds.

Noise here is the system's own: what follows goes on from it. None has the form of populations, where each variable is
multiplied by a rate of growth.

Shapes: N rows, T steps, V variables, D components of the state.
"""

from collections.abc import Callable
from math import tau

import torch
from torch import Tensor

from loracast.synthetic.family import Draws, Family
from loracast.synthetic.flows import observe

UNITS = 6  # of a random network
SETTLING = 30  # steps that a row is given to reach what it stays on


def _iterated(
    draws: Draws, step: Callable[[Tensor], Tensor], state: Tensor, steps: int, most: float, disturbed: float = 2 / 3
) -> Tensor:
    """States [N, T, D] from `state` [N, D] on, after they have settled; a share is disturbed at each step."""
    n, dimension = state.shape
    size = draws.log_uniform(0.01, most, n, 1) * draws.coin(disturbed, n, 1)
    path = []
    for shock in draws.normal(SETTLING + steps, n, dimension):
        state = step(state) + size * shock
        path.append(state)
    return torch.stack(path[SETTLING:], 1)


def _networks(draws: Draws, n: int, steps: int, variables: int) -> Tensor:
    dimension = max(2, variables)
    inward = draws.normal(n, UNITS, dimension) * draws.log_uniform(0.4, 3, n, 1, 1) / dimension**0.5
    outward = draws.normal(n, dimension, UNITS) * draws.log_uniform(0.5, 2, n, 1, 1) / UNITS**0.5
    bias, kept = draws.normal(n, UNITS, 1), draws.uniform(0, 0.8, n, 1)

    def step(state: Tensor) -> Tensor:
        return kept * state + (outward @ torch.tanh(inward @ state[..., None] + bias))[..., 0]

    return observe(draws, _iterated(draws, step, draws.normal(n, dimension), steps, 0.5, 1.0), variables)


def _intervals(draws: Draws, n: int, steps: int, variables: int) -> Tensor:
    """One component that stays within an interval, and its last step as the second."""
    peak, width, foot = draws.uniform(1, 2, n, 1), draws.uniform(3, 8, n, 1), draws.uniform(-0.9, 0.2, n, 1)
    turn, bend = draws.uniform(0, 1, n, 1), draws.uniform(0.3, 3, n, 1)
    which = draws.integers(0, 2, n, 1)

    def step(state: Tensor) -> Tensor:
        x = state[:, :1].clamp(-4, 4)
        tent = 1 - peak * x.abs()
        gauss = torch.exp(-width * x * x) + foot
        sine = turn + bend * torch.sin(tau * x / 4)
        return torch.cat([torch.where(which == 0, tent, torch.where(which == 1, gauss, sine)), x], 1)

    return observe(draws, _iterated(draws, step, draws.uniform(-0.5, 0.5, n, 2), steps, 0.2), variables)


def _henon(draws: Draws, n: int, steps: int, variables: int) -> Tensor:
    fold, back = draws.uniform(0.3, 1.35, n, 1), draws.uniform(-0.3, 0.3, n, 1)

    def step(state: Tensor) -> Tensor:
        x, y = state[:, :1].clamp(-1.8, 1.8), state[:, 1:]
        return torch.cat([1 - fold * x * x + y, back * x], 1)

    return observe(draws, _iterated(draws, step, draws.uniform(-0.3, 0.3, n, 2), steps, 0.05), variables)


def _thresholds(draws: Draws, n: int, steps: int, variables: int) -> Tensor:
    """An autoregression of two steps with other weights on either side of a threshold."""
    radius, angle = draws.uniform(0.5, 0.98, n, 2), draws.uniform(0.1, 2.5, n, 2)
    first, second = 2 * radius * torch.cos(angle), -(radius**2)  # [N, 2], one of each side
    level, edge = draws.normal(n, 2), draws.normal(n, 1) * 0.5

    def step(state: Tensor) -> Tensor:
        x, before = state[:, :1], state[:, 1:]
        side = (before > edge).float()
        one, two, constant = (pair[:, :1] * side + pair[:, 1:] * (1 - side) for pair in (first, second, level))
        return torch.cat([(constant + one * x + two * before).clamp(-50, 50), x], 1)

    return observe(draws, _iterated(draws, step, draws.normal(n, 2), steps, 0.6, 1.0), variables)


MAPS = (
    Family(
        "network-maps",
        "random maps of six saturating units, disturbed at each step: many would rest",
        6,
        "x_(t+1) = k x_t + B tanh(W x_t + b) + e_t",
        _networks,
    ),
    Family(
        "interval-maps",
        "tent, Gauss and sine maps of one variable, most of them disturbed at each step",
        3,
        "Devaney (1989), An Introduction to Chaotic Dynamical Systems",
        _intervals,
    ),
    Family("henon", "a folded plane", 2, "x' = 1 - a x^2 + y, y' = b x; Hénon (1976)", _henon),
    Family(
        "threshold-autoregressions",
        "autoregressions whose weights depend on the side of a threshold",
        3,
        "SETAR(2; 2, 2); Tong and Lim (1980)",
        _thresholds,
    ),
)

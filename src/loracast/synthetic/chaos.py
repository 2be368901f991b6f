"""Chaotic flows, which also spiral and rest for some of their parameters.

Shapes: N rows; a derivative takes a state [D, N] and parameters [P, N] and gives [D, N].
"""

import torch
from torch import Tensor

from loracast.synthetic.family import Draws
from loracast.synthetic.flows import Flow, Start, ring


def _lorenz(state: Tensor, parameters: Tensor) -> Tensor:
    (x, y, z), (sigma, rho, beta) = state, parameters
    return torch.stack([sigma * (y - x), x * (rho - z) - y, x * y - beta * z])


def _start_lorenz(draws: Draws, n: int) -> Start:
    parameters = torch.stack([draws.uniform(8, 12, n), draws.uniform(14, 45, n), draws.uniform(2, 3, n)])
    state = 8 * draws.normal(3, n)
    state[2] += 20
    return Start(parameters, state, torch.full((n,), 0.75, device=draws.device))


def _rossler(state: Tensor, parameters: Tensor) -> Tensor:
    (x, y, z), (a, b, c) = state, parameters
    return torch.stack([-y - z, x + a * y, b + z * (x - c)])


def _start_rossler(draws: Draws, n: int) -> Start:
    parameters = torch.stack([draws.uniform(0.1, 0.25, n), draws.uniform(0.1, 0.4, n), draws.uniform(2.5, 8, n)])
    state = torch.cat([ring(draws, n, 0.3, 5), draws.uniform(0, 0.3, 1, n)])
    return Start(parameters, state, torch.full((n,), 6.0, device=draws.device))


def _thomas(state: Tensor, parameters: Tensor) -> Tensor:
    return torch.sin(state.roll(-1, 0)) - parameters * state


def _start_thomas(draws: Draws, n: int) -> Start:
    return Start(draws.uniform(0.1, 0.32, 1, n), 2 * draws.normal(3, n), torch.full((n,), 14.0, device=draws.device))


CHAOS = (
    Flow(
        "lorenz",
        "convection: chaos and spirals into a point",
        3,
        "Lorenz (1963)",
        3,
        _lorenz,
        _start_lorenz,
        coarsest=5,
        finest=60,
    ),
    Flow("rossler", "spiral chaos", 3, "Rossler (1976)", 3, _rossler, _start_rossler, finest=60, substeps=6),
    Flow(
        "thomas",
        "cyclically symmetric flow",
        2,
        "x' = sin y - b x and so on round the ring; Thomas (1999)",
        3,
        _thomas,
        _start_thomas,
        finest=60,
        substeps=6,
    ),
)

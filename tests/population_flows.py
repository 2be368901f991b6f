"""Equations of populations as flows, in the form that the synthetic families have: plants for the tests to find."""

import torch
from torch import Tensor

from loracast.synthetic.family import Draws
from loracast.synthetic.flows import Flow, Start
from loracast.systems import get_system

SPACING = 200 / 99
"""Time between two observations of a published series."""


def _derivative(state: Tensor, parameters: Tensor) -> Tensor:
    (prey, predator), (growth, attack, death, yielded, capacity, saturation) = state, parameters
    eaten = attack * prey * predator / (1 + saturation * prey)
    return torch.stack([growth * prey * (1 - prey / capacity) - eaten, yielded * eaten - death * predator])


def _start(draws: Draws, n: int) -> Start:
    system = get_system("predator-prey")
    parameters = torch.stack([draws.uniform(*system.parameters[name], n) for name in "abceKh"])
    state = torch.stack([draws.uniform(*system.initial[name], n) for name in system.names])
    return Start(parameters, state, torch.full((n,), 20 * SPACING))


rosenzweig_macarthur = Flow(
    "planted", "predators and prey", 1, "Rosenzweig and MacArthur (1963)", 2, _derivative, _start, settled=0.0
)


def _in_logarithms(state: Tensor, parameters: Tensor) -> Tensor:
    return _derivative(state.exp(), parameters) / state.exp()


def _start_in_logarithms(draws: Draws, n: int) -> Start:
    start = _start(draws, n)
    return Start(start.parameters, start.state.log(), start.period)


rosenzweig_macarthur_in_logarithms = Flow(
    "planted in logarithms", "", 1, "", 2, _in_logarithms, _start_in_logarithms, settled=0.0
)

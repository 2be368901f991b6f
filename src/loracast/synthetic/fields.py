"""Vector fields of bounded nonlinearities: random networks, neural populations, gene circuits, bursting neurons.

None has the growth-rate form x' = x f(x, y), y' = y g(x, y) of populations: no two coordinate axes stay invariant.
Shapes: N rows; a derivative takes a state [D, N] and parameters [P, N] and gives [D, N].
"""

from math import tau

import torch
from torch import Tensor

from loracast.synthetic.family import Draws
from loracast.synthetic.flows import Flow, Start

UNITS = 6  # of a random network
WIDE = 8  # units of a network that are all observed


def _planar_network(state: Tensor, parameters: Tensor) -> Tensor:
    decay, turn = parameters[:2]
    inward, bias, outward = parameters[2:].split([2 * UNITS, UNITS, 2 * UNITS])
    active = torch.tanh((inward.view(UNITS, 2, -1) * state).sum(1) + bias)  # [UNITS, N]
    pushed = (outward.view(2, UNITS, -1) * active).sum(1)
    x, y = state
    return pushed - decay * state + turn * torch.stack([-y, x])


def _start_planar_network(draws: Draws, n: int) -> Start:
    turn, decay = draws.uniform(0.5, 1.5, n), draws.log_uniform(0.1, 0.8, n)
    inward = draws.normal(UNITS, 2, n) * draws.log_uniform(0.5, 2.5, n)
    random = draws.normal(2, UNITS, n)
    # what pushes along its own input lets the origin lose its stability, so that most rows cycle
    outward = draws.uniform(0, 1.2, n) * inward.transpose(0, 1) / inward.square().sum(1).sqrt().mean(0) + 0.7 * random
    parameters = torch.cat(
        [decay[None], turn[None], inward.flatten(0, 1), draws.normal(UNITS, n), outward.flatten(0, 1)]
    )
    return Start(parameters, 2 * draws.normal(2, n), tau / turn)


def _wide_network(state: Tensor, parameters: Tensor) -> Tensor:
    drive, weights = parameters[:WIDE], parameters[WIDE:].view(WIDE, WIDE, -1)
    return (weights * torch.tanh(state)).sum(1) + drive - state


def _start_wide_network(draws: Draws, n: int) -> Start:
    gain, itself, turning = draws.uniform(1.2, 3, n), draws.uniform(1.5, 2, n), draws.uniform(0.75, 1, n)
    free, other = draws.normal(WIDE, WIDE, n), draws.normal(WIDE, WIDE, n)
    turns = (other - other.transpose(0, 1)) / 2**0.5  # each pair drives each other in opposite directions
    weights = gain * ((1 - turning) * free + turning * turns) / WIDE**0.5
    weights = weights + itself * torch.eye(WIDE, device=draws.device)[..., None]
    parameters = torch.cat([0.3 * draws.normal(WIDE, n), weights.flatten(0, 1)])
    return Start(parameters, 2 * draws.normal(WIDE, n), draws.log_uniform(6, 14, n))


def _wilson_cowan(state: Tensor, parameters: Tensor) -> Tensor:
    (excited, inhibited), (ee, ei, ie, ii, drive, other, pace) = state, parameters
    return torch.stack(
        [
            torch.sigmoid(1.3 * (ee * excited - ei * inhibited + drive - 4)) - excited,
            pace * (torch.sigmoid(2 * (ie * excited - ii * inhibited + other - 3.7)) - inhibited),
        ]
    )


def _start_wilson_cowan(draws: Draws, n: int) -> Start:
    weights = [draws.uniform(0.8, 1.2, n) * weight for weight in (16.0, 12.0, 15.0, 3.0)]
    pace = draws.log_uniform(0.4, 1.5, n)
    parameters = torch.stack([*weights, draws.uniform(0.5, 3, n), draws.uniform(-0.5, 0.5, n), pace])
    return Start(parameters, draws.uniform(0, 0.6, 2, n), 7 / pace.sqrt())


def _activator_repressor(state: Tensor, parameters: Tensor) -> Tensor:
    (x, y), (strength, fold, affinity, pace) = state, parameters
    bound = x * x
    made = (1 + fold * bound) / (1 + bound + affinity * y * y)
    return torch.stack([strength * made - x, pace * ((1 + fold * bound) / (1 + bound) - y)])


def _start_activator_repressor(draws: Draws, n: int) -> Start:
    strength, fold = draws.log_uniform(0.8, 4, n), draws.uniform(6, 16, n)
    affinity, pace = draws.log_uniform(0.7, 4, n), draws.log_uniform(0.06, 0.4, n)
    return Start(torch.stack([strength, fold, affinity, pace]), draws.log_uniform(0.2, 8, 2, n), 4 + 2.5 / pace)


def _hindmarsh_rose(state: Tensor, parameters: Tensor) -> Tensor:
    (x, y, z), (current, slow, rest) = state, parameters
    return torch.stack([y - x * x * (x - 3) - z + current, 1 - 5 * x * x - y, slow * (4 * (x - rest) - z)])


def _start_hindmarsh_rose(draws: Draws, n: int) -> Start:
    parameters = [draws.uniform(1.5, 4, n), draws.log_uniform(0.003, 0.05, n), draws.uniform(-1.8, -1.4, n)]
    state = torch.stack([draws.uniform(-1.5, 1.5, n), draws.uniform(-6, 1, n), draws.uniform(1.5, 3.5, n)])
    return Start(torch.stack(parameters), state, torch.full((n,), 12.0, device=draws.device))


FIELDS = (
    Flow(
        "planar-networks",
        "random planar vector fields of six saturating units, turning and decaying",
        20,
        "x' = B tanh(W x + b) - s x + w J x; a continuous-time network after Beer (1995)",
        2,
        _planar_network,
        _start_planar_network,
        coarsest=8,
        settled=0.25,
    ),
    Flow(
        "wide-networks",
        "eight units that excite themselves and turn each other: many variables, cycles and chaos",
        5,
        "x' = W tanh(x) + b - x; networks after Sompolinsky, Crisanti and Sommers (1988)",
        WIDE,
        _wide_network,
        _start_wide_network,
        coarsest=8,
        settled=0.5,
    ),
    Flow(
        "wilson-cowan",
        "an excited and an inhibited population of neurons",
        6,
        "E' = S(a E - b I + P) - E and its mate; Wilson and Cowan (1972)",
        2,
        _wilson_cowan,
        _start_wilson_cowan,
        coarsest=8,
        settled=0.25,
    ),
    Flow(
        "activator-repressor",
        "a gene that activates itself and its own repressor: pulses and cycles",
        6,
        "x' = s (1 + a x^2) / (1 + x^2 + k y^2) - x and its mate; Guantes and Poyatos (2006)",
        2,
        _activator_repressor,
        _start_activator_repressor,
        coarsest=8,
        settled=0.25,
    ),
    Flow(
        "hindmarsh-rose",
        "bursts of spikes under a slow current",
        3,
        "x' = y - x^3 + 3 x^2 - z + I and its mates; Hindmarsh and Rose (1984)",
        3,
        _hindmarsh_rose,
        _start_hindmarsh_rose,
        coarsest=16,
        substeps=12,
        settled=0.3,
    ),
)

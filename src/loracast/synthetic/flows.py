"""Autonomous differential equations in big batches: one integrator, one way to observe, a `Flow` for each equation.

Shapes: N rows, T steps, V variables, D components of the state, P parameters.
States are [D, N], components first, so that every component is contiguous.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import tau

import torch
from torch import Tensor

from loracast.synthetic.family import Draws, Family
from loracast.synthetic.replay import replayed

SETTLING = 24
"""Samples, at the flow's longest step, that rows which start on the attractor are given to reach it."""

DISTURBED = 0.12
"""Share of the rows that are pushed at random from sample to sample, by up to a fifth of how far they usually move."""


@dataclass(frozen=True)
class Start:
    """Where rows begin. `period` is a rough time a cycle, from which the sampling step is drawn."""

    parameters: Tensor  # [P, N]
    state: Tensor  # [D, N]
    period: Tensor  # [N]


def ring(draws: Draws, n: int, smallest: float, largest: float) -> Tensor:
    """Points [2, N] of the plane at log-uniform distance from the origin, in any direction."""
    angle = draws.uniform(0, tau, n)
    return draws.log_uniform(smallest, largest, n) * torch.stack([angle.cos(), angle.sin()])


@dataclass(frozen=True)
class Flow:
    """An equation. The first `visible` components are observed; a forcing phase, for one, is not.

    `derivative(state [D, N], parameters [P, N])` gives [D, N]. Integration stays accurate at `coarsest` or more samples
    a period with `substeps` Runge-Kutta steps a sample.
    """

    name: str
    description: str
    weight: float
    source: str
    visible: int
    derivative: Callable[[Tensor, Tensor], Tensor]
    start: Callable[[Draws, int], Start]
    coarsest: float = 6.0
    finest: float = 120.0
    substeps: int = 8
    settled: float = 0.5  # share of rows that start on the attractor

    def build(self, draws: Draws, n: int, steps: int, variables: int) -> Tensor:
        """Trajectories as observed [N, T, V]."""
        start = self.start(draws, n)

        def derivative(state: Tensor) -> Tensor:
            return self.derivative(state, start.parameters)

        longest = start.period / self.coarsest
        settling = integrate(derivative, start.state, longest, SETTLING, self.substeps)  # [SETTLING, D, N]
        state = torch.where(draws.coin(self.settled, n), settling[-1], start.state)
        step = start.period / draws.log_uniform(self.coarsest, self.finest, n)
        size = draws.log_uniform(0.005, 0.2, n) * draws.coin(DISTURBED, n) * settling.std(0)  # [D, N]
        size[self.visible :] = 0.0
        path = integrate(
            derivative, state, step, steps, self.substeps, lambda: size * draws.normal(*size.shape)
        )  # [T, D, N]
        return observe(draws, path[:, : self.visible].permute(2, 0, 1), variables)

    def family(self) -> Family:
        return Family(self.name, self.description, self.weight, self.source, self.build)


def integrate(
    derivative: Callable[[Tensor], Tensor],
    state: Tensor,
    step: Tensor,
    steps: int,
    substeps: int,
    kicks: Callable[[], Tensor] | None = None,
) -> Tensor:
    """Classical fourth-order Runge-Kutta from `state` [D, N], sampled every `step` [N]; the start is the first sample.

    `kicks` are drawn after each sample and added to its state, from which the next one follows.

    Rows that diverge become infinite or NaN and do not disturb the others. Returns [T, D, N].
    """
    h = step / substeps
    half, sixth = h / 2, h / 6

    def following(state: Tensor) -> Tensor:
        for _ in range(substeps):
            first = derivative(state)
            second = derivative(torch.addcmul(state, first, half))
            third = derivative(torch.addcmul(state, second, half))
            fourth = derivative(torch.addcmul(state, third, h))
            slope = torch.add(first + fourth, second + third, alpha=2)
            state = torch.addcmul(state, slope, sixth)
        return state

    advance = replayed(following, state)
    path = [state]
    for _ in range(steps - 1):
        state = advance(state)
        state = state if kicks is None else state + kicks()
        path.append(state)
    return torch.stack(path)


def observe(draws: Draws, path: Tensor, variables: int) -> Tensor:
    """Standardised readouts [N, T, V] of a path [N, T, D]: components, mixtures of them, some bent.

    Beyond D variables, and for a third of the rows from the start, a readout mixes all components.
    """
    n, _, dimension = path.shape
    centred = path - path.mean(1, keepdim=True)
    standard = centred / centred.square().mean(1, keepdim=True).sqrt().clamp_min(1e-12)
    # A component that is all but constant would show nothing but rounding errors.
    visible = path.amax(1) - path.amin(1) > 1e-3 * path.abs().amax(1)  # [N, D]
    standard = torch.where(visible[:, None], standard, 0.0)
    order = torch.argsort(draws.uniform(0, 1, n, dimension), 1)
    chosen = torch.nn.functional.one_hot(order, dimension).float()[:, :variables]  # [N, <=V, D]
    mixture = draws.normal(n, variables, dimension)
    selection = torch.cat([chosen, mixture[:, chosen.shape[1] :]], 1)
    weights = draws.pick([selection, mixture], [2, 1]) * draws.sign(n, variables, 1)
    readout = standard @ weights.mT  # [N, T, V]
    bent = draws.pick([torch.tanh(readout), torch.exp(2 * torch.tanh(readout / 2)), readout.square()], [1, 2, 1])
    return torch.where(draws.coin(0.1, n, 1, variables), bent, readout)

"""Series of many kinds, each drawn by a seed, as tables have them: short or long, noisy, growing, with gaps.

A kind takes a random generator and a number of steps, and returns values [T, D]. Flows are integrated by SciPy's LSODA
from random starts and, where they settle, from behind their first cycles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import odeint

import loracast

Floats: TypeAlias = NDArray[np.float64]
Make: TypeAlias = Callable[[np.random.Generator, int], Floats]


@dataclass(frozen=True)
class Case:
    """A kind of series, and how much of it is read and forecast.

    `made` steps are drawn, of which the last are taken: cases of one kind and as many steps made forecast the same
    steps, however long their contexts are.
    """

    kind: str
    what: str
    make: Make
    context: int
    horizon: int = 20
    made: int = 0

    @property
    def name(self) -> str:
        return f"{self.kind}, {self.what}" if self.what else self.kind

    def window(self, seed: int) -> Floats:
        """Values [context + horizon, D]."""
        steps = self.context + self.horizon
        values = self.make(np.random.default_rng([seed, *self.kind.encode()]), max(self.made, steps))
        return values[len(values) - steps :]


# -- flows ---------------------------------------------------------------------------------------------------------


def flow(derivative: Callable[..., Any], start: Callable[[np.random.Generator], Any], step: float, settle: int) -> Make:
    """Observations `step` apart of a flow, after `settle` steps; each series has its own speed."""

    def make(draws: np.random.Generator, steps: int) -> Floats:
        state, apart = start(draws), step * draws.uniform(0.8, 1.25)
        before = int(settle * draws.uniform(0.5, 1))
        return odeint(derivative, state, np.arange(before + steps) * apart, tfirst=True)[before:]

    return make


def van_der_pol(t: float, state: Any) -> Any:
    return state[1], 2 * (1 - state[0] ** 2) * state[1] - state[0]


def fitzhugh_nagumo(t: float, state: Any) -> Any:
    return state[0] - state[0] ** 3 / 3 - state[1] + 0.5, 0.08 * (state[0] + 0.7 - 0.8 * state[1])


def double_pendulum(t: float, state: Any) -> Any:
    first, second, p, q = state
    between = np.cos(first - second)
    scale = 6 / (16 - 9 * between**2)
    a, b = scale * (2 * p - 3 * between * q), scale * (8 * q - 3 * between * p)
    turn = a * b * np.sin(first - second)
    return a, b, -0.5 * (turn + 3 * 9.81 * np.sin(first)), -0.5 * (-turn + 9.81 * np.sin(second))


def lorenz_96(t: float, state: Any) -> Any:
    return (np.roll(state, -1) - np.roll(state, 2)) * np.roll(state, 1) - state + 5


def mackey_glass(draws: np.random.Generator, steps: int) -> Floats:
    """x' = 0.2 x(t - 17) / (1 + x(t - 17)^10) - 0.1 x, by Euler's steps of 0.1, six units of time a step."""
    lag, each = 170, 60
    values = np.empty(lag + (steps + 50) * each)
    values[:lag] = draws.uniform(0.5, 1.2)
    for place in range(lag, len(values)):
        past = values[place - lag]
        values[place] = values[place - 1] + 0.1 * (0.2 * past / (1 + past**10) - 0.1 * values[place - 1])
    return values[lag + 50 * each :: each][:steps, None]


# -- populations ---------------------------------------------------------------------------------------------------


def simulated(system: str, pairs: int = 1, **settings: Any) -> Make:
    """`pairs` independent series of a system that loracast simulates, side by side, two units of time a step."""

    def make(draws: np.random.Generator, steps: int) -> Floats:
        made = loracast.simulate(
            system, pairs, seed=int(draws.integers(2**31)), steps=steps, duration=2.0 * (steps - 1), **settings
        )
        return np.concatenate([one.values for one in made], 1)

    return make


def stepwise(step: Callable[..., Sequence[float]], noise: float, *ranges: tuple[float, float]) -> Make:
    """A map of populations from generation to generation, each with factors of log-normal noise.

    `ranges` are those of the map's parameters and, last, of where its variables begin.
    """

    def make(draws: np.random.Generator, steps: int) -> Floats:
        *parameters, _ = (draws.uniform(*one) for one in ranges)
        variables = 2 if step is nicholson_bailey else 1
        state, made = draws.uniform(*ranges[-1], variables), []
        for _ in range(30 + steps):
            state = np.asarray(step(state, *parameters)) * np.exp(noise * draws.standard_normal(variables))
            made.append(state)
        return np.array(made[30:])

    return make


def ricker(state: Any, r: float) -> Any:
    return state * np.exp(r * (1 - state))


def beverton_holt(state: Any, r: float) -> Any:
    return r * state / (1 + (r - 1) * state)


def nicholson_bailey(state: Any, r: float, refuge: float) -> Any:
    """Hosts and parasitoids, of which part of the hosts is safe by May's negative binomial of clumping `refuge`."""
    spared = (1 + state[1] / refuge) ** -refuge
    return r * state[0] * spared, 2 * state[0] * (1 - spared) + 1e-3


# -- what real tables have -----------------------------------------------------------------------------------------


def growing(low: float, high: float, noise: float) -> Make:
    """Growth or decline by a rate a step, with noise of the process."""

    def make(draws: np.random.Generator, steps: int) -> Floats:
        changes = draws.uniform(low, high) + noise * draws.standard_normal((steps, 1))
        return draws.uniform(5, 50) * np.exp(np.cumsum(changes, 0))

    return make


def trending(draws: np.random.Generator, steps: int) -> Floats:
    """A straight line through zero, with a season of twelve steps and noise."""
    time = np.arange(steps)[:, None]
    slope, size = draws.uniform(0.05, 0.3) * draws.choice([-1, 1]), draws.uniform(0.3, 1)
    season = size * np.sin(2 * np.pi * time / 12 + draws.uniform(0, 6))
    return slope * (time - draws.uniform(0.3, 0.7) * steps) + season + 0.1 * draws.standard_normal(time.shape)


def shifting(draws: np.random.Generator, steps: int) -> Floats:
    """A cycle whose level rises at once by one to three of its amplitudes, before the last eight steps of 60."""
    time = np.arange(steps)[:, None]
    shift = (time >= draws.uniform(0.3, 0.6) * steps) * draws.uniform(1, 3)
    cycle = np.sin(2 * np.pi * time / draws.uniform(6, 14) + draws.uniform(0, 6))
    return 4 + shift + cycle + 0.1 * draws.standard_normal(time.shape)


def changing(draws: np.random.Generator, steps: int) -> Floats:
    """A cycle that becomes a faster and smaller one at some step of the context."""
    time = np.arange(steps)
    after = time >= draws.uniform(0.3, 0.5) * steps
    speed = 2 * np.pi / draws.uniform(10, 16) * np.where(after, draws.uniform(1.4, 2), 1)
    size = np.where(after, draws.uniform(0.4, 0.7), 1)
    values = 3 + size * np.sin(np.cumsum(speed) + draws.uniform(0, 6)) + 0.05 * draws.standard_normal(steps)
    return values[:, None]


# -- what happens to them ------------------------------------------------------------------------------------------


def noisy(make: Make, size: float) -> Make:
    """Added noise, of that share of a variable's standard deviation."""

    def observed(draws: np.random.Generator, steps: int) -> Floats:
        values = make(draws, steps)
        return values + size * values.std(0) * draws.standard_normal(values.shape)

    return observed


def gappy(make: Make, share: float) -> Make:
    """A share of the values is missing."""

    def observed(draws: np.random.Generator, steps: int) -> Floats:
        values = make(draws, steps)
        return np.where(draws.random(values.shape) < share, np.nan, values)

    return observed


def first_of(make: Make, variables: int) -> Make:
    """Only the first variables are observed."""
    return lambda draws, steps: make(draws, steps)[:, :variables]


PREDATION = simulated("predator-prey")
LORENZ_96 = flow(lorenz_96, lambda draws: 5 + draws.standard_normal(8), 0.1, 200)
PENDULUM = flow(double_pendulum, lambda draws: [draws.uniform(-1.2, 1.2), draws.uniform(-1.2, 1.2), 0.0, 0.0], 0.08, 50)
CYCLE = flow(van_der_pol, lambda draws: draws.uniform(-2, 2, 2), 0.4, 60)
SPIKES = flow(fitzhugh_nagumo, lambda draws: draws.uniform(-1, 1, 2), 2.0, 60)
MAPS = {
    "Ricker": stepwise(ricker, 0.1, (1.8, 2.8), (0.5, 1.5)),
    "Beverton–Holt": stepwise(beverton_holt, 0.3, (1.5, 4), (0.5, 1.5)),
    "Nicholson–Bailey": stepwise(nicholson_bailey, 0.1, (1.5, 2.5), (0.5, 0.9), (0.5, 1.5)),
}

LENGTHS = (8, 20, 50, 100, 300, 1000)
LIVELY = simulated("predator-prey", process_noise=0.05, noise=0.1)

CASES: tuple[Case, ...] = (
    *(Case("clean cycles", f"{length} steps", simulated("lotka-volterra"), length, made=1020) for length in LENGTHS),
    *(Case("noisy cycles", f"{length} steps", LIVELY, length, made=1020) for length in LENGTHS),
    Case("predator and prey", "", PREDATION, 50),
    Case("predator and prey", "horizon 100", PREDATION, 50, 100),
    Case("process noise", "", simulated("predator-prey", process_noise=0.1), 50),
    Case("counts", "", simulated("predator-prey", individuals=20), 50),
    Case("two pairs", "first pair alone", first_of(simulated("predator-prey", 2), 2), 50),
    Case("two pairs", "", simulated("predator-prey", 2), 50),
    Case("three pairs", "", simulated("predator-prey", 3), 50),
    *(Case("Lorenz 96", f"{count} of 8 variables", first_of(LORENZ_96, count), 60) for count in (1, 2, 4, 8)),
    Case("double pendulum", "", PENDULUM, 60),
    Case("Van der Pol", "5% noise", noisy(CYCLE, 0.05), 60),
    Case("Van der Pol", "20% noise", noisy(CYCLE, 0.2), 60),
    Case("FitzHugh–Nagumo", "", SPIKES, 60),
    Case("Mackey–Glass", "", mackey_glass, 80),
    *(Case(name, "", make, 50) for name, make in MAPS.items()),
    Case("growth", "", growing(0.03, 0.1, 0.03), 50),
    Case("decline", "", growing(-0.1, -0.03, 0.03), 50),
    Case("trend through zero", "", trending, 60),
    Case("level shift", "", shifting, 60),
    Case("change of regime", "", changing, 80),
    Case("30% missing", "", gappy(simulated("predator-prey", noise=0.05), 0.3), 50),
)

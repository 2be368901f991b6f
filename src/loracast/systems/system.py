"""What a system is: a law with a distribution over its parameters and initial state, known by its name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loracast.errors import ConfigError

Range = tuple[float, float]  # low, high of a uniform distribution
Parameters = Mapping[str, float]
Derivative = Callable[[Sequence[float], float, Parameters], Sequence[float]]
Driver = Callable[[int, np.random.Generator], NDArray[np.float64]]  # draws a value for each of so many times


@dataclass(frozen=True)
class Event:
    """What happens to single individuals: how each variable changes, and how often, per unit of the state and of time.

    The rates of all events, times their changes, must sum to the system's derivative.
    """

    change: tuple[int, ...]  # [D]
    rate: Callable[[Sequence[float], Parameters], float]


@dataclass(frozen=True)
class System:
    """A law `derivative(state [D], t, parameters) -> [D]`, with uniform ranges for its parameters and initial state.

    By default it is observed at `steps` equally spaced times from 0 to `duration`, both ends included. `positive` says
    that the law keeps a positive state positive: a value at or below zero then means that the integration failed.

    `known` are variables that come from outside, such as the weather: each is drawn for the times of a trajectory, is
    among the parameters of the law at time t, a straight line from time to time, and is known beforehand in its series.

    `events` are what the law is made of where single individuals are born and die; see `simulate`.
    """

    name: str
    description: str
    names: tuple[str, ...]  # [D] of the variables
    parameters: Mapping[str, Range]
    initial: Mapping[str, Range]  # by variable
    derivative: Derivative
    source: str
    steps: int = 100
    duration: float = 200.0
    positive: bool = False
    known: Mapping[str, Driver] = field(default_factory=dict)
    events: tuple[Event, ...] = ()

    def __post_init__(self) -> None:
        ranges = {**self.parameters, **self.initial}
        problems = [
            f"system '{self.name}': the range of '{name}' goes from {low} down to {high}; give low, then high"
            for name, (low, high) in ranges.items()
            if not low <= high
        ]
        if tuple(self.initial) != self.names:
            problems.append(
                f"system '{self.name}' has variables {self.names} but initial ranges for {tuple(self.initial)}; "
                "give one range a variable, in the same order"
            )
        if problems:
            raise ConfigError(problems)


SYSTEMS: dict[str, System] = {}


def register(system: System) -> System:
    """Make `system` known by its name. ConfigError if the name is taken."""
    if system.name in SYSTEMS:
        raise ConfigError([f"a system called '{system.name}' is registered already; choose another name"])
    SYSTEMS[system.name] = system
    return system


def get_system(name: str) -> System:
    """The registered system of that name. ConfigError, with the names there are, for any other."""
    if name not in SYSTEMS:
        raise ConfigError([f"unknown system '{name}'; there are {', '.join(SYSTEMS)}"])
    return SYSTEMS[name]

"""Trajectories of a system: as its law says, disturbed on the way, or of single individuals.

Shapes: T times, D variables.
"""

import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from loracast.errors import DataError
from loracast.systems.system import Parameters, System

ATTEMPTS = 10  # draws of one trajectory before its system is held to be broken
PARTS = 4  # of a step, between which a state is disturbed
MOST_EVENTS = 1_000_000  # of a trajectory: some ten seconds

Times = NDArray[np.float64]
Values = NDArray[np.float64]


class Failed(Exception):
    """A trajectory could not be computed, and why."""


def draw(
    system: System,
    time: Times,
    drivers: Mapping[str, Values],
    random: np.random.Generator,
    index: int,
    *,
    process_noise: float = 0.0,
    individuals: float | None = None,
) -> Values:
    """The first draw of parameters and initial state from `random` that can be followed over all of `time` [T]: [T, D].

    Args:
        drivers: [T] each, of what comes from outside.
        index: of the trajectory, for a message.
        process_noise, individuals: as for `simulate`.

    Raises DataError after ten draws that could not.
    """
    reason: object = None
    for _ in range(ATTEMPTS):
        parameters = {name: random.uniform(low, high) for name, (low, high) in system.parameters.items()}
        initial = [random.uniform(low, high) for low, high in system.initial.values()]
        try:
            if individuals is not None:
                return events(system, time, parameters, initial, individuals, random)
            if process_noise:
                return disturbed(system, time, drivers, parameters, initial, process_noise, random)
            return integrate(system, time, time, drivers, parameters, initial)
        except Failed as error:
            reason = error
    raise DataError(
        f"system '{system.name}', trajectory {index}: none of {ATTEMPTS} draws could be integrated to time {time[-1]}: "
        f"{reason}; shorten the duration or narrow its ranges"
    )


def integrate(
    system: System,
    time: Times,
    whole: Times,
    drivers: Mapping[str, Values],
    parameters: Parameters,
    initial: Sequence[float],
) -> Values:
    """The law followed over `time` by LSODA at scipy's default tolerances; the drivers are of the times `whole`."""
    from scipy.integrate import ODEintWarning, odeint

    def derivative(state: Sequence[float], t: float, parameters: Parameters) -> Sequence[float]:
        now = {name: float(np.interp(t, whole, values)) for name, values in drivers.items()}
        return system.derivative(state, t, {**parameters, **now} if now else parameters)

    with warnings.catch_warnings():
        # LSODA only warns where it gives up, and returns whatever the rest of its memory held
        warnings.simplefilter("error", ODEintWarning)
        try:
            values = odeint(derivative, initial, time, args=(parameters,))
        except (ODEintWarning, ArithmeticError) as error:
            raise Failed(error) from None
    if not np.isfinite(values).all():
        raise Failed("values that are not finite")
    if system.positive and values.min() <= 0:
        raise Failed("values that are not positive")
    return values


def disturbed(
    system: System,
    time: Times,
    drivers: Mapping[str, Values],
    parameters: Parameters,
    initial: Sequence[float],
    deviation: float,
    random: np.random.Generator,
) -> Values:
    """The law, and several times a step a random factor on each variable; `deviation` is that of a step's logarithms.

    What follows goes on from the disturbed state, as under the weather. The factors' mean is 1.
    """
    values, state = [np.asarray(initial)], np.asarray(initial)
    part = deviation / np.sqrt(PARTS)
    for begin, end in pairwise(time):
        for first, last in pairwise(np.linspace(begin, end, PARTS + 1)):
            state = integrate(system, np.array([first, last]), time, drivers, parameters, state.tolist())[-1]
            state = state * np.exp(part * random.standard_normal(len(state)) - part**2 / 2)
        values.append(state)
    return np.stack(values)


def events(
    system: System,
    time: Times,
    parameters: Parameters,
    initial: Sequence[float],
    individuals: float,
    random: np.random.Generator,
) -> Values:
    """Counts of individuals: one birth or death after the other, each at its random time (Gillespie 1977, The Journal
    of Physical Chemistry 81, 2340–2361, the direct method).

    individuals: so many are one unit of the state.

    Raises DataError where so many are born that it would take minutes.
    """
    changes = np.array([event.change for event in system.events])  # [E, D]
    rates = [event.rate for event in system.events]
    counts = np.rint(individuals * np.asarray(initial)).astype(np.int64)
    values, now, seen, happened = np.empty((len(time), len(counts))), float(time[0]), 0, 0
    while seen < len(time):
        state = (counts / individuals).tolist()
        scaled = individuals * np.array([rate(state, parameters) for rate in rates])  # [E] a unit of time
        total = scaled.sum()
        following = now + random.exponential(1 / total) if total > 0 else np.inf  # nothing is left that could happen
        while seen < len(time) and time[seen] < following:
            values[seen] = counts
            seen += 1
        now, happened = following, happened + 1
        if happened > MOST_EVENTS:
            raise DataError(
                f"system '{system.name}': a trajectory has more than {MOST_EVENTS:,} births and deaths by time "
                f"{now:.4g}, with {', '.join(map(str, counts))} individuals; take fewer or a shorter duration"
            )
        if total > 0:
            counts = counts + changes[np.searchsorted(np.cumsum(scaled), random.uniform(0, total), side="right")]
    return values

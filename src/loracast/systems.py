"""Dynamical systems that make as many series as anyone wants, and the real series that ships with the package.

A system is a law with a distribution over its parameters and initial state; `register` adds another one.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from loracast.errors import ConfigError, DataError
from loracast.progress import displayed_share
from loracast.series import Series, read_series

Range = tuple[float, float]  # low, high of a uniform distribution
Parameters = Mapping[str, float]
Derivative = Callable[[Sequence[float], float, Parameters], Sequence[float]]
Driver = Callable[[int, np.random.Generator], NDArray[np.float64]]  # draws a value for each of so many times

ATTEMPTS = 10  # draws of one trajectory before its system is held to be broken


@dataclass(frozen=True)
class System:
    """A law `derivative(state [D], t, parameters) -> [D]`, with uniform ranges for its parameters and initial state.

    By default it is observed at `steps` equally spaced times from 0 to `duration`, both ends included. `positive` says
    that the law keeps a positive state positive: a value at or below zero then means that the integration failed.

    `known` are variables that come from outside, such as the weather: each is drawn for the times of a trajectory, is
    among the parameters of the law at time t, a straight line from time to time, and is known beforehand in its series.
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


def simulate(
    system: str | System,
    n: int,
    *,
    seed: int = 0,
    steps: int | None = None,
    duration: float | None = None,
    noise: float = 0.0,
    progress: bool | Callable[[float], None] | None = None,
) -> list[Series]:
    """`n` trajectories of `system`, called "0" to "n-1", integrated by LSODA at scipy's default tolerances.

    Trajectory i depends on (`seed`, i) alone: the first k of n are the same for any n. `steps` counts the observations
    and `duration` is the time of the last; both default to the system's own. `noise` multiplies every observed value by
    exp(noise·ε), ε standard normal, and leaves the trajectory below it as it is without; what is known has none.
    `progress=True` shows how far it is; a function is called with the share that is done.

    A trajectory that cannot be integrated is drawn anew, from the same random stream; DataError after ten such draws.

    Examples:
        >>> series = loracast.simulate("predator-prey", n=2, seed=0, steps=50, noise=0.1)
        >>> series[0].values.shape, series[0].names
        ((50, 2), ('prey', 'predator'))
    """
    system = get_system(system) if isinstance(system, str) else system
    steps = system.steps if steps is None else steps
    duration = system.duration if duration is None else duration
    requirements = {
        f"n must be at least 1, not {n}": n >= 1,
        f"seed must be at least 0, not {seed}": seed >= 0,
        f"steps must be at least 2, not {steps}": steps >= 2,
        f"duration must be positive and finite, not {duration}": 0 < duration < np.inf,
        f"noise must be at least 0 and finite, not {noise}": 0 <= noise < np.inf,
    }
    if problems := [problem for problem, holds in requirements.items() if not holds]:
        raise ConfigError(problems)
    time = np.linspace(0.0, duration, steps)  # [T]
    time.flags.writeable = False  # shared by all series
    series = []
    with displayed_share(progress, f"simulating {n} series") as told:
        for index in range(n):
            random = np.random.default_rng([seed, index])
            drivers = {name: draw(steps, random) for name, draw in system.known.items()}  # [T] each
            values = _trajectory(system, time, drivers, random, index)  # [T, D]
            if noise:
                values = values * np.exp(noise * random.standard_normal(values.shape))
            values = np.column_stack([*drivers.values(), values])
            series.append(Series(values, (*drivers, *system.names), str(index), time, known=tuple(drivers)))
            told((index + 1) / n)
    return series


def _trajectory(
    system: System,
    time: NDArray[np.float64],
    drivers: Mapping[str, NDArray[np.float64]],
    random: np.random.Generator,
    index: int,
) -> NDArray[np.float64]:
    """The first draw from `random` that LSODA integrates over all of `time` [T]: [T, D]."""
    from scipy.integrate import ODEintWarning, odeint

    def derivative(state: Sequence[float], t: float, parameters: Parameters) -> Sequence[float]:
        now = {name: float(np.interp(t, time, values)) for name, values in drivers.items()}
        return system.derivative(state, t, {**parameters, **now} if now else parameters)

    reason: object = None
    for _ in range(ATTEMPTS):
        parameters = {name: random.uniform(low, high) for name, (low, high) in system.parameters.items()}
        initial = [random.uniform(low, high) for low, high in system.initial.values()]
        with warnings.catch_warnings():
            # LSODA only warns where it gives up, and returns whatever the rest of its memory held
            warnings.simplefilter("error", ODEintWarning)
            try:
                values = odeint(derivative, initial, time, args=(parameters,))
            except (ODEintWarning, ArithmeticError) as error:
                reason = error
                continue
        if np.isfinite(values).all() and not (system.positive and values.min() <= 0):
            return values
        reason = "values that are not finite" if not np.isfinite(values).all() else "values that are not positive"
    raise DataError(
        f"system '{system.name}', trajectory {index}: none of {ATTEMPTS} draws could be integrated to time {time[-1]}: "
        f"{reason}; shorten the duration or narrow its ranges"
    )


def _rosenzweig_macarthur(state: Sequence[float], t: float, parameters: Parameters) -> Sequence[float]:
    prey, predator = state
    eaten = parameters["b"] * prey * predator / (1 + parameters["h"] * prey)
    growth = parameters["a"] * prey * (1 - prey / parameters["K"])
    return growth - eaten, parameters["e"] * eaten - parameters["c"] * predator


def _lotka_volterra(state: Sequence[float], t: float, parameters: Parameters) -> Sequence[float]:
    prey, predator = state
    return (
        parameters["a"] * prey - parameters["b"] * prey * predator,
        parameters["d"] * prey * predator - parameters["c"] * predator,
    )


register(
    System(
        name="predator-prey",
        description="Rosenzweig–MacArthur: x' = a x (1 − x/K) − b x y / (1 + h x), y' = e b x y / (1 + h x) − c y",
        names=("prey", "predator"),
        parameters={
            "a": (0.1, 0.3),  # growth of the prey, per unit of time
            "b": (0.2, 0.5),  # attack rate
            "c": (0.1, 0.3),  # death of the predator, per unit of time
            "e": (0.3, 0.7),  # predators made of one prey
            "K": (5.0, 15.0),  # what the land feeds
            "h": (0.05, 0.2),  # saturation of the predator
        },
        initial={"prey": (0.8, 1.2), "predator": (0.8, 1.2)},
        derivative=_rosenzweig_macarthur,
        source="Rosenzweig & MacArthur (1963), The American Naturalist 97, 209–223",
        positive=True,
    )
)


def _seasonal(state: Sequence[float], t: float, parameters: Parameters) -> Sequence[float]:
    return _rosenzweig_macarthur(state, t, {**parameters, "a": parameters["a"] * parameters["season"]})


def _season(steps: int, random: np.random.Generator) -> NDArray[np.float64]:
    """How much the prey's growth is multiplied by: years of about 12 steps, early or late, and good and bad spells."""
    phase = random.uniform(0, 2 * np.pi) + np.cumsum(2 * np.pi / 12 + 0.25 * random.standard_normal(steps))
    weather = np.zeros(steps)
    for step, shock in enumerate(random.standard_normal(steps)):  # a first-order autoregression of deviation 0.5
        weather[step] = 0.8 * weather[step - 1] + 0.3 * shock if step else 0.5 * shock
    return np.exp(0.6 * np.sin(phase) + weather)


register(
    System(
        name="lotka-volterra",
        description="Lotka–Volterra: x' = a x − b x y, y' = d x y − c y; closed cycles, 4 to 12 by default",
        names=("prey", "predator"),
        parameters={
            "a": (0.15, 0.4),  # growth of the prey; with c, small cycles take 2π/√(a c): 16 to 42
            "b": (0.15, 0.3),
            "c": (0.15, 0.4),
            "d": (0.15, 0.3),
        },
        initial={"prey": (0.8, 1.2), "predator": (0.8, 1.2)},
        derivative=_lotka_volterra,
        source="Lotka (1925), Elements of Physical Biology; Volterra (1926), Nature 118, 558–560",
        positive=True,
    )
)


register(
    replace(
        get_system("predator-prey"),
        name="seasonal-predator-prey",
        description="predator-prey whose a is multiplied by `season`, an irregular weather that is known beforehand",
        derivative=_seasonal,
        known={"season": _season},
    )
)


def lynx_hare() -> Series:
    """Hare and lynx pelts, thousands a year, 1845–1935, from the fur returns of the Hudson's Bay Company.

    Source: the `pelt` table of tsibbledata, after MacLulich (1937) and Elton & Nicholson (1942).

    Examples:
        >>> loracast.lynx_hare()
        Series('lynx_hare_1845_1935', 91 steps × hare, lynx, 1845 to 1935)
    """
    with resources.as_file(resources.files("loracast") / "data" / "lynx_hare_1845_1935.csv") as path:
        return read_series(path)[0]

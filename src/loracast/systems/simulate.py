"""As many series of a system as anyone wants."""

from collections.abc import Callable

import numpy as np

from loracast.errors import ConfigError
from loracast.progress import displayed_share
from loracast.series import Series
from loracast.systems.system import System, get_system
from loracast.systems.trajectories import draw


def simulate(
    system: str | System,
    n: int,
    *,
    seed: int = 0,
    steps: int | None = None,
    duration: float | None = None,
    noise: float = 0.0,
    process_noise: float = 0.0,
    individuals: float | None = None,
    progress: bool | Callable[[float], None] | None = None,
) -> list[Series]:
    """`n` trajectories of `system`, called "0" to "n-1", integrated by LSODA at scipy's default tolerances.

    Trajectory i depends on (`seed`, i) alone: the first k of n are the same for any n.

    A trajectory that cannot be integrated is drawn anew, from the same random stream; DataError after ten such draws.

    Args:
        steps: observations a series; the system's own unless given.
        duration: time of the last observation; the system's own unless given.
        noise: of what is observed: every value is multiplied by exp(noise·ε), ε standard normal, and the trajectory
            below it is as it is without. What is known has none.
        process_noise: of the system itself: over a step, each variable is multiplied by random factors whose logarithms
            have this deviation, and what follows goes on from there.
        individuals: so many individuals are one unit of the system's state; they are born and die one by one, at random
            times, and the values are their counts. A population may die out.
        progress: True shows how far it is; a function is called with the share that is done.

    Examples:
        >>> series = loracast.simulate("predator-prey", n=2, seed=0, steps=50, noise=0.1)
        >>> series[0].values.shape, series[0].names
        ((50, 2), ('prey', 'predator'))
        >>> loracast.simulate("lotka-volterra", n=1, steps=3, duration=4, individuals=10)[0].values.tolist()
        [[11.0, 12.0], [10.0, 14.0], [12.0, 11.0]]
    """
    system = get_system(system) if isinstance(system, str) else system
    steps = system.steps if steps is None else steps
    duration = system.duration if duration is None else duration
    single = individuals is not None
    requirements = {
        f"n must be at least 1, not {n}": n >= 1,
        f"seed must be at least 0, not {seed}": seed >= 0,
        f"steps must be at least 2, not {steps}": steps >= 2,
        f"duration must be positive and finite, not {duration}": 0 < duration < np.inf,
        f"noise must be at least 0 and finite, not {noise}": 0 <= noise < np.inf,
        f"process_noise must be at least 0 and finite, not {process_noise}": 0 <= process_noise < np.inf,
        f"individuals must be positive and finite, not {individuals}": individuals is None or 0 < individuals < np.inf,
        f"individuals cannot be told of system '{system.name}', which says nothing of single births and deaths; leave "
        "them out": not single or bool(system.events),
        "process_noise and individuals do not go together: births and deaths are the noise; leave one out": (
            not (single and process_noise)
        ),
    }
    if problems := [problem for problem, holds in requirements.items() if not holds]:
        raise ConfigError(problems)
    time = np.linspace(0.0, duration, steps)  # [T]
    time.flags.writeable = False  # shared by all series
    series = []
    with displayed_share(progress, f"simulating {n} series") as show:
        for index in range(n):
            random = np.random.default_rng([seed, index])
            drivers = {name: driver(steps, random) for name, driver in system.known.items()}  # [T] each
            values = draw(
                *(system, time, drivers, random, index), process_noise=process_noise, individuals=individuals
            )  # [T, D]
            if noise:
                values = values * np.exp(noise * random.standard_normal(values.shape))
            values = np.column_stack([*drivers.values(), values])
            series.append(Series(values, (*drivers, *system.names), str(index), time, known=tuple(drivers)))
            show((index + 1) / n)
    return series

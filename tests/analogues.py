"""How well series are forecast from a pool of others by the nearest analogue, at any of several speeds.

`python tests/analogues.py` prints the error of every family of `loracast.synthetic` and of planted populations over
several pools. Shapes: Q queries, N series of a pool, T steps.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from loracast import simulate
from loracast.synthetic import FAMILIES
from loracast.synthetic.family import Draws
from loracast.synthetic.flows import integrate
from population_flows import SPACING, rosenzweig_macarthur

Floats = NDArray[np.floating]

CONTEXT, WINDOW = 50, 100
SPEEDS = 2.0 ** np.linspace(-1, 1, 9)
LENGTH = 200  # steps of a pool's series, so that a window is there at twice its speed


def population_queries(n: int, seed: int) -> Floats:
    """Simulated trajectories [n, WINDOW, 2] of Rosenzweig and MacArthur's equations, as they are published."""
    return np.stack([one.values for one in simulate("predator-prey", n=n, seed=seed)])[:, :WINDOW]


def population_pool(n: int, seed: int, speed: float = 1.0) -> Floats:
    """Trajectories [n, LENGTH, 2] of the same equations and ranges at `speed` times the published spacing."""
    start = rosenzweig_macarthur.start(Draws(torch.Generator().manual_seed(seed)), n)
    step = torch.full((n,), SPACING * speed)
    derivative = rosenzweig_macarthur.derivative
    path = integrate(lambda state: derivative(state, start.parameters), start.state, step, LENGTH, 8)
    return path.permute(2, 0, 1).double().numpy()


PLANTS: dict[str, tuple[float, Callable[[Floats], Floats]]] = {  # speed, and how the trajectories are observed
    "as it is": (1, lambda rows: rows),
    "logarithms": (1, np.log),
    "shifted by 1": (1, lambda rows: rows + 1),
    "logarithms after a shift": (1, lambda rows: np.log(rows + 1)),
    "swapped": (1, lambda rows: rows[:, :, ::-1]),
    "scaled and mirrored": (1, lambda rows: 3 - 2 * rows),
    "at half the speed": (0.5, lambda rows: rows),
    "at 0.7 of the speed": (0.7, lambda rows: rows),
    "at 1.5 of the speed": (1.5, lambda rows: rows),
    "logarithms, swapped, at 0.7": (0.7, lambda rows: np.log(rows)[:, :, ::-1]),
}


def plant_pool(name: str, n: int, seed: int) -> Floats:
    """A pool [n, LENGTH, 2] of the planted populations of that name."""
    speed, observed = PLANTS[name]
    return observed(population_pool(n, seed, speed))


def family_pool(name: str, n: int, seed: int) -> Floats:
    """A pool [n, LENGTH, 2] of the family of that name."""
    return FAMILIES[name].make(n, LENGTH, 2, torch.Generator().manual_seed(seed)).double().numpy()


def at_speed(rows: Floats, speed: float) -> Floats:
    """A window [N, WINDOW, 2] of rows [N, LENGTH, 2] at `speed` times theirs, by linear interpolation."""
    position = speed * np.arange(WINDOW)
    before = np.minimum(position.astype(int), rows.shape[1] - 2)
    share = (position - before)[:, None]
    return (1 - share) * rows[:, before] + share * rows[:, before + 1]


def standardise(rows: Floats) -> Floats:
    """Rows [N, T, 2] in units of the mean and standard deviation of each variable's context."""
    read = rows[:, :CONTEXT]
    return ((rows - read.mean(1, keepdims=True)) / np.maximum(read.std(1, keepdims=True), 1e-9)).astype(np.float32)


def analogue_error(queries: Floats, pool: Floats) -> float:
    """Median over queries [Q, WINDOW, 2] of the mean absolute error of the nearest analogue of a pool [N, LENGTH, 2].

    The pool is tried at every one of SPEEDS and with its variables swapped; a level and a scale of either sign are
    fitted to each variable's context. The nearest is what fits the context best, and its error, over the steps after
    the context, is in standard deviations of the query's context. Queries are tried as they are and in logarithms; the
    lesser median counts.
    """
    return min(_error(standardise(form), pool) for form in (queries, np.log(queries)))


def _error(queries: Floats, pool: Floats) -> float:
    likeness, error = np.full(len(queries), -np.inf), np.full(len(queries), np.inf)
    for speed in SPEEDS:
        rows = at_speed(pool, speed)
        rows = standardise(np.concatenate([rows, rows[:, :, ::-1]]))
        scale = np.stack([queries[:, :CONTEXT, d] @ rows[:, :CONTEXT, d].T for d in (0, 1)], 2) / CONTEXT  # [Q, N, 2]
        explained = np.square(scale).sum(2)  # [Q, N], of a variance of 2
        best = explained.argmax(1)
        at_best = np.arange(len(queries)), best
        forecast = scale[at_best][:, None] * rows[best, CONTEXT:]
        nearer = explained[at_best] > likeness
        likeness = np.where(nearer, explained[at_best], likeness)
        error = np.where(nearer, np.abs(forecast - queries[:, CONTEXT:]).mean((1, 2)), error)
    return float(np.median(error))


def main() -> None:
    queries = population_queries(60, seed=100)
    for make, names in ((plant_pool, PLANTS), (family_pool, FAMILIES)):
        for name in names:
            errors = [analogue_error(queries, make(name, 1000, seed)) for seed in (3, 4, 5)]
            print(f"{name:28}", *(f"{error:.3f}" for error in errors), flush=True)


if __name__ == "__main__":
    main()

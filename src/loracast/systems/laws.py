"""The systems that come with loracast."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from loracast.systems.system import Event, Parameters, System, get_system, register


def _eaten(state: Sequence[float], parameters: Parameters) -> float:
    """Prey that are eaten in a unit of time, by Holling's second response."""
    return parameters["b"] * state[0] * state[1] / (1 + parameters["h"] * state[0])


def _rosenzweig_macarthur(state: Sequence[float], t: float, parameters: Parameters) -> Sequence[float]:
    prey, predator = state
    eaten = _eaten(state, parameters)
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
        events=(
            Event((1, 0), lambda state, p: p["a"] * state[0]),
            Event((-1, 0), lambda state, p: p["a"] * state[0] ** 2 / p["K"]),
            Event((-1, 0), lambda state, p: (1 - p["e"]) * _eaten(state, p)),  # which feeds, and makes no other
            Event((-1, 1), lambda state, p: p["e"] * _eaten(state, p)),
            Event((0, -1), lambda state, p: p["c"] * state[1]),
        ),
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
        events=(
            Event((1, 0), lambda state, p: p["a"] * state[0]),
            Event((-1, 0), lambda state, p: p["b"] * state[0] * state[1]),
            Event((0, 1), lambda state, p: p["d"] * state[0] * state[1]),
            Event((0, -1), lambda state, p: p["c"] * state[1]),
        ),
    )
)


register(
    replace(
        get_system("predator-prey"),
        name="seasonal-predator-prey",
        description="predator-prey whose a is multiplied by `season`, an irregular weather that is known beforehand",
        derivative=_seasonal,
        known={"season": _season},
        events=(),
    )
)

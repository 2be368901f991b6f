"""Observation noise of random kind and size on windows, so that an adapter reads from a context how noisy a series is.

Shapes: B windows, W steps, D variables.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from loracast.statistics import centre_and_spread

CLEAN = 0.25  # share of the windows that stay as they are
LEAST = 0.005  # the smallest noise, relative to the values or to their spread

Windows = Annotated[NDArray[np.float64], "B W D"]


def observed(
    windows: Windows, context: int, most: float, targets: NDArray[np.bool_], draws: np.random.Generator
) -> Windows:
    """The windows as they would be observed: all of a window, context and future, with noise of one kind and size.

    The size is drawn log-uniformly from 0.5% to `most`. The kinds are equally frequent: factors (log-normal, of that
    deviation), added noise (of that deviation, in standard deviations of a variable over its context), and counts:
    whole numbers of individuals, so few that the mean of the context is counted with that relative error (Poisson).
    Values below zero cannot be counted, and get factors; where there are none, added noise makes none either.

    Args:
        context: steps at the start of a window that spread and mean are taken from.
        targets: [D] which variables are forecast; the others are known and stay.
    """
    size = np.exp(draws.uniform(np.log(min(LEAST, most)), np.log(most), (len(windows), 1, 1)))
    kind = draws.integers(3, size=size.shape)
    normal, clean = draws.standard_normal(windows.shape), draws.random(size.shape) < CLEAN
    mean, spread = (one[:, None] for one in centre_and_spread(windows[:, :context]))  # [B, 1, D] each
    countable = ~(windows < 0).any(1, keepdims=True) & (mean > 0)
    factors = windows * np.exp(size * normal)
    unit = np.where(countable, size**2 * mean, 1.0)  # one individual
    expected = np.where(countable & np.isfinite(windows), windows / unit, 0.0)
    counts = np.where(np.isfinite(windows), draws.poisson(expected) * unit, np.nan)
    added = windows + size * spread * normal
    added = np.where(countable, np.maximum(added, 0), added)
    noisy = np.where(kind == 0, factors, np.where(kind == 1, added, counts))
    noisy = np.where((kind == 2) & ~countable, factors, noisy)
    return np.where(clean | ~targets, windows, noisy)

"""The truth's rank among a forecast's paths, which coverage and the PIT are told from.

If the truth is like one more path, each of its n + 1 ranks among n paths is as likely as any other. A rank of b, with t
paths equal to it, stands for the places from b / (n + 1) to (b + t + 1) / (n + 1) of the distribution, evenly: what a
rank drawn among equals gives on average, and nothing is drawn. A forecaster that knows what it does not know has its
truth spread evenly over all places, however few its paths are. Quantiles of the paths would not do: between those of
10% and 90%, by linear interpolation of 20 paths, the truth of such a forecaster lies in 72% of all cases.

Shapes: any array V of values, S paths, L levels.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def places(
    paths: Annotated[FloatArray, "*V S"], truth: Annotated[FloatArray, "*V"]
) -> tuple[Annotated[FloatArray, "*V"], Annotated[FloatArray, "*V"]]:
    """Where the truth's places among the paths begin, and how wide they are, both of 0 to 1.

    Paths are NaN where they have no value; both results are NaN where no path has one or the truth is not known.
    """
    count = (~np.isnan(paths)).sum(-1)
    below = (paths < truth[..., None]).sum(-1)
    width = ((paths == truth[..., None]).sum(-1) + 1) / (count + 1)
    unknown = np.isnan(truth) | (count == 0)
    return np.where(unknown, np.nan, below / (count + 1)), np.where(unknown, np.nan, width)


def reached(start: FloatArray, width: FloatArray, levels: Annotated[FloatArray, "L"]) -> Annotated[FloatArray, "*V L"]:
    """The share of each value's places that lies below each level of 0 to 1."""
    return np.clip((levels - start[..., None]) / width[..., None], 0, 1)


def covered(
    paths: Annotated[FloatArray, "*V S"], truth: Annotated[FloatArray, "*V"], contents: Annotated[FloatArray, "L"]
) -> Annotated[FloatArray, "*V L"]:
    """The share of each value's places within the central intervals of these contents, between 0 and 1.

    Of n paths the widest interval that ends at paths has a content of (n - 1) / (n + 1). Beyond it, a truth outside all
    paths counts as a part: too few paths cannot tell how far outside it is. For 80% that is so below nine paths, for
    95% below 39.

    Examples:
        >>> covered(np.arange(1.0, 20)[None], np.array([0.5]), np.array([0.5, 0.8, 0.95]))  # below all of 19 paths
        array([[0. , 0. , 0.5]])
    """
    start, width = places(paths, truth)
    half = np.asarray(contents) / 2
    return reached(start, width, 0.5 + half) - reached(start, width, 0.5 - half)

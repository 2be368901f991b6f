"""How well series are forecast from a pool of others by the nearest analogue, each variable standardised."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def standardise(rows: Floats, context: int) -> Floats:
    """Rows [N, T, D] in units of the mean and standard deviation of each variable's context."""
    read = rows[:, :context]
    return (rows - read.mean(1, keepdims=True)) / np.maximum(read.std(1, keepdims=True), 1e-9)


def analogue_error(queries: Floats, pool: Floats, context: int) -> float:
    """Median over queries [Q, T, 2] of the mean absolute error of the nearest analogue of a pool [N, T, 2].

    The error is in standard deviations of the query's context. Variables may be mirrored and swapped, and the queries
    are tried as they are and in logarithms; the least median counts.
    """
    pool = standardise(np.concatenate([pool, pool[:, :, ::-1]]), context)
    return min(_error(standardise(form, context), pool, context) for form in (queries, np.log(queries)))


def _error(queries: Floats, pool: Floats, context: int) -> float:
    likeness = np.einsum("qtd,ntd->qnd", queries[:, :context], pool[:, :context]) / context  # correlations [Q, N, D]
    best = np.abs(likeness).sum(2).argmax(1)  # [Q]
    signs = np.sign(likeness[np.arange(len(queries)), best])  # [Q, D]
    found = pool[best, context:] * signs[:, None]
    return float(np.median(np.abs(found - queries[:, context:]).mean((1, 2))))

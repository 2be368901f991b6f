"""How well series are forecast by a family whose parameters are fitted to their context.

A flow is fitted by its parameters, its initial state and its step, each within the range that the family's own draws
span, from several starts; what it shows is an affine map of its visible state, fitted by least squares. A family in
closed form is fitted by the speed and the place of members of a pool, and an affine map. Both are generous to the
family: a box holds combinations that it never draws. `python tests/fits.py` prints the errors of all families and of
plants.

Shapes: Q queries, M members of a pool, R fits in one batch, P unknowns, T steps, D components.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analogues import CONTEXT, LENGTH, WINDOW, Floats, family_pool, population_queries
from loracast.synthetic import FAMILIES, FLOWS
from loracast.synthetic.family import Draws
from loracast.synthetic.flows import SETTLING, Flow, integrate
from population_flows import rosenzweig_macarthur, rosenzweig_macarthur_in_logarithms

NUDGE = 1e-5  # of an unknown's range, for derivatives by differences
WORST = 1e3  # what a value counts that diverged
MOST = 40  # unknowns of a flow that is fitted by them


@dataclass(frozen=True)
class Search:
    """Curves to fit: `paths(unknowns [R, P], steps, members [R])` gives [R, steps, D]; unknowns run from 0 to 1."""

    paths: Callable[[Tensor, int, Tensor], Tensor]
    pool: Tensor  # [M, P], the unknowns of the members that fits start from


def flow_search(flow: Flow, members: int, seed: int) -> Search:
    """A flow's parameters, first state and step, as it draws them; a share of the members has settled."""
    draws = Draws(torch.Generator().manual_seed(seed))
    start = flow.start(draws, members)
    parameters, state, period = start.parameters.double(), start.state.double(), start.period.double()
    substeps = max(3, flow.substeps // 2)

    def derivative(now: Tensor) -> Tensor:
        return flow.derivative(now, parameters)

    settling = period / flow.coarsest * draws.coin(flow.settled, members)
    state = integrate(derivative, state, settling, SETTLING, substeps)[-1]
    step = (period / draws.log_uniform(flow.coarsest, flow.finest, members).double()).log()
    drawn = torch.cat([parameters, state, step[None]]).T  # [M, P]
    drawn = drawn[torch.isfinite(drawn).all(1)]
    low, high = drawn.amin(0), drawn.amax(0)
    extent = torch.where(high > low, high - low, 1.0)
    count = len(parameters)

    def paths(unknowns: Tensor, steps: int, _: Tensor) -> Tensor:
        drawn = (low + unknowns * extent).T
        path = integrate(
            lambda now: flow.derivative(now, drawn[:count]), drawn[count:-1], drawn[-1].exp(), steps, substeps
        )
        return path[:, : flow.visible].permute(2, 0, 1)

    return Search(paths, (drawn - low) / extent)


def pool_search(rows: Floats, seed: int) -> Search:
    """The speed, from half to twice, and the place of a window in each of rows [M, LENGTH, 2], linear between steps."""
    series = torch.as_tensor(rows).double()
    pool = torch.rand(len(rows), 2, generator=torch.Generator().manual_seed(seed)).double()

    def paths(unknowns: Tensor, steps: int, members: Tensor) -> Tensor:
        speed = 2 ** (2 * unknowns[:, :1] - 1)
        room = LENGTH - 1 - speed * (WINDOW - 1)
        position = unknowns[:, 1:] * room + speed * torch.arange(steps)  # [R, T]
        before = position.long().clamp(0, LENGTH - 2)
        share = (position - before)[..., None]
        row = torch.arange(len(unknowns))[:, None]
        chosen = series[members]
        return (1 - share) * chosen[row, before] + share * chosen[row, before + 1]

    return Search(paths, pool)


def _basis(paths: Tensor) -> Tensor:
    """One and the standardised components of paths [R, T, D], by their contexts: [R, T, D + 1]."""
    paths = torch.nan_to_num(paths, nan=WORST, posinf=WORST, neginf=-WORST)
    read = paths[:, :CONTEXT]
    deviation = (read - read.mean(1, keepdim=True)).square().mean(1, keepdim=True).sqrt().clamp_min(1e-9)
    standard = (paths - read.mean(1, keepdim=True)) / deviation
    return torch.cat([torch.ones_like(standard[..., :1]), standard.clamp(-WORST, WORST)], 2)


def observed(paths: Tensor, queries: Tensor) -> Tensor:
    """The affine image of paths [R, T, D] that fits the contexts of queries [R, >= CONTEXT, 2] best: [R, T, 2]."""
    basis = _basis(paths)
    read = basis[:, :CONTEXT]
    gram = read.mT @ read + 1e-6 * CONTEXT * torch.eye(basis.shape[2], dtype=basis.dtype)
    return basis @ torch.linalg.solve(gram, read.mT @ queries[:, :CONTEXT])


def _residuals(search: Search, unknowns: Tensor, members: Tensor, queries: Tensor) -> Tensor:
    """[R, 2 * CONTEXT] over the contexts."""
    fitted = observed(search.paths(unknowns, CONTEXT, members), queries)
    return (fitted - queries[:, :CONTEXT]).flatten(1)


def fit(search: Search, unknowns: Tensor, members: Tensor, queries: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    """Levenberg and Marquardt's method, R fits side by side: unknowns [R, P] and the sum of squares of each [R]."""
    count, size = unknowns.shape
    residual = _residuals(search, unknowns, members, queries)
    loss, damping = residual.square().sum(1), torch.full((count,), 1e-2, dtype=torch.float64)
    # forward or backward, so that no unknown leaves its range
    nudge = torch.where(unknowns < 0.5, NUDGE, -NUDGE)
    for _ in range(rounds):
        nudged = unknowns[:, None] + torch.diag_embed(nudge)  # [R, P, P], one unknown moved in each
        moved = _residuals(
            search, nudged.flatten(0, 1), members.repeat_interleave(size), queries.repeat_interleave(size, 0)
        )
        slope = (moved.view(count, size, -1) - residual[:, None]) / nudge[..., None]  # [R, P, 2 * CONTEXT]
        gram = slope @ slope.mT
        scale = gram.diagonal(dim1=1, dim2=2).clamp_min(1e-6)
        step = torch.linalg.solve(gram + torch.diag_embed(damping[:, None] * scale), (slope @ residual[..., None]))
        tried = (unknowns - step[..., 0]).clamp(0, 1)
        tried_residual = _residuals(search, tried, members, queries)
        tried_loss = tried_residual.square().sum(1)
        better = tried_loss < loss
        unknowns = torch.where(better[:, None], tried, unknowns)
        residual = torch.where(better[:, None], tried_residual, residual)
        loss = torch.where(better, tried_loss, loss)
        nudge = torch.where(unknowns < 0.5, NUDGE, -NUDGE)
        damping = torch.where(better, damping / 5, damping * 5).clamp(1e-9, 1e9)
    return unknowns, loss


def fit_error(search: Search, queries: Floats, *, starts: int = 3, rounds: int = 12) -> float:
    """Median over queries [Q, WINDOW, 2] of the mean absolute error after the context of what fits the context best.

    In standard deviations of the context; queries are tried as they are and in logarithms; the lesser median counts.
    """
    return min(_fit_error(search, form, starts, rounds) for form in (queries, np.log(queries)))


def _fit_error(search: Search, rows: Floats, starts: int, rounds: int) -> float:
    read = rows[:, :CONTEXT]
    queries = torch.as_tensor((rows - read.mean(1, keepdims=True)) / read.std(1, keepdims=True))  # [Q, T, 2]
    everyone = torch.arange(len(search.pool))
    basis = torch.linalg.qr(_basis(search.paths(search.pool, CONTEXT, everyone)))[0]  # [M, T, D + 1]
    explained = torch.einsum("mtk,qtd->qmkd", basis, queries[:, :CONTEXT]).square().sum((2, 3))  # [Q, M]
    members = explained.topk(starts, 1).indices.flatten()  # [R]
    repeated = queries.repeat_interleave(starts, 0)
    unknowns, loss = fit(search, search.pool[members], members, repeated, rounds)
    forecast = observed(search.paths(unknowns, WINDOW, members), repeated)[:, CONTEXT:]
    error = (forecast - repeated[:, CONTEXT:]).abs().mean((1, 2)).view(-1, starts)
    return float(error.gather(1, loss.view(-1, starts).argmin(1, keepdim=True)).median())


PLANTED = {"as it is": rosenzweig_macarthur, "in logarithms": rosenzweig_macarthur_in_logarithms}
BY_NAME = {**{flow.name: flow for flow in FLOWS}, **PLANTED}


def search_of(name: str, members: int = 600, seed: int = 3) -> Search:
    """The search that fits the family or the plant of that name: by its equation if it has one.

    A flow with more unknowns than MOST could be bent to almost any context, and is fitted by its pool's members.
    """
    if name in BY_NAME and (search := flow_search(BY_NAME[name], members, seed)).pool.shape[1] <= MOST:
        return search
    return pool_search(family_pool(name, members, seed), seed)


def main() -> None:
    queries = population_queries(20, seed=100)
    for name in (*PLANTED, *FAMILIES):
        print(f"{name:28} {fit_error(search_of(name), queries):.3f}", flush=True)


if __name__ == "__main__":
    main()

import re
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from analogues import PLANTS, analogue_error, family_pool, plant_pool, population_queries
from fits import PLANTED, fit_error, search_of
from loracast.errors import ConfigError
from loracast.synthetic import FAMILIES, FLOWS, KEPT_OUT, Family, synthesise, synthesise_chunk
from loracast.synthetic.family import FLAT, Draws
from loracast.synthetic.flows import Flow, integrate

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]

ALL = FAMILIES | KEPT_OUT


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def relative_range(rows: Tensor) -> Tensor:
    return (rows.amax(1) - rows.amin(1)) / rows.abs().amax(1).clamp_min(1e-30)  # [N, V]


@pytest.fixture(scope="module")
def mixture() -> Tensor:
    return synthesise(1500, 64, 2, seed=0)


@pytest.mark.parametrize("variables", [1, 2, 3])
@pytest.mark.parametrize("family", ALL.values(), ids=ALL)
def test_every_family_makes_usable_rows(family: Family, variables: int):
    rows = family.make(24, 20, variables, seeded())
    assert rows.shape == (24, 20, variables)
    assert rows.dtype == torch.float32
    assert torch.isfinite(rows).all()
    flat = relative_range(rows) < 0.99 * FLAT
    assert flat.all() if family.constant else not flat.any()
    assert len(torch.unique(rows.abs().sum((1, 2)))) > 8  # rows differ, and few had to be replaced


@pytest.mark.parametrize("family", ALL.values(), ids=ALL)
def test_few_rows_are_thrown_away(family: Family):
    raw = family.build(Draws(seeded(1)), 200, 32, 2)
    assert torch.isfinite(raw).all((1, 2)).float().mean() > 0.98
    if not family.constant:
        assert (relative_range(raw) > FLAT).all(1).float().mean() > 0.85


def test_unusable_rows_become_usable_ones():
    def build(draws: Draws, n: int, steps: int, variables: int) -> Tensor:
        rows = draws.normal(n, steps, variables)
        rows[0, 3], rows[1, 0, 0], rows[3, :, 1], rows[4, 5] = torch.nan, torch.inf, 7.0, 1e9
        return rows

    family = Family("broken", "", 1, "", build)
    rows = family.make(8, 16, 2, seeded())
    kept = build(Draws(seeded()), 8, 16, 2)[[2, 5, 6, 7]]
    assert torch.equal(rows[[2, 5, 6, 7]], kept)
    assert torch.equal(rows[[0, 1, 3, 4]], kept[[0, 1, 3, 0]])


def test_rows_are_zero_when_none_is_usable():
    family = Family(
        "hopeless", "", 1, "", lambda draws, n, steps, variables: torch.full((n, steps, variables), torch.nan)
    )
    assert torch.equal(family.make(3, 8, 1, seeded()), torch.zeros(3, 8, 1))


@pytest.mark.parametrize("variables", [1, 3])
@pytest.mark.parametrize("device", DEVICES)
def test_a_seed_fixes_the_series(device: str, variables: int):
    first = synthesise(60, 16, variables, seed=5, device=device)
    assert first.shape == (60, 16, variables)
    assert first.dtype == torch.float32
    assert first.device.type == device
    assert torch.equal(first, synthesise(60, 16, variables, seed=5, device=device))
    assert not torch.isclose(first, synthesise(60, 16, variables, seed=6, device=device)).all((1, 2)).any()


def test_making_series_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    synthesise(8, 16, 1, seed=0)
    assert torch.equal(before, torch.get_rng_state())


def test_chunks_are_independent():
    whole = synthesise(50, 16, 2, seed=1, chunk=30)
    assert torch.equal(whole[:30], synthesise_chunk(0, 30, 16, 2, seed=1))
    assert torch.equal(whole[30:], synthesise_chunk(1, 20, 16, 2, seed=1))
    assert not torch.isclose(whole[:20], whole[30:]).all((1, 2)).any()


def test_sizes_that_cannot_be_are_all_named():
    with pytest.raises(ConfigError) as caught:
        synthesise(0, 7, 0, seed=-1, chunk=0)
    assert [problem.split()[0] for problem in caught.value.problems] == ["n", "steps", "variables", "seed", "chunk"]


def test_mixture_is_sane(mixture: Tensor):
    assert torch.isfinite(mixture).all()
    assert 1 < mixture.abs().amax() < 1e4
    assert 0.61 < (mixture >= 0).all(2).all(1).float().mean() < 0.69
    constant = (relative_range(mixture) < FLAT).all(1).float().mean()
    assert 0.003 < constant < 0.03


def test_rows_of_a_family_are_spread_over_the_chunk(mixture: Tensor):
    constant = (mixture[:, :1] == mixture).all(2).all(1).nonzero().flatten()
    assert constant.amin() < 500
    assert constant.amax() > 1000


def test_growth_rate_systems_are_not_named():
    kept_out = r"\b(lotka|volterra|predators?|preys?|competiti\w+|consumers?|epidemic\w*|sei?rs?|holling|rosenzweig)\b"
    for family in ALL.values():
        assert not re.search(kept_out, f"{family.name} {family.description} {family.source}".lower()), family.name


def invariant_axes(derivative: Callable[[Tensor], Tensor], states: Tensor, coordinates: int) -> list[int]:
    """The coordinates that stay zero once they are zero, judged at `states` [D, N]."""
    result = []
    for coordinate in range(coordinates):
        on_axis = states.clone()
        on_axis[coordinate] = 0
        if derivative(on_axis)[coordinate].abs().amax() < 1e-6:
            result.append(coordinate)
    return result


def test_invariant_axes_are_recognised():
    states = torch.rand(2, 50, generator=seeded())

    def lotka_volterra(state: Tensor) -> Tensor:
        x, y = state
        return torch.stack([x * (1 - y), y * (x - 1)])

    assert invariant_axes(lotka_volterra, states, 2) == [0, 1]
    assert invariant_axes(lambda state: state.flip(0), states, 2) == []


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_no_flow_has_the_growth_rate_form(flow: Flow):
    start = flow.start(Draws(seeded()), 50)
    states = torch.rand(start.state.shape, generator=seeded(1)) + 0.1
    axes = invariant_axes(lambda state: flow.derivative(state, start.parameters), states, flow.visible)
    assert not list(combinations(axes, 2))


def test_integrator_is_of_fourth_order():
    frequency = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    state = torch.tensor([[1.0] * 3, [0.0] * 3], dtype=torch.float64)
    step = torch.tensor([0.4, 0.2, 0.1], dtype=torch.float64)

    def error(substeps: int) -> float:
        path = integrate(lambda s: torch.stack([s[1], -(frequency**2) * s[0]]), state, step, 30, substeps)  # [T, D, N]
        time = torch.arange(30, dtype=torch.float64)[:, None] * step
        return (path[:, 0] - torch.cos(frequency * time)).abs().amax().item()

    assert error(4) < 1e-6
    assert error(2) / error(4) == pytest.approx(16, rel=0.1)


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_flows_are_accurate_at_their_coarsest_sampling(flow: Flow):
    start = flow.start(Draws(seeded(2)), 100)
    step = start.period / flow.coarsest

    def path(substeps: int) -> Tensor:
        return integrate(lambda s: flow.derivative(s, start.parameters), start.state, step, 8, substeps)  # [T, D, N]

    coarse, fine = path(flow.substeps), path(6 * flow.substeps)
    error = (coarse - fine).abs().amax((0, 1)) / fine.abs().amax((0, 1))  # [N]
    assert (error < 0.02).float().mean() > 0.95


NEAR = 0.218  # standard deviations, midway between the worst plant and the nearest family of tests/analogues.py
FITTED = 0.011  # likewise of tests/fits.py, by the geometric mean of 0.003 and 0.043


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return population_queries(60, seed=100)


@pytest.mark.parametrize("plant", PLANTS)
def test_planted_predators_and_prey_are_found_by_the_nearest_analogue(queries: np.ndarray, plant: str):
    """At any speed from half to one and a half, in logarithms, shifted, scaled, mirrored or swapped."""
    assert analogue_error(queries, plant_pool(plant, 1000, 3)) < NEAR


@pytest.mark.parametrize("family", FAMILIES)
def test_no_family_forecasts_predators_and_prey_by_the_nearest_analogue(queries: np.ndarray, family: str):
    assert analogue_error(queries, family_pool(family, 1000, 3)) > NEAR


@pytest.mark.parametrize("plant", PLANTED)
def test_planted_predators_and_prey_are_found_by_a_fit(queries: np.ndarray, plant: str):
    assert fit_error(search_of(plant), queries[:20]) < FITTED


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_no_family_fits_predators_and_prey(queries: np.ndarray, family: str):
    """By its own parameters, start and speed, and a level and scale of what is observed, fitted to 50 steps."""
    assert fit_error(search_of(family), queries[:20]) > FITTED


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_a_gpu_repeats_what_it_has_recorded(flow: Flow, monkeypatch: pytest.MonkeyPatch):
    def made() -> torch.Tensor:
        return flow.build(Draws(torch.Generator("cuda").manual_seed(0)), 32, 12, 2)

    recorded = made()
    monkeypatch.setattr("loracast.synthetic.flows.replayed", lambda function, example: function)
    assert torch.equal(recorded.nan_to_num(), made().nan_to_num())

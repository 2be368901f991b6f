"""Simulators against closed forms and reference data, and the series that ships."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.stats import ks_2samp

from loracast.errors import ConfigError, DataError
from loracast.systems import SYSTEMS, Event, System, get_system, lynx_hare, register, simulate

REFERENCE = Path(__file__).parents[1] / ".." / "shared" / "data"

blow_up = System(
    name="blow-up",
    description="x' = x², which reaches infinity at t = 1 / x(0)",
    names=("x",),
    parameters={},
    initial={"x": (0.1, 0.9)},
    derivative=lambda state, t, parameters: [state[0] ** 2],
    source="a textbook",
    steps=5,
    duration=2.0,
)


def stack(series) -> np.ndarray:
    return np.stack([one.values for one in series])  # [N, T, D]


def test_predator_prey_is_distributed_as_the_reference_data():
    if not (path := REFERENCE / "lotka_volterra_data.h5").exists():
        pytest.skip("the reference data are not here")
    with h5py.File(path) as file:
        reference = np.asarray(file["trajectories"], dtype=float)  # [N, T, D]
        time = np.asarray(file["time"])  # [T]
    series = simulate("predator-prey", 1000, seed=0)
    np.testing.assert_allclose(np.asarray(series[0].time), time)
    statistics = {
        "mean": lambda values: values.mean(1),
        "maximum": lambda values: values.max(1),
        "minimum": lambda values: values.min(1),
        "final": lambda values: values[:, -1],
    }
    for name, statistic in statistics.items():
        ours, theirs = statistic(stack(series)), statistic(reference)  # [N, D]
        for variable in range(2):
            found: Any = ks_2samp(ours[:, variable], theirs[:, variable])
            assert found.pvalue > 0.01, (name, variable)


@pytest.mark.parametrize("name", ["predator-prey", "lotka-volterra"])
def test_a_trajectory_depends_on_seed_and_index_alone(name):
    few, many = simulate(name, 3, seed=7), simulate(name, 6, seed=7)
    np.testing.assert_array_equal(stack(few), stack(many)[:3])
    assert [one.id for one in many] == ["0", "1", "2", "3", "4", "5"]
    assert few[0].names == ("prey", "predator")
    assert len(np.unique(stack(many)[:, 0, 0])) == 6
    assert not np.array_equal(stack(simulate(name, 3, seed=8)), stack(few))


def test_lotka_volterra_keeps_its_invariant_on_closed_cycles():
    """d x − c ln x + b y − a ln y is constant along a trajectory (Volterra 1926)."""
    system = get_system("lotka-volterra")
    series = simulate(system, 20, seed=3)
    for index, one in enumerate(series):
        random = np.random.default_rng([3, index])
        a, b, c, d = (random.uniform(*system.parameters[name]) for name in "abcd")
        prey, predator = one.values.T
        invariant = d * prey - c * np.log(prey) + b * predator - a * np.log(predator)
        np.testing.assert_allclose(invariant, invariant[0], atol=1e-5)


def test_lotka_volterra_oscillates_within_bounds():
    values = stack(simulate("lotka-volterra", 200, seed=1))
    assert values.min() > 0.05
    assert values.max() < 10
    peaks = ((values[:, 1:-1] > values[:, :-2]) & (values[:, 1:-1] >= values[:, 2:])).sum(1)  # [N, D]
    assert peaks.min() >= 4


def test_steps_and_duration():
    series = simulate("predator-prey", 1, steps=11, duration=20.0)[0]
    assert series.time is not None
    np.testing.assert_allclose(series.time, np.arange(0, 21, 2))
    # the same trajectory, seen at other times
    longer = simulate("predator-prey", 1, steps=21, duration=40.0)[0]
    np.testing.assert_allclose(longer.values[:11], series.values, rtol=1e-5)


@pytest.mark.parametrize("name", [name for name, system in SYSTEMS.items() if system.events])
def test_births_and_deaths_are_the_law_on_average(name: str):
    """The events' rates, times their changes, sum to the derivative at any state."""
    system, draws = get_system(name), np.random.default_rng(0)
    for _ in range(20):
        parameters = {key: draws.uniform(low, high) for key, (low, high) in system.parameters.items()}
        state = draws.uniform(0.1, 5, len(system.names)).tolist()
        summed = sum(np.array(event.change) * event.rate(state, parameters) for event in system.events)
        np.testing.assert_allclose(summed, system.derivative(state, 0.0, parameters), rtol=1e-12)
        assert all(
            event.rate([0.0] * len(state), parameters) == 0 for event in system.events
        )  # nothing comes of nothing


def test_many_individuals_follow_the_law_and_few_do_not():
    smooth = stack(simulate("predator-prey", 2, steps=11, duration=20.0))
    many = stack(simulate("predator-prey", 2, steps=11, duration=20.0, individuals=2_000)) / 2_000
    few = stack(simulate("predator-prey", 2, steps=11, duration=20.0, individuals=20))
    np.testing.assert_allclose(many, smooth, rtol=0.15)
    assert np.array_equal(few, np.rint(few))
    assert np.abs(few / 20 / smooth - 1).max() > 0.2


def test_a_birth_and_death_process_has_its_known_mean_and_variance():
    """Linear birth and death from n₀: mean n₀ e^{(b−d)t}, variance n₀ (b+d)/(b−d) e^{(b−d)t} (e^{(b−d)t} − 1)."""
    birth, death, start, until = 0.3, 0.2, 20, 5.0
    system = System(
        *("birth-death", "", ("n",), {}, {"n": (start, start)}, lambda state, t, p: [(birth - death) * state[0]]),
        source="Kendall (1948)",
        events=(Event((1,), lambda state, p: birth * state[0]), Event((-1,), lambda state, p: death * state[0])),
    )
    counts = stack(simulate(system, 3000, steps=2, duration=until, individuals=1.0))[:, -1, 0]
    growth = np.exp((birth - death) * until)
    variance = start * (birth + death) / (birth - death) * growth * (growth - 1)
    assert counts.mean() == pytest.approx(start * growth, abs=4 * np.sqrt(variance / len(counts)))
    assert counts.var() == pytest.approx(variance, rel=0.12)


def test_what_has_died_out_stays_so():
    counts = stack(simulate("predator-prey", 30, individuals=3.0))
    gone = counts == 0
    assert gone.any()
    assert (gone[:, 1:] | ~gone[:, :-1]).all()


def test_a_population_that_grows_without_end_is_an_error_and_not_a_wait(monkeypatch: pytest.MonkeyPatch):
    """Prey whose predators have died out."""
    monkeypatch.setattr("loracast.systems.trajectories.MOST_EVENTS", 20_000)
    with pytest.raises(DataError, match=r"more than 20,000 births and deaths by time .* shorter duration"):
        simulate("lotka-volterra", 10, individuals=2.0)


def test_process_noise_is_a_random_walk_of_the_logarithm_where_nothing_else_moves():
    still = System("still", "", ("x",), {}, {"x": (2.0, 2.0)}, lambda state, t, p: [0.0], source="", steps=17)
    paths = np.log(stack(simulate(still, 400, process_noise=0.1))[..., 0] / 2)  # [N, T]
    moves = np.diff(paths, axis=1)
    assert moves.std() == pytest.approx(0.1, rel=0.03)
    assert moves.mean() == pytest.approx(-(0.1**2) / 2, abs=4 * 0.1 / np.sqrt(moves.size))
    assert paths[:, -1].std() == pytest.approx(0.4, rel=0.15)


def test_a_disturbed_trajectory_goes_on_from_where_it_was_moved_and_its_first_step_is_the_same():
    smooth, moved = (stack(simulate("predator-prey", 3, process_noise=noise)) for noise in (0.0, 0.05))
    np.testing.assert_array_equal(smooth[:, 0], moved[:, 0])
    apart = np.abs(np.log(moved / smooth)).mean((0, 2))
    assert apart[1] < 0.15 < apart[-20:].mean()
    assert moved.min() > 0
    seasonal = simulate("seasonal-predator-prey", 1, process_noise=0.05)[0]
    assert seasonal.names == ("season", "prey", "predator")


def test_individuals_are_refused_where_nothing_is_said_of_them():
    for words, options in (
        ("says nothing of single births", {"individuals": 5.0}),
        ("individuals must be positive", {"individuals": -1.0}),
    ):
        with pytest.raises(ConfigError, match=words):
            simulate("seasonal-predator-prey", 1, **options)
    with pytest.raises(ConfigError, match="do not go together"):
        simulate("predator-prey", 1, individuals=5.0, process_noise=0.1)
    with pytest.raises(ConfigError, match="process_noise must be at least 0"):
        simulate("predator-prey", 1, process_noise=-0.1)


def test_noise_is_log_normal_on_the_same_trajectory():
    clean, noisy = stack(simulate("predator-prey", 50)), stack(simulate("predator-prey", 50, noise=0.1))
    logs = np.log(noisy / clean)
    assert abs(logs.mean()) < 0.005
    assert logs.std() == pytest.approx(0.1, rel=0.05)


def test_trajectories_that_cannot_be_integrated_are_drawn_anew():
    series = simulate(blow_up, 30, seed=0)
    first = np.array([np.random.default_rng([0, index]).uniform(0.1, 0.9) for index in range(30)])
    failed = first > 0.5
    assert failed.any()
    start = stack(series)[:, 0, 0]
    np.testing.assert_array_equal(start[~failed], first[~failed])
    assert (start < 0.5).all()
    np.testing.assert_allclose(stack(series)[:, :, 0], 1 / (1 / start[:, None] - np.asarray(series[0].time)), rtol=1e-3)
    with pytest.raises(DataError, match="system 'blow-up', trajectory 0: none of 10 draws"):
        simulate(blow_up, 1, duration=100.0)


def test_a_positive_law_never_gives_values_at_or_below_zero():
    sinking = replace(blow_up, positive=True, initial={"x": (0.5, 1.5)}, derivative=lambda *_: [-1.0], duration=1.0)
    assert stack(simulate(replace(sinking, positive=False), 20)).min() < 0
    assert stack(simulate(sinking, 20)).min() > 0
    with pytest.raises(DataError, match="values that are not positive"):
        simulate(sinking, 1, duration=2.0)


def test_registry(monkeypatch):
    monkeypatch.setattr("loracast.systems.system.SYSTEMS", dict(SYSTEMS))
    register(blow_up)
    assert get_system("blow-up") is blow_up
    assert stack(simulate("blow-up", 1, duration=0.5)).shape == (1, 5, 1)
    with pytest.raises(ConfigError, match="registered already"):
        register(blow_up)
    with pytest.raises(
        ConfigError,
        match="unknown system 'three-body'; there are predator-prey, lotka-volterra, seasonal-predator-prey",
    ):
        simulate("three-body", 1)


def test_settings_are_refused_all_at_once():
    with pytest.raises(ConfigError) as caught:
        simulate("predator-prey", 0, seed=-1, steps=1, duration=float("nan"), noise=-0.1)
    assert len(caught.value.problems) == 5
    with pytest.raises(ConfigError) as caught:
        System("s", "", ("x", "y"), {"a": (2.0, 1.0)}, {"x": (0.0, 1.0)}, lambda state, t, parameters: state, "")
    assert len(caught.value.problems) == 2


def test_lynx_hare_ships():
    series = lynx_hare()
    assert series.names == ("hare", "lynx")
    assert series.time is not None
    np.testing.assert_array_equal(series.time, np.arange(1845, 1936))
    assert series.values[0].tolist() == [19.58, 30.09]
    assert series.values[-1].tolist() == [15.76, 35.4]
    if not (path := REFERENCE / "lynx_hare_1845_1935.csv").exists():
        pytest.skip("the reference data are not here")
    np.testing.assert_array_equal(series.values, np.loadtxt(path, delimiter=",", skiprows=1)[:, 1:])


def test_simulating_tells_how_far_it_is():
    told: list[float] = []
    assert len(simulate("lotka-volterra", 4, steps=5, progress=told.append)) == 4
    assert told == [0.25, 0.5, 0.75, 1.0]

"""Observation noise on windows: its kinds and sizes, and what stays as it is."""

import numpy as np
import pytest

from loracast.engine.observation import CLEAN, LEAST, observed

TARGETS = np.array([True])


def noisy(windows: np.ndarray, most: float = 0.3, seed: int = 0, targets: np.ndarray = TARGETS) -> np.ndarray:
    return observed(windows, windows.shape[1] // 2, most, targets, np.random.default_rng(seed))


def constant(count: int, level: float = 5.0) -> np.ndarray:
    return np.full((count, 400, 1), level)


def test_a_quarter_of_the_windows_is_clean_and_sizes_are_log_uniform():
    windows = constant(3000)
    relative = noisy(windows).std(1)[:, 0] / 5
    moved = relative[relative > 0]  # a constant has no spread to add noise of, so that a third more stays
    assert (relative == 0).mean() == pytest.approx(CLEAN + (1 - CLEAN) / 3, abs=0.03)
    logs = np.log(moved)
    low, high = np.log(LEAST), np.log(0.3)
    assert logs.mean() == pytest.approx((low + high) / 2, abs=0.1)
    assert logs.std() == pytest.approx((high - low) / np.sqrt(12), rel=0.06)
    assert moved.max() < 0.36


def test_noise_is_on_the_context_and_the_future_alike_and_every_step_has_its_own():
    out = noisy(constant(500))
    changed = (out != 5).any(1)[:, 0]
    first, second = out[changed, :200, 0].std(1), out[changed, 200:, 0].std(1)
    assert np.median(second / first) == pytest.approx(1, abs=0.05)
    steps = out[changed, :, 0] - out[changed, :, 0].mean(1, keepdims=True)
    after = (steps[:, 1:] * steps[:, :-1]).mean(1) / (steps**2).mean(1)
    assert abs(after.mean()) < 0.02


def test_added_noise_follows_the_spread_and_may_cross_zero():
    wave = np.sin(np.arange(400) / 7)[None, :, None] * np.ones((600, 1, 1))
    out = noisy(wave)
    at_zero = np.abs(wave[0, :, 0]) < 0.02
    spread = np.abs(out - wave)[:, at_zero, 0].max(1)
    assert (spread > 0.02).mean() == pytest.approx((1 - CLEAN) / 3, abs=0.12)  # factors leave what is zero where it is


def test_counts_are_whole_numbers_of_individuals_with_zeros_where_there_are_few():
    level = np.geomspace(0.01, 10, 400)[None, :, None] * np.ones((900, 1, 1))
    out = noisy(level)
    counted = []
    for window in out[..., 0]:
        individuals = window / np.diff(np.unique(window)).min()
        if np.allclose(individuals, np.rint(individuals), rtol=0, atol=1e-6):
            counted.append(window)
    assert 0.01 < len(counted) / len(out) < 0.3  # where there are many individuals, two never differ by one alone
    assert any((window == 0).any() for window in counted)
    assert (out >= 0).all()


def test_what_is_missing_or_known_stays():
    windows = np.random.default_rng(0).uniform(1, 2, (50, 40, 3))
    windows[3, 5:9, 0], windows[4, :20, 1] = np.nan, np.nan
    out = noisy(windows, targets=np.array([True, True, False]))
    assert np.array_equal(np.isnan(out), np.isnan(windows))
    assert np.array_equal(out[..., 2], windows[..., 2])
    assert (out[..., 0] != windows[..., 0]).any()
    assert np.array_equal(
        noisy(windows, seed=1, targets=np.ones(3, bool)),
        noisy(windows, seed=1, targets=np.ones(3, bool)),
        equal_nan=True,
    )

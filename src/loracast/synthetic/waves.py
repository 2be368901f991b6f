"""Oscillations in closed form: a phase that advances, a waveform over it, an envelope around it.

Shapes: N rows, T steps, V variables, K partials or pulses.
Phases are integrated by hand (never by `cumsum`, whose sums on CUDA may differ between runs).
"""

from math import tau

import torch
from torch import Tensor

from loracast.synthetic.family import Draws, Family


def envelope(draws: Draws, n: int, steps: int) -> Tensor:
    """Amplitude over time [N, T, 1]: steady, settling onto a smaller or larger cycle, damped, growing or modulated."""
    time = draws.clock(steps)  # [T]
    constant = draws.log_uniform(0.05, 1.5, n, 1) * steps  # [N, 1], time constant in steps
    decay = torch.exp(-time / constant)  # [N, T]
    start = draws.log_uniform(0.01, 1, n, 1)
    logistic = (1 + (start**-2 - 1) * torch.exp(-2 * time / (0.4 * constant))).rsqrt()
    level = draws.uniform(0.05, 0.95, n, 1)
    rhythm = torch.cos(tau * (time / draws.period(4 * steps, n, 1, shortest=12.0) + draws.uniform(0, 1, n, 1)))
    options = [
        torch.ones_like(decay),
        decay,  # a damped oscillation
        level + (1 - level) * decay,  # onto the cycle from outside
        logistic,  # onto the cycle from inside: the amplitude of Stuart and Landau
        torch.exp((time - steps) / constant.clamp_min(0.3 * steps)),  # an instability before it saturates
        1 + draws.uniform(0.1, 0.9, n, 1) * rhythm,
    ]
    return draws.pick(options, [4, 2, 1.5, 1.5, 0.5, 1])[..., None]


def phase(draws: Draws, n: int, steps: int, variables: int, *, shortest: float = 4.0) -> Tensor:
    """Cycles gone by [N, T, V]: one clock a row, a lag a variable; the pace is even, uneven, drifting or modulated."""
    time = draws.clock(steps)
    period = draws.period(steps, n, 1, shortest=shortest)
    even = time / period + draws.uniform(0, 1, n, 1)  # [N, T]
    uneven = even + draws.uniform(0.1, 0.9, n, 1) / tau * torch.sin(tau * even)
    drifting = even * (1 + draws.uniform(-0.3, 0.3, n, 1) * time / (2 * steps))
    slow = draws.period(4 * steps, n, 1, shortest=12.0).clamp_min(2 * period)  # the pace never turns negative
    modulated = even + draws.uniform(0.1, 0.8, n, 1) * slow / period / tau * torch.sin(tau * time / slow)
    pace = draws.pick([even, uneven, drifting, modulated], [5, 2, 1, 1])  # [N, T]
    lag = draws.uniform(0, 1, n, 1, variables) * draws.coin(0.9, n, 1, 1)
    return pace[..., None] + lag


def drift(draws: Draws, n: int, steps: int, variables: int) -> Tensor:
    """A slow change of the level [N, T, V], in units of the amplitude; none for most rows."""
    time = draws.clock(steps)[:, None] / steps
    slope = draws.normal(n, 1, variables) * draws.coin(0.2, n, 1, 1)
    bend = draws.normal(n, 1, variables) * draws.coin(0.1, n, 1, 1)
    return slope * time + bend * time**2


def _sinusoids(draws: Draws, n: int, steps: int, variables: int) -> Tensor:
    partials = 4
    active = torch.arange(partials, device=draws.device) < draws.integers(1, partials, n, 1)  # [N, K]
    harmonic = torch.arange(1, partials + 1, device=draws.device) * torch.ones_like(active)
    ratio = draws.pick([harmonic, draws.log_uniform(0.15, 3, n, partials)], [2, 1])  # [N, K]
    ratio[:, 0] = 1
    amplitude = draws.normal(n, variables, partials) / (1 + torch.arange(partials, device=draws.device))
    amplitude[..., 0] = draws.sign(n, variables) * draws.uniform(0.6, 1.4, n, variables)
    amplitude = (amplitude * active[:, None])[:, None]  # [N, 1, V, K]
    cycles = phase(draws, n, steps, variables, shortest=5.0)[..., None] * ratio[:, None, None]  # [N, T, V, K]
    cycles = cycles + draws.uniform(0, 1, n, 1, 1, partials)
    waves = (amplitude * torch.cos(tau * cycles)).sum(-1)  # [N, T, V]
    return waves * envelope(draws, n, steps) + drift(draws, n, steps, variables)


def _waveforms(draws: Draws, n: int, steps: int, variables: int) -> Tensor:
    angle = phase(draws, n, steps, variables, shortest=6.0)  # [N, T, V]
    turn = torch.frac(angle)
    cosine = torch.cos(tau * angle)
    rise = draws.uniform(0.03, 0.97, n, 1, variables)
    duty = draws.uniform(0.08, 0.6, n, 1, variables)
    sharpness = draws.log_uniform(1, 12, n, 1, variables)
    triangle = torch.where(turn < rise, turn / rise, (1 - turn) / (1 - rise))
    shapes = [
        triangle,
        (turn < duty).float(),
        torch.tanh(sharpness * (cosine - draws.uniform(-0.6, 0.6, n, 1, variables))),
        cosine.clamp(-duty, 1.1 - duty),
        (cosine - draws.uniform(-0.5, 0.7, n, 1, variables)).clamp_min(0),
        cosine.abs(),
        torch.exp(sharpness * (cosine - 1)),  # narrow positive peaks, long troughs near zero
        torch.exp(sharpness * (triangle - 1)),  # as above, steeper on one side
        ((1 + cosine) / 2) ** sharpness,
    ]
    wave = draws.pick(shapes, [1.5, 0.7, 1, 0.5, 1, 0.7, 3, 2, 1.5])
    sign = torch.where(draws.coin(0.85, n, 1, variables), 1.0, -1.0)
    return sign * wave * envelope(draws, n, steps) + 0.5 * drift(draws, n, steps, variables)


def _closed_curves(draws: Draws, n: int, steps: int, variables: int) -> Tensor:
    partials = 6
    order = torch.arange(1, partials + 1, device=draws.device)  # [K]
    roughness = order ** -draws.uniform(1.2, 3.5, n, 1)  # [N, K]
    weights = draws.normal(n, variables, 2 * partials) * torch.cat([roughness, roughness], 1)[:, None]  # [N, V, 2K]
    cycles = phase(draws, n, steps, 1, shortest=6.0)  # [N, T, 1], one for all variables
    amplitude = envelope(draws, n, steps)
    shear = draws.normal(n, 1, 1) * draws.coin(0.3, n, 1, 1)
    angle = tau * (cycles + shear * (1 - amplitude)) * order  # [N, T, K]
    curve = torch.cat([angle.cos(), angle.sin()], -1) @ weights.mT  # [N, T, V]
    return curve * amplitude + 0.3 * drift(draws, n, steps, variables)


def _bursts(draws: Draws, n: int, steps: int, variables: int) -> Tensor:
    pulses = 6
    time = draws.clock(steps)[:, None, None]  # [T, 1, 1]
    onset = draws.uniform(-0.1, 1, n, 1, 1, pulses) * steps
    gap = draws.log_uniform(0.1, 0.6, n, 1, 1, 1) * steps
    regular = (torch.arange(pulses, device=draws.device) - draws.uniform(0, 1, n, 1, 1, 1)) * gap
    onset = draws.pick([onset, regular]) + draws.uniform(0, 8, n, 1, variables, 1)  # [N, 1, V, K]
    age = (time - onset).clamp_min(0)  # [N, T, V, K], steps since the pulse
    decay = draws.log_uniform(3, 40, n, 1, variables, 1)
    rise = decay * draws.uniform(0.05, 0.8, n, 1, variables, 1)
    ringing = torch.sin(tau * age / draws.log_uniform(4, 30, n, 1, variables, 1))
    shape = draws.pick([torch.exp(-age / decay) - torch.exp(-age / rise), torch.exp(-age / decay) * ringing], [2, 1])
    size = draws.pick([draws.log_uniform(0.2, 2, n, 1, 1, pulses), torch.ones(n, 1, 1, pulses, device=draws.device)])
    return (size * shape).sum(-1)


WAVES = (
    Family("sinusoids", "one to four partials, drifting, damped, growing or modulated", 12, "Fourier sums", _sinusoids),
    Family(
        "waveforms",
        "sawtooth, pulse, squared, clipped, rectified waves and narrow peaks with long troughs",
        12,
        "functions of a phase, among them exp(k cos) (von Mises)",
        _waveforms,
    ),
    Family(
        "closed-curves",
        "a smooth random closed curve traversed at even or uneven speed, settling or growing",
        14,
        "random Fourier series of order 6 times an amplitude law, with shear",
        _closed_curves,
    ),
    Family("bursts", "intermittent pulses, regular or not, some ringing", 3, "shot noise with smooth kernels", _bursts),
)

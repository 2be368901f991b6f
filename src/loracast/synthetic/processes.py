"""Relaxation, linear systems, Gaussian processes, autoregressions and piecewise levels.

Shapes: N rows, T steps, V variables, K modes, jumps or compartments.
"""

from math import tau

import torch
from torch import Tensor

from loracast.synthetic.family import Draws, Family
from loracast.synthetic.waves import drift

GAUSSIAN_BYTES = 2e9
"""Memory that the covariance matrices of Gaussian processes and their temporaries may take at once."""

WARM_UP = 64
"""Steps after which an autoregression is taken to have forgotten its start."""


def _relaxation(draws: Draws, n: int, steps: int, variables: int) -> Tensor:
    time = draws.clock(steps)[:, None]  # [T, 1]
    constant = draws.log_uniform(0.02, 1, n, 1, variables) * steps  # [N, 1, V]
    onset = draws.uniform(0, 0.8, n, 1, 1) * steps
    delayed = (time - onset).clamp_min(0)  # [N, T, 1]
    damping = draws.log_uniform(0.1, 1, n, 1, variables)
    swing = torch.sqrt(1 - 0.99 * damping**2)
    ringing = torch.exp(-damping * time / constant) * torch.cos(swing * time / constant)
    shapes = [
        torch.exp(-time / constant),
        1 - torch.exp(-delayed / constant),
        torch.sigmoid((time - onset) / (0.3 * constant)),
        ringing,
        torch.exp(-torch.exp(-(time - onset) / (0.4 * constant))),  # Gompertz
        (1 + time / constant) ** -draws.uniform(0.5, 3, n, 1, variables),
        torch.tanh(time / constant),
    ]
    return draws.sign(n, 1, variables) * draws.pick(shapes, [2, 1, 1.5, 2, 1, 1, 1])


def _compartments(draws: Draws, n: int, steps: int, variables: int) -> Tensor:
    doses = 5
    time = draws.clock(steps)[:, None, None]  # [T, 1, 1]
    interval = draws.log_uniform(0.1, 2, n, 1, 1, 1) * steps
    onset = torch.arange(doses, device=draws.device) * interval + draws.uniform(-0.2, 0.4, n, 1, 1, 1) * steps
    rate = 1 / (draws.log_uniform(0.02, 0.4, n, 1, 1, 1) * steps)
    age = rate * (time - onset).clamp_min(0)  # [N, T, 1, K], in transit times
    stage = torch.arange(variables, device=draws.device)[:, None] + draws.integers(0, 3, n, 1, 1, 1)  # [N, 1, V, 1]
    through = age**stage * torch.exp(-age - torch.lgamma(stage + 1.0)) * (time > onset)
    stored = 1 - torch.exp(-age) * (1 + age * stage.clamp_max(1))
    return draws.pick([through, stored], [4, 1]).sum(-1)


def _linear_systems(draws: Draws, n: int, steps: int, variables: int) -> Tensor:
    modes = 3
    time = draws.clock(steps)  # [T]
    active = torch.arange(modes, device=draws.device) < draws.integers(1, modes, n, 1)  # [N, K]
    frequency = tau / draws.period(steps, n, modes, shortest=5.0)
    frequency = frequency * draws.coin(0.75, n, modes)  # the other eigenvalues are real
    decay = 1 / (draws.log_uniform(0.05, 3, n, modes) * steps)
    shrink = torch.exp(-decay[:, None] * time[:, None])  # [N, T, K]
    angle = frequency[:, None] * time[:, None]
    modal = torch.cat([shrink * angle.cos(), shrink * angle.sin()], -1)  # [N, T, 2K]
    coupling = draws.normal(n, variables, 2 * modes) * active.repeat(1, 2)[:, None]
    return modal @ coupling.mT


def _covariance(draws: Draws, n: int, steps: int) -> Tensor:
    """Covariance matrices [N, T, T] in float64 of stationary kernels: one of four, a product or a sum of two."""
    lag = draws.clock(steps).double()  # [T]

    def length() -> Tensor:
        return draws.log_uniform(0.02, 0.7, n, 1).double() * steps

    smooth = torch.exp(-((lag / length()) ** 2) / 2)
    scaled = lag / length() * 3**0.5
    matern = (1 + scaled) * torch.exp(-scaled)
    exponent = draws.log_uniform(0.2, 5, n, 1).double()
    rational = (1 + (lag / length()) ** 2 / (2 * exponent)) ** -exponent
    wave = torch.sin(torch.pi * lag / draws.period(steps, n, 1, shortest=6.0).double())
    periodic = torch.exp(-2 * (wave / draws.log_uniform(0.4, 2.5, n, 1)) ** 2)
    share = draws.uniform(0.05, 0.5, n, 1)
    options = [
        smooth,
        matern,
        rational,
        periodic,
        periodic * torch.exp(-((lag / (2 * steps)) ** 2)),
        periodic * smooth,
        (1 - share) * periodic + share * smooth,
    ]
    kernel = draws.pick(options, [2, 1.5, 1, 2, 2, 1, 1.5])  # [N, T], over the lag
    position = torch.arange(steps, device=draws.device)
    return kernel[:, (position[:, None] - position).abs()]


def _gaussian_processes(draws: Draws, n: int, steps: int, variables: int) -> Tensor:
    matrices = 4  # a covariance, the same with its ridge, its factor and the solver's copy
    batch = max(1, int(GAUSSIAN_BYTES / (matrices * 8 * steps**2)))
    ridge = 1e-7 * torch.eye(steps, device=draws.device, dtype=torch.float64)
    pieces = []
    for begin in range(0, n, batch):
        size = min(batch, n - begin)
        factor, failed = torch.linalg.cholesky_ex(_covariance(draws, size, steps) + ridge)  # [B, T, T], [B]
        latent = factor @ draws.normal(size, steps, variables).double()  # [B, T, V]
        pieces.append(torch.where(failed[:, None, None] == 0, latent, torch.nan).float())
    independent = torch.cat(pieces)
    mixing = torch.eye(variables, device=draws.device) + draws.normal(n, variables, variables)
    return draws.pick([independent, independent @ mixing], [1, 2])


def _second_order(first: Tensor, second: Tensor, driver: Tensor) -> Tensor:
    """y_t = first y_(t-1) + second y_(t-2) + driver_t for a driver [T, N, V]."""
    previous = before = torch.zeros_like(driver[0])
    path = []
    for shock in driver:
        previous, before = first * previous + second * before + shock, previous
        path.append(previous)
    return torch.stack(path)


def _autoregressions(draws: Draws, n: int, steps: int, variables: int) -> Tensor:
    path = draws.normal(steps + WARM_UP, n, variables)
    for probability in (1.0, 0.5):  # AR(1) to AR(4), as two sections of order two in series
        radius = draws.uniform(0.6, 1, n, 1) ** 0.25 * 0.995
        angle = draws.uniform(0.05, 1.2, n, 1)
        other = draws.uniform(-0.5, 0.9, n, 1) * draws.coin(0.6, n, 1)
        complex_pair = torch.cat([2 * radius * torch.cos(angle), -(radius**2)], 1)  # [N, 2]
        real_pair = torch.cat([radius + other, -radius * other], 1)
        pair = draws.pick([complex_pair, real_pair]) * draws.coin(probability, n, 1)
        path = _second_order(pair[:, :1], pair[:, 1:], path)
    return path[WARM_UP:].transpose(0, 1)


def _vector_autoregressions(draws: Draws, n: int, steps: int, variables: int) -> Tensor:
    mirror = draws.normal(n, variables, 1)
    tilted = mirror + draws.log_uniform(0.02, 0.6, n, 1, 1) * draws.normal(n, variables, 1)
    rotation = torch.eye(variables, device=draws.device).expand(n, variables, variables)
    for axis in (mirror, tilted):  # two reflections turn a random plane by twice the angle between their axes
        normal = torch.nn.functional.normalize(axis, dim=1)
        rotation = rotation - 2 * normal @ (normal.mT @ rotation)
    damping = draws.uniform(0.85, 1, n, 1, variables) * draws.uniform(0.9, 0.998, n, 1, 1)
    transition = rotation * damping  # [N, V, V], spectral norm below one
    state = draws.normal(n, 1, variables) * draws.log_uniform(1, 30, n, 1, 1)
    path = []
    for shock in draws.normal(steps, n, 1, variables):
        state = state @ transition + shock
        path.append(state)
    return torch.cat(path, 1)


def _random_walks(draws: Draws, n: int, steps: int, variables: int) -> Tensor:
    pull = draws.pick([torch.zeros(n, 1, device=draws.device), draws.log_uniform(0.005, 0.3, n, 1)])  # walk or OU
    persistence = draws.pick([torch.zeros(n, 1, device=draws.device), draws.uniform(0.5, 0.97, n, 1)])  # of the shocks
    shocks = draws.normal(steps, n, variables)
    shocks = shocks * torch.exp(0.7 * draws.normal(steps, n, variables) * draws.coin(0.3, n, 1))  # some heavy-tailed
    shocks = shocks + 0.2 * draws.normal(n, variables) * draws.coin(0.3, n, 1)
    return _second_order(1 - pull + persistence, -(1 - pull) * persistence, shocks).transpose(0, 1)


def _levels(draws: Draws, n: int, steps: int, variables: int) -> Tensor:
    jumps = 6
    time = draws.clock(steps)[:, None, None]
    onset = draws.uniform(0, 1.3, n, 1, 1, jumps) * steps  # those beyond the window never happen
    onset[..., 0] = draws.uniform(0.1, 0.9, n, 1, 1) * steps
    width = draws.pick([torch.full((n, 1, 1, 1), 1e-3, device=draws.device), draws.log_uniform(0.3, 8, n, 1, 1, 1)])
    size = draws.normal(n, 1, variables, jumps)
    return (size * torch.sigmoid((time - onset) / width)).sum(-1)


def _trends(draws: Draws, n: int, steps: int, variables: int) -> Tensor:
    time = draws.clock(steps)[:, None] / steps  # [T, 1]
    line = draws.normal(n, 1, variables)
    bend = draws.normal(n, 1, variables) * draws.coin(0.5, n, 1, 1)
    kink = draws.normal(n, 1, variables) * (time - draws.uniform(0.1, 0.9, n, 1, 1)).clamp_min(0) * 2
    growth = torch.exp(draws.normal(n, 1, variables) * 2 * time)
    options = [line * time, line * time + bend * time**2, line * time + kink, growth]
    season = torch.sin(tau * (time * steps / draws.period(steps, n, 1, 1) + draws.uniform(0, 1, n, 1, variables)))
    return draws.pick(options) + season * draws.uniform(0, 0.4, n, 1, variables) * draws.coin(0.5, n, 1, 1)


def _constants(draws: Draws, n: int, steps: int, variables: int) -> Tensor:
    wiggle = draws.log_uniform(1e-4, 5e-3, n, 1, 1) * draws.coin(0.5, n, 1, 1)
    period = draws.period(steps, n, 1, variables)
    wave = torch.sin(tau * (draws.clock(steps)[:, None] / period + draws.uniform(0, 1, n, 1, variables)))
    return 1 + wiggle * (wave + drift(draws, n, steps, variables))


PROCESSES = (
    Family(
        "relaxation",
        "approach to a level: exponential, logistic, Gompertz, power law, overshooting",
        4,
        "x' = (x* - x) / tau and its kin",
        _relaxation,
    ),
    Family(
        "compartments",
        "chains of linear compartments after one or more doses",
        2,
        "x_k' = r (x_(k-1) - x_k): gamma-shaped responses",
        _compartments,
    ),
    Family(
        "linear-systems",
        "coupled damped linear oscillators and decays",
        8,
        "x' = A x, A stable with drawn eigenvalues and eigenvectors",
        _linear_systems,
    ),
    Family(
        "gaussian-processes",
        "smooth, rough and periodic kernels, their sums and products; coregionalised variables",
        6,
        "Rasmussen and Williams (2006), chapter 4",
        _gaussian_processes,
    ),
    Family("autoregressions", "AR(1) to AR(4) with drawn roots", 2, "Box and Jenkins (1970)", _autoregressions),
    Family(
        "vector-autoregressions",
        "VAR(1), a damped random rotation under noise",
        2,
        "Sims (1980)",
        _vector_autoregressions,
    ),
    Family(
        "random-walks",
        "random walks, Ornstein-Uhlenbeck processes, smoothed and heavy-tailed ones",
        2,
        "x_t - x_(t-1) = -k x_(t-1) + e_t with persistent e_t",
        _random_walks,
    ),
    Family("levels", "piecewise constants with abrupt or smooth shifts", 2, "sums of steps", _levels),
    Family("trends", "lines, parabolas, kinks, exponentials, some with a season", 2, "polynomials", _trends),
    Family("constants", "constants and nearly constants", 3, "x' = 0", _constants, constant=True),
)

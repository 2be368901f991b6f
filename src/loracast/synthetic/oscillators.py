"""Nonlinear oscillators.

None has the growth-rate form x' = x f(x, y), y' = y g(x, y) of populations: no two coordinate axes stay invariant.
Shapes: N rows; a derivative takes a state [D, N] and parameters [P, N] and gives [D, N].
"""

from math import pi, tau

import torch
from torch import Tensor

from loracast.synthetic.family import Draws
from loracast.synthetic.flows import Flow, Start, ring


def _near(draws: Draws, equilibrium: Tensor) -> Tensor:
    """Positive states around a positive equilibrium [D, N]: a small perturbation of it, or far off."""
    spread = draws.log_uniform(0.01, 1, equilibrium.shape[1])
    return equilibrium * torch.exp(spread * draws.normal(*equilibrium.shape))


def _van_der_pol(state: Tensor, parameters: Tensor) -> Tensor:
    (x, y), (mu,) = state, parameters
    return torch.stack([y, mu * (1 - x * x) * y - x])


def _rayleigh(state: Tensor, parameters: Tensor) -> Tensor:
    (x, y), (mu,) = state, parameters
    return torch.stack([y, mu * (1 - y * y) * y - x])


def _start_relaxation_oscillator(draws: Draws, n: int) -> Start:
    mu = draws.log_uniform(0.05, 4, n)
    return Start(mu[None], ring(draws, n, 0.01, 3), tau + 1.2 * mu)


def _fitzhugh_nagumo(state: Tensor, parameters: Tensor) -> Tensor:
    (v, w), (current, epsilon, a, b) = state, parameters
    return torch.stack([v - v * v * v / 3 - w + current, epsilon * (v + a - b * w)])


def _start_fitzhugh_nagumo(draws: Draws, n: int) -> Start:
    epsilon = draws.log_uniform(0.07, 0.4, n)
    current, a, b = draws.uniform(0.2, 1.4, n), draws.uniform(0.5, 0.9, n), draws.uniform(0.1, 0.9, n)
    return Start(torch.stack([current, epsilon, a, b]), 1.2 * draws.normal(2, n).clamp(-2, 2), 8 + 2 / epsilon)


def _stuart_landau(state: Tensor, parameters: Tensor) -> Tensor:
    (x, y), (growth, cubic, quintic, shear) = state, parameters
    square = x * x + y * y
    radial = growth + square * (cubic + quintic * square)
    angular = 1 + shear * square
    return torch.stack([radial * x - angular * y, angular * x + radial * y])


def _start_supercritical(draws: Draws, n: int) -> Start:
    rate = draws.log_uniform(0.01, 0.6, n)
    growth = rate * torch.where(draws.coin(0.75, n), 1.0, -1.0)  # otherwise a spiral into the fixed point
    shear, state = draws.uniform(-0.5, 2, n), ring(draws, n, 0.03, 1.8)
    fastest = 1 + shear.clamp_min(0) * state.square().sum(0).clamp_min(1)
    return Start(torch.stack([growth, -rate, torch.zeros_like(rate), shear]), state, tau / fastest)


def _start_subcritical(draws: Draws, n: int) -> Start:
    rate = draws.log_uniform(0.03, 0.6, n)
    growth = rate * draws.uniform(-0.35, 0.1, n)  # below -1/4 no cycle is left, above 0 the fixed point is unstable
    parameters = torch.stack([growth, rate, -rate, draws.uniform(-0.3, 1.5, n)])
    return Start(parameters, ring(draws, n, 0.05, 1.4), torch.full_like(rate, tau))


def _duffing(state: Tensor, parameters: Tensor) -> Tensor:
    (x, v, angle), (damping, stiffness, cubic, force, frequency) = state, parameters
    return torch.stack([v, force * torch.cos(angle) - damping * v - x * (stiffness + cubic * x * x), frequency])


def _start_duffing(draws: Draws, n: int) -> Start:
    force = draws.uniform(0.1, 0.7, n) * draws.coin(0.5, n)
    parameters = [draws.log_uniform(0.005, 0.4, n), draws.sign(n), draws.uniform(0.2, 1.5, n)]
    parameters += [force, draws.uniform(0.6, 1.6, n)]
    state = torch.cat([ring(draws, n, 0.2, 2.5), draws.uniform(0, tau, 1, n)])
    return Start(torch.stack(parameters), state, torch.full_like(force, tau))


def _pendulum(state: Tensor, parameters: Tensor) -> Tensor:
    (x, v, angle), (damping, force, frequency) = state, parameters
    return torch.stack([v, force * torch.cos(angle) - damping * v - torch.sin(x), frequency])


def _start_pendulum(draws: Draws, n: int) -> Start:
    force = draws.uniform(0.1, 1.2, n) * draws.coin(0.3, n)
    parameters = torch.stack([draws.log_uniform(0.003, 0.4, n), force, draws.uniform(0.4, 1, n)])
    angle = draws.uniform(-pi, pi, n) * draws.uniform(0.1, 0.99, n)
    return Start(parameters, torch.stack([angle, draws.normal(n), draws.uniform(0, tau, n)]), 0 * angle + 1.2 * tau)


def _brusselator(state: Tensor, parameters: Tensor) -> Tensor:
    (x, y), (a, b) = state, parameters
    product = x * x * y
    return torch.stack([a + product - (b + 1) * x, b * x - product])


def _start_brusselator(draws: Draws, n: int) -> Start:
    a = draws.uniform(0.5, 1.6, n)
    b = (1 + a * a) * draws.uniform(0.75, 1.8, n)  # oscillates above 1 + a^2
    return Start(torch.stack([a, b]), _near(draws, torch.stack([a, b / a])), 1.3 * tau / a)


def _selkov(state: Tensor, parameters: Tensor) -> Tensor:
    (x, y), (a, b) = state, parameters
    flux = (a + x * x) * y
    return torch.stack([flux - x, b - flux])


def _start_selkov(draws: Draws, n: int) -> Start:
    a, b = draws.uniform(0.03, 0.13, n), draws.uniform(0.35, 0.95, n)
    equilibrium = torch.stack([b, b / (a + b * b)])
    return Start(torch.stack([a, b]), _near(draws, equilibrium), tau / torch.sqrt(a + b * b))


def _schnakenberg(state: Tensor, parameters: Tensor) -> Tensor:
    (x, y), (a, b) = state, parameters
    product = x * x * y
    return torch.stack([a - x + product, b - product])


def _start_schnakenberg(draws: Draws, n: int) -> Start:
    a, b = draws.uniform(0.02, 0.15, n), draws.uniform(0.4, 1, n)
    equilibrium = torch.stack([a + b, b / (a + b) ** 2])
    return Start(torch.stack([a, b]), _near(draws, equilibrium), tau / (a + b))


def _gene_ring(state: Tensor, parameters: Tensor) -> Tensor:
    strength, steepness, leak, decay = parameters[0], parameters[1], parameters[2], parameters[3:]
    return decay * (strength / (1 + state.roll(1, 0) ** steepness) + leak - state)


def _start_gene_ring(draws: Draws, n: int) -> Start:
    strength, steepness = draws.log_uniform(3, 20, n), draws.uniform(2.2, 5, n)
    leak = strength * draws.log_uniform(1e-4, 1e-2, n)
    decay = draws.log_uniform(0.6, 1.6, 3, n)
    state = draws.log_uniform(0.2, 1, n) * strength * draws.uniform(0, 1, 3, n)
    return Start(torch.stack([strength, steepness, leak, *decay]), state, 3.6 + 1.5 * torch.log(strength))


def _goodwin(state: Tensor, parameters: Tensor) -> Tensor:
    (x, y, z), (strength, steepness) = state, parameters
    return torch.stack([strength / (1 + z**steepness) - x, x - y, y - z])


def _start_goodwin(draws: Draws, n: int) -> Start:
    parameters = torch.stack([draws.log_uniform(1.5, 12, n), draws.uniform(7, 18, n)])  # oscillates above 8
    return Start(parameters, draws.log_uniform(0.1, 3, 3, n), torch.full((n,), 4.0, device=draws.device))


def _morris_lecar(state: Tensor, parameters: Tensor) -> Tensor:
    """Potential in units of 20 mV, time in units of 20 ms."""
    (v, w), (current, calcium, recovery, middle, width) = state, parameters
    opening = 0.5 * (1 + torch.tanh((v + 0.06) / 0.9))
    gate = (v - middle) / width
    flow = current - 2 * (v + 3) - 8 * w * (v + 4.2) - calcium * opening * (v - 6)
    return torch.stack([flow, recovery * torch.cosh(gate / 2) * (0.5 * (1 + torch.tanh(gate)) - w)])


def _start_morris_lecar(draws: Draws, n: int) -> Start:
    hopf = torch.stack([draws.uniform(4, 11, n), draws.uniform(4.2, 4.6, n), draws.uniform(0.6, 1.2, n)])
    saddle = torch.stack([draws.uniform(1.9, 4, n), draws.uniform(3.8, 4.2, n), draws.uniform(1, 1.6, n)])
    gates = torch.tensor([[0.1, 1.5], [0.6, 0.87]], device=draws.device).expand(n, 2, 2)
    kinds = torch.stack([torch.cat([hopf.T, gates[:, 0]], 1), torch.cat([saddle.T, gates[:, 1]], 1)])
    parameters = draws.pick([kinds[0], kinds[1]]).T
    state = torch.stack([draws.uniform(-3, 1.5, n), draws.uniform(0, 0.6, n)])
    return Start(parameters, state, 4.5 / parameters[2])


def _planar_cubic(state: Tensor, parameters: Tensor) -> Tensor:
    x, y = state
    square, monomials = x * x + y * y, torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y])  # [6, N]
    return (parameters.view(2, 6, -1) * monomials).sum(1) - square * state


def _start_planar_cubic(draws: Draws, n: int) -> Start:
    coefficients = draws.normal(2, 6, n) * torch.tensor([0.1, 0.3, 0.3, 0.6, 0.6, 0.6], device=draws.device)[:, None]
    turn, growth = draws.log_uniform(0.7, 3, n), draws.uniform(-0.3, 1, n)
    coefficients[0, 1] += growth
    coefficients[1, 2] += growth
    coefficients[0, 2] -= turn
    coefficients[1, 1] += turn
    return Start(coefficients.view(12, n), ring(draws, n, 0.03, 2), tau / turn)


OSCILLATORS = (
    Flow(
        "van-der-pol",
        "self-excited oscillator from nearly harmonic to relaxation",
        6,
        "x'' = mu (1 - x^2) x' - x; van der Pol (1926)",
        2,
        _van_der_pol,
        _start_relaxation_oscillator,
        coarsest=10,
    ),
    Flow(
        "rayleigh",
        "oscillator with velocity-dependent excitation",
        4,
        "x'' = mu (1 - x'^2) x' - x; Rayleigh (1883)",
        2,
        _rayleigh,
        _start_relaxation_oscillator,
        coarsest=12,
    ),
    Flow(
        "fitzhugh-nagumo",
        "excitable and spiking membrane",
        6,
        "v' = v - v^3/3 - w + I, w' = e (v + a - b w); FitzHugh (1961)",
        2,
        _fitzhugh_nagumo,
        _start_fitzhugh_nagumo,
        coarsest=8,
        substeps=12,
    ),
    Flow(
        "hopf-supercritical",
        "spirals onto a circle or into a point, with shear",
        6,
        "z' = (m + i) z - (1 + i s) |z|^2 z, Hopf normal form; Stuart (1958)",
        2,
        _stuart_landau,
        _start_supercritical,
        substeps=4,
        settled=0.2,
    ),
    Flow(
        "hopf-subcritical",
        "bistable: a stable point inside a stable cycle, collapse to the one or growth to the other",
        6,
        "r' = m r + r^3 - r^5, Bautin normal form; Kuznetsov (2004), section 8.3",
        2,
        _stuart_landau,
        _start_subcritical,
        substeps=8,
        settled=0.1,
    ),
    Flow(
        "duffing",
        "nonlinear spring with one or two wells, free or driven",
        4,
        "x'' = -d x' - a x - b x^3 + f cos(w t); Duffing (1918)",
        2,
        _duffing,
        _start_duffing,
        substeps=5,
        settled=0.15,
    ),
    Flow(
        "pendulum",
        "swinging and turning pendulum, free or driven",
        4,
        "x'' = -sin x - d x' + f cos(w t)",
        2,
        _pendulum,
        _start_pendulum,
        substeps=4,
        settled=0.1,
    ),
    Flow(
        "brusselator",
        "autocatalytic reaction",
        6,
        "x' = a + x^2 y - (b + 1) x, y' = b x - x^2 y; Prigogine and Lefever (1968)",
        2,
        _brusselator,
        _start_brusselator,
        coarsest=8,
        substeps=12,
    ),
    Flow(
        "selkov",
        "glycolytic oscillations",
        6,
        "x' = -x + a y + x^2 y, y' = b - a y - x^2 y; Sel'kov (1968)",
        2,
        _selkov,
        _start_selkov,
        coarsest=8,
        settled=0.3,
    ),
    Flow(
        "schnakenberg",
        "trimolecular reaction",
        6,
        "x' = a - x + x^2 y, y' = b - x^2 y; Schnakenberg (1979)",
        2,
        _schnakenberg,
        _start_schnakenberg,
        coarsest=8,
        settled=0.3,
    ),
    Flow(
        "repressilator",
        "ring of three genes, each repressing the next",
        6,
        "x_i' = a / (1 + x_(i-1)^h) + l - x_i; after Elowitz and Leibler (2000)",
        3,
        _gene_ring,
        _start_gene_ring,
        coarsest=8,
        substeps=12,
        settled=0.3,
    ),
    Flow(
        "goodwin",
        "gene that represses itself through two intermediates",
        4,
        "x' = a / (1 + z^p) - x, y' = x - y, z' = y - z; Goodwin (1965)",
        3,
        _goodwin,
        _start_goodwin,
        substeps=6,
        settled=0.1,
    ),
    Flow(
        "morris-lecar",
        "calcium and potassium spikes of a muscle fibre",
        4,
        "Morris and Lecar (1981), parameters around Rinzel and Ermentrout (1989)",
        2,
        _morris_lecar,
        _start_morris_lecar,
        coarsest=8,
    ),
    Flow(
        "planar-cubic",
        "random quadratic vector fields held together by a cubic sink",
        12,
        "x' = c + A x + Q(x, x) - |x|^2 x",
        2,
        _planar_cubic,
        _start_planar_cubic,
        coarsest=8,
        settled=0.3,
    ),
)

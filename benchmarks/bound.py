"""What the true equations reach where they are fitted to what a model reads.

    python benchmarks/bound.py --data lotka_volterra_data.h5 --split split.json

Parameters and initial states of the simulator's own equations are fitted to each context as it is written, by least
squares within the simulator's ranges, from the best of many draws. What follows is scored as a forecast's median is.
It bounds forecasts of series that are accurately integrated; the published ones are not, and a model may learn how.

Without --data, simulated predator–prey series take the place of the published ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from accuracy import SYSTEM, parse, read_data
from harness import bare_parser, keep, note, origin, rounded
from numpy.typing import NDArray
from scipy.integrate import odeint
from scipy.optimize import least_squares

from loracast import Codec
from loracast.systems import get_system

OUTPUT = Path(__file__).parent / "results" / "bound.json"
CODECS = {"fixed, 3 digits": Codec(), "decimal, 2 decimals": Codec("decimal", 2)}
CONTEXT = 50
LIBRARY, STARTS = 2000, 3  # draws that fits may start from, and the best of them that are tried

LAW = get_system(SYSTEM)
RANGES = np.array([*LAW.parameters.values(), *LAW.initial.values()]).T  # [2, parameters + D]


def integrate(unknowns: NDArray[np.float64], time: NDArray[np.float64]) -> NDArray[np.float64]:
    """States [T, D] at `time` [T] of parameters and an initial state [parameters + D]."""
    parameters = dict(zip(LAW.parameters, unknowns))
    return odeint(LAW.derivative, unknowns[len(parameters) :], time, args=(parameters,))


def continued(
    context: NDArray[np.float64],  # [C, D] as it is read
    unit: NDArray[np.float64],  # [D]
    time: NDArray[np.float64],  # [T] of the context and what follows
    draws: NDArray[np.float64],  # [N, parameters + D]
    library: NDArray[np.float64],  # [N, C, D] their states
) -> NDArray[np.float64]:
    """The states [T - C, D] that follow a context by the equations that fit it best."""
    steps = len(context)

    def misfit(unknowns: NDArray[np.float64]) -> NDArray[np.float64]:
        return ((integrate(unknowns, time[:steps]) - context) / unit).ravel()

    nearest = np.argsort((((library - context) / unit) ** 2).sum((1, 2)))[:STARTS]
    scale = RANGES[1] - RANGES[0]
    fits = [least_squares(misfit, draws[start], bounds=RANGES, x_scale=scale) for start in nearest]
    return integrate(min(fits, key=lambda fit: fit.cost).x, time)[steps:]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = bare_parser(__doc__ or "")
    parser.set_defaults(output=OUTPUT, device="cpu")
    options = parse(parser, arguments)
    series = read_data(options.data, options.split).test
    values = np.stack([one.values for one in series])  # [N, T, D]
    time = np.linspace(0.0, LAW.duration, LAW.steps)[: values.shape[1]]
    draws = np.random.default_rng(0).uniform(*RANGES, (LIBRARY, RANGES.shape[1]))
    library = np.stack([integrate(one, time[:CONTEXT]) for one in draws])

    result = {"benchmark": "bound", "series": len(series), "mae": {}, **origin(options)}
    with ProcessPoolExecutor() as pool:
        for name, codec in CODECS.items():
            contexts = values[:, :CONTEXT]
            scale = codec.fit_scale(contexts)
            read = codec.dequantise(codec.quantise(contexts, scale)[0], scale)
            fit = partial(continued, time=time, draws=draws, library=library)
            found = np.stack(list(pool.map(fit, read, scale.unit, chunksize=5)))  # [N, H, D]
            result["mae"][name] = rounded(np.abs(found - values[:, CONTEXT:]).mean())
            note(f"{name}: MAE {result['mae'][name]}")
    keep(result, options.output)


if __name__ == "__main__":
    main()

"""How wide the forecasts of an untouched base ought to be, by series of families that it was never pretrained on.

Shapes: N windows, S paths, H steps of the horizon.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from loracast.calibration import Widths, fit_widths
from loracast.errors import UnseenWarning
from loracast.files import RECORD, write_json
from loracast.forecaster import Forecaster
from loracast.model.config import read_json
from loracast.series import Series
from loracast.settings import SCORE_PATHS, SampleConfig
from loracast.synthetic import KEPT_OUT, synthesise

WINDOWS = 128  # of each number of variables
CONTEXT = 12, 80  # steps, the fewest and the most
HORIZON = 24
VARIABLES = 1, 2, 3


def calibrate(
    forecaster: Forecaster,
    directory: Path,
    *,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> Widths | None:
    """Fits widths to an untouched base's forecasts of the families that are kept out, and stores them in its folder.

    None, and nothing is stored, where its intervals hold what they should. Each variable counts as a window.

    Args:
        directory: the base's, whose loracast.json gets them.
        progress: called with the share of the work that is done.
    """
    samples, truth, lowest = [], [], []
    sizes = [count for count in VARIABLES if count <= (forecaster.model.variables or max(VARIABLES))]
    for done, variables in enumerate(sizes):
        steps = CONTEXT[1] + HORIZON
        made = synthesise(WINDOWS, steps, variables, seed=seed, families=KEPT_OUT).double().numpy()
        lengths = np.random.default_rng([seed, variables]).integers(*CONTEXT, WINDOWS, endpoint=True)
        names = tuple(f"x{number}" for number in range(variables))
        series = [
            Series(one[CONTEXT[1] - length : CONTEXT[1]], names, f"{variables} {number}")
            for number, (one, length) in enumerate(zip(made, lengths))
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnseenWarning)  # of contexts that a small model does not hold
            found = forecaster.predict(
                series,
                HORIZON,
                sample=SampleConfig(SCORE_PATHS, seed=seed),
                raw=True,
                progress=lambda share, done=done: progress((done + share) / len(sizes)),
            )
        samples.append(np.moveaxis(found.samples, 3, 1).reshape(-1, SCORE_PATHS, HORIZON, 1))
        truth.append(np.moveaxis(made[:, -HORIZON:], 2, 1).reshape(-1, HORIZON, 1))
        lowest.append(found.lowest.reshape(-1, 1))
    widths = fit_widths(*(np.concatenate(parts) for parts in (samples, truth, lowest)))
    if widths:
        record = read_json(directory / RECORD)
        write_json(directory / RECORD, {**record, "calibration": widths.to_dict()})
    return widths

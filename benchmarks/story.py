"""Draws the README's picture: a real series that nothing was tuned on, and a noisy one before and after tuning.

    python benchmarks/story.py [-o docs/forecasts.png]

Above, the hare and lynx pelts of 1845-1935 that ship with loracast: the bundled model reads all but the last 20 years.
Below, predator and prey with 10% observation noise: 200 series to tune on, 10 others to forecast, and of these the one
whose error before tuning is the median. Nothing is chosen by how it looks. A few minutes on two processor cores.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import loracast
from loracast.evaluation.backtest import TUNED, ZERO_SHOT, Backtest, backtest
from loracast.files import atomic_path
from loracast.forecast import Forecast, draw_fan
from loracast.forecaster import Forecaster
from loracast.settings import SampleConfig, TuneConfig

YEARS, PATHS = 20, 200  # forecast of the pelts
NOISE, SERIES, HELD_OUT, SAMPLES = 0.1, 200, 10, 20
TUNE = TuneConfig(steps=60, validation_windows=16, validation_series=0)
COLOURS = {ZERO_SHOT: "tab:orange", TUNED: "tab:blue"}


def pelts(base: Forecaster) -> tuple[Forecast, np.ndarray]:
    """The forecast of the last years, and what they were [1, YEARS, 2]."""
    series = loracast.lynx_hare()
    known = series.slice(0, series.steps - YEARS)
    forecast = base.predict(known, YEARS, sample=SampleConfig(PATHS), context=known.steps, progress=True)
    return forecast, series.values[None, -YEARS:]


def noisy(base: Forecaster) -> Backtest:
    """Held-out noisy series, before and after tuning on others."""
    training = loracast.simulate("predator-prey", SERIES, seed=0, noise=NOISE)
    unseen = loracast.simulate("predator-prey", HELD_OUT, seed=1, noise=NOISE)
    forecasters = {ZERO_SHOT: base, TUNED: base.fit(training, tune=TUNE, progress=True)}
    sample = SampleConfig(SAMPLES)
    return backtest(forecasters, unseen, TUNE.context, TUNE.horizon, sample=sample, progress=True)


def inside(forecast: Forecast, truth: np.ndarray) -> float:
    """The share of the true values that lie in the band that is to hold 80% of them."""
    low, high = np.moveaxis(forecast.quantiles([0.1, 0.9]), 1, 0)
    return float(((low <= truth) & (truth <= high)).mean())


def draw(real: Forecast, followed: np.ndarray, result: Backtest) -> tuple[Figure, dict[str, Any]]:
    """The picture, and the figures that it shows."""
    truth = np.stack([window.future_values for window in result.windows])
    distances = {name: np.abs(one.median() - truth).mean((1, 2)) for name, one in result.forecasts.items()}
    window = int(np.argsort(distances[ZERO_SHOT], kind="stable")[(len(truth) - 1) // 2])
    figure = Figure(figsize=(9, 5.6), layout="constrained")
    axes = figure.subplots(2, 2)
    told: dict[str, Any] = {"pelts": {"mae": float(np.abs(real.median() - followed).mean())}}
    told["pelts"]["inside_80"] = inside(real, followed)
    levels = real.quantiles([0.1, 0.25, 0.5, 0.75, 0.9])[0]  # [5, H, D]
    for variable, axis in enumerate(axes[0]):
        draw_fan(axis, real, 0, variable, levels[:, :, variable], list(followed), COLOURS[ZERO_SHOT])
        axis.set_ylim(bottom=0)
        axis.set_title(f"{real.names[variable]} pelts, thousands: not tuned on anything", loc="left", fontsize="medium")
    for axis, (name, forecast) in zip(axes[1], result.forecasts.items()):
        levels = forecast.quantiles([0.1, 0.25, 0.5, 0.75, 0.9])[window, :, :, 1]
        draw_fan(axis, forecast, window, 1, levels, list(truth), COLOURS[name])
        axis.set_ylim(0, 1.2 * np.nanmax(result.windows[window].values[:, 1]))
        told[name] = {"mae": float(distances[name].mean()), "inside_80": inside(forecast, truth)}
        when = "before tuning" if name == ZERO_SHOT else f"after {TUNE.steps} tuning steps"
        axis.set_title(f"noisy predator, {when}", loc="left", fontsize="medium", color=COLOURS[name])
        text = f"{HELD_OUT} series: MAE {told[name]['mae']:.3f}, {told[name]['inside_80']:.0%} inside the 80% band"
        white = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        axis.text(0.02, 0.99, text, transform=axis.transAxes, fontsize="small", color="0.3", va="top", bbox=white)
        axis.set_xlabel("time")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure, told | {"window": result.windows[window].series.id}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parents[1] / "docs" / "forecasts.png")
    output = parser.parse_args().output
    base = Forecaster.from_pretrained("bundled")
    real, followed = pelts(base)
    figure, told = draw(real, followed, noisy(base))
    with atomic_path(output) as temporary:
        figure.savefig(temporary, dpi=150)
    print(json.dumps({**told, "hardware": base.hardware, "precision": base.model.precision, "seed": 0}))


if __name__ == "__main__":
    main()

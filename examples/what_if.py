"""What if: the same series forecast for a dry, a usual and a wet future, and with a value of the target assumed.

    python examples/what_if.py

Grass follows the rain of its month and what was there before, by a law that the model is not told: it reads eight years
of both. Rain is known beforehand, so its future is given; grass is forecast. Because the law is ours, the last line of
each future shows what would really happen.
"""

from __future__ import annotations

import numpy as np

import loracast

MONTHS, HORIZON = 96, 12
FUTURES = {"dry": 0.5, "usual": 1.0, "wet": 1.5}  # times the usual rain of the month


def grow(rain: np.ndarray, grass: float) -> np.ndarray:
    """Half of last month's grass, and half of this month's rain: [T] from rain [T]."""
    grown = []
    for fallen in rain:
        grass = 0.5 * grass + 0.5 * fallen
        grown.append(grass)
    return np.array(grown)


def main() -> None:
    random = np.random.default_rng(0)
    usual = 50 + 25 * np.sin(np.arange(MONTHS + HORIZON) * 2 * np.pi / 12)
    rain = usual[:MONTHS] * np.exp(random.normal(0, 0.3, MONTHS))
    grass = grow(rain, 50.0)
    series = loracast.Series(np.column_stack([rain, grass]), ("rain", "grass"), "meadow", known=("rain",))
    forecaster = loracast.Forecaster.from_pretrained("bundled")
    sample = loracast.SampleConfig(samples=50, seed=0)

    for name, factor in FUTURES.items():
        future = np.full((1, HORIZON, 2), np.nan)  # [N, H, D]: NaN where nothing is known
        future[0, :, 0] = factor * usual[MONTHS:]
        forecast = forecaster.predict(series, HORIZON, known=future, sample=sample)
        median, truth = forecast.median()[0, :, 0], grow(future[0, :, 0], grass[-1])
        chance = forecast.probability("grass < 25")[0]
        print(f"{name:5}  mean grass {median.mean():.0f} (by the law {truth.mean():.0f}); grass < 25: {chance:.0%}")

    grazed = np.full((1, HORIZON, 2), np.nan)
    grazed[0, :, 0] = usual[MONTHS:]
    grazed[0, :3, 1] = 10.0  # a value of the target itself: a conditional forecast
    forecast = forecaster.predict(series, HORIZON, known=grazed, sample=sample)
    print("grass of 10 in the first three months, then", *forecast.median()[0, 3:7, 0].round().astype(int))
    print(*forecast.conditional)


if __name__ == "__main__":
    main()

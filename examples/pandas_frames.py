"""pandas in, pandas out: forecasts of many sites and a cross-validation, under the table's own column names.

python examples/pandas_frames.py
"""

from __future__ import annotations

import numpy as np
import pandas as pd

import loracast

COLUMNS = {"id_column": "site", "time_column": "month", "target": "hares"}
LEVELS = [0.1, 0.9]


def made_up_counts() -> pd.DataFrame:
    """Eight years of monthly counts at three sites: one row a site and month."""
    months = pd.date_range("2015-01-01", periods=96, freq="MS")
    random = np.random.default_rng(0)
    sites = []
    for site in ("north", "south", "west"):
        season = 2 * np.pi * np.arange(96) / 12 + random.uniform(0, 2)
        counts = 30 + 12 * np.sin(season) + random.normal(0, 2, 96)
        sites.append(pd.DataFrame({"site": site, "month": months, "hares": counts}))
    return pd.concat(sites, ignore_index=True)


def main() -> None:
    counts = made_up_counts()
    forecaster = loracast.Forecaster.from_pretrained("bundled")
    sample = loracast.SampleConfig(samples=50, seed=0)

    forecast = forecaster.predict_df(counts, 12, quantile_levels=LEVELS, sample=sample, **COLUMNS)
    print(forecast.to_string(index=False, max_rows=6, float_format="{:.1f}".format))

    # The last two years of each site, forecast from what came before them.
    checked = forecaster.cross_validation_df(counts, 12, windows=2, quantile_levels=LEVELS, sample=sample, **COLUMNS)
    error = (checked["hares"] - checked["loracast"]).abs()
    inside = checked["hares"].between(checked["0.1"], checked["0.9"])
    print(error.groupby(checked["site"]).mean().rename("mean absolute error").round(2).to_string())
    print(f"{inside.mean():.0%} of the counts lie between the 10% and the 90% quantile")


if __name__ == "__main__":
    main()

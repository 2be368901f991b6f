"""Forecasters and naive baselines on the same windows, scored by the same code.

Shapes: N windows, S sample paths, C steps of context, H steps of horizon, D variables.
"""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import loracast
from loracast.baselines import BASELINES, climatology, seasonal_naive
from loracast.calibration import recorded
from loracast.errors import ConfigError, DataError
from loracast.evaluation.metrics import Scores, score, seasonal_scale
from loracast.files import write_json, write_text
from loracast.flops import Flops
from loracast.forecast import Forecast
from loracast.forecaster import Forecaster
from loracast.ledger import Ledger
from loracast.progress import OnProgress, displayed
from loracast.scenario import known_of
from loracast.series import Series, Window, leave_out_short, windows
from loracast.series.checks import same_variables
from loracast.series.seen import is_seen
from loracast.series.types import listed
from loracast.settings import SCORE_PATHS, SampleConfig
from loracast.statistics import percentile

if TYPE_CHECKING:
    import pandas as pd

ZERO_SHOT, TUNED = "zero-shot", "tuned"
BACKTEST_FILES = ("metrics.json", "series.csv", "scores.csv")
SEASONAL, CLIMATOLOGY = "seasonal-naive", "climatology"


@dataclass(frozen=True, eq=False)
class Backtest:
    """The scores of each forecaster by name, in the order of the table, and the model forecasts behind them.

    Attributes:
        scores: by forecaster, what `row()` reduces to one figure a metric.
        forecasts: by forecaster, one series a window; none of the baselines.
        windows: what was forecast.
        settings: how, on what hardware and with which versions.

    Examples:
        >>> scored = loracast.backtest({}, [loracast.lynx_hare()], context=40, horizon=10)
        >>> list(scored.scores)
        ['last-value', 'context-mean', 'best-period', 'climatology']
        >>> scored.save("scores")  # scores.csv, metrics.json, series.csv
    """

    scores: dict[str, Scores]
    forecasts: dict[str, Forecast]
    windows: tuple[Window, ...]
    settings: dict[str, Any]

    def __repr__(self) -> str:
        errors = ", ".join(f"{name} {scores.row()['mae']:.4g}" for name, scores in self.scores.items())
        task = f"{self.settings['context']} → {self.settings['horizon']} steps"
        return f"Backtest({len(self.windows)} windows, {task}; MAE: {errors})"

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One record a forecaster, ready for JSON."""
        flops = {name: asdict(forecast.flops) for name, forecast in self.forecasts.items()}
        nothing = asdict(Flops())
        return [
            {"forecaster": name, **scores.row(), "flops": flops.get(name, nothing)}
            for name, scores in self.scores.items()
        ]

    def table(self) -> pd.DataFrame:
        """All scores, one row a forecaster and variable, "all" for their mean: the columns are the keys of `rows`."""
        import pandas as pd

        rows = []
        for row in self.rows:
            whole = {key: value for key, value in row.items() if key not in ("by_variable", "flops")}
            parts = row["by_variable"].items() if len(row["by_variable"]) > 1 else ()
            name = "all" if parts else next(iter(row["by_variable"]))
            head = {"forecaster": row["forecaster"], "variable": name}
            rows += [{**head, **whole}, *({**head, "variable": variable, **part} for variable, part in parts)]
        return pd.DataFrame(rows)

    def save(self, directory: str | Path) -> None:
        """Writes scores.csv (`table`), metrics.json (settings and `rows`) and series.csv (errors of each series)."""
        directory = Path(directory)
        metrics, errors, scores = (directory / name for name in BACKTEST_FILES)
        write_json(metrics, {**self.settings, "rows": self.rows})
        lines = [
            {"forecaster": name, **{key: value for key, value in record.items() if key != "by_variable"}}
            for name, scores in self.scores.items()
            for record in scores.per_series()
        ]
        import pandas as pd

        write_text(errors, pd.DataFrame(lines).to_csv(index=False))
        write_text(scores, self.table().to_csv(index=False))


def _warn_of_seen(name: str, cut: Sequence[Window], split: Mapping[str, Any]) -> None:
    """Warns where the future of a window was tuned on."""
    seen = list(dict.fromkeys(window.series.id for window in cut if is_seen(window, split)))
    if seen:
        warnings.warn(
            f"{name!r} was tuned on {len(seen)} of the {len({one.series.id for one in cut})} series that it is judged "
            f"by ({listed(seen)}): its scores there do not tell how it does on new ones",
            stacklevel=3,
        )


def backtest(
    forecasters: Mapping[str, Forecaster],
    series: Sequence[Series],
    context: int,
    horizon: int,
    *,
    stride: int | None = None,
    sample: SampleConfig | None = None,
    constrained: bool = True,
    ledger: Ledger | None = None,
    progress: bool | OnProgress | None = None,
) -> Backtest:
    """Forecasts `horizon` steps from `context` ones in every window of every series, and scores all forecasters.

    Args:
        forecasters: by the name they get in the table, and, where an adapter's record says how wide its forecasts ought
            to be, again with ", raw" as they are drawn; the baselines are always added, the seasonal one where the
            series' calendar has a season.
        series: what is cut into windows, all of the same variables.
        context: steps that are read in each window.
        horizon: steps that are forecast in each window.
        stride: steps between the starts of two windows of a series; the horizon unless given, so that no step is
            forecast twice.
        sample: how paths are drawn; 20 a window unless given.
        constrained: whether only text that parses may be written; False needs the full vocabulary.
        ledger: charged for each forecaster's work.
        progress: True shows how far the work is, as bars in a terminal or a notebook and as lines in a log; a function
            is called with a forecaster's name and the share of its work that is done.

    Raises:
        ConfigError: for a forecaster with the name of a baseline.
        DataError: for series that do not fit together, or all of which are too short.

    Warns:
        UserWarning: of series that are too short, and where a forecaster was tuned on what it is judged by.

    Examples:
        >>> forecaster = loracast.Forecaster.from_pretrained("bundled")
        >>> sample = loracast.SampleConfig(samples=5)
        >>> scored = loracast.backtest({"bundled": forecaster}, [loracast.lynx_hare()], 40, 5, stride=20, sample=sample)
        >>> len(scored.windows), list(scored.scores)[0]
        (3, 'bundled')
    """
    sample = sample or SampleConfig(SCORE_PATHS)
    clash = forecasters.keys() & {*BASELINES, SEASONAL, CLIMATOLOGY}
    if clash:
        raise ConfigError(
            [f"{name!r} is the name of a baseline; name the forecaster otherwise" for name in sorted(clash)]
        )
    if not series:
        raise DataError("the list of series to forecast is empty; give at least one")
    same_variables(series)
    series = leave_out_short(series, context + horizon)
    names, columns = series[0].targets, series[0].target_columns
    cut = windows(series, context, horizon, stride=stride)
    for name, forecaster in forecasters.items():
        _warn_of_seen(name, cut, forecaster.record.get("split", {}))
    truth = np.stack([window.future_values[:, columns] for window in cut])  # [N, H, D]
    whole = np.stack([window.values[:, columns] for window in cut])  # [N, C+H, D]
    seed_unit = percentile(whole, 99) / 10  # [N, D]
    contexts = [window.context_values[:, columns] for window in cut]
    seasons = [window.series.season for window in cut]
    scale = seasonal_scale(contexts, seasons)  # [N, D]
    shared = {"seed_unit": seed_unit, "scale": scale, "names": names, "series": [window.series.id for window in cut]}

    scores, forecasts = {}, {}
    read = [replace(window.context_series, id=window.id) for window in cut]
    with displayed(progress, "forecast") as display:
        display.plan(dict.fromkeys(forecasters, 1.0))
        for name, forecaster in forecasters.items():
            display(name, 0.0)
            forecasts[name] = forecaster.predict(
                read,
                horizon,
                sample=sample,
                context=context,
                known=known_of(cut),
                constrained=constrained,
                raw=True,
                ledger=ledger,
                progress=lambda share, name=name: display(name, share),
            )
            display(name, 1.0)
    for name, forecaster in forecasters.items():
        raw, forecasts[name] = forecasts[name], forecasts[name].widened(recorded(forecaster.record))
        scores[name] = score(forecasts[name].samples, truth, **shared)
        if forecasts[name].widths:
            scores[f"{name}, raw"] = score(raw.samples, truth, **shared)
    for name, baseline in BASELINES.items():
        paths = np.stack([baseline(context, horizon) for context in contexts])  # [N, H, D]
        scores[name] = score(paths[:, None], truth, **shared)
    if max(seasons) > 1 and max(seasons) <= context:
        paths = np.stack([seasonal_naive(one, horizon, season) for one, season in zip(contexts, seasons)])
        scores[SEASONAL] = score(paths[:, None], truth, **shared)
    drawn = np.stack([climatology(context, horizon) for context in contexts])  # [N, S, H, D]
    scores[CLIMATOLOGY] = score(drawn, truth, **shared)

    settings = {
        "context": context,
        "horizon": horizon,
        "stride": stride or horizon,
        **asdict(sample),
        "model": sorted({forecaster.model.source for forecaster in forecasters.values()}),
        "hardware": sorted({forecaster.hardware for forecaster in forecasters.values()}),
        "loracast": loracast.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return Backtest(scores, forecasts, tuple(cut), settings)

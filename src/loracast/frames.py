"""pandas tables of many series in, tables of forecasts out, in their owner's own names and types.

The columns of a forecast are those of Chronos: the id, the time, `target_name`, `predictions` (the median) and a column
a quantile, such as "0.1". Those of a cross-validation are Nixtla's: the id, the time, `cutoff`, the truth, and the
median as `loracast`.

Shapes: N series or windows, H steps of horizon, D targets, Q quantiles.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from loracast.errors import ConfigError
from loracast.forecast import Forecast
from loracast.ledger import Ledger
from loracast.own_table import ID, TARGET, TIME, Rows, flat, read_own
from loracast.scenario import known_of
from loracast.series import Window, long_enough
from loracast.series.seen import is_seen
from loracast.series.types import listed
from loracast.settings import SampleConfig, TuneConfig

if TYPE_CHECKING:
    import pandas as pd

    from loracast.forecaster import Forecaster

Names: TypeAlias = Hashable | Sequence[Hashable]

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class FrameMethods:
    """What a forecaster does with pandas tables that hold a row a series and time."""

    def predict_df(
        self,
        df: pd.DataFrame,
        horizon: int,
        *,
        id_column: Hashable | None = ID,
        time_column: Hashable | None = TIME,
        target: Names = TARGET,
        known: pd.DataFrame | None = None,
        past: Names = (),
        quantile_levels: Sequence[float] = LEVELS,
        sample: SampleConfig | None = None,
        context: int | None = None,
        ledger: Ledger | None = None,
        progress: bool | Callable[[float], None] | None = None,
    ) -> pd.DataFrame:
        """Forecasts the `horizon` steps that follow each series of a table.

        Args:
            df: a row a series and time; absent times are read as missing values.
            horizon: steps to forecast.
            id_column: tells series apart; None, or absent under its usual name, where there is only one series.
            time_column: dates, periods or evenly spaced numbers, in a column or the index; None where rows are steps.
            target: the column to forecast, or several.
            known: the future of variables that are known beforehand, a row a series and step, with the id and the time
                as in `df`. A target among its columns is a what-if: values that are set, NaN where they are not.
            past: columns that are read and not forecast.
            quantile_levels: between 0 and 1.
            sample: as for `predict`, and so are the following.
            context: steps that are read.
            ledger: charged for the forecast.
            progress: whether, or to whom, to show how far it is.

        Returns:
            A row a series, target and step: the id and the time as `df` calls and types them (texts become dates),
            `target_name`, `predictions` (the median) and a column a quantile. Without times, `step` from 1.

        Raises:
            DataError: where the table cannot be read.
            ConfigError: for options that do not fit.

        Warns:
            UserWarning: of columns that are left out, and of what was done to the table, such as gaps that were filled.

        Examples:
            >>> import pandas as pd
            >>> months = pd.date_range("2020-01-01", periods=6, freq="MS")
            >>> df = pd.DataFrame({"site": 7, "month": months, "hares": [3.0, 5.0, 9.0, 6.0, 4.0, 3.0]})
            >>> names = {"id_column": "site", "time_column": "month", "target": "hares"}
            >>> forecaster, few = loracast.Forecaster.from_pretrained("bundled"), loracast.SampleConfig(3)
            >>> forecaster.predict_df(df, 2, quantile_levels=[0.1, 0.9], sample=few, **names).columns.tolist()
            ['site', 'month', 'target_name', 'predictions', '0.1', '0.9']
        """
        forecaster = cast("Forecaster", self)
        future = None if known is None else flat(known, id_column, time_column)
        beforehand = () if future is None else tuple(one for one in future if one not in (id_column, time_column))
        targets = _names(target)
        own = read_own(
            df, id_column, time_column, targets, tuple(one for one in beforehand if one not in targets), _names(past)
        )
        forecast = forecaster.predict(
            own.series,
            horizon,
            sample=sample,
            context=context,
            known=None if future is None else read_own(future, id_column, time_column, beforehand).series,
            ledger=ledger,
            progress=progress,
        )
        rows = Rows(len(own.series), len(targets), horizon)
        return rows.table(
            {
                **own.ids_of(own.series, rows),
                **own.times_of(own.series, list(forecast.time), horizon, rows),
                "target_name": rows.by_target(own.called(forecast.names)),
                **_quantiles(forecast, quantile_levels, "predictions", rows),
            }
        )

    def fit_df(
        self,
        df: pd.DataFrame,
        *,
        id_column: Hashable | None = ID,
        time_column: Hashable | None = TIME,
        target: Names = TARGET,
        known: Names = (),
        past: Names = (),
        tune: TuneConfig | None = None,
        validation: pd.DataFrame | None = None,
        **options: Any,
    ) -> Forecaster:
        """A new forecaster with an adapter tuned on the series of a table; as `fit`, whose further `options` it takes.

        Args:
            df: a row a series and time, as for `predict_df`.
            id_column: tells series apart.
            time_column: dates, periods or evenly spaced numbers.
            target: the column to forecast, or several.
            known: columns that are known beforehand, whose future `predict_df` is to be given.
            past: columns that are read and not forecast.
            tune: settings of the tuning.
            validation: a table of the same columns that chooses the best adapter; a part of `df` unless given.
            options: as for `fit`.

        Examples:
            >>> import pandas as pd
            >>> pelts = loracast.lynx_hare()
            >>> df = pd.DataFrame({"year": pelts.time, "hare": pelts.values[:, 0]})
            >>> settings = loracast.TuneConfig(
            ...     steps=2, batch=2, context=15, horizon=5, validation_windows=2, validation_series=0
            ... )
            >>> forecaster = loracast.Forecaster.from_pretrained("bundled")
            >>> tuned = forecaster.fit_df(df, time_column="year", target="hare", tune=settings)
            >>> tuned.record["variables"]
            ['hare']
        """
        forecaster = cast("Forecaster", self)
        tables = [df] if validation is None else [df, validation]
        read = [
            read_own(one, id_column, time_column, _names(target), _names(known), _names(past)).series for one in tables
        ]
        return forecaster.fit(read[0], tune=tune, validation=read[1] if len(read) > 1 else None, **options)

    def cross_validation_df(
        self,
        df: pd.DataFrame,
        horizon: int,
        windows: int = 1,
        *,
        step: int | None = None,
        refit: bool = False,
        tune: TuneConfig | None = None,
        id_column: Hashable | None = ID,
        time_column: Hashable | None = TIME,
        target: Names = TARGET,
        known: Names = (),
        past: Names = (),
        quantile_levels: Sequence[float] = LEVELS,
        sample: SampleConfig | None = None,
        context: int | None = None,
        ledger: Ledger | None = None,
        progress: bool | Callable[[float], None] | None = None,
    ) -> pd.DataFrame:
        """Forecasts the last steps of each series from what came before them, beside what really followed.

        Args:
            df: a row a series and time, as for `predict_df`.
            horizon: steps of each forecast.
            windows: forecasts a series; the last one ends where the series does.
            step: steps from one forecast to the next; `horizon` unless given.
            refit: whether to tune anew before each cutoff, on all that lies before it.
            tune: settings of that tuning; given without `refit`, the forecaster is tuned once, before the first cutoff.
                Without both, this forecaster is taken as it is.
            id_column: tells series apart.
            time_column: dates, periods or evenly spaced numbers.
            target: the column to forecast, or several.
            known: columns that are known beforehand; their future is read from `df`.
            past: columns that are read and not forecast.
            quantile_levels: between 0 and 1.
            sample: as for `predict`, and so are the following.
            context: steps that are read.
            ledger: charged for all of it.
            progress: whether, or to whom, to show how far all of it is.

        Returns:
            A row a series, cutoff, target and step: the id, the time, `cutoff` (the last time that was read), the truth
            under the target's own name, `loracast` (the median) and a column a quantile. Where there are several
            targets, `target_name` says which, and the truth is called `target`.

        Warns:
            UserWarning: of series that are too short, and where this forecaster was tuned on what it is judged by.

        Examples:
            >>> import pandas as pd
            >>> pelts = loracast.lynx_hare()
            >>> df = pd.DataFrame({"year": pelts.time, "hare": pelts.values[:, 0]})
            >>> forecaster, few = loracast.Forecaster.from_pretrained("bundled"), loracast.SampleConfig(3)
            >>> checked = forecaster.cross_validation_df(
            ...     df, 5, windows=2, time_column="year", target="hare", quantile_levels=[0.1], sample=few
            ... )
            >>> checked.columns.tolist(), checked["cutoff"].unique().tolist()
            (['year', 'cutoff', 'hare', 'loracast', '0.1'], [1925.0, 1930.0])
        """
        step = horizon if step is None else step
        lengths = {"horizon": horizon, "windows": windows, "step": step}
        if problems := [f"{name} must be at least 1, not {length}" for name, length in lengths.items() if length < 1]:
            raise ConfigError(problems)
        forecaster = cast("Forecaster", self)
        targets = _names(target)
        own = read_own(df, id_column, time_column, targets, _names(known), _names(past))
        behind = horizon + (windows - 1) * step
        series, warning = long_enough(own.series, behind + (context or 1), "all windows and their first context")
        if warning:
            warnings.warn(warning, stacklevel=2)
        cut = [Window(one, 0, one.steps - behind + turn * step, horizon) for one in series for turn in range(windows)]
        if not refit and tune is None:
            _warn_of_seen(forecaster, cut)
        rows = Rows(len(cut), len(targets), horizon)
        columns: dict[str, NDArray[Any]] = {}
        turns = [slice(turn, None, windows) for turn in range(windows)] if refit else [slice(None)]
        for turn in turns:
            chosen = cut[turn]
            fitted = forecaster
            if refit or tune:
                before = [window.context_series for window in (chosen if refit else cut[::windows])]
                fitted = forecaster.fit(before, tune=tune, ledger=ledger)
            forecast = fitted.predict(
                [replace(window.context_series, id=f"{window.series.id}@{window.context}") for window in chosen],
                horizon,
                sample=sample,
                context=context,
                known=known_of(chosen),
                ledger=ledger,
                progress=progress,
            )
            part = _quantiles(forecast, quantile_levels, "loracast", Rows(len(chosen), len(targets), horizon))
            for name, values in part.items():
                blocks = columns.setdefault(name, np.empty(rows.shape[0] * rows.shape[1] * horizon))
                blocks.reshape(len(cut), -1)[turn] = values.reshape(len(chosen), -1)
        futures = [window.future_series for window in cut]
        truth = np.stack([one.values[:, one.target_columns] for one in futures])  # [N, H, D]
        names = own.called(series[0].targets)
        return rows.table(
            {
                **own.ids_of(futures, rows),
                **own.times_of(futures, [one.time for one in futures], horizon, rows),
                "cutoff": own.cutoffs(cut, rows),
                **({"target_name": rows.by_target(names)} if len(names) > 1 else {}),
                (names[0] if len(names) == 1 else "target"): rows.by_cell(truth),
                **columns,
            }
        )


def _quantiles(forecast: Forecast, levels: Sequence[float], median: str, rows: Rows) -> dict[str, NDArray[np.float64]]:
    """The median and the quantiles as columns of a table."""
    values = forecast.quantiles([0.5, *levels])  # [N, 1 + Q, H, D]
    named = [median, *(str(float(level)) for level in levels)]
    return {name: rows.by_cell(values[:, index]) for index, name in enumerate(named)}


def _names(names: Names) -> tuple[Hashable, ...]:
    """One name or several, as a tuple."""
    several = isinstance(names, Sequence) and not isinstance(names, str)
    return tuple(cast("Sequence[Hashable]", names)) if several else (cast("Hashable", names),)


def _warn_of_seen(forecaster: Forecaster, cut: Sequence[Window]) -> None:
    """Warns where the future of a window was tuned on."""
    split = forecaster.record.get("split", {})
    if seen := list(dict.fromkeys(window.series.id for window in cut if is_seen(window, split))):
        _warn(
            f"this forecaster was tuned on {len(seen)} of the {len({one.series.id for one in cut})} series that it is "
            f"judged by ({listed(seen)}): the errors there do not tell how it does on new ones"
        )


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=4)  # where the method was called

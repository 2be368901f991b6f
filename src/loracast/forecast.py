"""What a forecast is: sample paths, and what one reads off them.

Shapes: N series, S sample paths, H steps, D variables, Q quantiles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from loracast.calibration import Widths
from loracast.charts.fan import LEVELS, Fan
from loracast.errors import ConfigError
from loracast.events import Extreme, Outcome, Paths, outcomes, read_event
from loracast.files import atomic_path, check_file
from loracast.flops import Flops
from loracast.series import Series
from loracast.series.calendar import common_calendar
from loracast.series.types import listed
from loracast.settings import TransformKind
from loracast.statistics import path_quantiles
from loracast.transforms import scales_told

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FRAMES, PICTURES = (".parquet", ".csv"), (".png", ".pdf", ".svg")
FEWEST_WHOLE = 8  # values, from which on whole ones are no coincidence
QUANTILES = (0.05, 0.1, 0.25, 0.75, 0.9, 0.95)
Steps: TypeAlias = Annotated[NDArray[np.float64], "N H D"]
Share: TypeAlias = Annotated[NDArray[np.float64], "N"]


@dataclass(frozen=True, eq=False)
class Forecast:
    """Sample paths of the steps that follow each series.

    Attributes:
        samples: [N, S, H, D] values in the units of the series; NaN where what was written does not parse or, which
            only unconstrained sampling can write, says that a value is missing.
        valid: [N, S, H] whether it parsed; all True unless sampling was unconstrained.
        contexts: the N contexts that were read.
        time: of each series, its H future times, or None where it has no time.
        saturated: values of the contexts, and values given for the future, that lay beyond the codec's range and were
            written as its edge.
        flops: what the forecast cost, in both conventions.
        available: steps that each series had; those of `contexts` were read.
        stretches: of each series, the steps of each stretch in which it was forecast; none where the model was not
            asked.
        conditional: sentences on what the forecast is conditional on, where values were set for its targets.
        transforms: of each series, the scale on which each of the D variables was written (see `SampleConfig`); none
            where the model was not asked.
        widths: how the paths, once drawn, were moved nearer to their median or further from it; None if they were not.
        given: [N, H, D] values that were set for the future, NaN elsewhere; None where there were none.

    Examples:
        >>> forecaster = loracast.Forecaster.from_pretrained("bundled")
        >>> forecast = forecaster.predict(loracast.lynx_hare(), 10, sample=loracast.SampleConfig(5))
        >>> forecast
        Forecast(series 'lynx_hare_1845_1935', 10 steps of hare, lynx, 5 paths)
        >>> forecast.median().shape, forecast.quantiles([0.1, 0.9]).shape
        ((1, 10, 2), (1, 2, 10, 2))
        >>> forecast.probability("hare >= 0")
        array([1.])
        >>> list(forecast.to_frame(quantiles=[0.1, 0.9]).columns)
        ['id', 'step', 'time', 'variable', 'mean', 'median', 'q10', 'q90']
    """

    samples: Annotated[NDArray[np.float64], "N S H D"]
    valid: Annotated[NDArray[np.bool_], "N S H"]
    contexts: tuple[Series, ...]
    time: tuple[NDArray[Any] | None, ...]
    saturated: int = 0
    flops: Flops = field(default_factory=Flops)
    available: tuple[int, ...] = ()
    stretches: tuple[tuple[int, ...], ...] = ()
    conditional: tuple[str, ...] = ()
    transforms: tuple[tuple[TransformKind, ...], ...] = ()
    widths: Widths | None = None
    given: Steps | None = None

    def __repr__(self) -> str:
        series, samples, horizon, _ = self.samples.shape
        whose = f"{series} series" if series > 1 else f"series {self.ids[0]!r}"
        return f"Forecast({whose}, {horizon} steps of {listed(self.names)}, {samples} paths)"

    @property
    def names(self) -> tuple[str, ...]:
        """The D variables that are forecast: the targets of the series."""
        return self.contexts[0].targets

    def context_values(self, row: int) -> Annotated[NDArray[np.float64], "C D"]:
        """What was read of those variables in one series, [C, D]."""
        return self.contexts[row].values[:, self.contexts[row].target_columns]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(context.id for context in self.contexts)

    def median(self) -> Steps:
        """The median [N, H, D] over the paths with a value there; NaN where none has one."""
        return self.quantiles([0.5])[:, 0]

    def mean(self) -> Steps:
        """The mean [N, H, D] over the paths with a value there; NaN where none has one."""
        centre = self.median()  # paths that agree are their mean exactly, which a sum over a count is not
        count = (~np.isnan(self.samples)).sum(1)
        total = np.nansum(self.samples - centre[:, None], 1)
        return centre + np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)

    @property
    def scales(self) -> tuple[str, ...]:
        """Sentences on which series were written on another scale than their own."""
        return scales_told(self.ids, self.names, self.transforms)

    @property
    def lowest(self) -> Annotated[NDArray[np.float64], "N D"]:
        """What no path may go below: zero for what was never below it, as counts are, else minus infinity."""
        rows = range(len(self.contexts))
        found = np.array([np.nanmin(self.context_values(row), 0, initial=0.0) for row in rows])  # [N, D]
        return np.where(found < 0, -np.inf, 0.0)

    @property
    def whole(self) -> Annotated[NDArray[np.bool_], "N D"]:
        """Which variables hold whole numbers alone, as counts do, in eight values of the context or more."""
        rows = [self.context_values(row) for row in range(len(self.contexts))]
        enough = np.array([(~np.isnan(one)).sum(0) >= FEWEST_WHOLE for one in rows])
        return enough & np.array([(np.isnan(one) | (one == np.rint(one))).all(0) for one in rows])

    def widened(self, widths: Widths | None) -> Forecast:
        """The same forecast with its paths nearer to their median or further from it; itself where there are none."""
        if widths is None:
            return self
        return replace(self, samples=widths.applied(self.samples, self.lowest), widths=widths).rounded()

    def rounded(self) -> Forecast:
        """The same forecast with whole numbers on the paths of what holds no others, but for values that were set."""
        rounding = np.broadcast_to(self.whole[:, None], self.samples[:, 0].shape)  # [N, H, D]
        if self.given is not None:
            rounding = rounding & np.isnan(self.given)
        return replace(self, samples=np.where(rounding[:, None], np.rint(self.samples), self.samples))

    def quantiles(self, q: Sequence[float]) -> Annotated[NDArray[np.float64], "N Q H D"]:
        """Quantiles [N, Q, H, D] of what the paths with a value there are drawn from; NaN where none has one.

        Between n paths in order, the quantile q stands at the place q · (n + 1), and at the first or last path beyond
        them, so that an interval of 80% needs nine paths at least.
        """
        outside = [value for value in q if not 0 <= value <= 1]
        if outside:
            raise ConfigError([f"quantile {value} does not lie in 0 to 1" for value in outside])
        paths = np.moveaxis(self.samples, 1, 2)  # [N, H, S, D]
        return np.moveaxis(path_quantiles(paths, q), 0, 1)

    def probability(self, event: str | Callable[[NDArray[np.float64]], NDArray[np.bool_]]) -> Share:
        """The share [N] of paths in which something happens.

        Args:
            event: a text such as `predator < 0.1` or `prey < predator within 20 steps` (docs/events.md), or a function
                of paths [N, S, H, D] that says which of them [N, S] count.

        Paths with a step that has no value count neither way.
        """
        if isinstance(event, str):
            if isinstance(read_event(event, self.names), Extreme):
                raise ConfigError(
                    [f"{event!r} has no probability; `events` tells how it is spread, or compare it: x > 9"]
                )
            return np.array([one.probability for one in self.events([event])])
        happened = np.asarray(event(self.samples))
        whole = ~np.isnan(self.samples).any((2, 3))  # [N, S]
        count = whole.sum(1)
        share = (happened & whole).sum(1)
        return np.divide(share, count, out=np.full(len(count), np.nan), where=count > 0)

    def events(self, texts: Sequence[str]) -> list[Outcome]:
        """What becomes of events, as docs/events.md tells them: one outcome an event and series.

        Examples:
            >>> forecaster = loracast.Forecaster.from_pretrained("bundled")
            >>> forecast = forecaster.predict(loracast.lynx_hare(), 10, sample=loracast.SampleConfig(5))
            >>> [outcome.kind for outcome in forecast.events(["when lynx < 10", "highest hare within 5 years"])]
            ['first time', 'extreme']
        """
        return outcomes(texts, self.names, self.paths)

    @property
    def paths(self) -> Paths:
        """The sample paths as events are judged on."""
        return Paths(self.samples, self.ids, self.time, tuple(one.calendar for one in self.contexts))

    def to_frame(self, quantiles: Sequence[float] = QUANTILES) -> pd.DataFrame:
        """One row a series, step and variable: id, step (from 1), time, variable, mean, median and quantiles."""
        import pandas as pd

        series, _, horizon, variables = self.samples.shape
        frame = pd.DataFrame(
            {
                "id": np.repeat(self.ids, horizon * variables),
                "step": np.tile(np.repeat(np.arange(1, horizon + 1), variables), series),
                **self._time_column(variables),
                "variable": np.tile(self.names, series * horizon),
                "mean": self.mean().ravel(),
                "median": self.median().ravel(),
            }
        )
        levels = self.quantiles(quantiles)
        return frame.assign(**{f"q{100 * q:g}": levels[:, index].ravel() for index, q in enumerate(quantiles)})

    def paths_frame(self) -> pd.DataFrame:
        """One row a series, sample path and step: id, sample (from 0), step (from 1), time, and a column a variable."""
        import pandas as pd

        series, samples, horizon, variables = self.samples.shape
        frame = pd.DataFrame(
            {
                "id": np.repeat(self.ids, samples * horizon),
                "sample": np.tile(np.repeat(np.arange(samples), horizon), series),
                "step": np.tile(np.arange(1, horizon + 1), series * samples),
            }
        )
        if (times := self._times()) is not None:
            frame["time"] = self._column(times, lambda time: np.tile(time, samples))
        values = self.samples.reshape(-1, variables)
        return frame.assign(**{name: values[:, index] for index, name in enumerate(self.names)})

    def _times(self) -> list[NDArray[Any]] | None:
        known = [time for time in self.time if time is not None]
        return known if len(known) == len(self.time) else None

    def _time_column(self, repeats: int) -> dict[str, Any]:
        times = self._times()
        return {} if times is None else {"time": self._column(times, lambda time: np.repeat(time, repeats))}

    def _column(self, times: Sequence[NDArray[Any]], spread: Callable[[NDArray[Any]], NDArray[Any]]) -> Any:
        """The times of all series as one column: years as whole numbers, dates in their time zone."""
        calendar = common_calendar([one.calendar for one in self.contexts])
        joined = np.concatenate([spread(time) for time in times])
        return joined if calendar is None else calendar.index(joined)

    def plot(self, truth: Sequence[Annotated[NDArray[np.float64], "H D"]] | None = None, most: int = 4) -> Figure:
        """A fan a series (a row) and variable (a column): context, median, 50% and 80% bands, and the truth if given.

        Args:
            truth: of each series, what really followed, [H, D].
            most: series that are drawn.
        """
        from matplotlib.figure import Figure

        rows = min(most, len(self.contexts))
        figure = Figure(figsize=(4.2 * len(self.names), 2.2 * rows), layout="constrained")
        axes = figure.subplots(rows, len(self.names), squeeze=False)
        levels = self.quantiles(LEVELS)  # [N, 5, H, D]
        for row in range(rows):
            for column, name in enumerate(self.names):
                draw_fan(axes[row, column], self, row, column, levels[row, :, :, column], truth)
                if row == 0:
                    axes[row, column].set_title(name)
            name = self.ids[row]
            axes[row, 0].set_ylabel(name if len(name) <= 20 else f"{name[:19]}…", fontsize="small")
        for axis in axes[-1]:
            axis.set_xlabel("step" if self.time[rows - 1] is None else "time")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize="small")
        return figure


def draw_fan(
    axis: Any,
    forecast: Forecast,
    row: int,
    column: int,
    levels: Annotated[NDArray[np.float64], "5 H"],  # 10, 25, 50, 75 and 90%
    truth: Sequence[NDArray[np.float64]] | None,
    colour: str = "tab:blue",
) -> None:
    """Draws one series and variable of a forecast into a matplotlib axis; all lines begin where the context ends."""
    context = forecast.contexts[row]
    past, future = context.time, forecast.time[row]
    if past is None or future is None:
        past = np.arange(context.steps) + 1
        future = np.arange(levels.shape[1]) + 1 + context.steps
    followed = None if truth is None else (future, truth[row][:, column])
    Fan.of(past, forecast.context_values(row)[:, column], future, levels, followed).draw(axis, colour)
    time_ticks(axis, past)
    axis.spines[["top", "right"]].set_visible(False)


def time_ticks(axis: Any, time: Annotated[NDArray[Any], "T"]) -> None:
    """Marks a time axis of matplotlib by dates where times [T] are dates, and by whole numbers where they are such."""
    if np.issubdtype(time.dtype, np.datetime64):
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        locator = AutoDateLocator(maxticks=6)
        axis.xaxis.set_major_locator(locator)
        axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    elif np.all(time == np.rint(time)):
        from matplotlib.ticker import MaxNLocator

        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def future_time(series: Series, horizon: int) -> Annotated[NDArray[Any], "H"] | None:
    """The `horizon` times [H] that follow a series' own on its calendar, or None where it has none."""
    if series.time is None or series.calendar is None:
        return None
    return series.calendar.after(series.time[-1], horizon)


def write_frame(frame: pd.DataFrame, path: str | Path) -> None:
    """Writes a table as .parquet or .csv, whole or not at all."""
    check_file(path, FRAMES)
    with atomic_path(path) as temporary:
        if Path(path).suffix.lower() == ".csv":
            frame.to_csv(temporary, index=False)
        else:
            frame.to_parquet(temporary, index=False)

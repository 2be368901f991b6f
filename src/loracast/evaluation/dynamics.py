"""What a series does, from its values alone: does it keep cycling, come to rest or die out, and how long is a cycle?

Shapes
    T  steps of a series    D  variables    P  peaks of one variable    V  observed values of one variable

Missing values are bridged by a straight line, for these questions only.

The thresholds were chosen on simulated predator–prey series, by eye and against the parameters they were made with,
which tell the laws with a limit cycle from those that come to rest in the end.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loracast.series import Series
from loracast.statistics import percentile

FloatArray = NDArray[np.float64]

OSCILLATING, DAMPED, COLLAPSING = "oscillating", "damped", "collapsing"

# Share of a variable's range that a peak rises above its surroundings. Twice as much loses cycles that fade but are
# plain to see; half as much takes an observation noise of 5% for cycles.
PROMINENCE = 0.15
# Share of the first swing that the last one keeps in a series that goes on oscillating. Series with a limit cycle keep
# 3/4 or more, hare and lynx with their irregular cycles 2/3; a series that has lost 4/10 looks damped at first sight.
SUSTAINED = 0.6
# Share of its maximum below which a variable is gone. The sparsest predators that settle do so at 3%; those that die
# out fall below any share, most of them below this one in time.
GONE = 0.01
# Share of the series, at its end, for which it is gone: a few low readings at the end are not yet an end.
GONE_FOR = 1 / 5
# Share of the series over which the first and the last swing are measured, where a period is not longer: a swing takes
# a whole cycle, and the more lies between the two, the more a fading shows.
SWING = 1 / 3
# Share of a variable's size below which its changes are rounding: a few times that of float32.
ROUNDING = 1e-6

DESCRIPTION = ("series", "kind", "period", "lag", "lag_share")
SUMMARY = ("variable", "observed", "missing", "minimum", "mean", "maximum", "deviation", "p99")


def describe(series: Sequence[Series]) -> pd.DataFrame:
    """One row a series: `series` (its id), `kind`, `period`, `lag` and `lag_share`, NaN where there is none.

    period: median distance between successive peaks of the first variable that has two, in units of the series'
        time, days where it holds dates, steps where it has none. Variables of one system share a cycle, so that any of
        them tells it; the mean of two of them that disagree would be the period of neither.
    lag: how long after the first variable the second one peaks, in the same units; the nearest way round, and so from
        minus half a period (the second leads) to half a period. It is the median, over the peaks of the first, of the
        delay of the nearest peak of the second, taken on the circle of one period: a missed peak then changes nothing,
        and variables that peak together have a lag near 0, not of 0 and of a whole period by turns. Peaks are matched,
        and no cross-correlation is taken, because that is ruled by the largest cycle of a series that grows or fades,
        and shifted where the two variables' cycles differ in shape.
    lag_share: lag / period.
    kind: "collapsing" if a variable that is never negative ends below GONE of its maximum, for GONE_FOR of the series
        and at least a period; "oscillating" if there is a period and the last swing is SUSTAINED of the first or more,
        a swing being the range over SWING of the series or a period, each variable's relative to its whole range and
        summed; "damped" otherwise: swings fade, or the series comes to rest, does not move, or never turns twice.
    """
    return pd.DataFrame([_describe(one) for one in series], columns=list(DESCRIPTION))


def summarise(series: Sequence[Series]) -> pd.DataFrame:
    """One row a variable, over all steps of all series that have it, in order of appearance.

    Columns: `variable`, `observed` and `missing` (counts of values), and of the observed ones `minimum`, `mean`,
    `maximum`, `deviation` (standard, of the population) and `p99` (99th percentile); NaN where none was observed.
    """
    names = dict.fromkeys(name for one in series for name in one.names)
    columns = {
        name: np.concatenate([one.values[:, one.names.index(name)] for one in series if name in one.names])
        for name in names
    }
    return pd.DataFrame([_summarise(name, values) for name, values in columns.items()], columns=list(SUMMARY))


def _summarise(name: str, values: FloatArray) -> dict[str, object]:
    present = values[~np.isnan(values)]  # [V]
    row: dict[str, object] = {"variable": name, "observed": len(present), "missing": len(values) - len(present)}
    if len(present):
        row |= {"minimum": present.min(), "mean": present.mean(), "maximum": present.max()}
        row |= {"deviation": present.std(), "p99": percentile(present[:, None], 99)[0]}
    return row


def _describe(series: Series) -> dict[str, object]:
    time = _numeric_time(series)  # [T]
    values = _bridged(series.values, time)  # [T, D]
    places = [_peaks(column) for column in values.T]  # D times [P], in steps
    peaks = [np.interp(place, np.arange(series.steps), time) for place in places]  # D times [P], in units of time
    cycling = next((variable for variable, place in enumerate(places) if len(place) > 1), None)
    period = cycle = float("nan")  # in units of time, and in steps
    if cycling is not None:
        period, cycle = (float(np.median(np.diff(found[cycling]))) for found in (peaks, places))
    lag = _lag(peaks[0], peaks[1], period) if series.variables > 1 else float("nan")
    return {
        "series": series.id,
        "kind": _kind(values, cycle),
        "period": period,
        "lag": lag,
        "lag_share": lag / period,
    }


def _kind(values: FloatArray, cycle: float) -> str:
    """The kind of values [T, D] with a cycle of so many steps, NaN where there is none."""
    steps = len(values)
    tail = max(int(np.ceil(steps * GONE_FOR)), 0 if np.isnan(cycle) else int(np.ceil(cycle)))
    highest, lowest = values.max(axis=0), values.min(axis=0)  # [D]
    if np.any((lowest >= 0) & (values[-tail:].max(axis=0) < GONE * highest)):
        return COLLAPSING
    if np.isnan(cycle):
        return DAMPED
    # The first and the last swing share no step, however long a period is.
    length = min(max(int(np.ceil(steps * SWING)), int(np.ceil(cycle))), steps // 2)
    whole = _span(values)  # [D]
    weight = np.divide(1, whole, out=np.zeros_like(whole), where=whole > 0)  # the same for all variables that move
    first, last = (np.sum(weight * np.ptp(part, axis=0)) for part in (values[:length], values[-length:]))
    return OSCILLATING if last >= SUSTAINED * first else DAMPED


def _lag(first: FloatArray, second: FloatArray, period: float) -> float:
    """How long after the peaks `first` [P] those of `second` come, from minus half a period to half a period."""
    if np.isnan(period) or not (len(first) and len(second)):
        return float("nan")
    delays = second - first[:, None]  # [P, P of the second]
    nearest = np.take_along_axis(delays, np.argmin(np.abs(delays), axis=1)[:, None], axis=1)[:, 0]  # [P]
    turns = nearest / period
    centre = np.angle(np.exp(2j * np.pi * turns).mean()) / (2 * np.pi)
    # A median needs an order, which a circle has only once it is cut: here opposite to the mean direction.
    return float(period * _nearest_way(centre + np.median(_nearest_way(turns - centre))))


def _nearest_way(turns: FloatArray) -> FloatArray:
    """Angles in whole turns, from -1/2 up to but without 1/2."""
    return (turns + 0.5) % 1 - 0.5


def _peaks(values: FloatArray) -> FloatArray:
    """Where values [T] peak: [P] steps, with fractions, for a peak may lie between two observations."""
    from scipy.signal import find_peaks  # a second, and only a study needs it

    if len(values) < 3 or _span(values) == 0:
        return np.empty(0)
    # Weights that more than halve the variance of noise, and still leave a series that alternates its ups and downs.
    padded = np.pad(values, 1, mode="edge")
    smooth = (padded[:-2] + 3 * padded[1:-1] + padded[2:]) / 5  # [T]
    places, _ = find_peaks(smooth, prominence=PROMINENCE * np.ptp(smooth))
    before, at, after = (smooth[places + shift] for shift in (-1, 0, 1))
    bend = 2 * at - before - after  # [P], of the parabola through the three; 0 within a plateau
    return places + np.divide(after - before, 2 * bend, out=np.zeros(len(places)), where=bend > 0)


def _span(values: FloatArray) -> FloatArray:
    """The range of values [T, ...] -> [...], 0 where it is rounding."""
    span = np.asarray(np.ptp(values, axis=0))
    return np.where(span > ROUNDING * np.abs(values).max(axis=0), span, 0.0)


def _bridged(values: FloatArray, time: FloatArray) -> FloatArray:
    """Values [T, D] with straight lines over what is missing, level at both ends; 0 where all of a variable is."""
    bridged = np.zeros_like(values)
    for variable, column in enumerate(values.T):
        if (present := ~np.isnan(column)).any():
            bridged[:, variable] = np.interp(time, time[present], column[present])
    return bridged


def _numeric_time(series: Series) -> FloatArray:
    """The time [T] of a series as numbers, in days since its first step where it holds dates; else its steps."""
    if series.time is None:
        return np.arange(series.steps, dtype=np.float64)
    if series.time.dtype.kind == "M":
        return (series.time - series.time[0]) / np.timedelta64(1, "D")
    return series.time

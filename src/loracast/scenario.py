"""What is known of the future: variables that are known beforehand, and values that a what-if sets.

Both are one thing to a forecast: numbers that are written in place of drawn ones, NaN where nothing is known.

Shapes: N series, H steps of the horizon, D variables, K of them known beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loracast.errors import ConfigError, DataError
from loracast.forecast import future_time
from loracast.series import Series, Window
from loracast.series.calendar import NEAR, moment_steps

Known = Sequence[Series] | Series | ArrayLike
Future: TypeAlias = Annotated[NDArray[np.float64], "N H D"]

SETTING = re.compile(
    r"\s*(?P<name>.+?)\s*=\s*(?P<value>\S+)"
    r"(?:\s+at\s+(?P<at>.+?)|\s+from\s+(?P<first>.+?)(?:\s+to\s+(?P<last>.+?))?)?\s*"
)
FORMS = "'NAME = NUMBER', with 'at WHEN', 'from WHEN' or 'from WHEN to WHEN' after it; WHEN is a time or 'step 5'"


def known_future(series: Sequence[Series], horizon: int, known: Known | None) -> Future:
    """What is known of the steps that follow each series, [N, H, D], NaN where they are to be forecast.

    Args:
        series: what is forecast; those that have variables known beforehand need them for all steps.
        known: of each series, by its id, a series with some of its variables: from the first step that is forecast on
            or, where both have times, with those times among its own; NaN where nothing is known. Or arrays [N, H, D]
            of all variables, or [N, H, K] of those that are known beforehand.

    Raises DataError where something does not fit or is missing; it names the series and the step.
    """
    known = [known] if isinstance(known, Series) else known
    if known is None:
        future = np.full((len(series), horizon, series[0].variables), np.nan)
    elif isinstance(known, list | tuple) and all(isinstance(one, Series) for one in known):
        future = _of_series(series, horizon, known)
    else:
        future = _of_array(series, horizon, known)
    for one, values in zip(series, future):
        count = len(one.known)
        if count and np.isnan(values[:, :count]).any():
            step, variable = np.argwhere(np.isnan(values[:, :count]))[0]
            raise DataError(
                f"series {one.id!r}: {one.known[variable]!r} is known beforehand, but its value at step {step + 1} of "
                f"the forecast{_when(one, horizon, step)} is not there; give those of all {horizon} steps, in the "
                "table or as known=, or take a shorter horizon"
            )
        past = slice(count, count + len(one.past))
        if not np.isnan(values[:, past]).all():
            variable = int(np.argmax(~np.isnan(values[:, past]).all(0)))
            raise DataError(
                f"series {one.id!r}: {one.past[variable]!r} is only known in the past, but a value of its future was "
                "given; name it as known, or leave its future out"
            )
    return future


def split_known(series: Sequence[Series]) -> tuple[list[Series], list[Series] | None]:
    """Series as a table holds them, each up to its last row with an observed value; and the rows that follow.

    The latter are those of the variables known beforehand, for `predict`; None where there is no such variable. Rows at
    the end of a table that hold no value, as for years that are still to come, are thus forecast and not read.
    """
    pasts, futures = [], []
    for one in series:
        seen = np.flatnonzero(~np.isnan(one.values[:, len(one.known) :]).all(1))
        end = int(seen[-1]) + 1 if len(seen) else one.steps
        pasts.append(one.slice(0, end))
        if one.known and end < one.steps:
            rest, names = one.slice(end, one.steps), one.known
            futures.append(replace(rest, values=rest.values[:, : len(names)], names=names, known=(), past=()))
    return pasts, futures if series[0].known else None


def known_of(windows: Sequence[Window]) -> Annotated[NDArray[np.float64], "N H K"] | None:
    """The future [N, H, K] of the variables of windows that are known beforehand; None where there are none."""
    count = len(windows[0].series.known)
    return np.stack([window.future_values[:, :count] for window in windows]) if count else None


def _of_series(series: Sequence[Series], horizon: int, known: Sequence[Any]) -> Future:
    by_id = {one.id: one for one in known if isinstance(one, Series)}
    if len(by_id) < len(known):
        raise DataError("known= needs one series for each that is forecast, each with another id, or an array")
    if strange := by_id.keys() - {one.id for one in series}:
        raise DataError(f"known= holds series {min(strange)!r}, which is not among those to forecast; give it their id")
    future = np.full((len(series), horizon, series[0].variables), np.nan)
    for values, one in zip(future, series):
        if one.id not in by_id:
            continue
        given = by_id[one.id]
        if strange := [name for name in given.names if name not in one.names]:
            raise DataError(
                f"series {one.id!r}: known= has {strange[0]!r}, which the series has not; it has {', '.join(one.names)}"
            )
        rows = _rows(one, given, horizon)  # [H] positions in what is given, -1 where a step is not there
        columns = [one.names.index(name) for name in given.names]
        values[:, columns] = np.where(rows[:, None] >= 0, given.values[rows], np.nan)
    return future


def _rows(series: Series, given: Series, horizon: int) -> Annotated[NDArray[np.int64], "H"]:
    """The row of `given` [H] that tells each step which follows the series; -1 where there is none."""
    times = future_time(series, horizon)
    if times is None or series.time is None or given.time is None:
        rows = np.arange(horizon)
        return np.where(rows < given.steps, rows, -1)
    if times.dtype != given.time.dtype:
        raise DataError(
            f"series {series.id!r} has times of type {times.dtype}, but those of known= are {given.time.dtype}; give "
            "both the same"
        )
    nearest = np.abs(given.time[None] - times[:, None]).argmin(1)  # [H]
    apart = np.abs(given.time[nearest] - times).astype(float)
    step = float(np.diff(times[:2]).astype(float)[0]) if horizon > 1 else float(times[0] - series.time[-1])
    rows = np.where(apart <= NEAR * step, nearest, -1)
    if (rows < 0).all():
        raise DataError(
            f"series {series.id!r}: none of the times of known= is one of the forecast's"
            f"{_when(series, horizon, 0)} and later; give the rows that follow the series"
        )
    return rows


def _of_array(series: Sequence[Series], horizon: int, known: Any) -> Future:
    try:
        values = np.asarray(known, float)
    except (TypeError, ValueError) as error:
        raise DataError(f"known= must be series or numbers: {error}") from None
    values = values[None] if values.ndim == 2 and len(series) == 1 else values
    variables, count = series[0].variables, len(series[0].known)
    shapes = [(len(series), horizon, variables)] + [(len(series), horizon, count)] * (count > 0)
    if values.shape not in shapes:
        wanted = " or ".join(str(list(shape)) for shape in shapes)
        raise DataError(
            f"known= has shape {list(values.shape)}, but {len(series)} series and {horizon} steps take {wanted}"
        )
    if np.isinf(values).any():
        raise DataError("known= holds an infinite value; write NaN where nothing is known")
    future = np.full(shapes[0], np.nan)
    future[..., : values.shape[2]] = values
    return future


def conditions(series: Sequence[Series], future: Future) -> tuple[str, ...]:
    """What a forecast is conditional on, as sentences: the targets of which some future values were set."""
    names = [name for name, column in zip(series[0].names, np.moveaxis(future, 2, 0)) if not np.isnan(column).all()]
    if set_targets := [name for name in names if name in series[0].targets]:
        return (
            f"future values of {' and '.join(set_targets)} were set: this is a conditional forecast. It says what to "
            "expect if such values are observed, not what would happen if somebody brought them about.",
        )
    return ()


def set_values(texts: Sequence[str], series: Sequence[Series], horizon: int, known: Known | None = None) -> Future:
    """`known` with the values that texts such as "predator = 0.5 from 2027 to 2030" set: [N, H, D] for `predict`.

    A text names a variable, a number and, unless it holds for all steps, when: "at 2027", "from 2027", "from 2027 to
    2030", "at step 5", "from step 5 to step 8"; both ends are included. A date may be as short as a year: it then means
    all steps in it. Raises ConfigError with all problems at once.
    """
    future = np.full((len(series), horizon, series[0].variables), np.nan)
    if known is not None:
        future = known_future(series, horizon, known)
    problems: list[str] = []
    for text in texts:
        match = SETTING.fullmatch(text)
        if not match or match["name"] not in series[0].names:
            problems.append(f"{text!r} is not of the form {FORMS}; the NAMEs are {', '.join(series[0].names)}")
            continue
        try:
            value = float(match["value"])
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            comma = re.fullmatch(r"[+-]?\d+,\d+", match["value"])
            advice = f"; write {match['value'].replace(',', '.')}" if comma else ""
            problems.append(f"{text!r}: {match['value']!r} is not a finite number{advice}")
            continue
        column = series[0].names.index(match["name"])
        for values, one in zip(future, series):
            try:
                chosen = _chosen(one, horizon, match["at"], match["first"], match["last"])
            except ValueError as error:
                problems.append(f"{text!r}: {error}")
                break
            if not chosen.any():
                problems.append(
                    f"{text!r}: no step of the forecast of series {one.id!r} lies there; it goes from step 1"
                    f"{_when(one, horizon, 0)} to step {horizon}{_when(one, horizon, horizon - 1)}"
                )
                break
            values[chosen, column] = value
    if problems:
        raise ConfigError(problems)
    return future


def _chosen(series: Series, horizon: int, at: str | None, first: str | None, last: str | None) -> NDArray[np.bool_]:
    """Which steps [H] a text means."""
    if at is not None:
        first = last = at
    chosen = np.ones(horizon, bool)
    for text, end in ((first, "first"), (last, "last")):
        if text is not None:
            low, high = moment_steps(future_time(series, horizon), series.calendar, text)
            steps = np.arange(horizon)
            chosen &= steps >= low if end == "first" else steps <= high
    return chosen


def _when(series: Series, horizon: int, step: int) -> str:
    """The time of a step of the forecast in brackets, after a space; nothing where there are no times."""
    times = future_time(series, horizon)
    if times is None or series.calendar is None:
        return ""
    return f" ({series.calendar.texts(times)[step]})"

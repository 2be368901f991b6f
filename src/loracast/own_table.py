"""A pandas table of many series as its owner names and types it: read, and written anew about other steps.

Shapes: N series or windows, D targets, H steps.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from loracast.errors import ConfigError, DataError
from loracast.series import Columns, Series, Window, series_from_frame
from loracast.series.calendar import common_calendar
from loracast.series.types import listed

if TYPE_CHECKING:
    import pandas as pd

Table: TypeAlias = "pd.DataFrame | pd.Series"

ID, TIME, TARGET = "item_id", "timestamp", "target"


def as_series(data: Sequence[Series] | Series | Table) -> list[Series]:
    """One series, many, or a pandas table or column, as a list of series.

    A table is read as `series_from_frame` does. A column is one variable, and its index the times unless that only
    counts the rows; several levels of an index are ids before the time.
    """
    if isinstance(data, Series):
        return [data]
    pandas = sys.modules.get("pandas")  # whoever has a table has imported it
    if pandas and isinstance(data, pandas.DataFrame):
        return series_from_frame(cast("pd.DataFrame", data))
    if pandas and isinstance(data, pandas.Series):
        return _of_column(data)
    series = list(cast("Sequence[Series]", data))
    for one in series:
        if not isinstance(one, Series):
            raise DataError(
                f"a {type(one).__name__} cannot be forecast; give a loracast.Series, a list of them, or a pandas table"
            )
    return series


def _of_column(column: Any) -> list[Series]:
    import pandas as pd

    name = "value" if column.name is None else str(column.name)
    if isinstance(column.index, pd.RangeIndex) and column.index.name is None:
        return series_from_frame(column.to_frame(name), Columns(targets=(name,)))
    *ids, time = column.index.names
    ids = [str(level or f"level {number}") for number, level in enumerate(ids, 1)]
    time = str(time or "time") + " of the index" * (time == column.name)
    table = column.rename_axis(index=[*ids, time]).rename(name).reset_index()
    return series_from_frame(table, Columns(time=time, id=tuple(ids), targets=(name,)))


@dataclass(frozen=True)
class OwnTable:
    """The series of a table, and what its owner calls them and their variables.

    Attributes:
        names: what the columns are called, by their names as text.
        ids: the ids that are different, as an index of the owner's type; None without a column of ids.
        places: where each series' id stands among them, by its name as text.
        time: the type of the times; None without a column of times.
    """

    series: list[Series]
    names: dict[str, Hashable]
    id_column: Hashable | None
    ids: pd.Index | None
    places: dict[str, int]
    time_column: Hashable | None
    time: Any

    def called(self, names: Sequence[str]) -> list[Hashable]:
        return [self.names[name] for name in names]

    def ids_of(self, series: Sequence[Series], rows: Rows) -> dict[Hashable, Any]:
        """The column of ids of a table about these series; none where there is no such column."""
        if self.ids is None:
            return {}
        return {self.id_column: self.ids.take(rows.by_window([self.places[one.id] for one in series]))}

    def times_of(
        self, series: Sequence[Series], times: Sequence[NDArray[Any] | None], horizon: int, rows: Rows
    ) -> dict[Hashable, Any]:
        """The column of times, given those of each series [H]; the number of the step where rows have none."""
        if self.time_column is None:
            return {"step": np.tile(np.arange(1, horizon + 1), rows.windows * rows.targets)}
        return {self.time_column: self._index(series, times).take(rows.by_step())}

    def cutoffs(self, cut: Sequence[Window], rows: Rows) -> Any:
        """The last time that was read of each window, or the number of steps where rows have no times."""
        ends = [window.start + window.context for window in cut]
        if self.time_column is None:
            return rows.by_window(ends)
        last = [None if w.series.time is None else w.series.time[end - 1 : end] for w, end in zip(cut, ends)]
        return self._index([window.series for window in cut], last).take(rows.by_window(range(len(cut))))

    def _index(self, series: Sequence[Series], times: Sequence[NDArray[Any] | None]) -> pd.Index:
        """Times of several series, one after the other, in the type of the table's own."""
        import pandas as pd

        parts = []
        for one, time in zip(series, times):
            if time is None or one.calendar is None:
                raise DataError(
                    f"series {one.id!r} has a single row, so that the spacing of its times is not known; give it "
                    "another row, or leave the series out"
                )
            parts.append((one.calendar, time))
        index: Any
        common = common_calendar([calendar for calendar, _ in parts])
        if common is not None:
            index = common.index(np.concatenate([time for _, time in parts]))
        else:
            indexes = [calendar.index(time) for calendar, time in parts]
            index = indexes[0].append(indexes[1:])
        if isinstance(self.time, pd.PeriodDtype):
            return index.to_period(self.time.freq)
        if isinstance(self.time, pd.DatetimeTZDtype):
            return index.tz_convert(self.time.tz).as_unit(self.time.unit)
        if self.time.kind == "m" and index.dtype.kind in "if":  # durations are read as seconds
            index = pd.to_timedelta(index.to_numpy(), unit="s")
        alike = self.time.kind == index.dtype.kind or (self.time.kind, index.dtype.kind) in (("f", "i"), ("u", "i"))
        return index.astype(self.time) if alike else index


def read_own(
    df: pd.DataFrame,
    id_column: Hashable | None,
    time_column: Hashable | None,
    targets: tuple[Hashable, ...],
    known: tuple[Hashable, ...] = (),
    past: tuple[Hashable, ...] = (),
) -> OwnTable:
    """The series of a table of which it is said what its columns are."""
    import pandas as pd

    whole = flat(df, id_column, time_column)
    id_column = None if id_column == ID and ID not in whole else id_column
    heads = [one for one in (id_column, time_column) if one is not None]
    wanted = [*heads, *known, *past, *targets]
    if not targets:
        raise ConfigError(["no column to forecast is named; name at least one with target="])
    if absent := [one for one in wanted if one not in whole]:
        role = "id_column" if absent[0] == id_column else "time_column" if absent[0] == time_column else "target"
        role = "known" if absent[0] in known else "past" if absent[0] in past else role
        raise DataError(
            f"the table has no column {absent[0]!r}, which {role}= names; it has {', '.join(map(str, whole.columns))}: "
            "name one of these"
        )
    if spare := [str(one) for one in whole if one not in wanted]:
        warnings.warn(
            f"columns left out: {listed(spare, 8)}; name them in target=, past= or, with their future, in known=",
            stacklevel=3,
        )
    if not len(whole):
        raise DataError("the table has no rows")
    frame: Any = whole[wanted]
    names = {str(one).strip(): one for one in wanted}
    labels: dict[str, int] = {}
    ids: Any = None
    if id_column is not None:
        codes, ids = pd.factorize(frame[id_column])
        if (codes < 0).any():
            raise DataError(f"row {int(np.argmax(codes < 0)) + 1}: the id {id_column!r} is missing; give every row one")
        texts = [_label(one) for one in ids]
        labels = {text: place for place, text in enumerate(texts)}
        if len(labels) < len(texts):
            same = next(text for place, text in enumerate(texts) if labels[text] != place)
            raise DataError(f"two ids of {id_column!r} are both written {same!r}; give them different names")
        frame = frame.copy()
        frame[id_column] = pd.array(texts, dtype="str").take(codes)
    elif time_column is not None and frame[time_column].duplicated().any():
        row = int(np.argmax(frame[time_column].duplicated()))
        raise DataError(
            f"row {row + 1}: the time {frame[time_column].iloc[row]} appears twice; name the column that tells the "
            f"series apart with id_column=, or keep one row a time"
        )
    columns = Columns(
        time=None if time_column is None else str(time_column).strip(),
        id=() if id_column is None else (str(id_column).strip(),),
        targets=tuple(str(one).strip() for one in targets),
        known=tuple(str(one).strip() for one in known),
        past=tuple(str(one).strip() for one in past),
    )
    time = None if time_column is None else frame[time_column].dtype
    return OwnTable(series_from_frame(frame, columns), names, id_column, ids, labels, time_column, time)


def flat(df: pd.DataFrame, id_column: Hashable | None, time_column: Hashable | None) -> pd.DataFrame:
    """A table whose ids and times stand in columns, also where they stood in the index."""
    import pandas as pd

    if not isinstance(df, pd.DataFrame):
        raise DataError(
            f"a pandas DataFrame is needed, not {type(df).__name__}; `predict` also takes a column or Series"
        )
    heads = (id_column, time_column)
    if any(name in heads for name in df.index.names if name is not None):
        return df.reset_index()
    dated = isinstance(df.index, pd.DatetimeIndex | pd.PeriodIndex)
    if dated and time_column is not None and time_column not in df:
        return df.rename_axis(index=time_column).reset_index()
    return df


def _label(value: Any) -> str:
    """An id as text, as files hold it."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


@dataclass(frozen=True)
class Rows:
    """The rows of a table that holds each of N windows, then each of D targets, then each of H steps."""

    windows: int
    targets: int
    horizon: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.windows, self.targets, self.horizon

    def by_window(self, positions: Sequence[int]) -> NDArray[np.int64]:
        """Something of each window [N], in all its rows."""
        return np.repeat(np.asarray(positions), self.targets * self.horizon)

    def by_target(self, names: Sequence[Hashable]) -> list[Hashable]:
        return [name for _ in range(self.windows) for name in names for _ in range(self.horizon)]

    def by_step(self) -> NDArray[np.int64]:
        """Of each row, its place among the N · H steps of all windows."""
        places = np.arange(self.windows * self.horizon).reshape(self.windows, 1, self.horizon)
        return np.broadcast_to(places, self.shape).ravel()

    def by_cell(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values [N, H, D] as rows."""
        return np.swapaxes(values, 1, 2).ravel()

    def table(self, columns: dict[Any, Any]) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(columns)

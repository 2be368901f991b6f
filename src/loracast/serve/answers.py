"""A forecast as an answer: JSON, or a table as an Arrow stream or a Parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loracast.events import frame
from loracast.files import json_text
from loracast.forecast import Forecast
from loracast.serve.bodies import ARROW, JSON
from loracast.serve.schema import Options

if TYPE_CHECKING:
    import pandas as pd


def as_json(forecast: Forecast, options: Options, base: str, warnings: Sequence[str]) -> bytes:
    """The answer as `schema.Answer` describes it; the same bytes for the same request."""
    mean, levels = forecast.mean(), forecast.quantiles(options.quantiles)  # [N, H, D], [N, Q, H, D]
    series = []
    for row, name in enumerate(forecast.ids):
        told: dict[str, Any] = {"id": name, "time": _times(forecast, row)}
        if "quantiles" in options.output:
            told["mean"] = by_variable(forecast.names, mean[row])
            told["quantiles"] = {
                variable: {
                    f"{q:g}": levels[row, index, :, column].tolist() for index, q in enumerate(options.quantiles)
                }
                for column, variable in enumerate(forecast.names)
            }
        if "paths" in options.output:
            told["paths"] = by_variable(forecast.names, forecast.samples[row])
        series.append(told)
    answer = {
        "base": base,
        "adapter": options.adapter,
        "variables": list(forecast.names),
        "series": series,
        "warnings": list(warnings),
        "conditional": list(forecast.conditional),
        "scales": list(forecast.scales),
        "saturated": forecast.saturated,
        "flops": {"executed": forecast.flops.executed, "published": forecast.flops.published},
    }
    if "events" in options.output:
        found = forecast.events(options.events)
        answer["events"] = [
            row | {"by_step": one.by_step.tolist()} for row, one in zip(frame(found).to_dict("records"), found)
        ]
    return json_text(answer).encode()


def as_table(forecast: Forecast, options: Options, kind: str) -> bytes:
    """The one output that is asked for as a table."""
    table = pa.Table.from_pandas(_frame(forecast, options), preserve_index=False)
    sink = pa.BufferOutputStream()
    if kind == ARROW:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        import pyarrow.parquet as pq

        pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def _frame(forecast: Forecast, options: Options) -> pd.DataFrame:
    if options.output == ["paths"]:
        return forecast.paths_frame()
    if options.output == ["events"]:
        return frame(forecast.events(options.events))
    return forecast.to_frame(options.quantiles)


def _times(forecast: Forecast, row: int) -> list[Any] | None:
    """The times of a series as text, or as numbers where they are such; None where it has none."""
    times, calendar = forecast.time[row], forecast.contexts[row].calendar
    if times is None or calendar is None:
        return None
    return times.tolist() if times.dtype.kind == "f" else list(calendar.texts(times))


def by_variable(names: Sequence[str], values: NDArray[np.float64]) -> dict[str, list[Any]]:
    """Values [..., D] as lists, by the name of each variable."""
    return {name: values[..., column].tolist() for column, name in enumerate(names)}


def media_type(accepted: str, kinds: Sequence[str]) -> str | None:
    """The first of the kinds that an Accept header takes, JSON where it takes anything; None where it takes none."""
    wanted = []
    for part in accepted.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if not any(one.replace(" ", "") in ("q=0", "q=0.0") for one in parameters):
            wanted.append(name)
    if not accepted.strip() or {"*/*", "application/*"} & {*wanted}:
        return next((kind for kind in wanted if kind in kinds), JSON)
    return next((kind for kind in wanted if kind in kinds), None)

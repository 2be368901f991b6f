"""A request's body as series: JSON, or a table as an Arrow stream or a Parquet file.

What a body declares is checked before anything of that size is made.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import ValidationError
from starlette.requests import Request

from loracast.scenario import set_values, split_known
from loracast.series import Columns, Series
from loracast.series.tables import read_frame
from loracast.serve.limits import Limits
from loracast.serve.refusals import Refusal
from loracast.serve.schema import Ask, Given, Options, TableOptions

JSON, ARROW, PARQUET = "application/json", "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
UNPACKED = 16  # times the most bytes of a body that a table may take in memory
MOST_PROBLEMS = 10


@dataclass(frozen=True, eq=False)
class Asked:
    """Series up to the present, what is known of their future [N, H, D] or None, and what is asked of them.

    notices: what was done to a table when it was read.
    """

    options: Options
    series: list[Series]
    known: NDArray[np.float64] | list[Series] | None
    notices: tuple[str, ...] = ()


async def received(request: Request, most: int, problem: str) -> bytes:
    """The body of a request. Refusal 413, by this problem, where it says or turns out to have more bytes than that."""
    parts, size = [], 0
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > most:
        raise Refusal(413, problem)
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise Refusal(413, problem)
        parts.append(part)
    return b"".join(parts)


def read_ask(body: bytes, limits: Limits) -> Asked:
    """What a body of JSON asks."""
    try:
        content = json.loads(body, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise Refusal(400, "the body is nested too deeply; see /openapi.json for its form") from None
    except UnicodeDecodeError as error:
        raise Refusal(400, f"the body is not UTF-8: {error.reason} at byte {error.start}") from None
    except ValueError as error:
        raise Refusal(400, f"the body is not JSON: {error}") from None
    try:
        ask = Ask.model_validate(content)
    except ValidationError as error:
        raise Refusal(422, *_told(error)) from None
    check_options(ask, limits)
    names = [*ask.series[0].values]
    check_size(
        len(ask.series),
        sum(len(column) for one in ask.series for column in one.values.values()),
        len(names),
        ask,
        limits,
    )
    order = _in_order(ask, names)
    read = [_series(one, order, ask) for one in ask.series]
    series, known = [one for one, _ in read], None
    if any(one.future for one in ask.series):
        known = np.stack([_future(one, order, ask.horizon) for one in ask.series])
    if ask.set:
        known = set_values(ask.set, series, ask.horizon, known)
    return Asked(ask, series, known, tuple(notice for _, notices in read for notice in notices))


def read_table(body: bytes, kind: str, query: dict[str, Any], limits: Limits) -> Asked:
    """What a table and the query of its address ask."""
    try:
        options = TableOptions.model_validate(query)
    except ValidationError as error:
        raise Refusal(422, *_told(error)) from None
    check_options(options, limits)
    try:
        table = _parquet(body, limits) if kind == PARQUET else _arrow(body, limits)
        frame = table.to_pandas()
    except (pa.ArrowException, struct.error, LookupError, OSError, OverflowError, ValueError, TypeError) as error:
        raise Refusal(400, f"the body is no {'Parquet file' if kind == PARQUET else 'Arrow stream'}: {error}") from None
    roles = tuple(options.columns), tuple(options.known), tuple(options.past)
    reading = read_frame(frame, Columns(options.time, tuple(options.id), *roles), "the table", "0")
    steps, first = sum(one.steps for one in reading.series), reading.series[0]
    check_size(len(reading.series), steps * first.variables, first.variables, options, limits)
    series, known = split_known(reading.series)
    if options.set:
        return Asked(options, series, set_values(options.set, series, options.horizon, known), reading.notices)
    return Asked(options, series, known, reading.notices)


def check_options(options: Options, limits: Limits) -> None:
    """Refuses more than is allowed."""
    found = {"horizon": (options.horizon, limits.most_horizon), "paths": (options.paths, limits.most_paths)}
    if problems := [f"{name} is {value}; the most is {most}" for name, (value, most) in found.items() if value > most]:
        raise Refusal(422, *problems)


def check_size(series: int, cells: int, variables: int, options: Options, limits: Limits) -> None:
    """Refuses more series, variables, steps or paths' numbers than are allowed."""
    values = series * options.paths * options.horizon * variables
    found = {
        "series": (series, limits.most_series),
        "variables": (variables, limits.most_variables),
        "steps of all series": (-(-cells // max(1, variables)), limits.most_steps),
        "series × paths × horizon × variables": (values, limits.most_values),
    }
    if problems := [f"{value:,} {name}; the most is {most:,}" for name, (value, most) in found.items() if value > most]:
        raise Refusal(413, *problems)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands twice in one object; keep one")
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON; write null for a missing value")


def _told(error: ValidationError) -> list[str]:
    """Where each problem is, and what it is."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    told = [f"{'.'.join(map(str, one['loc'])) or 'the body'}: {one['msg']}" for one in found[:MOST_PROBLEMS]]
    return told + ([f"and {len(found) - len(told)} more"] if len(found) > len(told) else [])


def _in_order(ask: Ask, names: list[str]) -> list[str]:
    """The variables in the order of a series: known beforehand, read only, and those to forecast."""
    for one in ask.series:
        if set(one.values) != set(names):
            raise Refusal(
                422,
                f"series {one.id!r} has variables {', '.join(one.values)}, but {ask.series[0].id!r} has "
                f"{', '.join(names)}; give all the same",
            )
    for role in ("known", "past"):
        if absent := [name for name in getattr(ask, role) if name not in names]:
            raise Refusal(422, f"{role} names {absent[0]!r}, which is no variable; there are {', '.join(names)}")
    if both := [name for name in ask.known if name in ask.past]:
        raise Refusal(422, f"{both[0]!r} is named as known and as past; name it once")
    heads = [*ask.known, *ask.past]
    return [*heads, *(name for name in names if name not in heads)]


def _series(given: Given, order: list[str], ask: Ask) -> tuple[Series, tuple[str, ...]]:
    """A series, and what was done to its times."""
    lengths = {name: len(column) for name, column in given.values.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{length} of {name}" for name, length in lengths.items())
        raise Refusal(422, f"series {given.id!r} has lists of several lengths: {told}")
    columns = {
        name: np.array([np.nan if cell is None else cell for cell in given.values[name]], float) for name in order
    }
    steps, roles = lengths[order[0]], (tuple(ask.known), tuple(ask.past))
    if given.time is None:
        values = np.column_stack([columns[name] for name in order])
        return Series(values, tuple(order), given.id, known=roles[0], past=roles[1]), ()
    if len(given.time) != steps:
        raise Refusal(422, f"series {given.id!r} has {len(given.time)} times for {steps} steps; give each step one")
    if "time" in columns:
        raise Refusal(422, "a variable is called 'time', as the times are; call it otherwise")
    heads = [*roles[0], *roles[1]]
    targets = tuple(name for name in order if name not in heads)
    where = f"series {given.id!r}"
    frame = pd.DataFrame({"time": given.time, **columns})
    reading = read_frame(frame, Columns("time", (), targets, *roles), where, given.id)
    return reading.series[0], tuple(f"{where}: {notice}" for notice in reading.notices)


def _future(given: Given, order: list[str], horizon: int) -> NDArray[np.float64]:
    """What is given of a series' future, [H, D]."""
    future = np.full((horizon, len(order)), np.nan)
    for name, column in (given.future or {}).items():
        if name not in order:
            raise Refusal(
                422,
                f"series {given.id!r}: the future of {name!r} is given, but the variables are {', '.join(order)}",
            )
        if len(column) > horizon:
            raise Refusal(
                422, f"series {given.id!r}: the future of {name!r} has {len(column)} steps, the horizon {horizon}"
            )
        future[: len(column), order.index(name)] = [np.nan if cell is None else cell for cell in column]
    return future


def _parquet(body: bytes, limits: Limits) -> pa.Table:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(pa.BufferReader(body))
    about = file.metadata
    groups = [about.row_group(index) for index in range(about.num_row_groups)]
    _check_table(about.num_rows, about.num_columns, sum(group.total_byte_size for group in groups), limits)
    parts, rows, size = [], 0, 0
    for part in file.iter_batches(batch_size=10_000):  # what a file says of itself need not hold
        rows, size = rows + part.num_rows, size + _unpacked(part)
        _check_table(rows, part.num_columns, size, limits)
        parts.append(part)
    return pa.Table.from_batches(parts, file.schema_arrow)


def _arrow(body: bytes, limits: Limits) -> pa.Table:
    for message in pa.ipc.MessageReader.open_stream(pa.BufferReader(body)):
        if message.type == "record batch" and _is_compressed(message.metadata.to_pybytes()):
            raise Refusal(415, "the Arrow stream is compressed; send it without compression, or a Parquet file")
    parts, rows, size = [], 0, 0
    with pa.ipc.open_stream(pa.BufferReader(body)) as reader:
        for part in reader:
            rows, size = rows + part.num_rows, size + _unpacked(part)
            _check_table(rows, part.num_columns, size, limits)
            part.validate(full=True)  # offsets that point elsewhere
            parts.append(part)
        return pa.Table.from_batches(parts, reader.schema)


def _unpacked(part: pa.RecordBatch) -> int:
    """Bytes that rows take once each cell holds its own value: a dictionary holds a long text once for many rows."""
    size = 0
    for column in part.columns:
        size += column.nbytes
        if pa.types.is_dictionary(column.type):
            if not pa.types.is_string(column.type.value_type) and not pa.types.is_primitive(column.type.value_type):
                raise Refusal(422, f"a dictionary of {column.type.value_type} is not read; send text or numbers")
            if pa.types.is_string(column.type.value_type):
                lengths = pc.binary_length(column.dictionary)  # pyright: ignore[reportAttributeAccessIssue]
                size += pc.sum(lengths.take(column.indices)).as_py() or 0  # pyright: ignore[reportAttributeAccessIssue]
    return size


def _is_compressed(metadata: bytes) -> bool:
    """Whether a record batch's buffers are compressed, so that their size is what they say it is.

    The metadata is a flatbuffer: a Message, whose third field is its RecordBatch, whose fourth is the compression
    (arrow's format/Message.fbs).
    """

    def field(table: int, number: int) -> int:
        """Where a field of a table is; 0 where it has none."""
        layout = table - struct.unpack_from("<i", metadata, table)[0]
        if 4 + 2 * number >= struct.unpack_from("<H", metadata, layout)[0]:
            return 0
        offset = struct.unpack_from("<H", metadata, layout + 4 + 2 * number)[0]
        return table + offset if offset else 0

    def followed(place: int) -> int:
        return place + struct.unpack_from("<I", metadata, place)[0]

    header = field(followed(0), 2)
    return bool(header and field(followed(header), 3))


def _check_table(rows: int, columns: int, size: int, limits: Limits) -> None:
    found = {
        "rows": (rows, limits.most_steps),
        "columns": (columns, 4 * limits.most_variables),
        "bytes once it is unpacked": (size, UNPACKED * limits.most_body),
    }
    if problems := [
        f"the table has {value:,} {name}; the most is {most:,}" for name, (value, most) in found.items() if value > most
    ]:
        raise Refusal(413, *problems)

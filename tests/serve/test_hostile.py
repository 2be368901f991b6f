"""What a service meets that anybody can ask: each is refused with a reason, and the next is answered as ever."""

from __future__ import annotations

import io
import json
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loracast.serve.bodies import ARROW, JSON, PARQUET
from served import adapters, ask, base, client

LONG = "9" * 5000


def stream(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


SMALL = pa.table({"x": np.arange(9.0)})
ZEROS = pa.table({"x": np.zeros(20_000_000)})  # 160 MB that a Parquet file holds in some thousand bytes
TEXTS = pa.table({"x": pa.DictionaryArray.from_arrays(np.zeros(90_000, np.int32), ["y" * 50_000])})


def one(**changes: Any) -> dict[str, Any]:
    return {"values": {"x": [1, 2, 3, 4]}, **changes}


BODIES: dict[str, Any] = {  # as JSON; text and bytes are sent as they are
    "nothing": b"",
    "no JSON": b"{",
    "not UTF-8": b'{"a": "\xff"}',
    "a list": [],
    "null": None,
    "nested 100,000 times": b"[" * 100_000,
    "objects nested 100,000 times": b'{"a":' * 100_000,
    "a key twice": b'{"series": [{"values": {"x": [1, 2, 3]}}], "horizon": 2, "horizon": 3}',
    "NaN": b'{"series": [{"values": {"x": [1, NaN, 3]}}], "horizon": 2}',
    "infinite": b'{"series": [{"values": {"x": [1, Infinity, 3]}}], "horizon": 2}',
    "1e999": b'{"series": [{"values": {"x": [1, 1e999, 3]}}], "horizon": 2}',
    "5,000 digits": f'{{"series": [{{"values": {{"x": [1, {LONG}, 3]}}}}], "horizon": 2}}'.encode(),
    "a horizon of 5,000 digits": f'{{"series": [{{"values": {{"x": [1, 2, 3]}}}}], "horizon": {LONG}}}'.encode(),
    "no series": {"horizon": 2},
    "no horizon": {"series": [one()]},
    "series of none": {"series": [], "horizon": 2},
    "empty values": {"series": [{"values": {}}], "horizon": 2},
    "values of no steps": {"series": [{"values": {"x": []}}], "horizon": 2},
    "texts for numbers": {"series": [{"values": {"x": ["1", "2"]}}], "horizon": 2},
    "truths for numbers": {"series": [{"values": {"x": [True, False]}}], "horizon": 2},
    "lists of several lengths": {"series": [{"values": {"x": [1, 2], "y": [1, 2, 3]}}], "horizon": 2},
    "nothing but missing": {"series": [{"values": {"x": [None, None, None]}}], "horizon": 2},
    "horizon 0": {"series": [one()], "horizon": 0},
    "horizon -1": {"series": [one()], "horizon": -1},
    "horizon 2.5": {"series": [one()], "horizon": 2.5},
    "horizon true": {"series": [one()], "horizon": True},
    "horizon beyond bounds": {"series": [one()], "horizon": 10**6},
    "paths beyond bounds": {"series": [one()], "horizon": 2, "paths": 10**9},
    "paths × steps beyond bounds": {"series": [one(id=str(n)) for n in range(500)], "horizon": 900, "paths": 900},
    "many series": {"series": [one(id=str(n)) for n in range(1001)], "horizon": 1, "paths": 1},
    "many variables": {"series": [{"values": {f"x{n}": [1, 2, 3] for n in range(33)}}], "horizon": 1, "paths": 1},
    "two series of one id": {"series": [one(), one()], "horizon": 2},
    "other variables": {"series": [one(), {"id": "b", "values": {"y": [1, 2, 3]}}], "horizon": 2},
    "a line break in an id": {"series": [one(id="a\nb")], "horizon": 2},
    "a zero byte in an id": {"series": [one(id="a\0b")], "horizon": 2},
    "half a pair of surrogates": b'{"series": [{"id": "\\ud800", "values": {"x": [1, 2, 3]}}], "horizon": 2}',
    "an id of 10,000 letters": {"series": [one(id="a" * 10_000)], "horizon": 2},
    "an unknown key": {"series": [one()], "horizon": 2, "__class__": "os.system"},
    "a path for an adapter": {"series": [one()], "horizon": 2, "adapter": "../../etc/passwd"},
    "a repository for an adapter": {"series": [one()], "horizon": 2, "adapter": "someone/else"},
    "no such adapter": {"series": [one()], "horizon": 2, "adapter": "delta"},
    "temperature 0": {"series": [one()], "horizon": 2, "temperature": 0},
    "temperature 1e-300": {"series": [one()], "horizon": 2, "temperature": 1e-300},
    "top_p 2": {"series": [one()], "horizon": 2, "top_p": 2},
    "an unknown transform": {"series": [one()], "horizon": 2, "transform": "eval"},
    "a negative seed": {"series": [one()], "horizon": 2, "seed": -1},
    "a huge seed": {"series": [one()], "horizon": 2, "seed": 2**64},
    "a quantile of 1.5": {"series": [one()], "horizon": 2, "quantiles": [1.5]},
    "1,000 quantiles": {"series": [one()], "horizon": 2, "quantiles": [0.5] * 1000},
    "an output that is none": {"series": [one()], "horizon": 2, "output": ["pickle"]},
    "an event that is none": {"series": [one()], "horizon": 2, "output": ["events"], "events": ["import os"]},
    "an event of brackets": {"series": [one()], "horizon": 2, "output": ["events"], "events": ["(" * 499]},
    "an event of 100,000 letters": {"series": [one()], "horizon": 2, "output": ["events"], "events": ["x" * 100_000]},
    "100 events": {"series": [one()], "horizon": 2, "output": ["events"], "events": ["x < 1"] * 100},
    "a set of another variable": {"series": [one()], "horizon": 2, "set": ["y = 3"]},
    "a future too long": {"series": [one(future={"x": [1, 2, 3]})], "horizon": 2},
    "a future of another variable": {"series": [one(future={"y": [1]})], "horizon": 2},
    "dates that are none": {"series": [one(time=["a", "b", "c", "d"])], "horizon": 2},
    "dates beyond 2262": {"series": [one(time=["9999-12-30", "9999-12-31", "9999-13-01", "x"])], "horizon": 2},
    "times of other length": {"series": [one(time=[1, 2])], "horizon": 2},
    "times that are one": {"series": [one(time=[1, 1, 1, 1])], "horizon": 2},
    "a step of 1e-300": {"series": [one(time=[0, 1e-300, 1, 2])], "horizon": 2},
    "gaps of a million steps": {"series": [one(time=[0, 1, 2, 10**9])], "horizon": 2},
    "a variable called time": {"series": [{"values": {"time": [1, 2, 3]}, "time": [1, 2, 3]}], "horizon": 2},
    "a body too large": b" " * 300_000,
}
TABLES: dict[str, tuple[str, bytes, str]] = {
    "no Parquet": (PARQUET, b"PAR1 no PAR1", "horizon=2"),
    "half a Parquet file": (PARQUET, parquet(SMALL)[:-30], "horizon=2"),
    "a Parquet file of 160 MB": (PARQUET, parquet(ZEROS), "horizon=2"),
    "a Parquet file of long texts": (PARQUET, parquet(TEXTS), "horizon=2"),
    "no Arrow": (ARROW, b"\xff\xff\xff\xff\xff\xff\xff\x7f", "horizon=2"),
    "half an Arrow stream": (ARROW, stream(SMALL)[:200], "horizon=2"),
    "a compressed Arrow stream": (ARROW, stream(ZEROS.slice(0, 100), compression="zstd"), "horizon=2"),
    "an Arrow stream with its bits turned": (ARROW, bytes(255 - byte for byte in stream(SMALL)), "horizon=2"),
    "no horizon": (ARROW, stream(SMALL), ""),
    "an unknown option": (ARROW, stream(SMALL), "horizon=2&shell=ls"),
    "a horizon twice": (ARROW, stream(SMALL), "horizon=2&horizon=3"),
    "a horizon of text": (ARROW, stream(SMALL), "horizon=two"),
    "a horizon of 2.5": (ARROW, stream(SMALL), "horizon=2.5"),
    "a truth that is none": (ARROW, stream(SMALL), "horizon=2&raw=perhaps"),
    "a temperature that is no number": (ARROW, stream(SMALL), "horizon=2&temperature=nan"),
    "a column that is none": (ARROW, stream(SMALL), "horizon=2&columns=y"),
    "two outputs of a table": (ARROW, stream(SMALL), "horizon=2&output=paths,quantiles"),
    "nested columns": (PARQUET, parquet(pa.table({"x": [[1, 2], [3]]})), "horizon=2"),
    "200 columns": (PARQUET, parquet(pa.table({f"x{n}": [1.0] for n in range(200)})), "horizon=2"),
    "no rows": (PARQUET, parquet(SMALL.slice(0, 0)), "horizon=2"),
    "no columns": (PARQUET, parquet(pa.table({})), "horizon=2"),
}


def refused(answer: httpx.Response) -> dict[str, Any]:
    """The problem document of an answer that is a refusal."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:300])
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["problems"]
    assert len(answer.content) < 20_000
    return problem


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_is_refused(client, ask, name):
    body = BODIES[name]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    refused(client.post("/v1/forecast", content=content, headers={"content-type": JSON}))


@pytest.mark.parametrize("name", TABLES)
def test_a_hostile_table_is_refused(client, name):
    kind, content, query = TABLES[name]
    answer = client.post(f"/v1/forecast?{query}", content=content, headers={"content-type": kind, "accept": ARROW})
    refused(answer)


def test_hostile_ways_to_ask(client, ask):
    """Methods, paths and headers; after all of it, the service answers as ever."""
    body = json.dumps(ask()).encode()
    for kind in ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert refused(client.post("/v1/forecast", content=body, headers={"content-type": kind}))["status"] == 415
    assert refused(client.post("/v1/forecast", json=ask(), headers={"accept": "image/png"}))["status"] == 406
    assert refused(client.post("/v1/forecast?horizon=3", json=ask()))["status"] == 422
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        assert refused(client.request(method, "/v1/forecast"))["status"] == 405
    for path in ("/", "/v1", "/v1/models/..%2f..%2fetc%2fpasswd", "/static/../../etc/passwd", "/docs", "/v1/forecast/"):
        answer = client.get(path, follow_redirects=False)
        assert answer.status_code in (404, 405, 307), path
        assert "passwd" not in answer.headers.get("location", "")
    assert client.post("/v1/forecast", json=ask()).status_code == 200


def test_a_body_that_is_longer_than_it_says_is_cut_off(client):
    def endless():
        for _ in range(100):
            yield b" " * 10_000

    assert refused(client.post("/v1/forecast", content=endless(), headers={"content-type": JSON}))["status"] == 413


def test_a_table_of_a_million_rows_with_one_value_each_is_refused_before_it_is_unpacked(client):
    frame = pd.DataFrame({"x": np.ones(1_000_000)})
    body = parquet(pa.Table.from_pandas(frame))
    assert len(body) < 200_000
    assert (
        refused(client.post("/v1/forecast?horizon=2", content=body, headers={"content-type": PARQUET}))["status"] == 413
    )

"""The service as a program asks it, over a real socket."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import loracast
from loracast.errors import ConfigError, DataError
from loracast.serve.answers import as_json, media_type
from loracast.serve.bodies import ARROW, JSON, PARQUET, read_ask
from loracast.serve.limits import Limits
from loracast.serve.queue import Job, Queue
from loracast.serve.run import check_address
from served import NAMES, adapters, ask, base, client, serve

SIZES = ((3, 2), (5, 4), (3, 6))  # paths, steps


def alone(base: loracast.Forecaster, adapters: Path, body: dict[str, Any]) -> bytes:
    """The answer to a request as one forecast by itself gives it."""
    asked = read_ask(json.dumps(body).encode(), Limits())
    name = asked.options.adapter
    forecaster = base.with_adapter(adapters / name) if name else base
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        found = forecaster.predict(
            asked.series, asked.options.horizon, sample=asked.options.sample(), known=asked.known
        )
    told = [str(one.message) for one in caught]
    return as_json(found, asked.options, base.model.source.rpartition("/")[2], told)


def mixed() -> list[dict[str, Any]]:
    """Requests of several adapters, sizes, lengths and what-ifs."""
    found = []
    for number, series in enumerate(loracast.simulate("predator-prey", n=6, steps=40, seed=3)):
        values = {name: series.values[: 40 - 5 * number, column].tolist() for column, name in enumerate(series.names)}
        for index, (paths, steps) in enumerate(SIZES):
            one: dict[str, Any] = {"id": f"{number}", "values": values}
            if number == 2:
                one["future"] = {"predator": [0.5, None]}
            adapter = (None, *NAMES)[(number + index) % 4]
            settings = {"output": ["quantiles", "paths"], "quantiles": [0.1, 0.9], "transform": "none"}
            found.append({"series": [one], "horizon": steps, "paths": paths, "adapter": adapter, **settings})
    return found


def test_answers_of_many_at_once_are_bit_for_bit_those_of_each_alone(serve, base, adapters):
    """Nothing is lost, wrong or mixed up; and they really were drawn together."""
    bodies = [body for body in mixed() for _ in range(3)]
    with serve(workers=1) as place, httpx.Client(base_url=place, timeout=60) as client:
        with ThreadPoolExecutor(len(bodies)) as pool:
            answers = list(pool.map(lambda body: client.post("/v1/forecast", json=body), bodies))
        counts = client.get("/metrics").text
    assert [one.status_code for one in answers] == [200] * len(bodies)
    for body, answer in zip(bodies, answers):
        assert answer.content == alone(base, adapters, body)
    together = [int(one.headers["server-timing"].rpartition('"')[0].rpartition('"')[2]) for one in answers]
    assert max(together) > 2
    assert f'loracast_requests_total{{route="/v1/forecast",status="200"}} {len(bodies)}.0' in counts


def test_tables_in_and_out(client, base):
    table = pd.DataFrame(
        {
            "site": np.repeat(["b", "a"], 12),
            "year": [*range(1990, 2002)] * 2,
            "wolves": np.arange(24.0) % 5 + 1,
            "moose": np.arange(24.0) % 7 + 9,
        }
    )
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, arrow.schema) as writer:
        writer.write_table(arrow)
    parquet = io.BytesIO()
    table.to_parquet(parquet)
    wanted = base.predict(table, 3, sample=loracast.SampleConfig(4))
    query = "/v1/forecast?horizon=3&paths=4&quantiles=0.1,0.9"
    for kind, body in ((ARROW, sink.getvalue().to_pybytes()), (PARQUET, parquet.getvalue())):
        answer = client.post(query, content=body, headers={"content-type": kind, "accept": PARQUET})
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == PARQUET
        pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(answer.content)), wanted.to_frame([0.1, 0.9]))
        answer = client.post(f"{query}&output=paths", content=body, headers={"content-type": kind, "accept": ARROW})
        found = pa.ipc.open_stream(answer.content).read_pandas()
        pd.testing.assert_frame_equal(found, wanted.paths_frame())
        answer = client.post(f"{query}&output=events&events=wolves<3", content=body, headers={"content-type": kind})
        assert [one["event"] for one in answer.json()["events"]] == ["wolves<3"] * 2
        answer = client.post(f"{query}&columns=moose&past=wolves", content=body, headers={"content-type": kind})
        assert answer.json()["variables"] == ["moose"]
        assert "time" not in answer.json()["warnings"]


def test_what_an_answer_says(client, ask):
    one = ask()["series"][0] | {
        "time": ["2020-01", "2020-02", "2020-03", "2020-04", "2020-05", "2020-06", "2020-07", "2020-08"]
    }
    body = ask(
        series=[one],
        output=["quantiles", "paths", "events"],
        events=["lynx < 2"],
        quantiles=[0.5],
        set=["lynx = 2 at step 1"],
    )
    answer = client.post("/v1/forecast", json=body).json()
    series, (event,) = answer["series"][0], answer["events"]
    assert series["time"] == ["2020-09", "2020-10", "2020-11"]
    assert np.shape(series["paths"]["hare"]) == (4, 3)
    assert {path[0] for path in series["paths"]["lynx"]} == {2.0}
    assert series["quantiles"]["lynx"]["0.5"][0] == series["mean"]["lynx"][0] == 2.0
    assert 0 <= event["probability"] <= 1
    assert len(event["by_step"]) == 3
    assert "conditional forecast" in answer["conditional"][0]


def test_known_variables_need_their_future(client, ask):
    body = ask(known=["hare"])
    answer = client.post("/v1/forecast", json=body)
    assert answer.status_code == 422
    assert "'hare' is known beforehand" in answer.json()["detail"]
    one = body["series"][0] | {"future": {"hare": [1, 2, 3]}}
    answer = client.post("/v1/forecast", json=body | {"series": [one]})
    assert answer.json()["variables"] == ["lynx"]


def test_models_are_listed_loaded_and_dropped_by_use(client, ask, adapters):
    """The service of these tests keeps two."""
    for name in NAMES:
        assert client.post("/v1/forecast", json=ask(adapter=name)).json()["adapter"] == name
    told = client.get("/v1/models").json()
    assert [one["name"] for one in told["adapters"]] == [None, *NAMES]
    assert [one["loaded"] for one in told["adapters"]] == [True, False, True, True]
    assert told["adapters"][1]["variables"] == ["prey", "predator"]
    assert str(adapters) not in json.dumps(told)


def test_names_of_adapters_are_no_paths(serve, ask, adapters, tmp_path, base):
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link").symlink_to(adapters / "alpha")
    (tmp_path / "inside" / "broken").mkdir()
    (tmp_path / "inside" / "broken" / "adapter_config.json").write_text("[")
    with serve(folder=tmp_path / "inside") as place, httpx.Client(base_url=place) as client:
        for name in ("../alpha", "link", "/etc", "..", ".", "a/b", "", "a" * 97, "alpha\n", "%2e%2e"):
            answer = client.post("/v1/forecast", json=ask(adapter=name))
            assert answer.status_code in (404, 422), name
            assert str(tmp_path) not in answer.text
        broken = client.post("/v1/forecast", json=ask(adapter="broken"))
        assert broken.status_code == 422
        assert str(tmp_path) not in broken.text
        assert client.get("/v1/models").json()["adapters"][1]["name"] == "broken"


def test_a_full_queue_says_when_to_ask_again(serve, ask, monkeypatch, base):
    held, begun = threading.Event(), threading.Event()
    answer = loracast.Forecaster.answer

    def slow(self: loracast.Forecaster, *args: Any, **options: Any):
        begun.set()
        held.wait(20)
        return answer(self, *args, **options)

    with serve(workers=1, most_waiting=2) as place, httpx.Client(base_url=place, timeout=60) as client:
        monkeypatch.setattr(loracast.Forecaster, "answer", slow)
        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(client.post, "/v1/forecast", json=ask(seed=seed)) for seed in range(2)]
            begun.wait(20)
            while "loracast_waiting_requests 1.0" not in client.get("/metrics").text:
                time.sleep(0.02)
            refused = client.post("/v1/forecast", json=ask())
            held.set()
            assert [one.result().status_code for one in waiting] == [200, 200]
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1


def test_what_takes_too_long_is_ended(serve, ask, monkeypatch):
    shares: list[float] = []
    ended = threading.Event()
    answer = loracast.Forecaster.answer

    def endless(self: loracast.Forecaster, requests, *, raw=False, progress=None):
        try:
            while progress:
                time.sleep(0.01)
                shares.append(0.0)
                progress(0.0)
        finally:
            ended.set()
        return answer(self, requests, raw=raw)

    with serve(workers=1, most_seconds=0.7) as place, httpx.Client(base_url=place, timeout=60) as client:
        monkeypatch.setattr(loracast.Forecaster, "answer", endless)
        late = client.post("/v1/forecast", json=ask())
        assert late.status_code == 504
        assert "longer than 0.7 s" in late.json()["detail"]
        assert ended.wait(10)


def test_a_client_that_leaves_cancels_its_work(serve, ask, monkeypatch):
    ended, begun = threading.Event(), threading.Event()

    def endless(self: loracast.Forecaster, requests, *, raw=False, progress: Any = None):
        begun.set()
        try:
            while True:
                time.sleep(0.01)
                progress(0.0)
        finally:
            ended.set()

    with serve(workers=1) as place:
        monkeypatch.setattr(loracast.Forecaster, "answer", endless)
        with httpx.Client(base_url=place, timeout=0.5) as client, pytest.raises(httpx.ReadTimeout):
            client.post("/v1/forecast", json=ask())
        assert begun.is_set()
        assert ended.wait(10)
        monkeypatch.undo()
        with httpx.Client(base_url=place, timeout=20) as client:
            assert client.post("/v1/forecast", json=ask()).status_code == 200


def test_what_is_wrong_with_one_is_not_told_to_the_others(base):
    """Of a batch that cannot be drawn, each is drawn by itself."""
    queue = Queue(100, 1)
    requests = [base.request(loracast.Series(np.arange(9.0) % 4 + 1, ("x",), str(one)), 2) for one in range(3)]

    class Forecaster(loracast.Forecaster):
        def answer(self, requests, *, raw=False, progress=None):
            if any(request.series[0].id == "1" for request in requests):
                raise DataError("one is wrong")
            return super().answer(requests, raw=raw, progress=progress)

    forecaster = Forecaster(base.model, base.codec)
    jobs = [Job(forecaster, request, False, time.monotonic() + 60) for request in requests]
    with queue._changed:
        queue._waiting.extend(jobs)
        queue._changed.notify()
    assert isinstance(jobs[1].answer.exception(60), DataError)
    for index in (0, 2):
        assert np.array_equal(jobs[index].answer.result(60).samples, base.predict(requests[index].series, 2).samples)
    queue.end()


def test_a_token_is_needed_where_one_is_set(serve, ask):
    with serve(token="s3cret") as place, httpx.Client(base_url=place, timeout=60) as client:
        assert client.get("/healthz").status_code == 200
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "s3cret"},
            {"authorization": "Basic s3cret"},
        ):
            for path in ("/v1/models", "/metrics", "/openapi.json"):
                answer = client.get(path, headers=headers)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
        headers = {"authorization": "Bearer s3cret", "host": "forecasts.example"}
        assert client.post("/v1/forecast", json=ask(), headers=headers).status_code == 200


def test_without_a_token_only_this_machine_is_answered(client):
    for host in ("forecasts.example", "127.0.0.1.nip.io", "10.0.0.1", ""):
        assert client.get("/v1/models", headers={"host": host}).status_code == 421
    for host in ("localhost:80", "127.0.0.1", "[::1]:8000"):
        assert client.get("/v1/models", headers={"host": host}).status_code == 200
    for host in ("0.0.0.0", "::", "192.168.0.7", "example.org"):
        with pytest.raises(ConfigError, match="--token-file"):
            check_address(host, None)
        check_address(host, "token")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", JSON),
        ("*/*", JSON),
        (PARQUET, PARQUET),
        (f"text/html, {ARROW};q=0.5", ARROW),
        ("text/html", None),
        (f"{JSON};q=0", None),
    ],
)
def test_media_types(accept, kind):
    assert media_type(accept, (JSON, ARROW, PARQUET)) == kind


def test_the_examples_of_the_page_hold(client, monkeypatch):
    """docs/service.md, but for the address and the adapter's name."""
    page = (Path(__file__).parents[2] / "docs" / "service.md").read_text()
    body = json.loads(re.findall(r"-d '(\{.*?\})'", page, re.DOTALL)[0])
    answer = client.post("/v1/forecast", json=body | {"adapter": "alpha"})
    assert answer.status_code == 200
    assert answer.json()["series"][0]["quantiles"]["lynx"].keys() == {"0.1", "0.5", "0.9"}
    (python,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    made: dict[str, Any] = {}
    exec(python.replace("http://localhost:8000", str(client.base_url).rstrip("/")), made)
    assert list(pd.read_parquet(io.BytesIO(made["answer"].content))["id"].unique()) == ["a", "b"]


def test_the_command_ends_what_it_has_begun(numeric_directory, adapters, ask, tmp_path):
    """SIGTERM while a forecast is drawn: it is answered, and the program ends by itself."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "loracast",
        "serve",
        str(adapters),
        "--model",
        str(numeric_directory),
        "--port",
        str(port),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as process:
        assert process.stdout is not None
        assert "3 adapters: alpha, beta-2, gamma.v1" in process.stdout.readline()
        assert f"http://127.0.0.1:{port}/v1/forecast" in process.stdout.readline()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client, ThreadPoolExecutor(1) as pool:
            body = ask(horizon=60, paths=300)
            asked = pool.submit(client.post, "/v1/forecast", json=body)
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            assert asked.result().status_code == 200
        assert "all that was begun is answered" in process.stdout.read()
        assert process.wait(20) in (0, -signal.SIGTERM)

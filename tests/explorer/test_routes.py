"""What the page asks of the program behind it."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import loracast
from explored import kept, place
from explored import page_client as client
from loracast.cli import app
from loracast.explorer import routes
from loracast.explorer.sources import simulated
from loracast.grammar import to_text
from served import adapters, base

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of threads, which are told in the page or the log
TABLE = b"Jahr;Ort;Hase;Luchs\n" + b"".join(
    f"{1990 + year};{site};{10 + (year * 7) % 5},5;{3 + year % 4}\n".encode() for site in "ab" for year in range(20)
)


def lines(client: httpx.Client, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    with client.stream("POST", path, json=body) as answer:
        assert answer.status_code == 200, answer.read()
        return [json.loads(line) for line in answer.iter_lines()]


@pytest.fixture(scope="module")
def source(client: httpx.Client) -> dict[str, Any]:
    return client.post("/api/shipped").json()


def test_the_page_loads_nothing_from_elsewhere(client):
    """Its files name no other place, and the browser is told to load none."""
    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "script-src 'self';" in page.headers["content-security-policy"]
    for file in (Path(routes.__file__).parent / "page").iterdir():
        text = file.read_text()
        assert not re.search(r"https?://|innerHTML|eval\(", text), file.name
        assert client.get(f"/page/{file.name}").status_code == 200
    assert len(client.get("/plotly.js").content) > 1e6
    assert client.get("/page/../routes.py").status_code == 404
    assert client.get("/api/choices", headers={"host": "evil.example"}).status_code == 421
    assert client.post("/api/forecast", content="{}", headers={"content-type": "text/plain"}).status_code == 422


def test_what_there_is_to_choose(client):
    found = client.get("/api/choices").json()
    assert found["forecasters"][:2] == ["untouched", "alpha"]
    assert {one["name"] for one in found["simulators"]} >= {"predator-prey", "lotka-volterra"}
    assert all(low <= high for one in found["simulators"] for low, high in one["parameters"].values())


def test_a_table_is_read_as_the_command_line_reads_it_and_can_be_corrected(client):
    found = client.post("/api/table?name=Zählung.csv", content=TABLE).json()
    assert found["targets"] == ["Hase", "Luchs"]
    assert [one["id"] for one in found["series"]] == ["a", "b"]
    assert "time 'Jahr' from 1990 to 2009, yearly" in found["understood"]
    assert "decimal comma" in " ".join(found["notices"])
    assert "/tmp" not in json.dumps(found)
    again = client.post("/api/table?name=Zählung.csv&targets=Luchs&time=Jahr&id=Ort", content=TABLE).json()
    assert again["targets"] == ["Luchs"]
    wrong = client.post("/api/table?name=../../x.csv", content=b"a\nx\ny\n")
    assert wrong.status_code == 422
    assert "/tmp" not in wrong.text
    assert client.post("/api/table?name=x.exe", content=b"MZ").status_code == 422


def test_simulators_take_what_the_sliders_say(client):
    values = {"a": 0.2, "b": 0.3, "c": 0.2, "e": 0.5, "K": 9.0, "h": 0.1, "prey": 1.0, "predator": 1.1}
    found = client.post(
        "/api/simulate", json={"system": "predator-prey", "values": values, "steps": 40, "seed": 3}
    ).json()
    assert found["series"] == [{"id": "predator-prey-0", "steps": 40}]
    options = {
        "steps": 40,
        "duration": 200.0,
        "noise": 0.1,
        "process_noise": 0.0,
        "individuals": None,
        "seed": 3,
        "n": 1,
    }
    one, other = (
        simulated("predator-prey", changed, **options).series[0] for changed in (values, values | {"K": 12.0})
    )
    assert one.values[0].tolist() != other.values[-1].tolist()
    clean = simulated("predator-prey", values, **options | {"noise": 0.0}).series[0]
    assert clean.values[0].tolist() == [1.0, 1.1]
    for wrong in ({"steps": 4}, {"values": {"z": 1}}, {"values": {"a": "NaN"}}, {"n": 51}, {"system": "weather"}):
        answer = client.post("/api/simulate", json={"system": "predator-prey", "values": values} | wrong)
        assert answer.status_code == 422, wrong


def test_a_forecast_comes_as_it_is_drawn_and_is_the_one_that_python_makes(client, base, source):
    asked = {"source": source["key"], "origin": 60, "horizon": 6, "paths": 5, "seed": 2, "events": ["lynx < 10"]}
    told = lines(client, "/api/forecast", asked | {"forecasters": ["untouched", "alpha"]})
    assert list(told[0]) == ["begin"]
    begin = told[0]["begin"]
    pelts = loracast.lynx_hare()
    assert begin["past"][-1] == 1904
    assert begin["future"] == list(range(1905, 1911))
    assert begin["truth"]["lynx"] == pelts.values[60:66, 1].tolist()
    assert set(begin["baselines"]) == {"last-value", "context-mean", "best-period"}
    drawn = [one for one in told if one.get("forecaster") == "untouched"]
    assert drawn[0]["steps"] == 1
    assert any("tuned on prey, predator" in warning for one in told for warning in one.get("warnings", []))
    whole = next(one for one in drawn if one.get("done"))
    sample = loracast.SampleConfig(5, transform="none", seed=2)
    wanted = base.predict(pelts.slice(0, 60), 6, sample=sample)
    assert np.allclose(whole["paths"]["lynx"], wanted.samples[0, :, :, 1], rtol=1e-12)
    error = np.abs(wanted.median()[0] - pelts.values[60:66]).mean()
    assert whole["scores"]["mae"] == pytest.approx(error)
    events = next(one["events"] for one in drawn if "events" in one)
    assert events[0]["probability"] == wanted.probability("lynx < 10")[0]
    assert told[-1] == {"end": True}


def test_a_what_if_holds_and_is_said_to_be_conditional(client, source):
    asked = {"source": source["key"], "origin": 80, "horizon": 4, "paths": 3, "future": {"hare": [None, 42.0]}}
    whole = next(one for one in lines(client, "/api/forecast", asked) if one.get("done"))
    assert {path[1] for path in whole["paths"]["hare"]} == {42.0}
    assert "conditional forecast" in whole["conditional"][0]


def test_what_is_wrong_is_told_in_the_stream(client, source):
    for wrong in ({"origin": 2}, {"horizon": 0}, {"forecasters": ["none"]}, {"source": "gone"}, {"paths": -1}):
        told = lines(client, "/api/forecast", {"source": source["key"]} | wrong)
        assert told[-1]["error"], wrong


def test_a_forecast_that_nobody_reads_any_more_ends(client, source, monkeypatch):
    shares: list[float] = []
    answer = loracast.Forecaster.answer

    def endless(self, requests, *, raw=False, progress: Any = None, watch=None):
        while True:
            shares.append(0.0)
            time.sleep(0.01)
            progress(0.0)

    monkeypatch.setattr(loracast.Forecaster, "answer", endless)
    with client.stream("POST", "/api/forecast", json={"source": source["key"], "horizon": 3}) as stream:
        next(stream.iter_lines())
    monkeypatch.setattr(loracast.Forecaster, "answer", answer)
    told = lines(client, "/api/forecast", {"source": source["key"], "horizon": 3, "paths": 2})  # waits for its turn
    assert told[-1] == {"end": True}
    count = len(shares)
    time.sleep(0.1)
    assert len(shares) == count


def test_the_text_that_is_written_is_that_of_the_path(client, base, source):
    asked = {"source": source["key"], "origin": 40, "horizon": 3, "paths": 4, "number": 2, "forecaster": "untouched"}
    told = lines(client, "/api/text", asked)
    tokens = [token for line in told for token in line.get("tokens", [])]
    text = "".join(token[0] for token in tokens)
    context = loracast.lynx_hare().slice(0, 40)
    forecast = base.predict(context, 3, sample=loracast.SampleConfig(4, transform="none"))
    both = np.concatenate([forecast.contexts[0].values, forecast.samples[0, 2]])
    scale = base.codec.fit_scale(forecast.contexts[0].values)
    assert text == to_text(base.codec.encode(both, scale).ids)
    written = [token for token in tokens if not token[4]]
    assert len(written) == 3 * 8
    assert told[0]["variables"] == ["hare", "lynx"]
    assert all(bits is None or bits >= 0 for _, _, _, bits, _ in tokens)
    assert sum(bits for *_, bits, read in tokens if not read) > 1
    assert all(bits == 0 for symbol, _, _, bits, read in tokens if symbol in ",;" and not read)


def test_what_can_be_taken_away_is_what_was_drawn(client, base, source, tmp_path, monkeypatch):
    asked = {"source": source["key"], "origin": 50, "horizon": 4, "paths": 6, "future": {"hare": [30.0]}}
    told = lines(client, "/api/forecast", asked)
    key = next(one["key"] for one in told if "key" in one)
    table = pd.read_csv(io.BytesIO(client.get(f"/api/take/{key}/forecast.csv").content))
    parquet = pd.read_parquet(io.BytesIO(client.get(f"/api/take/{key}/forecast.parquet").content))
    pd.testing.assert_frame_equal(table, parquet, check_dtype=False)
    assert len(pd.read_csv(io.BytesIO(client.get(f"/api/take/{key}/paths.csv").content))) == 6 * 4
    events = client.get(f"/api/take/{key}/events.csv?event=lynx<10&event=highest hare")
    assert list(pd.read_csv(io.BytesIO(events.content))["event"]) == ["lynx<10", "highest hare"]
    assert Image.open(io.BytesIO(client.get(f"/api/take/{key}/picture.png").content)).width > 500
    assert client.get(f"/api/take/{key}/passwd").status_code == 422
    assert client.get("/api/take/0000/forecast.csv").status_code == 422
    found = client.get(f"/api/ways/{key}?event=lynx<10").json()
    monkeypatch.chdir(tmp_path)
    made: dict[str, Any] = {}
    exec(found["python"], made)
    median = table.pivot(index="step", columns="variable", values="median")
    assert np.allclose(made["forecast"].median()[0], median.to_numpy(), rtol=1e-12)
    context = client.get(f"/api/take/{key}/context.csv")
    assert found["context"] in context.headers["content-disposition"]
    Path(found["context"]).write_bytes(context.content)
    command = shlex.split(found["command"])
    with pytest.raises(SystemExit):
        app.meta(command[1:], exit_on_error=False, print_error=False)
    pd.testing.assert_frame_equal(pd.read_csv("forecast.csv"), table)


def test_the_command_serves_the_page_and_ends(numeric_directory, tmp_path):
    command = [sys.executable, "-m", "loracast", "app", str(tmp_path / "new"), "--model", str(numeric_directory)]
    command += ["--port", "0", "--no-browser"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        told = process.stdout.readline()
        place = re.findall(r"http://127\.0\.0\.1:\d+", told)[0]
        assert "loracast explorer" in httpx.get(place).text
        assert httpx.get(f"{place}/api/choices").json()["kept"] == str(tmp_path / "new")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM)


def test_tuning_tells_how_it_goes_can_be_paused_and_gives_a_forecaster(client, kept):
    made = {"system": "predator-prey", "values": {}, "steps": 40, "n": 4}
    source = client.post("/api/simulate", json=made).json()
    asked = {"source": source["key"], "origin": 30, "horizon": 6, "paths": 4}
    for wrong in ({}, {"seconds": 5, "flops": 1e9}, {"seconds": 0.1}):
        assert client.post("/api/tune", json=asked | wrong).status_code == 422
    assert client.post("/api/tune", json={"action": "end"}).status_code == 422
    assert client.post("/api/tune", json=asked | {"seconds": 3}).status_code == 200
    assert client.post("/api/tune", json=asked | {"seconds": 3}).status_code == 422
    client.post("/api/tune", json={"action": "pause"})
    time.sleep(0.5)
    client.post("/api/tune", json={"action": "go on"})
    events: list[dict[str, Any]] = []
    for _ in range(600):
        told = client.get(f"/api/tune/{len(events)}").json()
        events += told["events"]
        if not told["running"]:
            break
        time.sleep(0.1)
    kinds = [one["event"] for one in events]
    assert {"paused", "goes on", "pace", "train", "validation", "forecast", "tuned"} <= set(kinds)
    assert {"baselines", "tuned_crps", "untouched_crps", "kept"} <= events[-1]["verdict"].keys()
    name = events[-1]["name"]
    assert name in client.get("/api/choices").json()["forecasters"]
    assert (kept / name / "README.md").is_file()
    whole = lines(client, "/api/forecast", asked | {"forecasters": [name]})
    assert any(one.get("done") for one in whole)

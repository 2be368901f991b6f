"""What can be taken away from the page: tables, a picture, and the command and the Python that do the same."""

from __future__ import annotations

import io
import shlex
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from loracast.errors import ConfigError
from loracast.events import frame
from loracast.explorer.forecasts import Question
from loracast.explorer.sources import Source
from loracast.forecast import Forecast
from loracast.series import write_series

KINDS = {
    "context.csv": "text/csv",
    "forecast.csv": "text/csv",
    "forecast.parquet": "application/vnd.apache.parquet",
    "paths.csv": "text/csv",
    "paths.parquet": "application/vnd.apache.parquet",
    "events.csv": "text/csv",
    "picture.png": "image/png",
}


def taken(kind: str, question: Question, forecast: Forecast, events: list[str]) -> bytes:
    """A file of one of the `KINDS`."""
    if kind == "context.csv":
        with TemporaryDirectory() as folder:
            path = Path(folder) / context_name(question)
            write_series([question.context], path)
            return path.read_bytes()
    if kind == "picture.png":
        truth = question.truth
        figure = forecast.plot([truth] if not np.isnan(truth).all() else None)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=150)
        return stream.getvalue()
    if kind == "events.csv":
        table = frame(forecast.events(events))
    elif kind.startswith("forecast"):
        table = forecast.to_frame()
    elif kind.startswith("paths"):
        table = forecast.paths_frame()
    else:
        raise ConfigError([f"{kind!r} cannot be taken; there are {', '.join(KINDS)}"])
    if kind.endswith(".csv"):
        return table.to_csv(index=False).encode()
    stream = io.BytesIO()
    table.to_parquet(stream, index=False)
    return stream.getvalue()


def context_name(question: Question) -> str:
    """A file name by whose stem a series of one table is called, so that its paths are the same when it is read."""
    name = question.series.id
    return f"{name}.csv" if name.replace("-", "").replace("_", "").isalnum() and name.isascii() else "context.csv"


def ways(source: Source, question: Question, base: str, adapter: str | None, events: list[str]) -> dict[str, Any]:
    """A command line and lines of Python that make the same forecast."""
    name, sample, series = context_name(question), question.sample, question.context
    command = ["loracast", "forecast", name, "--horizon", str(question.horizon), "--samples", str(sample.samples)]
    command += ["--seed", str(sample.seed), "--transform", sample.transform]
    command += ["--known", ",".join(series.known)] if series.known else []
    command += ["--past", ",".join(series.past)] if series.past else []
    command += ["--model", base] if base != "bundled" else []
    command += ["--adapter", adapter] if adapter else []
    given = [
        (variable, step, value)
        for variable, values in question.future.items()
        for step, value in enumerate(values[: question.horizon])
        if value is not None
    ]
    for variable, step, value in given:
        command += ["--set", f"{variable} = {value:g} at step {step + 1}"]
    for event in events:
        command += ["--event", event]
    command += ["-o", "forecast.csv"]
    lines = ["import loracast", "", source.python, f"one = next(one for one in series if one.id == {series.id!r})"]
    lines += [f"context = one.slice(0, {question.origin})  # what is known"]
    loaded = ", ".join([repr(base), *([repr(adapter)] if adapter else [])])
    lines += [f"forecaster = loracast.Forecaster.from_pretrained({loaded})"]
    settings = f"loracast.SampleConfig({sample.samples}, seed={sample.seed}, transform={sample.transform!r})"
    known = ""
    if given:
        shape = f"(1, {question.horizon}, {series.variables})"
        lines += ["", f"known = np.full({shape}, np.nan)  # series, steps, variables"]
        lines += [f"known[0, {step}, {series.names.index(variable)}] = {value:g}" for variable, step, value in given]
        lines[0] = "import numpy as np\n\nimport loracast"
        known = ", known=known"
    lines += [f"forecast = forecaster.predict(context, {question.horizon}, sample={settings}{known})"]
    lines += ["print(forecast.to_frame())"]
    lines += [f"print(forecast.events({events!r})[0].sentence)"] if events else []
    return {"command": shlex.join(command), "python": "\n".join(lines) + "\n", "context": name}

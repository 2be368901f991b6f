"""The page and what it asks of the program behind it."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loracast.errors import ConfigError, LoracastError
from loracast.explorer import forecasts, sources, taking
from loracast.explorer.tuning import Tuning
from loracast.explorer.work import Tell, Worker
from loracast.files import json_text
from loracast.forecast import Forecast
from loracast.forecaster import Forecaster
from loracast.series import Columns
from loracast.serve.bodies import received
from loracast.serve.guard import Guard
from loracast.serve.shelf import Shelf

PAGE = Path(__file__).parent / "page"
MOST_BODY = 64 * 2**20  # bytes of a table that is dropped on the page
TOO_LARGE = f"more than {MOST_BODY // 2**20} MB; use the command line for larger tables"
MOST_ASKED = 2**20  # bytes of anything else that the page sends
MOST_KEPT = 16  # sources, and forecasts that can be taken away
UNTOUCHED = "untouched"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
LINES = "application/x-ndjson"


class Explorer:
    """What the page has loaded, drawn and tuned. All of it goes when the program ends, but for adapters in a folder."""

    def __init__(self, shelf: Shelf, worker: Worker):
        self.shelf, self.worker = shelf, worker
        self.sources: OrderedDict[str, sources.Source] = OrderedDict()
        self.drawn: OrderedDict[str, tuple[sources.Source, forecasts.Question, str, Forecast]] = OrderedDict()
        self.tuned: dict[str, Forecaster] = {}
        self.tuning = Tuning(self._keep_tuned)

    def add(self, source: sources.Source) -> dict[str, Any]:
        """Keeps a source, and tells what the page shows of it."""
        return sources.described(source, _kept(self.sources, source))

    def source(self, asked: Mapping[str, Any]) -> sources.Source:
        key = str(asked.get("source", ""))
        if key not in self.sources:
            raise ConfigError(["this data is no longer here; choose it again"])
        return self.sources[key]

    def forecaster(self, name: str) -> Forecaster:
        if name == UNTOUCHED:
            return self.shelf.base
        return self.tuned[name] if name in self.tuned else self.shelf.take(name)

    def names(self) -> list[str]:
        """The forecasters that can be chosen."""
        return list(dict.fromkeys([UNTOUCHED, *self.tuned, *self.shelf.names()]))

    def draw(self, asked: Mapping[str, Any], tell: Tell, go_on: Any) -> None:
        """Draws what the page asks for, by each forecaster that it names."""
        source = self.source(asked)
        question = forecasts.read_question(source, asked)
        for name in asked.get("forecasters") or [UNTOUCHED]:
            found = forecasts.draw(self.forecaster(name), name, question, tell, go_on)
            key = _kept(self.drawn, (source, question, name, found))
            tell({"forecaster": name, "key": key, "events": forecasts.judged(found, asked.get("events") or [])})
        tell({"end": True})

    def begin(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What is known before anything is drawn; it waits for no forecast."""
        return forecasts.beginning(forecasts.read_question(self.source(asked), asked))

    def write(self, asked: Mapping[str, Any], tell: Tell, go_on: Any) -> None:
        """The text of one path."""
        question = forecasts.read_question(self.source(asked), asked)
        forecaster = self.forecaster(asked.get("forecaster") or UNTOUCHED)
        forecasts.write_text(forecaster, question, int(asked.get("number", 0)), tell, go_on)

    def begin_tuning(self, asked: Mapping[str, Any]) -> None:
        source = self.source(asked)
        chosen = asked.get("chosen")
        series = [source.series[int(index)] for index in chosen] if chosen else source.series
        question = forecasts.read_question(source, asked)
        known = self.names()
        name = next(f"tuned-{number}" for number in range(1, 1000) if f"tuned-{number}" not in known)
        budget = {key: None if asked.get(key) is None else float(asked[key]) for key in ("seconds", "flops")}
        # a lone series is tuned on up to the origin, so that what is forecast was never seen
        series = [question.context] if len(series) == 1 else series
        self.tuning.begin(self.shelf.base, name, series, question, rank=int(asked.get("rank", 8)), **budget)

    def _keep_tuned(self, name: str, forecaster: Forecaster) -> None:
        self.tuned[name] = forecaster
        if self.shelf.folder:
            forecaster.save(self.shelf.folder / name)

    def take(self, key: str) -> tuple[sources.Source, forecasts.Question, str, Forecast]:
        if key not in self.drawn:
            raise ConfigError(["this forecast is no longer here; draw it again"])
        return self.drawn[key]


def _kept(newest: OrderedDict[str, Any], one: Any) -> str:
    """Keeps something among the newest of its kind; returns the key that it can be had by."""
    key = secrets.token_hex(4)
    newest[key] = one
    while len(newest) > MOST_KEPT:
        newest.popitem(last=False)
    return key


def create(shelf: Shelf, worker: Worker) -> FastAPI:
    """The page as an ASGI application."""
    explorer = Explorer(shelf, worker)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        explorer.tuning.end()
        worker.end()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.explorer = explorer

    @app.exception_handler(LoracastError)
    async def wrong(_: Request, error: LoracastError) -> Response:
        return JSONResponse({"error": error.problems}, 422)

    @app.exception_handler(ValueError)
    async def malformed(_: Request, error: ValueError) -> Response:
        return JSONResponse({"error": [str(error)]}, 422)

    _add_data(app, explorer)
    _add_forecasts(app, explorer)
    _add_tuning(app, explorer)

    @app.get("/")
    async def page() -> Response:
        return FileResponse(PAGE / "index.html")

    @app.get("/plotly.js")
    async def plotly() -> Response:
        import plotly

        return FileResponse(
            Path(plotly.__file__).parent / "package_data" / "plotly.min.js", media_type="text/javascript"
        )

    app.mount("/page", StaticFiles(directory=PAGE))
    app.add_middleware(Headers)
    app.add_middleware(Guard, token=None)
    return app


class Headers:
    """Tells the browser of every answer what it may load, and that it keeps none."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                cache = b"no-store" if scope["path"].startswith("/api") else b"no-cache"
                added = (b"content-security-policy", POLICY.encode()), (b"cache-control", cache)
                message["headers"] = [*message.get("headers", []), *added, (b"referrer-policy", b"no-referrer")]
            await send(message)

        await self.app(scope, receive, told)


async def _asked(request: Request) -> dict[str, Any]:
    """What the page sends, as JSON; a page of another site cannot send that without being asked first."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise ConfigError(["send JSON"])
    found = json.loads(await received(request, MOST_ASKED, f"more than {MOST_ASKED:,} bytes"))
    if not isinstance(found, dict):
        raise ConfigError(["send an object"])
    return found


def _names(request: Request, name: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in request.query_params.get(name, "").split(",") if part.strip())


def _add_data(app: FastAPI, explorer: Explorer) -> None:
    """What there is to choose from, and data of three kinds."""

    @app.get("/api/choices")
    async def choices() -> Response:
        base = explorer.shelf.base
        about = {"model": base.model.source, "precision": base.model.precision, "hardware": base.hardware}
        about |= {"parameters": base.model.network.config.parameters()}
        kept = str(explorer.shelf.folder) if explorer.shelf.folder else None
        return JSONResponse(
            {"simulators": sources.simulators(), "forecasters": explorer.names(), "about": about, "kept": kept}
        )

    @app.post("/api/shipped")
    async def shipped() -> Response:
        return JSONResponse(explorer.add(sources.shipped()))

    @app.post("/api/table")
    async def table(request: Request) -> Response:
        body = await received(request, MOST_BODY, TOO_LARGE)
        query = request.query_params
        roles = _names(request, "id"), _names(request, "targets"), _names(request, "known"), _names(request, "past")
        columns = Columns(query.get("time") or None, *roles, every=query.get("every") or None)
        source = await asyncio.to_thread(sources.uploaded, query.get("name", "table.csv"), body, columns)
        return JSONResponse(explorer.add(source))

    @app.post("/api/simulate")
    async def simulate(request: Request) -> Response:
        asked = await _asked(request)
        individuals = asked.get("individuals")
        made = await asyncio.to_thread(
            partial(
                sources.simulated,
                str(asked["system"]),
                {str(name): float(value) for name, value in asked.get("values", {}).items()},
                steps=int(asked.get("steps", 100)),
                duration=float(asked.get("duration", 200)),
                noise=float(asked.get("noise", 0)),
                process_noise=float(asked.get("process_noise", 0)),
                individuals=float(individuals) if individuals else None,
                seed=int(asked.get("seed", 0)),
                n=int(asked.get("n", 1)),
            )
        )
        return JSONResponse(explorer.add(made))


def _add_forecasts(app: FastAPI, explorer: Explorer) -> None:
    """Forecasts and texts as they are drawn, events of what is drawn, and what can be taken away."""

    @app.post("/api/forecast")
    async def forecast(request: Request) -> Response:
        asked = await _asked(request)
        return StreamingResponse(
            explorer.worker.stream(partial(explorer.draw, asked), partial(explorer.begin, asked)), media_type=LINES
        )

    @app.post("/api/text")
    async def text(request: Request) -> Response:
        asked = await _asked(request)
        return StreamingResponse(explorer.worker.stream(partial(explorer.write, asked)), media_type=LINES)

    @app.post("/api/events")
    async def events(request: Request) -> Response:
        asked = await _asked(request)
        found = {}
        for key in asked.get("keys", []):
            _, _, name, drawn = explorer.take(str(key))
            found[name] = forecasts.judged(drawn, [str(one) for one in asked.get("events", [])][:20])
        return Response(json_text(found), media_type="application/json")

    @app.get("/api/ways/{key}")
    async def ways(key: str, request: Request) -> Response:
        source, question, name, _ = explorer.take(key)
        events = request.query_params.getlist("event")
        base = explorer.shelf.base.model.source
        adapter = None
        if name != UNTOUCHED:
            folder = explorer.shelf.folder
            adapter = str(folder / name) if folder and (folder / name).is_dir() else name
        return JSONResponse(taking.ways(source, question, base, adapter, events))

    @app.get("/api/take/{key}/{kind}")
    async def take(key: str, kind: str, request: Request) -> Response:
        _, question, _, drawn = explorer.take(key)
        if kind not in taking.KINDS:
            raise ConfigError([f"{kind!r} cannot be taken; there are {', '.join(taking.KINDS)}"])
        events = request.query_params.getlist("event")
        content = await asyncio.to_thread(taking.taken, kind, question, drawn, events)
        name = taking.context_name(question) if kind == "context.csv" else kind
        return Response(
            content, media_type=taking.KINDS[kind], headers={"Content-Disposition": f'attachment; filename="{name}"'}
        )


def _add_tuning(app: FastAPI, explorer: Explorer) -> None:
    """Tuning: it is begun, paused and ended, and what it tells is read as it comes."""

    @app.post("/api/tune")
    async def tune(request: Request) -> Response:
        asked = await _asked(request)
        action = {"pause": explorer.tuning.pause, "go on": explorer.tuning.go_on, "end": explorer.tuning.end}
        if name := asked.get("action"):
            if name not in action or not explorer.tuning.running:
                raise ConfigError(["no tuning is under way"])
            action[name]()
        else:
            explorer.begin_tuning(asked)
        return JSONResponse({"running": explorer.tuning.running})

    @app.get("/api/tune/{read}")
    async def told(read: int) -> Response:
        events = explorer.tuning.events[max(0, read) :]
        return Response(
            json_text({"events": events, "running": explorer.tuning.running, "forecasters": explorer.names()}),
            media_type="application/json",
        )

"""The service's routes: a request is read, waits with others, is drawn with its like, and answered as if alone."""

from __future__ import annotations

import asyncio
import math
import time
import traceback
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import torch
from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

import loracast
from loracast.card import public_name
from loracast.compute.device import on_gpu
from loracast.errors import LoracastError, told_warnings
from loracast.forecast import Forecast
from loracast.serve.answers import as_json, as_table, media_type
from loracast.serve.bodies import ARROW, JSON, PARQUET, Asked, read_ask, read_table, received
from loracast.serve.guard import Guard
from loracast.serve.limits import CPU_PATHS, GPU_PATHS, MOST_WORKERS, Limits
from loracast.serve.metrics import Metrics
from loracast.serve.queries import read_query
from loracast.serve.queue import Abandoned, Job, Queue
from loracast.serve.refusals import PROBLEM, Refusal, document
from loracast.serve.schema import Answer, Ask, ModelsAnswer, Problem, TableOptions
from loracast.serve.shelf import Shelf
from loracast.settings import SampleConfig
from loracast.systems import lynx_hare

KINDS = (JSON, ARROW, PARQUET)
REFUSALS = {  # what each status of a forecast means
    400: "The body is not what its content type says.",
    401: "A token is needed.",
    404: "There is no such adapter.",
    406: "None of the accepted media types is made here.",
    408: "The body did not arrive in time.",
    413: "More than the service takes.",
    415: "A body of another kind.",
    421: "Asked under another host's name.",
    422: "What is asked does not hold.",
    429: "As many requests wait as may; Retry-After says when to ask again.",
    500: "An error of the service itself.",
    503: "The service is ending.",
    504: "It took longer than is allowed.",
}


class Service:
    """What the routes share."""

    def __init__(self, shelf: Shelf, limits: Limits):
        self.shelf, self.limits, self.metrics = shelf, limits, Metrics()
        gpu = on_gpu(shelf.base.model.device)
        workers = limits.workers or (1 if gpu else min(MOST_WORKERS, torch.get_num_threads()))
        self.queue = Queue(limits.batch_paths or (GPU_PATHS if gpu else CPU_PATHS), workers, self.metrics.on_batch)
        # one thread, since warnings are caught for a whole process; its own products are few
        self.reader = ThreadPoolExecutor(1, "reading", torch.set_num_threads, (1,))
        self.present = 0  # requests for a forecast that are not answered yet

    def warm_up(self) -> None:
        """Draws a little, since the first forecast of a process takes longer."""
        request = self.shelf.base.request(lynx_hare(), 2, sample=SampleConfig(2))
        job = Job(self.shelf.base, request, False, math.inf)  # whatever one request may take
        self.queue.add(job)
        job.answer.result().events(["when lynx > 0"])

    async def forecast(self, request: Request) -> Response:
        """Answers a request, or raises a Refusal."""
        if self.present >= self.limits.most_waiting:
            after = str(self.queue.retry_after())
            raise Refusal(
                429, f"{self.present} requests wait already; ask again in {after} s", headers={"Retry-After": after}
            )
        begin = time.monotonic()
        self.present += 1
        try:
            return await self._forecast(request, begin)
        finally:
            self.present -= 1
            self.metrics.seconds.observe(time.monotonic() - begin)

    async def _forecast(self, request: Request, begin: float) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in KINDS:
            raise Refusal(415, f"a body of type {kind or 'unknown'} is not read; send {', '.join(KINDS)}")
        accepted = media_type(request.headers.get("accept", ""), KINDS)
        if accepted is None:
            raise Refusal(406, f"answers are made as {', '.join(KINDS)}; accept one of them")
        if kind == JSON and request.query_params:
            raise Refusal(422, "a body of JSON holds all that is asked; leave the query of the address out")
        due = begin + self.limits.most_seconds
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + self.limits.most_seconds):
                problem = f"the body is larger than {self.limits.most_body:,} bytes; send fewer series"
                body = await received(request, self.limits.most_body, problem)
        except TimeoutError:
            raise Refusal(408, f"the body did not arrive within {self.limits.most_seconds:g} s") from None
        query = read_query(request.query_params.multi_items())
        loop = asyncio.get_running_loop()
        job, asked, told = await loop.run_in_executor(
            self.reader, partial(self._prepare, kind, body, query, accepted, due)
        )
        self.queue.add(job)
        forecast = await self._drawn(job, request)
        self.metrics.flops.inc(forecast.flops.executed)
        drawn = time.monotonic()
        content = await asyncio.to_thread(self._written, forecast, asked, accepted, told)
        waited, took = 1000 * (job.began - begin), 1000 * (drawn - job.began)
        timing = f'wait;dur={waited:.0f}, draw;dur={took:.0f}, batch;desc="{job.batch}"'
        return Response(content, media_type=accepted, headers={"Server-Timing": timing})

    def _prepare(
        self, kind: str, body: bytes, query: dict[str, Any], accepted: str, due: float
    ) -> tuple[Job, Asked, list[str]]:
        """A job of a body, in the reading thread; and what is to be warned of."""
        with told_warnings() as told:
            asked = read_ask(body, self.limits) if kind == JSON else read_table(body, kind, query, self.limits)
            options = asked.options
            if accepted != JSON and len(options.output) > 1:
                raise Refusal(422, "a table holds one output; ask for one of quantiles, paths and events")
            forecaster = self.shelf.take(options.adapter)
            request = forecaster.request(
                asked.series, options.horizon, sample=options.sample(), context=options.context, known=asked.known
            )
        return Job(forecaster, request, options.raw, due), asked, [*asked.notices, *told]

    async def _drawn(self, job: Job, request: Request) -> Forecast:
        """The forecast, unless its client leaves or its time is over; the work ends then, too."""
        answer = asyncio.wrap_future(job.answer)
        gone = asyncio.create_task(_gone(request))
        try:
            await asyncio.wait({answer, gone}, timeout=job.due - time.monotonic(), return_when=asyncio.FIRST_COMPLETED)
            if answer.done() and not answer.cancelled() and not isinstance(answer.exception(), Abandoned):
                return answer.result()
            if gone.done():
                raise Refusal(499, "the client has left")
            raise Refusal(504, f"the forecast took longer than {self.limits.most_seconds:g} s; ask for less")
        finally:
            job.left.set()
            gone.cancel()
            answer.cancel()

    def _written(self, forecast: Forecast, asked: Asked, accepted: str, told: list[str]) -> bytes:
        if accepted == JSON:
            return as_json(forecast, asked.options, self.base, told)
        return as_table(forecast, asked.options, accepted)

    @property
    def base(self) -> str:
        """The base's name; of one in a folder, that alone and not where it lies."""
        source = self.shelf.base.model.source
        return public_name(source) or source.rstrip("/").rpartition("/")[2]


async def _gone(request: Request) -> None:
    """Ends when the client has left; its body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def create(shelf: Shelf, limits: Limits | None = None, token: str | None = None) -> FastAPI:
    """The service as an ASGI application."""
    service = Service(shelf, limits or Limits())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.warm_up)
        yield
        await asyncio.to_thread(service.queue.end)
        service.reader.shutdown()

    app = FastAPI(title="loracast", version=loracast.__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service = service
    refusals = {
        status: {"model": Problem, "description": text, "content": {PROBLEM: {}}} for status, text in REFUSALS.items()
    }

    @app.post(
        "/v1/forecast",
        summary="Sample paths of what follows series, and what is read off them.",
        responses={200: {"model": Answer, "description": "The forecast."}, **refusals},  # type: ignore[dict-item]
    )
    async def forecast(request: Request) -> Response:
        return await service.forecast(request)

    @app.get("/v1/models", summary="The base, and the adapters that there are on it.", response_model=ModelsAnswer)
    async def models() -> ModelsAnswer:
        base = shelf.base
        adapters = await asyncio.to_thread(shelf.told)
        return ModelsAnswer(
            base=service.base, precision=base.model.precision, hardware=base.hardware, adapters=adapters
        )

    @app.get("/healthz", summary="Whether the service can be asked.")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "version": loracast.__version__}

    @app.get("/metrics", summary="Counts for Prometheus.", response_class=Response)
    async def metrics() -> Response:
        service.metrics.waiting.set(len(service.queue))
        service.metrics.adapters.set(len(shelf))
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    _answer_errors(app)
    app.openapi = lambda: _described(app, service.limits)  # type: ignore[method-assign]
    known = {"/v1/forecast", "/v1/models", "/healthz", "/metrics", "/openapi.json"}

    def on_answer(path: str, status: int) -> None:
        service.metrics.requests.labels(path if path in known else "other", status).inc()

    app.add_middleware(Guard, token=token, on_answer=on_answer)
    return app


def _answer_errors(app: FastAPI) -> None:
    """Whatever goes wrong is answered by a problem document."""

    def answer(status: int, problems: list[str], headers: Any = None) -> Response:
        return JSONResponse(document(status, problems), status, headers, PROBLEM)

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> Response:
        return answer(error.status, error.problems, error.headers) if error.status != 499 else Response(status_code=499)

    @app.exception_handler(LoracastError)
    async def wrong(request: Request, error: LoracastError) -> Response:
        return await refused(request, Refusal.of(error))

    @app.exception_handler(HTTPException)
    async def by_http(request: Request, error: HTTPException) -> Response:
        return answer(error.status_code, [f"{request.method} {request.url.path}: {error.detail}"], error.headers)

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> Response:
        traceback.print_exception(error)
        return answer(500, [f"an error of the service itself, {type(error).__name__}; its log has the rest"])


def _described(app: FastAPI, limits: Limits) -> dict[str, Any]:
    """The OpenAPI description, with the three kinds of bodies that FastAPI does not read itself."""
    if app.openapi_schema:
        return app.openapi_schema
    found = get_openapi(
        title=app.title, version=app.version, routes=app.routes, summary="Forecasts as joint sample paths."
    )
    _, shared = models_json_schema(
        [(Ask, "validation"), (TableOptions, "validation")], ref_template="#/components/schemas/{model}"
    )
    schemas = found["components"]["schemas"]
    schemas.update(shared["$defs"])
    options = schemas.pop("TableOptions")
    for described in (schemas["Ask"], options):
        described["properties"]["horizon"]["maximum"] = limits.most_horizon
        described["properties"]["paths"]["maximum"] = limits.most_paths
    route = found["paths"]["/v1/forecast"]["post"]
    binary = {"schema": {"type": "string", "format": "binary"}}
    route["requestBody"] = {
        "required": True,
        "description": "Series as JSON, or a table; what is asked of a table stands in the query.",
        "content": {JSON: {"schema": {"$ref": "#/components/schemas/Ask"}}, ARROW: binary, PARQUET: binary},
    }
    route["parameters"] = [
        {"name": name, "in": "query", "required": False, "schema": field, "description": "Of a table alone."}
        for name, field in options["properties"].items()
    ]
    route["responses"]["200"]["content"] |= {ARROW: binary, PARQUET: binary}
    app.openapi_schema = found
    return found

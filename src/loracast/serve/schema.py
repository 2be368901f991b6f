"""What a request asks and what is answered, as JSON; pydantic checks it and describes it for OpenAPI.

Shapes: T steps of a series, H steps of the horizon, S paths, Q quantiles.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, model_validator

from loracast.forecast import QUANTILES
from loracast.settings import FORECAST_PATHS, SampleConfig, TransformChoice

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$"  # of an adapter

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Text = Annotated[str, Field(strict=True, min_length=1, max_length=200)]
Sentence = Annotated[str, Field(strict=True, min_length=1, max_length=500)]
Output = Literal["quantiles", "paths", "events"]


class Part(BaseModel):
    """What all parts of a request have in common: what is unknown is refused."""

    model_config = ConfigDict(extra="forbid")


class Given(Part):
    """A series: a list of numbers a variable, null where one is missing.

    `time` holds dates, years or numbers, one a step. `future` holds numbers that are known or supposed of the steps
    that follow, null where nothing is.
    """

    id: Text = "0"
    values: Annotated[dict[Text, list[Number | None]], Field(min_length=1)]
    time: list[StrictStr] | list[Number] | None = None
    future: dict[Text, list[Number | None]] | None = None


class Options(Part):
    """What is asked of series; a table comes with these as the query of its address."""

    horizon: Annotated[StrictInt, Field(ge=1, description="Steps to forecast.")]
    adapter: Annotated[
        str | None, Field(pattern=NAME, description="An adapter's name; the untouched base unless given.")
    ] = None
    paths: Annotated[StrictInt, Field(ge=1, description="Sample paths a series.")] = FORECAST_PATHS
    seed: Annotated[StrictInt, Field(ge=0, lt=2**63, description="Of the paths.")] = 0
    context: Annotated[StrictInt | None, Field(ge=1, description="Steps that are read of each series.")] = None
    temperature: Annotated[Number, Field(gt=0)] = 1.0
    top_p: Annotated[Number, Field(gt=0, le=1)] = 1.0
    transform: TransformChoice = "auto"
    raw: Annotated[StrictBool, Field(description="Leave the paths as wide as they are drawn.")] = False
    output: Annotated[list[Output], Field(min_length=1, max_length=3)] = ["quantiles"]
    quantiles: Annotated[list[Annotated[Number, Field(ge=0, le=1)]], Field(min_length=1, max_length=99)] = list(
        QUANTILES
    )
    events: Annotated[list[Sentence], Field(max_length=20, description="Such as: lynx < 5 within 10 steps.")] = []
    set: Annotated[list[Sentence], Field(max_length=50, description="What if, such as: lynx = 5 at step 3.")] = []
    known: Annotated[list[Text], Field(max_length=32, description="Variables known for the future, too.")] = []
    past: Annotated[list[Text], Field(max_length=32, description="Variables that are read and not forecast.")] = []

    @model_validator(mode="after")
    def _events_are_named(self) -> Options:
        if "events" in self.output and not self.events:
            raise ValueError("output has events, but none is named; add events")
        return self

    def sample(self) -> SampleConfig:
        return SampleConfig(self.paths, self.temperature, self.top_p, self.transform, self.seed)


class Ask(Options):
    """A request as JSON: series, and what is asked of them."""

    series: Annotated[list[Given], Field(min_length=1)]


class TableOptions(Options):
    """What is asked of a table, and what its columns are; found by their names and contents unless given."""

    time: Annotated[Text | None, Field(description="Column of the times.")] = None
    id: Annotated[list[Text], Field(max_length=8, description="Columns that tell series apart.")] = []
    columns: Annotated[list[Text], Field(max_length=64, description="Columns to forecast.")] = []


class SeriesAnswer(BaseModel):
    """What follows one series: lists of H numbers by variable, of paths S lists of them."""

    id: str
    time: list[str] | list[float] | None
    mean: dict[str, list[float | None]] | None = None
    quantiles: dict[str, dict[str, list[float | None]]] | None = None
    paths: dict[str, list[list[float | None]]] | None = None


class Answer(BaseModel):
    """Forecasts, and what is to be known of them."""

    base: str
    adapter: str | None
    variables: list[str]
    series: list[SeriesAnswer]
    events: list[dict[str, Any]] | None = None
    warnings: list[str]
    conditional: list[str]
    scales: list[str]
    saturated: int
    flops: dict[str, float]


class AdapterAnswer(BaseModel):
    """An adapter, or the untouched base where the name is null."""

    name: str | None
    loaded: bool
    variables: list[str] | None = None
    context: int | None = None
    horizon: int | None = None
    rank: int | None = None
    verdict: dict[str, Any] | None = None
    problem: str | None = None


class ModelsAnswer(BaseModel):
    base: str
    precision: str
    hardware: str
    adapters: list[AdapterAnswer]


class Problem(BaseModel):
    """Why a request is not answered (RFC 9457)."""

    title: str
    status: int
    detail: str
    problems: list[str]

"""What a study does: one YAML file, checked whole before anything is computed. Two ship with loracast."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from loracast.codec import Layout
from loracast.errors import ConfigError, did_you_mean
from loracast.files import read_yaml
from loracast.flops import Convention, renamed
from loracast.settings import CHOICE_PATHS, SCORE_PATHS, CommonTuning, LoraConfig, SampleConfig, TuneConfig

SHIPPED = Path(__file__).parent / "protocols"
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
AnyLayout = Layout | Literal["auto"]


@dataclass(frozen=True, config=STRICT)
class SplitShares:
    """How series are split, unless a split file says so; whole series, or consecutive parts of an only one."""

    train: Share = 0.7
    validation: Share = 0.15
    test: Share = 0.15


@dataclass(frozen=True, config=STRICT)
class ForecastTask:
    """The task that every model of the study is judged by."""

    context: Count = 50
    """Steps that are read."""
    horizon: Count = 50
    """Steps that are forecast."""
    validation_series: Count = 30
    """Validation series that choose the settings."""
    validation_samples: Count = CHOICE_PATHS
    """Sample paths of each."""
    test_samples: Count = SCORE_PATHS
    """Sample paths of each test series."""

    def sampling(self, subset: str, seed: int) -> SampleConfig:
        """How the sample paths of `validation` or `test` are drawn."""
        return SampleConfig(self.test_samples if subset == "test" else self.validation_samples, seed=seed)


@dataclass(frozen=True, config=STRICT)
class TuningSettings(CommonTuning):
    """Settings of a tuning run: those that `loracast finetune` shares, with defaults as published, and its text.

    Stages change some of them. A protocol checks their values with all else that it holds, so that all problems are
    told at once.
    """

    learning_rate: float = 1e-4
    targets: str = "attention"
    batch: int = 4
    steps: int = 100
    validate_every: int = 10
    decimals: Annotated[int, Field(ge=1, le=6)] = 2
    """Digits after the point (layout decimal), or of a whole number (layout fixed)."""
    layout: AnyLayout = "auto"
    """How numbers are written; auto is the study's own `layout`."""
    observation_noise: float = 0.0
    """None, as in the published study; 0.3 for an adapter that is to read noisy series, too."""
    tokens: Count = 512
    """Length of a training window: as many steps as are written with so many tokens, or the whole series."""

    @property
    def lora(self) -> LoraConfig:
        return self.config(1, 1, 0).lora

    def config(self, context: int, horizon: int, seed: int) -> TuneConfig:
        """The same for the engine, with windows of `context` + `horizon` steps."""
        shared = {field.name: getattr(self, field.name) for field in fields(CommonTuning)}
        return TuneConfig(**shared, context=context, horizon=horizon, seed=seed, validation_series=0)


@dataclass(frozen=True, config=STRICT)
class SearchSettings:
    """Which settings are tried, and how: all of them (grid), by successive halving, or both for comparison."""

    method: Literal["grid", "halving", "both"] = "halving"
    learning_rate: tuple[Positive, ...] = (1e-4,)
    rank: tuple[Count, ...] = (8,)
    decimals: tuple[Annotated[int, Field(ge=1, le=6)], ...] = (2,)
    steps: Count = 90
    first_rung: Count = 10
    """Halving: steps after which runs are compared first; then after `reduction` times as many, and so on."""
    reduction: Annotated[int, Field(ge=2)] = 3
    """Halving: one in so many runs goes on from a rung."""

    @property
    def rungs(self) -> tuple[int, ...]:
        """Steps after which runs are compared."""
        rungs, step = [], self.first_rung
        while step < self.steps:
            rungs.append(step)
            step *= self.reduction
        return tuple(rungs)


Clash = tuple[tuple[str, ...], str]  # the settings that do not go together, and what to say of them


class Clashes(ConfigError):
    """Settings that do not go together."""

    def __init__(self, clashes: list[Clash]):
        self.clashes = clashes
        super().__init__([problem for _, problem in clashes])


@dataclass(frozen=True, config=STRICT)
class Protocol:
    """A study: the published settings are `published`, `laptop` is a small one for two processor cores."""

    convention: Convention = "published"
    """How FLOPs are counted for the budget; both conventions are reported."""
    budget: Positive = 1e17
    """FLOPs that the whole study may spend."""
    seed: Annotated[int, Field(ge=0)] = 0
    layout: AnyLayout = "auto"
    """How numbers are written; auto is what the model was pretrained with, or else decimal as published."""
    data: SplitShares = SplitShares()
    forecasts: ForecastTask = ForecastTask()
    tuning: TuningSettings = TuningSettings()
    """Settings of every run, where a stage does not say otherwise."""
    baseline: tuple[Annotated[int, Field(ge=1, le=6)], ...] = (2, 3)
    """Decimals at which the untouched model forecasts, constrained to what parses and unconstrained."""
    baseline_layouts: tuple[AnyLayout, ...] = ("auto",)
    """Layouts in which it does."""
    default: dict[str, Any] = Field(default_factory=dict)
    """What the run with default settings changes in `tuning`."""
    search: SearchSettings = SearchSettings()
    context: dict[str, Any] = Field(default_factory=dict)
    """What the runs over context lengths change in the best settings of the search; `tokens` is a list."""
    final: dict[str, Any] = Field(default_factory=dict)
    """What the final run changes in the best settings so far; `steps` is the most, the budget may allow fewer."""

    def __post_init__(self):
        if clashes := list(self._clashes()):
            raise Clashes(clashes)

    def _clashes(self) -> Iterator[Clash]:
        """What is wrong with settings each of which could hold by itself: the settings, and what to say of them."""
        shares = self.data.train + self.data.validation + self.data.test
        if abs(shares - 1) > 1e-9 or min(self.data.train, self.data.validation, self.data.test) == 0:
            yield ("data",), f"data: train, validation and test must be positive and sum to 1, not {shares:g}"
        for stage in ("default", "context", "final"):
            for problem in _wrong_changes(stage, getattr(self, stage)):
                yield (stage,), problem
        lengths = self.context.get("tokens", [])
        if not isinstance(lengths, list | tuple) or not all(isinstance(one, int) and one > 0 for one in lengths):
            yield ("context",), f"context.tokens must be a list of token counts, not {lengths!r}"
        every = max(1, self.tuning.validate_every)  # another one is refused below
        off = [rung for rung in self.search.rungs if rung % every]
        if off and self.search.method != "grid":
            yield (
                ("search.steps", "search.first_rung", "search.reduction", "search.method", "tuning.validate_every"),
                f"search: runs are compared after {', '.join(map(str, off))} steps, which are not multiples of "
                f"tuning.validate_every ({self.tuning.validate_every}), when losses are measured; change one of them",
            )
        if not self.baseline:
            yield ("baseline",), "baseline is empty; give at least one number of decimals"
        if not self.baseline_layouts:
            yield ("baseline_layouts",), "baseline_layouts is empty; give at least one of auto, fixed and decimal"
        for name in ("learning_rate", "rank", "decimals"):
            if not getattr(self.search, name):
                yield (f"search.{name}",), f"search.{name} is empty; give at least one value"
        for problem in self.tuning.problems():
            setting = problem.split()[0].rstrip(":")
            yield (f"tuning.{setting}",), f"tuning.{problem}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


SECTIONS = {"data": SplitShares, "forecasts": ForecastTask, "tuning": TuningSettings, "search": SearchSettings}


def read_protocol(source: str | Path | Mapping[str, Any], **changes: Any) -> Protocol:
    """The protocol that ships under a name, that a YAML file holds, or that a dict is.

    Args:
        changes: settings of the top level that go before those of the file.

    Raises ConfigError with every problem of the file.
    """
    if isinstance(source, Mapping):
        name, stored = "the protocol", renamed(dict(source))
    else:
        name, stored = str(source), renamed(_read(source))
    try:
        return TypeAdapter(Protocol).validate_python({**stored, **changes})
    except ValidationError as error:
        wrong = error.errors()
        problems = [_explain(problem) for problem in wrong] + _further({**stored, **changes}, wrong)
    except ConfigError as error:
        problems = error.problems
    raise ConfigError([f"{name}: {problem}" for problem in problems])


def _further(content: dict[str, Any], wrong: Sequence[Any]) -> list[str]:
    """What else is wrong with a protocol, where these settings cannot hold by themselves."""
    left, taken = dict(content), []
    for place in [problem["loc"] for problem in wrong]:
        section = left.get(place[0])
        if len(place) > 1 and isinstance(section, dict):  # of a list, all of it
            left[place[0]] = {key: value for key, value in section.items() if key != place[1]}
        else:
            left.pop(place[0], None)
        taken.append(".".join(map(str, place[:2])))
    try:
        TypeAdapter(Protocol).validate_python(left)
    except Clashes as error:
        return [problem for settings, problem in error.clashes if not any(_concerns(taken, one) for one in settings)]
    except ValidationError:  # of what was taken away
        pass
    return []


def _concerns(taken: Sequence[str], setting: str) -> bool:
    """Whether a setting, its section or a part of it is among those that were taken away."""
    return any(f"{setting}.".startswith(f"{one}.") or f"{one}.".startswith(f"{setting}.") for one in taken)


def with_changes(tuning: TuningSettings, changes: dict[str, Any]) -> TuningSettings:
    """Settings with what a stage changes in them, checked; ConfigError with every problem."""
    content, problems = {**asdict(tuning), **changes}, []
    adapter = TypeAdapter(TuningSettings)
    try:
        changed = adapter.validate_python(content)
    except ValidationError as error:
        wrong = error.errors()
        problems = [_explain(problem, TuningSettings) for problem in wrong]
        left = {name: value for name, value in content.items() if name not in {one["loc"][0] for one in wrong}}
        changed = adapter.validate_python(left)
    if problems := problems + changed.problems():
        raise ConfigError(problems)
    return changed


def _read(source: str | Path) -> dict[str, Any]:
    shipped = SHIPPED / f"{source}.yaml"
    known = ", ".join(sorted(one.stem for one in SHIPPED.glob("*.yaml")))
    stored = read_yaml(shipped if shipped.is_file() else source, f"name a YAML file or one of: {known}")
    if not stored:
        raise ConfigError([f"{source} holds no settings; write at least one, or name one of: {known}"])
    return stored


def _wrong_changes(stage: str, changes: dict[str, Any]) -> list[str]:
    """What is wrong with what a stage changes in `tuning`; the lengths of the context stage are checked elsewhere."""
    try:
        with_changes(TuningSettings(), {name: value for name, value in changes.items() if name != "tokens"})
    except ConfigError as error:
        return [f"{stage}: {problem}" for problem in error.problems]
    return []


def _explain(problem: Any, kind: Any = None) -> str:
    """A problem that pydantic found in a protocol, or in one of its sections where `kind` says which."""
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "unexpected_keyword_argument":
        *sections, name = problem["loc"]
        kind = kind or (SECTIONS.get(sections[0]) if sections else Protocol)
        return f"unknown setting {where!r}" + did_you_mean(name, [field.name for field in fields(kind)] if kind else [])
    return f"{where}: {problem['msg']}, not {problem['input']!r}"

"""What a study does: one YAML file, checked whole before anything is computed. Two ship with loracast."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from loracast.errors import ConfigError
from loracast.flops import Convention
from loracast.settings import LoraConfig, TuneConfig, resolve_targets

SHIPPED = Path(__file__).parent / "protocols"
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, config=STRICT)
class Data:
    """How series are split, unless a split file says so; whole series, or consecutive parts of an only one."""

    train: Share = 0.7
    validation: Share = 0.15
    test: Share = 0.15


@dataclass(frozen=True, config=STRICT)
class Forecasts:
    """The task that every model of the study is judged by."""

    context: Count = 50
    """Steps that are read."""
    horizon: Count = 50
    """Steps that are forecast."""
    validation_series: Count = 30
    """Validation series that choose the settings."""
    validation_samples: Count = 10
    """Sample paths of each."""
    test_samples: Count = 20
    """Sample paths of each test series."""


@dataclass(frozen=True, config=STRICT)
class Tuning:
    """Settings of a tuning run. Stages change some of them; the names are those of `loracast finetune`."""

    learning_rate: Positive = 1e-4
    rank: Count = 8
    decimals: Annotated[int, Field(ge=1, le=6)] = 2
    """Digits after the point (layout decimal), or of a whole number (layout fixed)."""
    tokens: Count = 512
    """Length of a training window: as many steps as are written with so many tokens, or the whole series."""
    targets: str = "attention"
    batch: Count = 4
    steps: Count = 100
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    validate_every: Count = 10
    validation_windows: Count = 32
    patience: Count | None = None

    @property
    def lora(self) -> LoraConfig:
        return self.config(1, 1, 0).lora

    def config(self, context: int, horizon: int, seed: int) -> TuneConfig:
        """The same for the engine, with windows of `context` + `horizon` steps."""
        shared = {field.name: getattr(self, field.name) for field in fields(self)}
        del shared["decimals"], shared["tokens"]
        return TuneConfig(**shared, context=context, horizon=horizon, seed=seed, validation_series=0)


@dataclass(frozen=True, config=STRICT)
class Search:
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
    """A study: the published settings are `course`, `laptop` is a small one for two processor cores."""

    convention: Convention = "course"
    """How FLOPs are counted for the budget; both conventions are reported."""
    budget: Positive = 1e17
    """FLOPs that the whole study may spend."""
    seed: Annotated[int, Field(ge=0)] = 0
    layout: Literal["auto", "fixed", "decimal"] = "auto"
    """How numbers are written; auto is what the model was pretrained with, or else decimal as published."""
    data: Data = Data()
    forecasts: Forecasts = Forecasts()
    tuning: Tuning = Tuning()
    """Settings of every run, where a stage does not say otherwise."""
    baseline: tuple[Annotated[int, Field(ge=1, le=6)], ...] = (2, 3)
    """Decimals at which the untouched model forecasts, constrained to what parses and unconstrained."""
    default: dict[str, Any] = Field(default_factory=dict)
    """What the run with default settings changes in `tuning`."""
    search: Search = Search()
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
            for problem in _unknown(stage, getattr(self, stage)):
                yield (stage,), problem
        lengths = self.context.get("tokens", [])
        if not isinstance(lengths, list | tuple) or not all(isinstance(one, int) and one > 0 for one in lengths):
            yield ("context",), f"context.tokens must be a list of token counts, not {lengths!r}"
        off = [rung for rung in self.search.rungs if rung % self.tuning.validate_every]
        if off and self.search.method != "grid":
            yield (
                ("search.steps", "search.first_rung", "search.reduction", "search.method", "tuning.validate_every"),
                f"search: runs are compared after {', '.join(map(str, off))} steps, which are no multiples of "
                f"tuning.validate_every ({self.tuning.validate_every})",
            )
        if not self.baseline:
            yield ("baseline",), "baseline is empty; give at least one number of decimals"
        for name in ("learning_rate", "rank", "decimals"):
            if not getattr(self.search, name):
                yield (f"search.{name}",), f"search.{name} is empty; give at least one value"
        try:
            resolve_targets(self.tuning.targets)
        except ConfigError as error:
            for problem in error.problems:
                yield ("tuning.targets",), f"tuning.{problem}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


SECTIONS = {"data": Data, "forecasts": Forecasts, "tuning": Tuning, "search": Search}


def read_protocol(source: str | Path | dict[str, Any], **changes: Any) -> Protocol:
    """The protocol that ships under a name, that a YAML file holds, or that a dict is.

    Args:
        changes: settings of the top level that go before those of the file.

    Raises ConfigError with every problem of the file.
    """
    if isinstance(source, dict):
        name, stored = "the protocol", source
    else:
        shipped = SHIPPED / f"{source}.yaml"
        name, stored = str(source), _read(shipped if shipped.is_file() else Path(source))
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


def with_changes(tuning: Tuning, changes: dict[str, Any]) -> Tuning:
    """Settings with what a stage changes in them, checked."""
    try:
        return TypeAdapter(Tuning).validate_python({**asdict(tuning), **changes})
    except ValidationError as error:
        raise ConfigError([_explain(problem) for problem in error.errors()]) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        known = ", ".join(sorted(one.stem for one in SHIPPED.glob("*.yaml")))
        raise ConfigError([f"{path} cannot be read ({error.strerror}); name a YAML file or one of: {known}"]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: not YAML: {error}"]) from None
    if not isinstance(stored, dict):
        raise ConfigError([f"{path} must hold settings as 'name: value' lines, not a {type(stored).__name__}"])
    return stored


def _unknown(stage: str, changes: dict[str, Any]) -> list[str]:
    known = [field.name for field in fields(Tuning)]
    problems = []
    for name in changes:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            problems.append(f"{stage}: unknown setting {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
    if not problems:
        try:
            with_changes(Tuning(), {name: value for name, value in changes.items() if name != "tokens"})
        except ConfigError as error:
            problems += [f"{stage}: {problem}" for problem in error.problems]
    return problems


def _explain(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "unexpected_keyword_argument":
        *sections, name = problem["loc"]
        kind = SECTIONS.get(sections[0]) if sections else Protocol
        known = [field.name for field in fields(kind)] if kind else []
        close = difflib.get_close_matches(str(name), known, n=1)
        return f"unknown setting {where!r}" + (f"; did you mean {close[0]!r}?" if close else "")
    return f"{where}: {problem['msg']}, not {problem['input']!r}"

"""Protocols: what the two that ship with loracast say, and that a file is checked whole before anything is computed."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from loracast.errors import ConfigError
from loracast.settings import TuneConfig
from loracast.study.protocol import (
    SHIPPED,
    ForecastTask,
    Protocol,
    SearchSettings,
    TuningSettings,
    read_protocol,
    with_changes,
)


def problems_of(source: Any, **changes: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_protocol(source, **changes)
    return caught.value.problems


# -- those that ship -----------------------------------------------------------------------------------------------


def test_two_protocols_ship():
    assert sorted(path.stem for path in SHIPPED.glob("*.yaml")) == ["laptop", "published"]


def test_course_is_the_published_experiment():
    published = read_protocol("published")
    assert (published.convention, published.budget, published.seed, published.layout) == ("published", 1e17, 0, "auto")
    assert (published.forecasts.context, published.forecasts.horizon) == (50, 50)
    assert published.baseline == (2, 3)
    default = with_changes(published.tuning, published.default)
    assert (default.rank, default.learning_rate, default.decimals) == (8, 1e-4, 2)
    assert default.lora.targets == ("q", "v")
    assert default.lora.alpha == 16
    assert published.search.method == "both"
    assert {1e-5, 5e-5, 1e-4} < set(published.search.learning_rate)
    assert max(published.search.learning_rate) > 1e-4  # the best of the published ones lies at their edge
    assert published.search.rank == (2, 4, 8)
    assert published.search.decimals == (2, 3)
    assert published.context["tokens"] == [128, 512, 768]
    assert published.search.rungs == (10, 30)


def test_laptop_is_a_small_one_that_differs_in_nothing_else():
    laptop, published = read_protocol("laptop"), read_protocol("published")
    assert (laptop.convention, laptop.budget) == ("executed", 1e15)
    assert laptop.context["tokens"] == published.context["tokens"]
    assert (laptop.forecasts.context, laptop.forecasts.horizon) == (50, 50)
    assert laptop.data == published.data
    for part in ("validation_series", "validation_samples", "test_samples"):
        assert getattr(laptop.forecasts, part) < getattr(published.forecasts, part)
    assert laptop.search.steps < published.search.steps
    assert laptop.search.rungs == (5, 15)


@pytest.mark.parametrize("name", ["published", "laptop"])
def test_every_stage_of_a_shipped_protocol_validates_at_its_rungs_and_its_end(name: str):
    protocol = read_protocol(name)
    for changes in (protocol.default, protocol.context, protocol.final, {"steps": protocol.search.steps}):
        tuning = with_changes(protocol.tuning, {key: value for key, value in changes.items() if key != "tokens"})
        assert tuning.steps % tuning.validate_every == 0
        assert tuning.steps >= 2 * tuning.validate_every
    assert not [rung for rung in protocol.search.rungs if rung % protocol.tuning.validate_every]
    assert len(protocol.search.rungs) > 1


@pytest.mark.parametrize("name", ["published", "laptop"])
def test_a_protocol_survives_the_record_of_a_study(name: str):
    protocol = read_protocol(name)
    assert read_protocol(protocol.to_dict()) == protocol
    assert read_protocol(yaml.safe_load(yaml.safe_dump(_plain(protocol.to_dict())))) == protocol


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


# -- reading -----------------------------------------------------------------------------------------------------


def test_what_a_file_does_not_say_is_as_published(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("budget: 2e12\nforecasts: {horizon: 10}\nsearch: {learning_rate: [1e-4, 3.0e-3]}\n")
    protocol = read_protocol(path)
    assert protocol.budget == 2e12  # which YAML reads as text
    assert protocol.forecasts == replace(ForecastTask(), horizon=10)
    assert protocol.search.learning_rate == (1e-4, 3e-3)
    assert replace(protocol, budget=1e17, forecasts=ForecastTask(), search=SearchSettings()) == Protocol()


def test_nothing_needs_to_be_said():
    assert read_protocol({}) == Protocol()


def test_changes_of_the_top_level_go_first(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("budget: 1.0e+12\nseed: 3\n")
    assert read_protocol(path, budget=5e9) == replace(read_protocol(path), budget=5e9)
    assert read_protocol("laptop", seed=7, convention="published").seed == 7
    assert read_protocol({"budget": -1.0}, budget=1.0).budget == 1


@pytest.mark.parametrize(
    ("steps", "first_rung", "reduction", "rungs"),
    [(90, 10, 3, (10, 30)), (91, 10, 3, (10, 30, 90)), (8, 2, 2, (2, 4)), (10, 10, 3, ()), (5, 10, 2, ())],
)
def test_rungs_lie_below_the_last_step(steps: int, first_rung: int, reduction: int, rungs: tuple[int, ...]):
    assert SearchSettings(steps=steps, first_rung=first_rung, reduction=reduction).rungs == rungs


def test_settings_become_those_of_the_engine():
    tuning = TuningSettings(rank=4, targets="q,o", batch=3, steps=7, patience=2, dropout=0.1, weight_decay=0.2)
    config = tuning.config(context=11, horizon=13, seed=5)
    assert isinstance(config, TuneConfig)
    assert (config.context, config.horizon, config.seed, config.validation_series) == (11, 13, 5, 0)
    shared = asdict(tuning).keys() & asdict(config).keys()
    assert {"rank", "batch", "steps", "patience", "targets", "learning_rate", "validate_every"} < shared
    for name in shared:
        assert getattr(config, name) == getattr(tuning, name)
    assert tuning.lora == config.lora
    assert tuning.lora.targets == ("q", "o")


def test_a_stage_changes_what_it_names():
    assert with_changes(TuningSettings(), {"steps": 7, "rank": 2}) == replace(TuningSettings(), steps=7, rank=2)
    assert with_changes(TuningSettings(rank=5), {}) == TuningSettings(rank=5)
    with pytest.raises(ConfigError) as caught:
        with_changes(TuningSettings(), {"steps": 0, "rnak": 2})
    assert len(caught.value.problems) == 2


# -- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "mentions"),
    [
        ({"budgte": 1}, ("unknown setting 'budgte'",)),
        ({"forecasts": {"contxt": 5}}, ("unknown setting 'forecasts.contxt'",)),
        ({"search": {"lerning_rate": [1]}}, ("unknown setting 'search.lerning_rate'",)),
        ({"default": {"step": 5}}, ("default: unknown setting 'step'", "did you mean 'steps'?")),
        ({"final": {"zebra": 5}}, ("final: unknown setting 'zebra'",)),
        ({"budget": "much"}, ("budget", "'much'")),
        ({"budget": 0}, ("budget", "greater than 0", "not 0")),
        ({"budget": float("inf")}, ("budget", "finite")),
        ({"seed": -1}, ("seed", "not -1")),
        ({"convention": "imperial"}, ("convention", "'published'", "'executed'", "'imperial'")),
        ({"layout": "roman"}, ("layout", "'roman'")),
        ({"forecasts": {"horizon": 2.5}}, ("forecasts.horizon", "2.5")),
        ({"forecasts": []}, ("forecasts", "[]")),
        ({"tuning": {"decimals": 7}}, ("tuning.decimals", "not 7")),
        ({"tuning": {"rank": None}}, ("tuning.rank", "None")),
        ({"tuning": {"targets": "attention,knees"}}, ("targets", "'knees'")),
        ({"baseline": [2, 0]}, ("baseline.1", "not 0")),
        ({"baseline": []}, ("baseline is empty", "at least one")),
        ({"search": {"rank": []}}, ("search.rank is empty", "at least one")),
        ({"search": {"learning_rate": [1e-4, 0]}}, ("search.learning_rate.1", "not 0")),
        ({"search": {"method": "guess"}}, ("search.method", "'guess'")),
        ({"search": {"reduction": 1}}, ("search.reduction", "not 1")),
        ({"default": {"steps": 0}}, ("default: steps", "not 0")),
        ({"context": {"tokens": 128}}, ("context.tokens must be a list", "not 128")),
        ({"context": {"tokens": [128, "many"]}}, ("context.tokens must be a list", "'many'")),
        ({"context": {"tokens": [0]}}, ("context.tokens", "[0]")),
        ({"data": {"train": 0.5}}, ("data: train, validation and test", "sum to 1, not 0.8")),
        ({"data": {"train": 0.85, "test": 0.0}}, ("data: train, validation and test must be positive",)),
        ({"search": {"first_rung": 7}}, ("compared after 7, 21, 63 steps", "tuning.validate_every (10)")),
    ],
)
def test_a_setting_that_cannot_hold_is_named(content: dict[str, Any], mentions: tuple[str, ...], tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"search": {"method": "grid"}, **content}))
    found = "\n".join(problems_of(path))
    for mention in (str(path), *mentions):
        assert mention in found
    assert "\n".join(problems_of({"search": {"method": "grid"}, **content})).startswith("the protocol: ")


def test_all_problems_are_told_at_once():
    wrong_types = problems_of({"budget": -1, "seed": "x", "tuning": {"rank": 0, "wings": 2}, "nests": 3})
    assert len(wrong_types) == 5
    senseless = problems_of(
        {
            "data": {"train": 0.1},
            "default": {"rnk": 3},
            "final": {"steps": -5},
            "context": {"tokens": "all", "steps": "x"},
            "search": {"first_rung": 3, "rank": []},
            "tuning": {"targets": "z"},
            "baseline": [],
        }
    )
    parts = [
        "data:",
        "default:",
        "final:",
        "context:",
        "context.tokens",
        "search:",
        "search.rank",
        "tuning.targets:",
        "baseline",
    ]
    for part in parts:
        assert sum(problem.startswith(f"the protocol: {part}") for problem in senseless) == 1, part
    assert len(senseless) == len(parts)


def test_wrong_values_hide_no_clashes():
    content = {
        "convention": "corse",
        "budget": -5,
        "seeed": 3,
        "data": {"train": 0.9, "test": 0.3},
        "default": {"rnk": 4},
        "tuning": {"learning_rate": 0, "targets": "q,x"},
        "search": {"rank": []},
    }
    found = problems_of(content)
    starts = ("convention", "budget", "tuning.learning_rate", "unknown setting 'seeed'", "data:", "default:")
    for start in (*starts, "tuning.targets", "search.rank"):
        assert sum(problem.startswith(f"the protocol: {start}") for problem in found) == 1, start
    assert len(found) == 8
    assert "did you mean 'seed'?" in "\n".join(found)


def test_what_a_wrong_value_clashes_with_is_not_told():
    """The default that would stand in its place says nothing of what the file means."""
    assert len(problems_of({"tuning": {"validate_every": 0}, "search": {"first_rung": 5}})) == 1
    assert len(problems_of({"data": {"train": 2, "validation": 0.4}})) == 1
    assert len(problems_of({"tuning": {"validate_every": 3, "rank": 0}})) == 2


def test_rungs_only_matter_to_halving():
    content: dict[str, Any] = {"search": {"method": "grid", "first_rung": 7}}
    assert read_protocol(content).search.first_rung == 7
    assert read_protocol({"search": {"method": "halving", "first_rung": 20}}).search.rungs == (20, 60)
    for method in ("halving", "both"):
        content["search"]["method"] = method
        assert len(problems_of(content)) == 1


@pytest.mark.parametrize(
    ("text", "mention"),
    [
        ("budget: [1", "not YAML"),
        ("- budget", "must hold settings as 'name: value' lines, not a list"),
        ("", "holds no settings"),
        ("\x00", "not YAML"),
        ("1: 2", "1: Keys should be strings"),
    ],
)
def test_a_file_that_is_no_protocol_is_refused(text: str, mention: str, tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    (problem,) = problems_of(path)
    assert str(path) in problem
    assert mention in problem


def test_bytes_that_are_no_text_are_refused(tmp_path: Path):
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x00")
    (problem,) = problems_of(tmp_path / "mine.yaml")
    assert "not YAML" in problem


def test_a_name_that_nothing_has_is_answered_with_those_there_are(tmp_path: Path):
    (problem,) = problems_of("corse")
    assert "corse cannot be read" in problem
    assert "name a YAML file or one of: laptop, published" in problem
    (problem,) = problems_of(tmp_path)
    assert "one of: laptop, published" in problem

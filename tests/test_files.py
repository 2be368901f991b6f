"""Files that the whole house writes and reads: JSON that any reader takes, YAML of settings, one advice on names."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from loracast.errors import ConfigError, did_you_mean
from loracast.files import json_text, read_yaml, write_json


def refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def test_numbers_that_json_does_not_have_become_null(tmp_path: Path):
    content: dict[str, Any] = {"loss": math.nan, "rows": [{"mae": math.inf, "n": 3}, (1.5, -math.inf)], "name": "é"}
    write_json(tmp_path / "a" / "record.json", content)
    text = (tmp_path / "a" / "record.json").read_text(encoding="utf-8")
    wanted = {"loss": None, "rows": [{"mae": None, "n": 3}, [1.5, None]], "name": "é"}
    assert json.loads(text, parse_constant=refuse) == wanted
    assert text.endswith("}\n")
    assert json.loads(json_text(content), parse_constant=refuse) == wanted
    assert "\n" not in json_text(content)
    assert math.isnan(content["loss"])  # what is written is a copy


def test_settings_are_read_from_yaml(tmp_path: Path):
    path = tmp_path / "settings.yaml"
    path.write_text("rank: 8\nsearch: {rank: [2, 4]}\n")
    assert read_yaml(path) == {"rank": 8, "search": {"rank": [2, 4]}}
    path.write_text("# nothing yet\n")
    assert read_yaml(path) == {}


@pytest.mark.parametrize(
    ("content", "mention"),
    [(b"rank: [8\nsteps: 3\n", "line 2, column 6: not YAML"), (b"- 8\n", "not a list"), (b"\xff", "not YAML")],
)
def test_a_file_of_anything_else_is_refused_with_the_place(content: bytes, mention: str, tmp_path: Path):
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value)
    assert mention in str(caught.value)


def test_a_file_that_is_not_there_is_answered_with_advice(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"absent\.yaml cannot be read: .*; name another"):
        read_yaml(tmp_path / "absent.yaml", "name another")


def test_only_a_name_that_is_nearly_right_is_advised():
    assert did_you_mean("rnak", ["rank", "steps"]) == "; did you mean 'rank'?"
    assert did_you_mean("zebra", ["rank", "steps"]) == ""
    assert did_you_mean(7, []) == ""

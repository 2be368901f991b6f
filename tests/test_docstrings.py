"""The examples in the docstrings of public names are there, and true."""

from __future__ import annotations

import doctest
import inspect
import warnings
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

import loracast
import loracast.study

NAMES = [name for name in loracast.__all__ if name != "__version__"] + ["study.run"]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL


def documented(name: str) -> Iterator[tuple[str, Any]]:
    """A public name, and where it is a class, its public methods, also those that it inherits from loracast."""
    subject = attrgetter(name)(loracast)
    yield name, subject
    for member, value in inspect.getmembers(subject) if inspect.isclass(subject) else ():
        if not member.startswith("_") and getattr(value, "__module__", "").startswith("loracast"):
            yield f"{name}.{member}", value


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_true(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner(optionflags=FLAGS)
    told: list[str] = []
    for called, subject in documented(name):
        for test in finder.find(subject, called, globs={"loracast": loracast}):
            with warnings.catch_warnings():
                runner.run(test, out=told.append)
    assert runner.tries, f"{name} has no example"
    assert not runner.failures, "".join(told)

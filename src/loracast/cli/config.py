"""`--config FILE`: the options of a command from a YAML file, by the names that its help shows.

A file may hold options of several commands, each command's under its name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from cyclopts import App, Argument, ArgumentCollection, CycloptsError, Token

from loracast.errors import ConfigError, did_you_mean
from loracast.files import read_yaml

Source = Callable[[App, tuple[str, ...], ArgumentCollection], None]


def yaml_options(path: Path) -> Source:
    """A source of options for cyclopts. What is given on the command line goes first.

    Raises ConfigError with every unknown key and every value of a wrong type in the file.
    """
    stored = read_yaml(path, advice="name a YAML file after --config")

    def fill(_app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        options = {_key(argument): argument for argument in arguments if argument.name.startswith("--")}
        options.pop("config", None)
        problems = []
        for key, value in _section(stored, path, " ".join(commands)).items():
            name = str(key).replace("-", "_")
            if name not in options:
                problems.append(f"{path}: unknown option {key!r}{_advice(name, options, commands)}")
            elif not options[name].tokens:
                problem = _put(options[name], value, str(path))
                problems += [f"{path}: {key} {problem}"] if problem else []
        if problems:
            raise ConfigError(problems)

    return fill


def _section(stored: dict[Any, Any], path: Path, command: str) -> dict[Any, Any]:
    """A command's options: those under its name, or all where the file is not one of several commands.

    No option's value is a mapping, so that a file of nothing else holds commands.
    """
    sections = [isinstance(value, dict) for value in stored.values() if value is not None]
    if not sections or not all(sections):
        return stored
    if command not in stored:
        raise ConfigError([f"{path}: no options of {command!r} among those of {', '.join(map(str, stored))}"])
    return stored[command] or {}


def refuse_fractions(_app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Refuses 2.5 for a whole number, which cyclopts would round."""
    problems = [
        f"{argument.name} takes a whole number, not {token.value}"
        for argument in arguments
        for token in argument.tokens
        if _hint(argument) is int and "." in token.value
    ]
    if problems:
        raise ConfigError(problems)


def _key(argument: Argument) -> str:
    return argument.name.removeprefix("--").replace("-", "_")


def _advice(name: str, options: dict[str, Argument], commands: tuple[str, ...]) -> str:
    return did_you_mean(name, options) or f"; loracast {' '.join(commands)} --help lists the options"


def _put(argument: Argument, value: Any, source: str) -> str | None:
    """Gives an option its value, or says what is wrong with that value."""
    if value is None:  # a line without a value is as good as none
        return None
    hint = _hint(argument)
    many = get_origin(hint) is tuple
    parts = value if many and isinstance(value, list) else [value]
    wrong = any(isinstance(part, list | dict) for part in parts) or (hint is int and isinstance(value, float))
    for index, part in enumerate(() if wrong else parts):
        argument.append(Token(keyword=argument.name, value=str(part), source=source, index=index))
    try:
        if not wrong:
            argument.convert()
            return None
    except CycloptsError:
        pass
    return f"must be {_kind(hint)}, not {value!r}"


def _hint(argument: Argument) -> Any:
    """The type of an option that is given; that it may be left out does not matter here."""
    members = get_args(argument.hint)
    return next(member for member in members if member is not NoneType) if NoneType in members else argument.hint


def _kind(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    kinds = {int: "a whole number", float: "a number", bool: "true or false"}
    return "a list of names" if get_origin(hint) is tuple else kinds.get(hint, "one value")

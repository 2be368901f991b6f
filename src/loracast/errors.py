"""Errors a user can act on. Each message says what is wrong, where, and what to do next.

The command line prints them without a traceback and exits with status 2; anything else that is raised is a bug.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """What to add to a message about an unknown name: the known one that is spelt most like it, or nothing."""
    close = get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def install_advice(extra: str) -> str:
    """How to install what an extra brings, for a clone and elsewhere."""
    return f"install it with pip install '.[{extra}]' in the clone, or pip install 'loracast[{extra}]' from an index"


def check_installed(extra: str, modules: Sequence[str]) -> None:
    """Raises ConfigError unless the modules that an extra brings can be imported."""
    if absent := [name for name in modules if find_spec(name) is None]:
        raise ConfigError([f"{extra} needs {' and '.join(absent)}; {install_advice(extra)}"])


class LoracastError(Exception):
    """Base of every error that the user's input, files or options cause. `problems` has what is wrong, each by itself.

    Examples:
        >>> try:
        ...     loracast.simulate("predator-pray", n=1)
        ... except loracast.LoracastError as error:
        ...     print(error)
        unknown system 'predator-pray'; there are predator-prey, lotka-volterra, seasonal-predator-prey
    """

    def __init__(self, message: object = "", problems: Sequence[str] = ()):
        super().__init__(message)
        self.problems = list(problems) or [str(message)]


class DataError(LoracastError):
    """A series or a file of series that cannot be used."""


class ModelError(LoracastError):
    """A model, tokenizer or adapter that cannot be loaded, or that does not fit its task."""


class Diverged(ModelError):
    """A training whose loss or gradient is no longer a finite number. `record` has what is known of it until then."""

    def __init__(self, message: str, record: dict[str, Any] | None = None):
        self.record = record or {}
        super().__init__(message)


class ConfigError(LoracastError):
    """One or more settings that cannot hold, all at once."""

    def __init__(self, problems: list[str]):
        super().__init__("; ".join(problems), problems)


class BudgetError(LoracastError):
    """A FLOP budget that the next piece of work would pass."""


class UnseenWarning(UserWarning):
    """A forecast that reaches beyond what its model or its adapter has seen.

    Examples:
        Where such a forecast must not go on, make it an error:

        >>> import warnings
        >>> warnings.simplefilter("error", loracast.UnseenWarning)
    """


@contextmanager
def told_warnings() -> Iterator[list[str]]:
    """What users were warned of in the block, in the list that it is given, once it has ended without an error.

    Warnings are caught for the whole process, in all of its threads.
    """
    told: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield told
    told.extend(str(one.message) for one in caught if issubclass(one.category, UserWarning))


class Interrupted(LoracastError):
    """Work that was stopped from the keyboard, after saving what is needed to go on."""

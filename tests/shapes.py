"""Shapes and types of arrays that signatures state hold whenever a test calls the function.

A signature states them as `Annotated[NDArray[np.float64], "N H D"]`: a letter for each axis, the same letter for the
same length within a call, `*B` for any number of axes, `_` for any length. Nothing is checked, and nothing imported for
it, when loracast is used. In the tests, jaxtyping's import hook wraps every function of MODULES in `stated_shapes`.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

import jaxtyping
import numpy as np

MODULES = [
    "loracast.codec",
    "loracast.statistics",
    "loracast.baselines",
    "loracast.evaluation.breakdown",
    "loracast.evaluation.metrics",
    "loracast.events.judge",
    "loracast.forecast",
    "loracast.scenario",
    "loracast.series.calendar",
    "loracast.series.types",
    "loracast.series.windows",
]
KINDS = {"float64": jaxtyping.Float64, "int64": jaxtyping.Int64, "bool": jaxtyping.Bool}


def enforce() -> None:
    """To be called before any of MODULES is imported."""
    jaxtyping.install_import_hook(MODULES, f"{__name__}.stated_shapes")


def stated_shapes(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which raises TypeError where an argument or what it returns is not as its signature states."""
    signature = inspect.signature(function)
    stated = {name: annotation for name, annotation in function.__annotations__.items() if _states(annotation)}
    if not stated:
        return function

    @functools.wraps(function)
    def checked(*arguments: Any, **options: Any) -> Any:
        bound = signature.bind(*arguments, **options).arguments
        for name, value in bound.items():
            if name in stated:
                _check(value, stated[name], name)
        result = function(*arguments, **options)
        if "return" in stated:
            _check(result, stated["return"], "what is returned")
        return result

    return checked


def _states(annotation: Any) -> bool:
    """Whether an annotation, or a part of it, states a shape."""
    return get_origin(annotation) is Annotated or any(_states(part) for part in get_args(annotation))


def _check(value: Any, annotation: Any, what: str) -> None:
    parts = get_args(annotation)
    if get_origin(annotation) is Annotated:
        array = _array(*parts)
        if not isinstance(value, array):
            found = f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
            raise TypeError(f"{what} is {found}, not {array.__name__}")
    elif get_origin(annotation) in (Union, types.UnionType):
        if value is not None:
            for part in filter(_states, parts):
                _check(value, part, what)
    elif get_origin(annotation) is tuple and parts[-1] is not Ellipsis:
        for one, part in zip(value, parts, strict=True):
            if _states(part):
                _check(one, part, what)
    elif issubclass(get_origin(annotation), Sequence):
        for one in value:
            _check(one, parts[0], what)
    else:
        raise TypeError(f"{annotation} states a shape where it is not looked for")


@functools.cache
def _array(array: Any, axes: str) -> Any:
    """jaxtyping's type for `Annotated[NDArray[kind], axes]`."""
    (kind,) = get_args(get_args(array)[1])
    shaped: Any = KINDS.get(getattr(kind, "__name__", "").rstrip("_"), jaxtyping.Shaped)
    return shaped[np.ndarray, axes]

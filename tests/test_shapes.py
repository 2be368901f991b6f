"""What signatures state of arrays is checked in the tests; `shapes` says how."""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from typing import Annotated

import numpy as np
import pytest
from jaxtyping import TypeCheckError, jaxtyped
from numpy.typing import NDArray

from loracast.codec import Codec, Scale
from loracast.forecast import Forecast
from loracast.series import Series
from loracast.statistics import percentile
from shapes import MODULES, stated_shapes

Floats = NDArray[np.float64]


@jaxtyped(typechecker=stated_shapes)
def scaled(
    values: Annotated[Floats, "T D"], scales: Annotated[Floats, "D"] | None, transposed: bool = False
) -> tuple[Annotated[Floats, "T D"], int]:
    product = values if scales is None else values * scales
    return (product.T if transposed else product), len(values)


def test_axes_of_one_letter_have_one_length():
    assert scaled(np.ones((3, 2)), np.ones(2))[0].shape == (3, 2)
    assert scaled(np.ones((3, 2)), None)[1] == 3
    with pytest.raises(TypeCheckError, match="scales"):
        scaled(np.ones((3, 2)), np.ones(1))
    with pytest.raises(TypeCheckError, match="return value"):
        scaled(np.ones((3, 2)), np.ones(2), transposed=True)
    with pytest.raises(TypeCheckError, match="values"):
        scaled(np.ones((3, 2), np.float32), np.ones(2))


@pytest.mark.parametrize("name", MODULES)
def test_a_listed_module_states_shapes(name: str):
    module = import_module(name)
    assert "Annotated[" in inspect.getsource(module)
    assert sys.modules[name].__loader__.__class__.__module__.startswith("jaxtyping")


def test_functions_methods_and_dataclasses_are_checked():
    with pytest.raises(TypeCheckError, match="values"):
        percentile(np.ones(3), 50)
    with pytest.raises(TypeCheckError, match="places"):
        Codec().dequantise(np.ones((1, 2), int), Scale(np.zeros(2), np.ones(2)), np.zeros((2, 1)))
    context = Series([[1.0], [2.0]], ("x",))
    with pytest.raises(TypeCheckError, match="valid"):
        Forecast(np.ones((1, 5, 3, 1)), np.ones((1, 5, 4), bool), (context,), (None,))

"""What the OpenAPI description allows is answered as it says, and what it does not is refused."""

from __future__ import annotations

import pytest

schemathesis = pytest.importorskip("schemathesis")
pytest.importorskip("fastapi")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from schemathesis import GenerationMode  # noqa: E402
from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402

from loracast.serve.limits import Limits  # noqa: E402
from loracast.serve.service import create  # noqa: E402
from loracast.serve.shelf import Shelf  # noqa: E402
from served import adapters, base, serving  # noqa: E402

EXAMPLES = {"/v1/forecast": 40}


@pytest.fixture(scope="module")
def description(base, adapters):
    limits = Limits(most_horizon=4, most_paths=100, most_steps=200, most_seconds=20)
    app = create(Shelf(base, adapters, 2), limits)
    with serving(app) as place:
        yield schemathesis.openapi.from_url(f"{place}/openapi.json")


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_the_service_does_what_its_description_says(description, mode):
    """But for what a description cannot say, such as lists that must have one length."""
    tried = set()
    for found in description.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and operation.method == "get":  # nothing can be wrong with what has no parts
            continue
        strategy = operation.as_strategy(generation_mode=mode)

        @given(case=strategy)
        @settings(
            max_examples=EXAMPLES.get(operation.path, 3),
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        def check(case):
            case.call_and_validate(excluded_checks=[positive_data_acceptance])

        check()
        tried.add(operation.path)
    assert "/v1/forecast" in tried

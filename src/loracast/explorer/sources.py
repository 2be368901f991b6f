"""Where the page's series come from: a table that was dropped on it, the series that ship, and the simulators.

Shapes: T steps, D variables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from loracast.errors import ConfigError, DataError
from loracast.series import Columns, Series, read
from loracast.systems import SYSTEMS, get_system, lynx_hare, simulate

MOST_STEPS, MOST_SERIES = 400, 50  # of what a simulator makes for the page
MOST_SHOWN = 2000  # series of a table that the page lists


@dataclass(frozen=True, eq=False)
class Source:
    """Series, and how they came to be.

    Attributes:
        understood: what was understood of a table, or what was made.
        python: lines of Python that make `series`, the list of them.
    """

    series: list[Series]
    understood: str
    notices: tuple[str, ...]
    python: str


def shipped() -> Source:
    """The pelts of the Hudson's Bay Company."""
    series = lynx_hare()
    return Source(
        [series],
        f"{series.id}: {series.steps} years of hare and lynx pelts, in thousands",
        (),
        "series = [loracast.lynx_hare()]",
    )


def uploaded(name: str, body: bytes, columns: Columns) -> Source:
    """The series of a table's file."""
    name = re.sub(r"[^\w. -]", "_", Path(name).name)[-100:] or "table.csv"
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(body)
        try:
            reading = read(path, columns)
        except DataError as error:
            raise DataError(str(error).replace(str(path), name)) from None
    given = ", ".join(
        f"{role}={value!r}"
        for role, value in (
            ("time", columns.time),
            ("id", columns.id),
            ("targets", columns.targets),
            ("known", columns.known),
        )
        if value
    )
    python = f"series = loracast.read_series({name!r}{f', loracast.Columns({given})' if given else ''})"
    understood = reading.understood().replace(str(path), name)
    return Source(reading.series, understood, tuple(one.replace(str(path), name) for one in reading.notices), python)


def simulators() -> list[dict[str, Any]]:
    """What each simulator's sliders are: of parameters and of initial values, with their ranges."""
    return [
        {
            "name": one.name,
            "description": one.description,
            "source": one.source,
            "parameters": {name: list(span) for name, span in one.parameters.items()},
            "initial": {name: list(span) for name, span in one.initial.items()},
            "steps": one.steps,
            "duration": one.duration,
            "individuals": bool(one.events),
        }
        for one in SYSTEMS.values()
    ]


def simulated(
    name: str,
    values: Mapping[str, float],
    *,
    steps: int,
    duration: float,
    noise: float,
    process_noise: float,
    individuals: float | None,
    seed: int,
    n: int,
) -> Source:
    """Trajectories of a system whose parameters and initial values are as given, drawn where they are not."""
    system = get_system(name)
    known = {*system.parameters, *system.initial}
    problems = [f"{system.name} has no parameter {one!r}" for one in values if one not in known]
    problems += [f"{one} must be finite, not {value}" for one, value in values.items() if not np.isfinite(value)]
    problems += [f"{steps} steps; the page makes 10 to {MOST_STEPS}"] if not 10 <= steps <= MOST_STEPS else []
    problems += [f"{n} series; the page makes 1 to {MOST_SERIES}"] if not 1 <= n <= MOST_SERIES else []
    if problems:
        raise ConfigError(problems)
    spans = {one: (value, value) for one, value in values.items()}
    fixed = replace(
        system,
        parameters={one: spans.get(one, span) for one, span in system.parameters.items()},
        initial={one: spans.get(one, span) for one, span in system.initial.items()},
    )
    options: dict[str, Any] = {"n": n, "seed": seed, "steps": steps, "duration": duration}
    options |= {"noise": noise} if noise else {}
    options |= {"process_noise": process_noise} if process_noise and not individuals else {}
    options |= {"individuals": individuals} if individuals else {}
    series = [replace(one, id=f"{name}-{one.id}") for one in simulate(fixed, **options)]
    told = ", ".join(f"{one} {value:.3g}" for one, value in values.items()) or "parameters drawn by the seed"
    python = (
        "from dataclasses import replace\n\n"
        "from loracast.systems import get_system\n\n"
        f"system = get_system({name!r})\n"
        f"values = { ({one: round(value, 6) for one, value in values.items()})!r}\n"
        "fixed = {name: (value, value) for name, value in values.items()}\n"
        "parameters = {name: fixed.get(name, span) for name, span in system.parameters.items()}\n"
        "initial = {name: fixed.get(name, span) for name, span in system.initial.items()}\n"
        "system = replace(system, parameters=parameters, initial=initial)\n"
        f"series = loracast.simulate(system, {', '.join(f'{one}={value!r}' for one, value in options.items())})\n"
        f"series = [replace(one, id=f'{name}-{{one.id}}') for one in series]"
    )
    return Source(series, f"{name}: {n} series of {steps} steps, {told}", (), python)


def described(source: Source, key: str) -> dict[str, Any]:
    """A source as the page shows it."""
    first = source.series[0]
    return {
        "key": key,
        "understood": source.understood,
        "notices": list(source.notices),
        "variables": list(first.names),
        "targets": list(first.targets),
        "known": list(first.known),
        "series": [{"id": one.id, "steps": one.steps} for one in source.series[:MOST_SHOWN]],
        "more": max(0, len(source.series) - MOST_SHOWN),
    }

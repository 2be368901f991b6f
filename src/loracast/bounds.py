"""Whether numbers lie within bounds, and what to say of those that do not. Each text begins with a setting's name.

A NaN is neither below nor above a bound: each comparison says what must hold, so that a NaN is refused.
"""

from __future__ import annotations

from collections.abc import Iterable

# what float32, in which models compute, holds at full precision; smaller ones become 0 on some devices
SMALLEST, LARGEST = 2.0**-126, (2 - 2.0**-23) * 2.0**127
BELOW_ONE = 1 - 2.0**-24  # the largest float32 below 1


def at_least(settings: object, bounds: dict[str, int]) -> list[str]:
    values = {name: getattr(settings, name) for name in bounds}
    return [
        f"{name} must be at least {bound}, not {values[name]}"
        for name, bound in bounds.items()
        if not values[name] >= bound
    ]


def positive(settings: object, names: Iterable[str]) -> list[str]:
    values = {name: getattr(settings, name) for name in names}
    return [
        _outside(name, value, "positive", LARGEST)
        for name, value in values.items()
        if value is not None and not SMALLEST <= value <= LARGEST
    ]


def not_negative(settings: object, most: dict[str, float]) -> list[str]:
    values = {name: getattr(settings, name) for name in most}
    return [
        _outside(name, value, "finite and not negative", most[name])
        for name, value in values.items()
        if not (value == 0 or SMALLEST <= value <= most[name])
    ]


def shares(settings: object, names: Iterable[str]) -> list[str]:
    values = {name: getattr(settings, name) for name in names}
    kind = "in 0 to 1 (1 excluded)"
    return [
        _outside(name, value, kind, LARGEST) if 0 < value < SMALLEST else f"{name} must lie {kind}, not {value}"
        for name, value in values.items()
        if not (value == 0 or SMALLEST <= value <= BELOW_ONE)
    ]


def scaling(alpha: float, rank: int) -> list[str]:
    """What is wrong with the strength of an adapter; a negative one takes away what was learned."""
    strength = abs(alpha / rank if rank >= 1 else alpha)
    if SMALLEST <= strength <= LARGEST:
        return []
    return [f"alpha / rank must be a number that float32 holds and not 0; alpha is {alpha}, rank {rank}"]


def _outside(name: str, value: float, kind: str, most: float) -> str:
    """Why a value is refused: its kind, or that it is beyond what is sensible or what float32 holds."""
    if 0 < value < SMALLEST:
        return f"{name} must be {kind}; {value} is too small for float32, which holds {SMALLEST:.3g} and more"
    if most < value < float("inf"):
        what = "the largest number of float32" if most == LARGEST else "the most that makes sense"
        return f"{name} must be at most {most:.3g}, {what}, not {value}"
    return f"{name} must be {kind}, not {value}"

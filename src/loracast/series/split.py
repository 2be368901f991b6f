"""Which series are trained on, which validate and which test, and the file that holds it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from loracast.errors import ConfigError, DataError
from loracast.files import write_json


@dataclass(frozen=True)
class Split:
    """Positions in a list of series, counted from 0; no position is in two parts."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


def split_series(n: int, fractions: tuple[float, float, float] = (0.7, 0.15, 0.15), seed: int = 0) -> Split:
    """`n` positions, shuffled by `seed`, as train, validation and test in these proportions.

    Every part with a positive fraction gets at least one series; where there are too few, the first parts come first.
    """
    problems = [f"a split needs at least 1 series, not {n}"] if n < 1 else []
    if len(fractions) != 3 or not (min(fractions) >= 0 and abs(sum(fractions) - 1) < 1e-9):  # refuses NaN, too
        problems.append(f"fractions must be three numbers from 0 to 1 that sum to 1, not {fractions}")
    if problems:
        raise ConfigError(problems)
    wanted = n * np.array(fractions)  # [3]
    counts = np.zeros(3, dtype=int)
    for _ in range(n):
        empty = (counts == 0) & (wanted > 0)
        counts[np.argmax(np.where(empty, n, wanted - counts))] += 1
    order = np.random.default_rng(seed).permutation(n)
    train, validation, test = np.split(order, np.cumsum(counts)[:2])
    return Split(tuple(train.tolist()), tuple(validation.tolist()), tuple(test.tolist()))


def read_split(path: str | Path, n: int) -> Split:
    """The split in a JSON object with lists `train`, `validation` and `test` of positions below `n`, each used once."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read as a JSON split: {reason}") from error
    parts: dict[str, tuple[int, ...]] = {}
    owner: dict[int, str] = {}
    for part in ("train", "validation", "test"):
        positions = content.get(part) if isinstance(content, dict) else None
        if not isinstance(positions, list):
            raise DataError(f"{path}: '{part}' is missing or no list; a split holds lists train, validation and test")
        for position in positions:
            if type(position) is not int or not 0 <= position < n:
                raise DataError(f"{path}: {part} holds {position!r}; positions go from 0 to {n - 1} for {n} series")
            if position in owner:
                raise DataError(f"{path}: position {position} is in {owner[position]} and again in {part}; keep one")
            owner[position] = part
        parts[part] = tuple(positions)
    return Split(**parts)


def write_split(split: Split, path: str | Path) -> None:
    write_json(path, asdict(split), indent=None)

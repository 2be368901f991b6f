"""Which series an adapter was tuned on, so that nothing is judged by them unawares.

A series is known again by its first steps, so that one that has grown since is still known. The record maps a
digest of these to the number of steps that were trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from loracast.series.types import Series
from loracast.series.windows import Window

HEAD = 16  # steps that a series is known by
MOST = 20_000  # series of which a record is kept


def digest(series: Series) -> str:
    """Eight hexadecimal digits for the first steps of a series, whatever its id and the names of its variables."""
    head = np.ascontiguousarray(series.values[:HEAD], dtype="<f8")
    return hashlib.sha256(head.tobytes()).hexdigest()[:8]


def seen_record(training: Sequence[Series], validation: Sequence[Series]) -> dict[str, dict[str, int]]:
    """What an adapter's record keeps of its split: the steps of each series that trained and that validated it."""
    parts = {"train": training, "validation": validation}
    return {name: {digest(one): one.steps for one in series[:MOST]} for name, series in parts.items()}


def steps_seen(series: Series, record: Mapping[str, Mapping[str, int]]) -> int:
    """The steps of a series, from its first, that an adapter with this record was trained on; 0 for another series."""
    return record.get("train", {}).get(digest(series), 0)


def is_seen(window: Window, record: Mapping[str, Mapping[str, int]]) -> bool:
    """Whether the future of a window was trained on, in part or in whole."""
    return window.start + window.context < steps_seen(window.series, record)


def unseen(
    series: Sequence[Series], record: Mapping[str, Mapping[str, int]], context: int, horizon: int
) -> tuple[list[Series], str | None]:
    """Series that an adapter was not tuned on, or what follows of them, and a sentence on those that are left out.

    All of them, without a sentence, where none was tuned on; and where nothing else is left.
    """
    kept, left = [], 0
    for one in series:
        seen = steps_seen(one, record)
        if not seen:
            kept.append(one)
        elif one.steps - seen >= horizon and seen >= context:
            kept.append(one.slice(seen - context, one.steps))
            left += 1
        else:
            left += 1
    if not left or not kept:
        return list(series), None
    chosen = sum(digest(one) in record.get("validation", {}) for one in kept)
    by = f" ({chosen} of them chose the best adapter)" if chosen else ""
    return kept, (
        f"scored is what the adapter was not tuned on: {len(kept)} of {len(series)} series{by}; take all of them with "
        "--tuned-too"
    )

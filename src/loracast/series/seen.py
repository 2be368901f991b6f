"""Which series an adapter was tuned on: what its record keeps of them, and how they are recognised later.

A series is recognised by a digest of the values of its first steps, whatever its id and whatever was added at its end.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from loracast.series.types import Series, Window

MOST = 10_000  # series of one part whose digests are kept


def split_record(training: Sequence[Series], validation: Sequence[Series]) -> dict[str, Any]:
    """What a record keeps: for each part its number of series, and id, steps and digest of the first `MOST`."""
    return {
        part: {"n": len(series), "series": [[one.id, one.steps, _digest(one, one.steps)] for one in series[:MOST]]}
        for part, series in (("training", training), ("validation", validation))
    }


def steps_seen(record: dict[str, Any], series: Sequence[Series], part: str) -> list[int]:
    """How many of the first steps of each series belong to `part` (`training` or `validation`) of an adapter's split.

    Zero for a series that is not among them, and for all series where an older adapter's record has no split.
    """
    kept = record.get("split", {}).get(part, {}).get("series", [])
    known = {(steps, digest) for _, steps, digest in kept}
    lengths = sorted({steps for steps, _ in known}, reverse=True)
    return [next((n for n in lengths if n <= one.steps and (n, _digest(one, n)) in known), 0) for one in series]


def windows_tuned_on(record: dict[str, Any], windows: Sequence[Window]) -> list[Window]:
    """The windows whose future begins among steps that the adapter was trained on."""
    distinct = list({id(window.series): window.series for window in windows}.values())
    seen = {id(one): steps for one, steps in zip(distinct, steps_seen(record, distinct, "training"), strict=True)}
    return [window for window in windows if window.start + window.context < seen[id(window.series)]]


def _digest(series: Series, steps: int) -> str:
    return hashlib.sha256(series.values[:steps].tobytes()).hexdigest()[:12]

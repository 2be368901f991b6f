"""Adapters by name, from one folder, on one base: loaded when they are asked for, and dropped by use."""

from __future__ import annotations

import re
from collections import OrderedDict
from pathlib import Path
from threading import Lock

from loracast.errors import ConfigError, LoracastError
from loracast.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, RECORD
from loracast.forecaster import Forecaster
from loracast.model.config import read_json
from loracast.model.locate import holds_adapter
from loracast.serve.refusals import Refusal
from loracast.serve.schema import NAME, AdapterAnswer

Stamp = tuple[tuple[int, int], ...]  # when the files were changed, and their sizes


class Shelf:
    """The base and its adapters.

    Args:
        base: the untouched forecaster.
        folder: whose folders are the adapters, each by its own name; none without one.
        most: adapters that are kept in memory.
    """

    def __init__(self, base: Forecaster, folder: Path | None, most: int):
        if base.lora:
            raise ConfigError(
                [f"{base.model.source} has an adapter; name its folder's parent instead, and the base as --model"]
            )
        self.base, self.folder, self.most = base, folder.resolve() if folder else None, most
        self._kept: OrderedDict[str, tuple[Stamp, Forecaster]] = OrderedDict()
        self._lock = Lock()

    def names(self) -> list[str]:
        """The adapters that are there now."""
        if self.folder is None or not self.folder.is_dir():
            return []
        return sorted(place.name for place in self.folder.iterdir() if self._place(place.name))

    def __len__(self) -> int:
        """How many are in memory."""
        return len(self._kept)

    def take(self, name: str | None) -> Forecaster:
        """The forecaster of that name, the untouched base for None. Refusal 404 for one that is not there."""
        if name is None:
            return self.base
        place = self._place(name)
        if place is None:
            there = ", ".join(self.names()[:20]) or "none"
            raise Refusal(404, f"there is no adapter {name!r} on this base; there are: {there}")
        with self._lock:
            stamp = _stamp(place)
            stored = self._kept.get(name)
            if stored is None or stored[0] != stamp:  # or it was tuned anew
                self._kept[name] = stored = stamp, self._load(name, place)
            self._kept.move_to_end(name)
            while len(self._kept) > self.most:
                self._kept.popitem(last=False)
            return stored[1]

    def _load(self, name: str, place: Path) -> Forecaster:
        """The adapter; what is wrong with it is told without where it lies."""
        try:
            return self.base.with_adapter(place)
        except LoracastError as error:
            raise Refusal(422, str(error).replace(str(place), name)) from None

    def told(self) -> list[AdapterAnswer]:
        """What is known of each, the base first."""
        return [AdapterAnswer(name=None, loaded=True), *map(self._told, self.names())]

    def _told(self, name: str) -> AdapterAnswer:
        place, loaded = self._place(name), name in self._kept
        assert place is not None
        try:
            record = read_json(place / RECORD) if (place / RECORD).is_file() else {}
            tune = record.get("tune", {})
            told = {"variables": record.get("variables"), "verdict": record.get("validation_forecasts")}
            return AdapterAnswer(
                name=name, loaded=loaded, **told, **{key: tune.get(key) for key in ("context", "horizon", "rank")}
            )
        except (LoracastError, ValueError, AttributeError) as error:
            return AdapterAnswer(name=name, loaded=False, problem=str(error).replace(str(place), name))

    def _place(self, name: str) -> Path | None:
        """The folder of an adapter; None for what is no name, not there, or leads out of the folder by a link."""
        if self.folder is None or not re.fullmatch(NAME, name):
            return None
        place = self.folder / name
        inside = place.resolve().is_relative_to(self.folder)
        return place if inside and place.is_dir() and holds_adapter(place) else None


def _stamp(place: Path) -> Stamp:
    files = [place / name for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS, RECORD)]
    return tuple((file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.is_file())

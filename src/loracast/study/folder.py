"""The folder of a study: what lies where, whose it is, and which process works on which run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from loracast.errors import ConfigError, DataError
from loracast.files import atomic_path, check_folder, write_json
from loracast.flops import column_name, renamed
from loracast.study.protocol import read_protocol

TAIL_BYTES = 4096  # at the end of a log: more than its last line
IDENTITY = ("protocol", "model", "data")  # of study.json: what may not change while a study goes on


@dataclass(frozen=True)
class StudyFolder:
    """Paths below a study's folder, and reading and writing them.

    study.json              protocol, model, data, plan, versions
    data/series.parquet     the series, and split.json: what a rerun needs
    runs/NAME/              run.json (settings), then result.json; adapter, log and checkpoint of a tuning run
    ledger/NAME.json        what each run reserved and spent
    tables/, figures/       what the report shows
    """

    path: Path

    @property
    def series(self) -> Path:
        return self.path / "data" / "series.parquet"  # which holds series of unequal lengths, too

    @property
    def split(self) -> Path:
        return self.path / "data" / "split.json"

    @property
    def ledger(self) -> Path:
        return self.path / "ledger"

    def run(self, name: str) -> Path:
        return self.path / "runs" / name

    # -- whose it is -----------------------------------------------------------------------------------------------

    def claim(self, record: dict[str, Any]) -> dict[str, Any]:
        """Makes this the folder of a study, or goes on with the same one; returns its record.

        Raises ConfigError for a folder that holds another study or anything else.
        """
        check_folder(self.path)
        foreign = sorted(one.name for one in self.path.glob("[!.]*"))
        if (self.path / "study.json").is_file():  # asked last: another process may have written it in between
            stored = self.record()
            # with the settings that the version which wrote it did not know yet
            known = {**stored, "protocol": read_protocol(stored["protocol"]).to_dict()}
            record, known = (json.loads(json.dumps(one)) for one in (record, known))
            changed = [name for key in IDENTITY for name in _differences(key, known.get(key), record.get(key))]
            if changed:
                raise ConfigError(
                    [
                        f"{self.path} holds another study ({'; '.join(changed[:5])}); go on with the settings it began "
                        "with, or choose another folder"
                    ]
                )
            return stored
        if foreign:
            raise ConfigError(
                [f"{self.path} is not the folder of a study: it holds {foreign[0]}; choose another folder"]
            )
        write_json(self.path / "study.json", record)
        return record

    def record(self) -> dict[str, Any]:
        return self.read_json(self.path / "study.json")

    # -- runs ------------------------------------------------------------------------------------------------------

    @contextmanager
    def lock(self, name: str) -> Iterator[bool]:
        """Whether this process may work on a run. The system frees the lock when a process dies."""
        directory = self.run(name)
        directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(directory / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def result(self, name: str) -> dict[str, Any] | None:
        """What a run found, or None while it has not ended."""
        path = self.run(name) / "result.json"
        return self.read_json(path) if path.is_file() else None

    def results(self, stage: str) -> dict[str, dict[str, Any]]:
        """What all ended runs of a stage found, by name; each with its settings under `run`."""
        found = {}
        for path in sorted((self.path / "runs").glob("*/result.json")):
            run = self.read_json(path.parent / "run.json")
            if run["stage"] == stage:
                found[path.parent.name] = {**self.read_json(path), "run": run}
        return found

    def log(self, name: str) -> list[dict[str, Any]]:
        """The events that a tuning run logged so far, without a line that another process is just writing."""
        path = self.run(name) / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def last_event(self, name: str) -> dict[str, Any] | None:
        """The last event that a tuning run logged, or None where there is none yet."""
        path = self.run(name) / "metrics.jsonl"
        if not path.is_file():
            return None
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - TAIL_BYTES))
            lines = stream.read().decode("utf-8", "replace").splitlines()  # the first may be torn
        whole = [line for line in lines if line.startswith("{") and line.endswith("}")]
        return json.loads(whole[-1]) if whole else None

    def ended(self) -> Counter[str]:
        """How many runs of each stage have ended."""
        ended = (path.parent / "run.json" for path in (self.path / "runs").glob("*/result.json"))
        return Counter(self.read_json(path)["stage"] for path in ended)

    # -- files -----------------------------------------------------------------------------------------------------

    def has_table(self, name: str) -> bool:
        return self._table(name).is_file()

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self._table(name)).rename(columns=column_name)

    def write_table(self, name: str, frame: pd.DataFrame) -> None:
        with atomic_path(self._table(name)) as temporary:
            frame.to_csv(temporary, index=False)

    def _table(self, name: str) -> Path:
        return self.path / "tables" / f"{name}.csv"

    @staticmethod
    def read_json(path: Path) -> dict[str, Any]:
        try:
            return renamed(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{path} cannot be read: {reason}; check that its folder is that of a study") from None


def _differences(name: str, stored: Any, wanted: Any) -> list[str]:
    """The settings that differ, as `name was 1, now 2`."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        keys = sorted(stored.keys() | wanted.keys())
        return [one for key in keys for one in _differences(f"{name}.{key}", stored.get(key), wanted.get(key))]
    return [] if stored == wanted else [f"{name} was {stored!r}, now {wanted!r}"]

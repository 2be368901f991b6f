"""FLOPs spent, kept within a budget: by one run in memory, or by many processes in a folder that they share."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from loracast.errors import BudgetError, DataError
from loracast.files import write_json
from loracast.flops import Convention, Flops, renamed


@dataclass
class Ledger:
    """FLOPs that a run spent, by purpose. A charge that would pass the budget is refused before it is made.

    Attributes:
        budget: the most that may be spent, in the ledger's convention; None for no limit.
        convention: of the budget.
        spent: by purpose (`training`, `validation`, `forecasts`, `likelihood`), in both conventions.

    Examples:
        >>> ledger = loracast.Ledger(budget=1000)
        >>> ledger.charge("training", loracast.Flops(600, 700))
        >>> ledger.left
        400
        >>> ledger.charge("forecasts", loracast.Flops(500, 600))
        Traceback (most recent call last):
        loracast.errors.BudgetError: forecasts would take 5.000e+02 FLOPs (executed), but 6.000e+02 of 1.000e+03 are ...
    """

    budget: float | None = None
    convention: Convention = "executed"
    spent: dict[str, Flops] = field(default_factory=dict)

    def __repr__(self) -> str:
        limit = "no budget" if self.budget is None else f"a budget of {self.budget:.3e}"
        purposes = "".join(f", {purpose} {flops.of(self.convention):.3e}" for purpose, flops in self.spent.items())
        return f"Ledger({self.total.of(self.convention):.3e} FLOPs ({self.convention}) of {limit}{purposes})"

    @property
    def total(self) -> Flops:
        return Flops.sum(self.spent.values())

    @property
    def left(self) -> float:
        return math.inf if self.budget is None else self.budget - self.total.of(self.convention)

    def affords(self, flops: Flops) -> bool:
        # whole numbers are compared exactly with a float, which a difference of the two need not be
        return self.budget is None or (self.total + flops).of(self.convention) <= self.budget

    def check(self, purpose: str, flops: Flops) -> None:
        """BudgetError unless so much is left."""
        if not self.affords(flops):
            raise BudgetError(
                f"{purpose} would take {flops.of(self.convention):.3e} FLOPs ({self.convention}), but "
                f"{self.total.of(self.convention):.3e} of {self.budget:.3e} are spent; raise the budget or take "
                "smaller steps"
            )

    def charge(self, purpose: str, flops: Flops) -> None:
        """Spends so much, or raises BudgetError."""
        self.check(purpose, flops)
        self.spent[purpose] = self.spent.get(purpose, Flops()) + flops

    def to_dict(self) -> dict[str, dict[str, int]]:
        """{convention: {purpose: FLOPs, …, total: FLOPs}}, ready for JSON."""
        return {
            convention: {purpose: flops.of(convention) for purpose, flops in self.spent.items()}
            | {"total": self.total.of(convention)}
            for convention in ("executed", "published")
        }

    def restore(self, stored: dict[str, dict[str, int]]) -> None:
        """Takes up what `to_dict` gave."""
        stored = renamed(stored)
        executed, published = stored["executed"], stored["published"]
        self.spent = {name: Flops(executed[name], published[name]) for name in executed if name != "total"}


@dataclass(frozen=True)
class Entry:
    """One run in a shared ledger: `reserved` while it works, then what it `spent` by purpose."""

    run: str
    reserved: Flops
    spent: dict[str, Flops]
    closed: bool

    @property
    def committed(self) -> Flops:
        return Flops.sum(self.spent.values()) if self.closed else self.reserved


@dataclass(frozen=True)
class SharedLedger:
    """A folder with one file a run, which any number of processes and machines may charge at once.

    A run reserves the most that it may spend before it begins, so that runs side by side never pass the budget
    together; when it ends, what it spent takes the reservation's place. A run that dies leaves its reservation, which
    the same run takes up again.
    """

    directory: Path
    budget: float | None = None
    convention: Convention = "executed"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.directory.mkdir(parents=True, exist_ok=True)
        with FileLock(self.directory / ".lock"):  # the system releases it when a process dies
            yield

    def open(self, run: str, most: Flops) -> Ledger:
        """A ledger for a run, with `most` (in the budget's convention) as its own budget.

        Raises BudgetError if that is not left.
        """
        with self._locked():
            taken = Flops.sum(entry.committed for entry in self.entries() if entry.run != run)
            wanted = most.of(self.convention)
            if self.budget is not None and taken.of(self.convention) + wanted > self.budget:
                raise BudgetError(
                    f"{run} may take {wanted:.3e} FLOPs ({self.convention}), but {taken.of(self.convention):.3e} of "
                    f"{self.budget:.3e} are spent or reserved; raise the budget or shrink the run"
                )
            self._write(Entry(run, most, {}, closed=False))
        return Ledger(wanted if self.budget is not None else None, self.convention)

    def close(self, run: str, ledger: Ledger) -> None:
        """Ends a run: what its ledger says is spent, and its reservation is free again."""
        with self._locked():
            self._write(Entry(run, Flops(), dict(ledger.spent), closed=True))

    def entries(self) -> list[Entry]:
        """All runs, by name."""
        # a name with a point at its start is an entry that is being written, or was when its process died
        return [self._read(path) for path in sorted(self.directory.glob("[!.]*.json"))]

    @property
    def spent(self) -> Flops:
        """What all closed runs spent."""
        return Flops.sum(entry.committed for entry in self.entries() if entry.closed)

    @property
    def left(self) -> float:
        """What is neither spent nor reserved, in the ledger's convention."""
        committed = Flops.sum(entry.committed for entry in self.entries())
        return math.inf if self.budget is None else self.budget - committed.of(self.convention)

    def _write(self, entry: Entry) -> None:
        write_json(self.directory / f"{entry.run}.json", asdict(entry))

    @staticmethod
    def _read(path: Path) -> Entry:
        try:
            stored: dict[str, Any] = renamed(json.loads(path.read_text(encoding="utf-8")))
            spent = {purpose: Flops(**flops) for purpose, flops in stored["spent"].items()}
            return Entry(stored["run"], Flops(**stored["reserved"]), spent, stored["closed"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path} cannot be read as an entry of a ledger ({type(error).__name__}: {error}); remove it"
            ) from None

"""Options that several commands share, and reading the data that they name."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, Token

from loracast.errors import DataError
from loracast.progress import Display
from loracast.series import Aggregate, Columns, Order, Reading, Series, read, read_split
from loracast.settings import ComputeKind, Device, Precision


def _listed(_type: Any, tokens: Sequence[Token]) -> tuple[str, ...]:
    """Names that are separated by commas or given one by one; a name that holds a comma stands in quotes."""
    records = csv.reader((token.value for token in tokens), skipinitialspace=True)
    return tuple(name.strip() for record in records for name in record if name.strip())


Names = Annotated[tuple[str, ...], Parameter(converter=_listed, n_tokens=1)]
Subset = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class DataOptions:
    """Which columns of a table are what, and how its rows become steps."""

    time: str | None = None
    """Column of the times; found by its name (year, date, Jahr, …) or content unless given."""

    id: Names = ()
    """Columns that tell series apart, as in --id site,plot; found by their names unless given."""

    columns: Names = ()
    """The variables to forecast, as in --columns hare,lynx; all that are left and hold numbers unless given."""

    known: Names = ()
    """Variables that are known for the future, too, as in --known rain,temperature."""

    past: Names = ()
    """Variables that are read and not forecast."""

    every: str | None = None
    """Spacing to bring uneven or finer times to: 1D, 2W, 1M, 1Q, 1Y, 6h, 15min, 5B, or a number."""

    aggregate: Aggregate | None = None
    """What becomes of several rows in one step of --every; refused unless given."""

    duplicates: Literal["refuse", "mean"] = "refuse"
    """Whether two rows of one series and time are refused or averaged."""

    dates: Order | None = None
    """Order of day and month in dates such as 01/02/2020, where the dates do not tell."""

    zone: str | None = None
    """Time zone of the times, such as Europe/Berlin."""

    missing: Names = ()
    """Further texts or numbers that mean "missing", as in --missing -1,unknown."""

    sheet: str | None = None
    """Sheet of an Excel file; the first that holds a table unless given."""

    names: Names = ()
    """New names of the variables in their order, as in --names prey,predator; those of the file unless given."""

    def understand(self, path: Path) -> Reading:
        """The series of a file, after telling what was understood of it."""
        from loracast.cli.console import note, say

        columns = Columns(
            self.time,
            *(self.id, self.columns, self.known, self.past),
            *(self.every, self.aggregate, self.duplicates, self.dates, self.zone, self.missing, self.sheet),
        )
        with Display() as display:
            display(f"reading {path.name}", None)
            reading = read(path, columns, self.names or None)
        say(reading.understood())
        for notice in reading.notices:
            note(notice)
        return reading

    def read(self, path: Path) -> list[Series]:
        return self.understand(path).series

    def read_subset(self, path: Path, split: Path | None, subset: Subset) -> list[Series]:
        """The series of a file, or those of them that a split file puts into a subset."""
        series = self.read(path)
        if split is None:
            return series
        positions = getattr(read_split(split, len(series)), subset)
        if not positions:
            raise DataError(f"{split}: {subset} is empty; put at least one position into it")
        return [series[index] for index in positions]


@dataclass(frozen=True)
class ModelOptions:
    """Which model, and where it runs."""

    model: str | None = None
    """`bundled`, `smollm2`, a directory, a .gguf file or a repository of the hub. Else the adapter's base or
    `bundled`."""

    device: Device = "auto"
    """Where to compute; auto takes a GPU where there is one."""

    precision: Precision = "auto"
    """auto is bfloat16 where the hardware is fast at it, else float32."""

    compute: ComputeKind = "auto"
    """How to compute; auto takes the fastest way that computes the model, plain the slow reference."""

    def where(self) -> dict[str, Any]:
        """Where and how to compute, as `Forecaster.from_pretrained` takes it."""
        return {"device": self.device, "precision": self.precision, "compute": self.compute}


Output = Annotated[Path, Parameter(alias="-o")]
Data = Annotated[DataOptions, Parameter(name="*")]
Model = Annotated[ModelOptions, Parameter(name="*")]

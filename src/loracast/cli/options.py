"""Options that several commands share, and reading the data that they name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from loracast.errors import DataError
from loracast.series import Columns, Series, read_series, read_split
from loracast.settings import Device, Precision

Subset = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class DataOptions:
    """Which columns of a CSV or Parquet file are what."""

    time: str | None = None
    """Column with the times; unless given, the one called time, t, year, date, ds, timestamp or step."""

    id: str | None = None
    """Column that tells series apart; unless given, the one called id, series, unique_id or item_id."""

    names: tuple[str, ...] | None = None
    """Names of the variables in their order, as in --names prey --names predator; those of the file unless given."""

    def read(self, path: Path) -> list[Series]:
        return read_series(path, Columns(self.time, self.id), names=self.names)

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
    """`bundled`, a Hugging Face directory or a repository of its hub. Unless given, the adapter's base or `bundled`."""

    device: Device = "auto"
    """Where to compute; auto takes a GPU where there is one."""

    precision: Precision = "auto"
    """auto is bfloat16 where the hardware is fast at it, else float32."""


Output = Annotated[Path, Parameter(alias="-o")]
Data = Annotated[DataOptions, Parameter(name="*")]
Model = Annotated[ModelOptions, Parameter(name="*")]

"""What one request, and all of them together, may take."""

from __future__ import annotations

from dataclasses import dataclass

from loracast.bounds import at_least, positive
from loracast.errors import ConfigError

MOST_WORKERS = 4
GPU_PATHS, CPU_PATHS = 4000, 400  # that are drawn together


@dataclass(frozen=True)
class Limits:
    """Bounds of the service; what lies beyond them is refused before any work.

    Raises:
        ConfigError: for bounds that cannot hold, all at once.

    Examples:
        >>> Limits(most_paths=0)
        Traceback (most recent call last):
        loracast.errors.ConfigError: most_paths must be at least 1, not 0
    """

    most_body: int = 4 * 2**20
    """Bytes of a request's body, and of a table in it once it is unpacked sixteen times as many."""

    most_series: int = 1000
    """Series of a request."""

    most_variables: int = 32
    """Variables of a series."""

    most_steps: int = 100_000
    """Steps of all series of a request together."""

    most_horizon: int = 1000
    """Steps that may be forecast."""

    most_paths: int = 1000
    """Sample paths a series."""

    most_values: int = 2_000_000
    """Numbers that a request's paths may have: series × paths × steps × variables."""

    most_seconds: float = 120.0
    """From a request's arrival to its answer; a longer one ends with status 504."""

    most_waiting: int = 512
    """Requests that wait or are being drawn; further ones get status 429 with Retry-After."""

    most_adapters: int = 8
    """Adapters that are kept in memory; of more, the one that was used longest ago is dropped."""

    batch_paths: int | None = None
    """Paths that are drawn together, unless a single request has more. Unless given, 4,000 on a GPU and 400 on a CPU,
    from which on a batch takes longer and not less for each."""

    workers: int | None = None
    """Batches that are drawn at once; unless given, one on a GPU, and on a CPU one a core, four at most."""

    def __post_init__(self) -> None:
        problems = at_least(
            self, dict.fromkeys(self.__dataclass_fields__.keys() - {"most_seconds", "batch_paths", "workers"}, 1)
        )
        problems += positive(self, ("most_seconds", "batch_paths", "workers"))
        if problems:
            raise ConfigError(problems)

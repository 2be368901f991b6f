"""How long a large table takes to read, beside pandas: 200,000 rows of 5,000 series, as text and as Parquet.

`python benchmarks/reading.py` ends in one JSON line; `-o FILE` keeps it. Each reader runs in turn and its median of
seven is told. pandas reads the file and parses its dates; loracast also makes series of it, on their calendar.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from loracast.series import read

ROWS, SERIES, REPEATS = 200_000, 5_000, 7


def table(dates: bool) -> pd.DataFrame:
    """Interleaved by no one: the rows of a series follow each other, in the order of time."""
    steps = ROWS // SERIES
    draws = np.random.default_rng(0)
    when = pd.date_range("2015-01-01", periods=steps, freq="MS") if dates else np.arange(1980, 1980 + steps)
    return pd.DataFrame(
        {
            "site": np.repeat([f"site-{number:05}" for number in range(SERIES)], steps),
            "date" if dates else "year": np.tile(when, SERIES),
            "prey": draws.lognormal(2, 1, ROWS).round(4),
            "predator": draws.lognormal(1, 1, ROWS).round(4),
        }
    )


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main(output: Path | None) -> None:
    result: dict[str, object] = {"rows": ROWS, "series": SERIES}
    with tempfile.TemporaryDirectory() as folder:
        for kind, dates in (("dates", True), ("years", False)):
            for suffix in (".csv", ".parquet"):
                path = Path(folder) / f"{kind}{suffix}"
                frame = table(dates)
                frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path, index=False)
                parsed = ["date"] if dates else False

                def by_pandas(path: Path = path, parsed: object = parsed) -> object:
                    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, parse_dates=parsed)

                times: dict[str, list[float]] = {"pandas": [], "loracast": []}
                for _ in range(REPEATS):
                    times["pandas"].append(seconds(by_pandas))
                    times["loracast"].append(seconds(lambda path=path: read(path)))
                reading = read(path)
                assert len(reading.series) == SERIES
                assert sum(one.steps for one in reading.series) == ROWS
                medians = {name: round(statistics.median(taken), 4) for name, taken in times.items()}
                result[f"{kind}{suffix}"] = {**medians, "ratio": round(medians["loracast"] / medians["pandas"], 2)}
                print(f"{path.name}: pandas {medians['pandas']:.3f} s, loracast {medians['loracast']:.3f} s")
    result |= {"python": platform.python_version(), "pandas": pd.__version__, "machine": platform.processor()}
    line = json.dumps(result)
    print(line)
    if output:
        output.write_text(line + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("-o", "--output", type=Path)
    main(parser.parse_args().output)

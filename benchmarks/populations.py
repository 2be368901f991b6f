"""Real populations: loracast beside what ecologists and statisticians use, on the same rolling origins.

    python benchmarks/populations.py populations --processes 2

The folder holds `gpdd.csv` (columns id, step, count: 86 series of the Global Population Dynamics Database) and
`experiments_raw.csv` (experiment, prey_time, prey, predator_time, predator); the hare and lynx of 1845–1935 come with
loracast. The two irregular clocks of an experiment are read at even steps, as many as there are observations, by linear
interpolation between them. A value that is missing in a context is interpolated for the peers, which cannot read gaps;
where it is missing in the truth, nothing is scored.

From half of a series on (16 steps at least), up to `--origins` evenly spaced origins are forecast 20 steps ahead or to
the end, each from the whole series before it; nothing of what is scored is read to choose anything. Two of loracast's
forecasters are tuned on what came before a series' first origin, alone or beside simulated siblings of it; where that
does not help on its end, they forecast untouched. Errors are kept of each series at 1, 5, 10 and 20 steps in
populations.csv beside `--output`, a forecaster at a time: the same command goes on where it was cut off.
`populations_figures.py` makes tables and figures of them. Peers: see `classical.py`.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import classical
import numpy as np
import pandas as pd
import torch
from crew import Do, forecasters, forecasters_parser, shared_out
from harness import keep, note, origin
from numpy.typing import NDArray
from scoringrules import crps_ensemble, es_ensemble

from loracast import Forecaster, SampleConfig, Series, TuneConfig, lynx_hare
from loracast.baselines import last_value
from loracast.errors import LoracastError
from loracast.files import write_text
from loracast.ranks import covered

Floats = NDArray[np.float64]
OUTPUT = Path(__file__).parent / "results" / "populations.json"
EXPERIMENTS, GPDD = "experiments_raw.csv", "gpdd.csv"
HORIZONS = (1, 5, 10, 20)
LEAST = 16  # steps before the first origin
LEVELS = (0.5, 0.8, 0.95)
OURS = "loracast, zero-shot"
TUNED = {"loracast, tuned": None, "loracast, siblings": "predator-prey"}  # what siblings are simulated by
NAIVE = "last value"


@dataclass(frozen=True, eq=False)
class Origin:
    """A series up to a step, and what follows: `context` [C, D] and `future` [H, D], NaN where nothing was counted."""

    series: str
    group: str
    context: Floats
    future: Floats

    @property
    def filled(self) -> Floats:
        """The context with its gaps interpolated; before the first and after the last count, that count."""
        steps = np.arange(len(self.context))
        columns = [np.interp(steps, steps[seen], one[seen]) for one in self.context.T if len(seen := _seen(one))]
        return np.column_stack(columns)


def _seen(values: Floats) -> NDArray[np.int64]:
    return np.flatnonzero(~np.isnan(values))


def populations(folder: Path) -> dict[str, tuple[str, Floats]]:
    """Group and values [T, D] of each series by name."""
    found: dict[str, tuple[str, Floats]] = {"hare and lynx": ("lynx–hare", lynx_hare().values)}
    for name, rows in pd.read_csv(folder / EXPERIMENTS).groupby("experiment", sort=True):
        found[str(name)] = ("experiments", even_steps(rows))
    for number, rows in pd.read_csv(folder / GPDD).groupby("id", sort=True):
        values = np.full(int(rows["step"].max()) + 1, np.nan)
        values[rows["step"].to_numpy()] = rows["count"]
        found[f"GPDD {number}"] = ("GPDD", values[:, None])
    return found


def even_steps(rows: pd.DataFrame) -> Floats:
    """Prey and predator [T, 2] at even steps over the time that both were observed in."""
    clocks = [
        rows[[f"{kind}_time", kind]].dropna().sort_values(f"{kind}_time").to_numpy() for kind in ("prey", "predator")
    ]
    first, last = max(clock[0, 0] for clock in clocks), min(clock[-1, 0] for clock in clocks)
    times = np.linspace(first, last, max(len(clock) for clock in clocks))
    return np.column_stack([np.interp(times, *clock.T) for clock in clocks])


def origins(name: str, group: str, values: Floats, most: int) -> Iterator[Origin]:
    """Evenly spaced ones from half of the series on; each variable was counted at least four times before."""
    first = max(LEAST, len(values) // 2)
    count = max(0, min(most, len(values) - first))  # none where a series is too short
    chosen = np.unique(np.linspace(first, len(values) - 1, count).round().astype(int))
    for at in chosen:
        context = values[:at]
        if (np.isfinite(context).sum(0) >= 4).all() and (np.nanmax(context, 0) > np.nanmin(context, 0)).all():
            yield Origin(name, group, context, values[at : at + max(HORIZONS)])


def scores(origin: Origin, paths: Floats) -> dict[str, Any]:
    """Errors at each of HORIZONS that the series has, means over variables, and the energy score of all steps."""
    truth = origin.future
    found: dict[str, Any] = {"series": origin.series, "at": len(origin.context)}
    for horizon in (one for one in HORIZONS if one <= len(truth)):
        value, ensemble = truth[horizon - 1], paths[:, horizon - 1].T  # [D], [D, S]
        seen = ~np.isnan(value)
        if not seen.any():
            continue
        value, ensemble = value[seen], ensemble[seen]
        point = np.median(ensemble, axis=1)
        within = covered(ensemble, value, np.array(LEVELS)) if paths.shape[0] > 1 else np.full((len(value), 3), np.nan)
        found[str(horizon)] = {
            "crps": np.asarray(crps_ensemble(value, ensemble, estimator="qd")).tolist(),
            "error": (point - value).tolist(),
            "truth": value.tolist(),
            "covered": within.mean(0).tolist(),
        }
    steps = ~np.isnan(truth).any(1)
    size = np.nanstd(origin.context, axis=0)
    found["energy"] = float(
        es_ensemble((truth / size)[steps].ravel(), (paths / size)[:, steps].reshape(len(paths), -1))
    )
    return found


def tuned(
    chosen: Sequence[Origin], samples: int, seed: int, device: Any, siblings: str | None
) -> tuple[list[Floats], list[str]]:
    """Paths of the bundled model, tuned on what comes before each series' first origin, and where that failed."""
    base = Forecaster.from_pretrained("bundled", device=device)
    made, failed = [], []
    for name in dict.fromkeys(one.series for one in chosen):
        mine = [one for one in chosen if one.series == name]
        past = mine[0].context
        names = tuple(f"x{index}" for index in range(past.shape[1]))
        forecaster = base
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a tuning that did not help
                forecaster = base.fit([Series(past, names, id=name)], tune=settings(len(past), siblings, seed))
        except LoracastError as error:
            failed.append(f"{name}: {error}"[:200])
        verdict = (forecaster.record or {}).get("validation_forecasts", {})
        if verdict.get("kept") != "tuned":
            forecaster = base
        note(f"{name}: {verdict.get('kept')}, CRPS {verdict.get('untouched_crps')} → {verdict.get('tuned_crps')}")
        made += paths_of(forecaster, mine, samples, seed)
    return made, failed


def settings(steps: int, siblings: str | None, seed: int) -> TuneConfig:
    """How a series of so many steps is tuned on: little where it is alone, since it is soon known by heart."""
    horizon = int(np.clip(steps // 6, 2, 10))
    shared = TuneConfig(context=int(np.clip(steps // 2, 8, 40)), horizon=horizon, seed=seed, siblings=siblings)
    if siblings:
        return replace(shared, steps=120, batch=16, validate_every=20)
    return replace(shared, rank=4, steps=24, batch=8, learning_rate=3e-4, validate_every=4)


def paths_of(forecaster: Forecaster, chosen: Sequence[Origin], samples: int, seed: int) -> list[Floats]:
    """Paths of each origin, those of as many variables and steps together."""
    made: dict[int, Floats] = {}
    alike: dict[tuple[int, int], list[int]] = {}
    for number, one in enumerate(chosen):
        alike.setdefault((one.context.shape[1], len(one.future)), []).append(number)
    for (variables, horizon), members in alike.items():
        names = tuple(f"x{index}" for index in range(variables))
        series = [
            Series(chosen[one].context, names, id=f"{chosen[one].series}@{len(chosen[one].context)}") for one in members
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of contexts that are cut to what the model holds
            forecast = forecaster.predict(series, horizon, sample=SampleConfig(samples, seed=seed))
        made |= dict(zip(members, forecast.samples))
    return [made[number] for number in range(len(chosen))]


def peer_paths(name: str, chosen: Sequence[Origin], samples: int, seed: int) -> tuple[list[Floats], list[str]]:
    """Paths [S, H, D] of each origin by a peer, and where and why it failed; there, the last value stands in."""
    made, failed = [], []
    for number, one in enumerate(chosen):
        filled, horizon = one.filled, len(one.future)
        naive = last_value(filled, horizon)[None]
        try:
            paths = naive if name == NAIVE else classical.forecast(name, filled, horizon, samples, seed + number)
            if not np.isfinite(paths).all():
                raise ValueError("a path that is not finite")
        except Exception as error:
            failed.append(f"{one.series}@{len(one.context)}: {type(error).__name__}: {error}"[:200])
            paths = naive
        made.append(paths)
    return made, failed


def run(name: str, chosen: Sequence[Origin], samples: int, seed: int, device: Any) -> dict[str, Any]:
    """All origins by one forecaster; where it fails on one, that origin says so and counts as a naive forecast."""
    began = time.perf_counter()
    failed: list[str] = []
    if name == OURS:
        made = paths_of(Forecaster.from_pretrained("bundled", device=device), chosen, samples, seed)
    elif name in TUNED:
        made, failed = tuned(chosen, samples, seed, device, TUNED[name])
    else:
        made, failed = peer_paths(name, chosen, samples, seed)
    rows = by_series([scores(one, paths) for one, paths in zip(chosen, made)])
    return {"rows": rows, "failed": failed, "seconds": round(time.perf_counter() - began, 1)}


def by_series(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over origins, a row a series and horizon, and what R² is made of: sums over values of the squared error and
    of the squared distance of the truth from its mean, by variable."""
    found = []
    for series in dict.fromkeys(row["series"] for row in rows):
        mine = [row for row in rows if row["series"] == series]
        for horizon in map(str, HORIZONS):
            if not (there := [row[horizon] for row in mine if horizon in row]):
                continue
            whole = len({len(row["truth"]) for row in there}) == 1  # all variables were seen at all origins
            truth = np.array([row["truth"] for row in there]) if whole else np.full((1, 1), np.nan)
            found.append(
                {
                    "series": series,
                    "horizon": int(horizon),
                    "origins": len(there),
                    "crps": np.mean([np.mean(row["crps"]) for row in there]),
                    "mae": np.mean([np.mean(np.abs(row["error"])) for row in there]),
                    **{
                        f"coverage_{level:.0%}".rstrip("%"): np.mean([row["covered"][place] for row in there])
                        for place, level in enumerate(LEVELS)
                    },
                    "squared": sum(np.sum(np.square(row["error"])) for row in there),
                    "spread": ((truth - truth.mean(0)) ** 2).sum(),
                    "energy": np.mean([row["energy"] for row in mine]),
                }
            )
    return found


def worker(number: int, chosen: Sequence[Origin], options: Any) -> Do:
    """What forecasts all origins by one forecaster, on a GPU of its own where there are several."""
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
    return lambda name: run(name, chosen, options.samples, options.seed, options.device)


def parser() -> ArgumentParser:
    made = forecasters_parser(__doc__ or "", OUTPUT)
    made.add_argument("folder", type=Path)
    made.add_argument("--origins", type=int, default=8, help="of a series at most (%(default)s)")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    made = parser()
    options = made.parse_args(arguments)
    names = forecasters(made, options, [NAIVE, *classical.FORECASTERS, OURS, *TUNED])
    if missing := [name for name in (EXPERIMENTS, GPDD) if not (options.folder / name).is_file()]:
        made.error(
            f"{options.folder} does not hold {' and '.join(missing)}; the first lines of this file say what is in them"
        )
    chosen = [
        one
        for name, (group, values) in populations(options.folder).items()
        for one in origins(name, group, values, options.origins)
    ]
    result = json.loads(options.output.read_text(encoding="utf-8")) if options.output.is_file() else {}
    table = options.output.with_suffix(".csv")
    rows = [pd.read_csv(table)] if table.is_file() else []
    result |= {"benchmark": "populations", "series": {one.series: one.group for one in chosen}}
    kept = result.setdefault("forecasters", {})
    wanted = [name for name in names if name not in kept]
    note(f"{len(chosen)} origins of {len(result['series'])} series; {', '.join(wanted) or 'nothing'} to do")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    broken = []
    for name, found in shared_out(worker, wanted, options.processes, chosen, options):
        if isinstance(why := found["failed"], str):
            broken.append(name)
            note(f"{name}: {why}")
            continue
        rows.append(pd.DataFrame(found.pop("rows")).assign(forecaster=name))
        write_text(table, pd.concat(rows).to_csv(index=False, float_format="%.6g"))
        kept[name] = {**found, "samples": options.samples, "seed": options.seed, **origin(options)}
        keep(result, options.output)
        note(f"{name}: {found['seconds']} s, {len(found['failed'])} failed {found['failed'][:1]}")
    if broken:
        raise SystemExit(f"{len(broken)} of {len(wanted)} forecasters failed: {', '.join(broken)}")


if __name__ == "__main__":
    main()

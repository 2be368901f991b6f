"""Which search finds the best settings for the FLOPs that it spends: successive halving on the grid, or Optuna.

    pip install optuna
    python benchmarks/search.py --record benchmarks/results/search-losses.json   # tunes the bundled model, minutes
    python benchmarks/search.py -o benchmarks/results/search.json                # replays searches on what was recorded

Recorded are the validation losses, in nats a value, of every combination of learning rate, rank and decimals after so
many steps, and the FLOPs until then. A replay looks its losses up. Halving is loracast's own: every combination, in an
order drawn from the seed, each stopped at a rung unless it is among the best third of those that came so far. What it
spends, seed by seed, is the budget of the others; a run that they have begun when it is spent may end. Optuna's
samplers choose from the same grid, where rank and rate are numbers in order, and a combination that was tried before
costs nothing.

The regret of a search is the loss at the last step of the settings that it chooses, which are those of the best run
that was not stopped, less the least in the table. `large` is a grid of 170 settings that interpolates between those
recorded. The last line of the output is the result as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
from harness import bare_parser, finish, keep, note, origin, rounded
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator

from loracast import Forecaster, TuneConfig, simulate
from loracast.study.search import promoted

RECORDED = Path(__file__).parent / "results" / "search-losses.json"
RATES, RANKS, DECIMALS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2), (2, 4, 8), (2, 3)
STEPS, EVERY, REDUCTION = 27, 3, 3  # the protocol `laptop` at three fifths of its steps
RUNGS = {"early": (3, 9), "late": (9,)}  # the former are those of the protocols that ship
TRAINING, VALIDATION, LENGTH = 60, 8, 32  # series, and their steps
JUDGED, SAMPLES = 4, 8  # forecasts of a run that is not stopped
SEARCHES = ("halving", "random", "tpe", "tpe-median", "tpe-hyperband")


@dataclass(frozen=True)
class Table:
    """What every combination of settings would lose and spend."""

    rates: tuple[float, ...]
    ranks: tuple[int, ...]
    decimals: tuple[int, ...]
    checks: tuple[int, ...]
    """Steps after which the loss is measured."""
    losses: NDArray[np.float64]
    """Shape [rates, ranks, decimals, checks], nats a value."""
    flops: NDArray[np.float64]
    """Shape [rates, ranks, decimals, checks], until then; the last one with the forecasts of the ended run."""

    @property
    def least(self) -> float:
        return float(self.losses[..., -1].min())

    def combinations(self) -> list[tuple[int, ...]]:
        return list(product(*map(range, self.losses.shape[:3])))

    def larger(self) -> Table:
        """A finer grid, linear in the logarithms of rate and rank between what was recorded."""
        rates = np.geomspace(self.rates[0], self.rates[-1], 17)
        ranks = np.array([2, 3, 4, 6, 8])
        points = np.log(rates)[:, None], np.log(ranks)[None]  # [17, 1], [1, 5]

        def finer(values: NDArray[np.float64]) -> NDArray[np.float64]:
            return RegularGridInterpolator((np.log(self.rates), np.log(self.ranks)), values)(points)

        return replace(self, rates=tuple(rates), ranks=tuple(ranks), losses=finer(self.losses), flops=finer(self.flops))


# -- recording -------------------------------------------------------------------------------------------------------


def record(output: Path, head: dict[str, Any], seeds: int) -> None:
    """Tunes the bundled model by every combination of settings and writes its losses; goes on with a file begun."""
    base = Forecaster.from_pretrained("bundled", device="cpu")
    series = simulate("predator-prey", TRAINING + VALIDATION, steps=LENGTH)
    contexts = [one.values[: LENGTH // 2] for one in series[TRAINING:][:JUDGED]]
    runs = json.loads(output.read_text(encoding="utf-8"))["runs"] if output.is_file() else []
    for seed, rate, rank, decimals in list(product(range(seeds), RATES, RANKS, DECIMALS))[len(runs) :]:
        forecaster = Forecaster(base.model, replace(base.codec, digits=decimals))
        tune = TuneConfig(
            learning_rate=rate, rank=rank, targets="attention", batch=4, steps=STEPS, context=LENGTH // 2,
            horizon=LENGTH // 2, validate_every=EVERY, validation_windows=VALIDATION, validation_series=0, seed=seed,
        )  # fmt: skip
        events: list[dict[str, Any]] = []
        forecaster.fit(series[:TRAINING], tune=tune, validation=series[TRAINING:], report=events.append)
        measured = [event for event in events if event["event"] == "validation" and event["step"]]
        forecasts = forecaster.forecast_flops(contexts, LENGTH // 2, SAMPLES, tune.lora).executed
        runs.append(
            {
                "seed": seed, "learning_rate": rate, "rank": rank, "decimals": decimals,
                "steps": [event["step"] for event in measured],
                "nats": [rounded(event["nats"], 6) for event in measured],
                "flops": [event["flops"] for event in measured], "forecasts": forecasts,
            }
        )  # fmt: skip
        note(f"{len(runs)}: seed {seed}, rate {rate:g}, rank {rank}, {decimals} decimals: {measured[-1]['nats']:.4f}")
        keep({**head, "runs": runs}, output)


def read_tables(path: Path) -> list[Table]:
    """A table a seed."""
    stored = json.loads(path.read_text(encoding="utf-8"))["runs"]
    tables = []
    for seed in sorted({run["seed"] for run in stored}):
        runs = {(run["learning_rate"], run["rank"], run["decimals"]): run for run in stored if run["seed"] == seed}
        ordered = [runs[settings] for settings in product(RATES, RANKS, DECIMALS)]
        shape = (len(RATES), len(RANKS), len(DECIMALS), -1)
        losses = np.array([run["nats"] for run in ordered]).reshape(shape)
        flops = np.array([[*run["flops"][:-1], run["flops"][-1] + run["forecasts"]] for run in ordered]).reshape(shape)
        tables.append(Table(RATES, RANKS, DECIMALS, tuple(ordered[0]["steps"]), losses, flops))
    return tables


# -- searching -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What a search chose and spent."""

    regret: float
    flops: float
    runs: int


def halving(table: Table, seed: int, rungs: Sequence[int]) -> Found:
    """Loracast's: see the module's text."""
    combinations, seen = table.combinations(), {rung: [] for rung in rungs}
    best, spent = np.inf, 0.0
    for index in np.random.default_rng(seed).permutation(len(combinations)):
        losses, flops = table.losses[combinations[index]], table.flops[combinations[index]]
        for check, step in enumerate(table.checks):
            if step in seen:
                seen[step].append(losses[check])
                if not promoted(losses[check], seen[step], REDUCTION):
                    spent += flops[check]
                    break
        else:
            best, spent = min(best, losses[-1]), spent + flops[-1]
    return Found(best - table.least, spent, len(combinations))


def optuna_search(
    table: Table, seed: int, budget: float, rungs: Sequence[int], sampler: str, pruner: str | None
) -> Found:
    """Optuna's, until the budget is spent."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruners: dict[str | None, Callable[[], Any]] = {
        None: optuna.pruners.NopPruner,
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=rungs[0] - 1),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(rungs[0], STEPS, REDUCTION),
    }
    samplers: dict[str, Callable[[], Any]] = {
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=8),
    }
    study = optuna.create_study(sampler=samplers[sampler](), pruner=pruners[pruner]())
    tried: dict[tuple[int, ...], int] = {}  # how many checks were paid for
    best, spent, asked = np.inf, 0.0, 0
    while spent < budget and asked < 4 * len(table.combinations()):
        asked += 1
        trial = study.ask()
        names = ("learning_rate", "rank", "decimals")
        settings = tuple(trial.suggest_int(name, 0, size - 1) for name, size in zip(names, table.losses.shape[:3]))
        losses, flops = table.losses[settings], table.flops[settings]
        ended = len(losses)
        for check, step in enumerate(table.checks[:-1], 1):
            trial.report(losses[check - 1], step)
            if trial.should_prune():
                ended = check
                break
        before = tried.get(settings, 0)
        if ended > before:
            spent += flops[ended - 1] - (flops[before - 1] if before else 0)
            tried[settings] = ended
        if ended == len(losses):
            best = min(best, losses[-1])
            study.tell(trial, losses[-1])
        else:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    if not np.isfinite(best):  # every run was stopped: the one that had come furthest
        best = min((-checks, table.losses[settings][-1]) for settings, checks in tried.items())[1]
    return Found(float(best) - table.least, spent, len(tried))


def searched(table: Table, seed: int, rungs: Sequence[int]) -> Iterator[tuple[str, Found]]:
    ours = halving(table, seed, rungs)
    yield "halving", ours
    for name in SEARCHES[1:]:
        sampler, _, pruner = name.partition("-")
        yield name, optuna_search(table, seed, ours.flops, rungs, sampler, pruner or None)


def compare(tables: Sequence[Table], seeds: int, rungs: Sequence[int]) -> dict[str, Any]:
    """Regrets over searches by seed, each on the tables in turn."""
    found: dict[str, list[Found]] = {name: [] for name in SEARCHES}
    for seed in range(seeds):
        for name, one in searched(tables[seed % len(tables)], seed, rungs):
            found[name].append(one)
    grid = np.mean([table.flops[..., -1].sum() for table in tables])
    return {name: _summary(results, float(grid)) for name, results in found.items()}


def about(tables: Sequence[Table]) -> dict[str, Any]:
    """What a grid is like: how far its losses spread, and how much the best settings by one seed lose by another."""
    ends = [table.losses[..., -1] for table in tables]
    others = [b.flat[a.argmin()] - b.min() for a, b in permutations(ends, 2)]
    return {
        "settings": ends[0].size,
        "median_less_best": rounded(float(np.mean([np.median(end) - end.min() for end in ends]))),
        "regret_of_another_seed": rounded(float(np.mean(others))) if others else None,
    }


def _summary(results: Sequence[Found], grid: float) -> dict[str, float]:
    regrets = np.array([one.regret for one in results])
    return {
        "mean_regret": rounded(float(regrets.mean())),
        "standard_error": rounded(float(regrets.std(ddof=1) / np.sqrt(len(regrets))), 2),
        "median_regret": rounded(float(np.median(regrets))),
        "worst_tenth": rounded(float(np.quantile(regrets, 0.9))),
        "found_the_best": rounded(float((regrets <= 1e-12).mean()), 3),
        "share_of_grid": rounded(float(np.mean([one.flops for one in results])) / grid, 3),
        "settings_tried": rounded(float(np.mean([one.runs for one in results])), 3),
    }


def main() -> None:
    parser = bare_parser(__doc__ or "")
    parser.add_argument("--record", type=Path, help="tune instead, and write the losses to this file")
    parser.add_argument("--recorded", type=Path, default=RECORDED, help="losses to replay (%(default)s)")
    parser.add_argument("--seeds", type=int, default=60, help="searches of each kind (%(default)s)")
    parser.add_argument("--tunings", type=int, default=3, help="seeds that are recorded (%(default)s)")
    options = parser.parse_args()
    head = {"benchmark": "search", **origin(options)}
    if options.record:
        record(options.record, head, options.tunings)
        return
    tables = read_tables(options.recorded)
    result = {**head, "seeds": options.seeds, "tables": len(tables)}
    grids = {"recorded": tables, "large": [table.larger() for table in tables]}
    result["grids"] = {name: about(grid) for name, grid in grids.items()}
    for (name, grid), (when, rungs) in product(grids.items(), RUNGS.items()):
        note(f"{name}, rungs after {rungs} steps")
        seeds = options.seeds if name == "recorded" else max(2, options.seeds // 4)
        result["grids"][name][when] = {"rungs": rungs, "searches": compare(grid, seeds, rungs)}
    finish(result, options.output)


if __name__ == "__main__":
    main()

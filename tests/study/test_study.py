"""A study from its plan to its tables: what it costs, what it finds, and that no death on the way changes either.

The study is tiny: one layer, twelve series of 40 steps, a handful of steps a run. Its budget ends the final run.
"""

import json
import math
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from loracast.baselines import BASELINES
from loracast.errors import BudgetError, ConfigError, DataError, Diverged, ModelError
from loracast.evaluation.backtest import CLIMATOLOGY, TUNED, ZERO_SHOT, backtest
from loracast.files import write_json
from loracast.flops import Flops
from loracast.forecaster import Forecaster
from loracast.ledger import SharedLedger
from loracast.progress import Listener
from loracast.report import write_report
from loracast.report.reading import COLUMNS
from loracast.series import Series, Split, read_series
from loracast.settings import SampleConfig
from loracast.study import runs as running
from loracast.study import stages as staging
from loracast.study.conduct import assemble, compare, conduct, prepare, reopen, rerun_one
from loracast.study.context import StudyContext
from loracast.study.folder import StudyFolder
from loracast.study.progress import StudyProgress
from loracast.study.protocol import read_protocol
from loracast.study.runs import TuningRun, read_run
from loracast.study.search import halving, promoted
from loracast.study.stages import STAGES, FinalStage, TestStage, plan
from loracast.study.tables import SCORES
from loracast.systems import simulate

FORK = get_context("forkserver")  # a process that has done nothing but import: its children may be killed at will
FORK.set_forkserver_preload(["loracast.study.conduct", "scipy.signal", "pyarrow.parquet"])

SERIES, STEPS = 12, 40
PLACE: dict[str, Any] = {"device": "cpu", "precision": "float32"}
TINY: dict[str, Any] = {
    "convention": "executed",
    "budget": 4.8e9,
    "layout": "fixed",
    "data": {"train": 0.5, "validation": 0.25, "test": 0.25},
    "forecasts": {"context": 20, "horizon": 20, "validation_series": 2, "validation_samples": 2, "test_samples": 3},
    "baseline": [1, 2],
    "tuning": {
        "learning_rate": 1e-3, "rank": 2, "decimals": 1, "tokens": 160, "batch": 2, "validate_every": 2,
        "validation_windows": 2,
    },
    "default": {"steps": 5},
    "search": {
        "method": "both", "learning_rate": [1e-3, 1e-2, 5e-2], "rank": [1, 2], "decimals": [1], "steps": 8,
        "first_rung": 2, "reduction": 2,
    },
    "context": {"tokens": [60, 120], "steps": 4},
    "final": {"batch": 4, "steps": 500, "validation_windows": 3},
}  # fmt: skip
ONE_SETTING = {"method": "grid", "learning_rate": [1e-2], "rank": [2], "decimals": [1], "steps": 4}
FREE = ("baseline-1-free", "baseline-2-free")
RUNS = {"baseline": 4, "default": 1, "search": 12, "context": 2, "final": 1, "test": 2}
STAGE_NAMES = [stage.name for stage in STAGES]


def tiny(**changes: Any) -> dict[str, Any]:
    """The protocol of most tests; a dict changes some settings of its part, anything else takes the part's place."""
    parts = {name: {**TINY[name], **new} if isinstance(new, dict) else new for name, new in changes.items()}
    return {**TINY, **parts}


def few_series() -> list[Series]:
    return simulate("predator-prey", SERIES, steps=STEPS)


def prepared(folder: Path, model: Path, protocol: dict[str, Any] = TINY, **options: Any) -> StudyContext:
    series = options.pop("series", None) or few_series()
    return prepare(series, folder, read_protocol(protocol), model=str(model), **PLACE, **options)


def conducted(bench: StudyContext, until: str | None = None) -> list[tuple[str, str]]:
    """Conducts a study; returns what it said of its stages."""
    stages: list[tuple[str, str]] = []
    conduct(bench, until, lambda stage, state: stages.append((stage, state)))
    return stages


# -- what a study leaves behind ----------------------------------------------------------------------------------


def tables(folder: Path) -> dict[str, str]:
    """All tables but for the seconds that things took."""
    found = {}
    for path in sorted((folder / "tables").glob("*.csv")):
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        found[path.stem] = frame.drop(columns="seconds", errors="ignore").to_csv(index=False)
    return found


def ledger_files(folder: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in (folder / "ledger").glob("[!.]*.json")}


def log(folder: Path, run: str) -> list[dict[str, Any]]:
    """What a tuning run logged, but for its pace."""
    lines = (folder / "runs" / run / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "tokens_per_second"} for line in lines]


def logs(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {path.parent.name: log(folder, path.parent.name) for path in folder.glob("runs/*/metrics.jsonl")}


def adapters(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in folder.glob("runs/*/adapter_model.safetensors")}


def assert_same_runs(folder: Path, other: Path, *, but: tuple[str, ...] = ()) -> None:
    """Runs spent the same, logged the same and left the same adapters, except those whose names begin with `but`."""
    for read in (ledger_files, logs, adapters):
        found, wanted = (
            {name: content for name, content in read(one).items() if not name.startswith(but)}
            for one in (folder, other)
        )
        assert found.keys() == wanted.keys()
        for name in wanted:
            assert found[name] == wanted[name], (read.__name__, name)


def assert_same_study(folder: Path, other: Path) -> None:
    assert_same_runs(folder, other)
    found, wanted = tables(folder), tables(other)
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert found[name] == wanted[name], name


def files(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """What is below a folder, and when it was written."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


# -- one study -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Study:
    """A study that nothing disturbed."""

    folder: Path
    model: Path
    bench: StudyContext
    told: list[tuple[str, str]] = field(default_factory=list)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.folder / "tables" / f"{name}.csv")

    def planned(self) -> dict[str, dict[str, Any]]:
        record = json.loads((self.folder / "study.json").read_text())
        return {stage["stage"]: stage for stage in record["plan"]}

    def run(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / "runs" / name / "run.json").read_text())

    def result(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / "runs" / name / "result.json").read_text())


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """How many threads share a sum changes its last digits; the processes that are killed have one, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(make_numeric: Callable[..., Path]) -> Path:
    return make_numeric(num_hidden_layers=1)


@pytest.fixture(scope="module")
def study(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """To be read only."""
    folder = tmp_path_factory.mktemp("study") / "folder"
    events: list[tuple[str, dict[str, Any]]] = []
    bench = prepared(folder, model, report=lambda run, event: events.append((run, event)))
    return Study(folder, model, bench, conducted(bench), events)


def test_every_stage_leaves_its_tables(study: Study):
    assert study.told == [(stage, state) for stage in STAGE_NAMES for state in ("begun", "ended")]
    assert {path.stem for path in (study.folder / "tables").iterdir()} == {*COLUMNS, "splits"}
    for name, columns in COLUMNS.items():
        table = study.table(name)
        assert set(columns.split()) <= set(table.columns), name
        assert len(table), name
    forecasters = [ZERO_SHOT, TUNED, *BASELINES]
    assert study.table("test").groupby("forecaster").size().to_dict() == dict.fromkeys(forecasters, 3)  # all, and each
    assert list(study.table("baseline")["forecaster"]) == [ZERO_SHOT] * 4 + [*BASELINES]
    constrained = study.table("baseline").query("constrained == True")
    assert list(constrained["decimals"]) == [1, 2]
    assert (constrained["valid_share"] == 1).all()
    assert study.table("baseline").query("constrained == False")["valid_share"].lt(1).to_numpy().all()
    assert study.table("splits").set_index("subset")["series"].to_dict() == {"train": 6, "validation": 3, "test": 3}
    assert study.table("dynamics").groupby("subset").size().to_dict() == {"train": 6, "validation": 3, "test": 3}
    assert list(study.table("context")["window_steps"]) == [15, 30]  # of 60 and 120 tokens, four a step
    assert list(study.table("default")["window_steps"]) == [STEPS]
    for name in ("default", "context", "final"):
        assert (study.table(name)["loss_tuned"] < study.table(name)["loss_untouched"]).all()
    assert study.table("stages")[["stage", "runs"]].set_index("stage")["runs"].to_dict() == {"data": 0, **RUNS}
    fans = study.table("fans")
    assert set(fans["forecaster"]) == {ZERO_SHOT, TUNED}
    assert fans["step"].min() == 21
    assert fans["step"].max() == STEPS


def test_flops_add_up_to_the_ledger(study: Study):
    ledger, flops, stages = ledger_files(study.folder), study.table("flops"), study.table("stages")
    assert set(flops["run"]) == set(ledger)
    assert len(flops) == sum(RUNS.values())
    for row in flops.to_dict("records"):
        spent = ledger[row["run"]]["spent"]
        assert ledger[row["run"]]["closed"]
        for purpose in ("training", "validation", "forecasts"):
            assert row[purpose] == spent.get(purpose, {"executed": 0})["executed"]
        for convention in ("executed", "published"):
            total = sum(part[convention] for part in spent.values())
            assert row[convention] == total
            assert study.result(row["run"])["flops"][convention]["total"] == total
        assert row["share"] == pytest.approx(row["executed"] / TINY["budget"], rel=1e-12)
    assert (flops["executed"] == flops[["training", "validation", "forecasts"]].sum(axis=1)).all()
    for stage in stages.to_dict("records"):
        of_stage = flops[flops["stage"] == stage["stage"]]
        assert (stage["executed"], stage["published"]) == (of_stage["executed"].sum(), of_stage["published"].sum())
    assert Flops(int(flops["executed"].sum()), int(flops["published"].sum())) == study.bench.ledger.spent
    assert list(flops["stage"].unique()) == [name for name in STAGE_NAMES if name != "data"]


@pytest.mark.parametrize("convention", ["executed", "published"])
def test_the_plan_is_what_was_counted(study: Study, convention: str):
    planned, counted = study.planned(), study.table("stages").set_index("stage")[convention]
    assert planned["data"][convention] == 0
    assert planned["default"][convention] == counted["default"]
    free = {name: read_run(study.run(name)).cost(study.bench).of(convention) for name in FREE}
    spent = study.table("flops").set_index("run")[convention]
    assert planned["baseline"][convention] == counted["baseline"] + sum(free[name] - spent[name] for name in FREE)
    assert all(free[name] >= spent[name] for name in FREE)  # at most, for such a path may end early
    methods = study.table("search_methods").set_index("method")[convention]
    assert planned["search"][convention] == 2 * methods["grid"]  # a grid, and a halving where nothing stops early
    assert methods["halving"] < methods["grid"]
    for stage in ("context", "test"):  # at most, for nobody knew yet which settings would be best
        assert 0.9 * planned[stage][convention] <= counted[stage] <= planned[stage][convention]
    assert sum(stage["executed"] for stage in planned.values()) <= TINY["budget"]
    assert planned["final"]["executed"] < counted["final"]  # which takes what the search did not need


def test_a_study_without_choices_costs_what_was_planned(model: Path, tmp_path: Path):
    protocol = tiny(search=ONE_SETTING, context={"tokens": []}, final={"steps": 6}, baseline=[1])
    bench = prepared(tmp_path / "study", model, protocol)
    conducted(bench)
    study = Study(tmp_path / "study", model, bench)
    stages = study.table("stages").set_index("stage")
    for convention in ("executed", "published"):
        for stage in ("default", "search", "context", "final", "test"):
            assert stages.loc[stage, convention] == stages.loc[stage, f"predicted_{convention}"]
            assert stages.loc[stage, convention] == study.planned()[stage][convention]
    assert list(study.table("final")["steps"]) == [6]
    assert list(study.table("final")["stopped"].isna()) == [True]


def test_each_run_costs_what_was_reserved_for_it(study: Study):
    for name, entry in ledger_files(study.folder).items():
        run, result = read_run(study.run(name)), study.result(name)
        cost = run.cost(study.bench)
        spent = Flops.sum(Flops(**part) for part in entry["spent"].values())
        if name in FREE or result.get("stopped") == "pruned":
            assert spent.executed <= cost.executed
            assert spent.published <= cost.published
        else:
            assert spent == cost, name
        assert cost == run.most(study.bench)


def test_the_final_run_takes_all_that_the_budget_leaves(study: Study):
    bench, final = study.bench, study.table("final").iloc[0]
    assert bench.ledger.spent.executed <= TINY["budget"]
    assert final["stopped"] == "budget" or final["steps"] == final["planned_steps"] < TINY["final"]["steps"]
    run = read_run(study.run("final"))
    assert isinstance(run, TuningRun)
    assert run.tuning.steps == final["steps"]
    before = study.table("flops").query("stage not in ('final', 'test')")["executed"].sum()
    kept = Flops.sum(TestStage().estimate(bench)).executed
    assert before + kept + run.cost(bench).executed <= TINY["budget"]
    assert before + kept + run.cost(bench, run.tuning.steps + 1).executed > TINY["budget"]


def test_each_log_ends_with_what_the_ledger_was_charged(study: Study):
    found = logs(study.folder)
    assert set(found) == {name for name in ledger_files(study.folder) if read_run(study.run(name)).stage not in
                          ("baseline", "test")}  # fmt: skip
    for name, events in found.items():
        spent = ledger_files(study.folder)[name]["spent"]
        for key, convention in (("flops", "executed"), ("flops_published", "published")):
            assert events[-1][key] == spent["training"][convention] + spent["validation"][convention]
            totals = [event[key] for event in events]
            assert totals == sorted(totals)
        steps = [event["step"] for event in events if event["event"] == "train"]
        assert steps == list(range(1, study.result(name)["steps"] + 1))


def test_what_is_logged_is_reported_as_it_happens(study: Study):
    of_default = [event for run, event in study.events if run == "default"]
    assert [event["event"] for event in of_default[:2]] == ["run", "validation"]
    assert of_default[-1]["event"] == "result"
    assert of_default[-1]["scores"]["mae"] == study.result("default")["scores"]["mae"]
    shares = [event["share"] for event in of_default if event["event"] == "forecast"]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    logged = [event for event in of_default[1:-1] if event["event"] != "forecast"]
    told = [{key: value for key, value in event.items() if key != "tokens_per_second"} for event in logged]
    assert told == log(study.folder, "default")


def test_conducting_again_does_nothing(study: Study):
    before, same = files(study.folder), tables(study.folder)
    bench = prepared(study.folder, study.model)
    assert conducted(bench) == [(stage, "skipped") for stage in STAGE_NAMES]
    after = files(study.folder)
    rewritten = {path.name for path in after if after[path] != before.get(path)}
    assert rewritten == {"flops.csv", "stages.csv"}
    assert tables(study.folder) == same
    assert after.keys() == before.keys()


def test_a_lost_table_is_made_again_from_the_runs(study: Study, tmp_path: Path):
    folder = copied(study.folder, tmp_path / "copy")
    for name in ("search_methods", "test", "dynamics"):
        (folder / "tables" / f"{name}.csv").unlink()
    before = files(folder / "runs")
    told = conducted(prepared(folder, study.model))
    assert [stage for stage, state in told if state == "ended"] == ["data", "search", "test"]
    assert files(folder / "runs") == before
    assert tables(folder) == tables(study.folder)


def test_a_study_stops_where_it_was_told_to_and_reports_that_far(model: Path, tmp_path: Path):
    bench = prepared(tmp_path / "study", model)
    conduct(bench, until="data")
    page = write_report(tmp_path / "study").read_text()
    assert "not finished" in page
    assert ledger_files(tmp_path / "study") == {}
    assert not (tmp_path / "study" / "runs").exists()
    assert conducted(bench, until="default") == [
        *(("data", "skipped"), ("baseline", "begun"), ("baseline", "ended"), ("default", "begun"), ("default", "ended"))
    ]
    assert {path.name for path in (tmp_path / "study" / "runs").iterdir()} == set(ledger_files(tmp_path / "study"))
    assert len(ledger_files(tmp_path / "study")) == 5
    assert not (tmp_path / "study" / "tables" / "search.csv").exists()
    assert len(pd.read_csv(tmp_path / "study" / "tables" / "flops.csv")) == 5


def test_the_best_settings_go_from_stage_to_stage(study: Study):
    search, context = study.table("search"), study.table("context")
    best = search.loc[search["mae"].idxmin()]
    settings = ["learning_rate", "rank", "decimals"]
    for row in context.to_dict("records"):
        assert [row[name] for name in settings] == [best[name] for name in settings]
        assert row["steps"] == 4
    tokens = context.loc[context["mae"].idxmin(), "tokens"]
    final = study.run("final")["tuning"]
    wanted = {**study.run(f"context-{tokens}")["tuning"], **TINY["final"], "steps": final["steps"]}
    assert final == wanted
    assert search["mae"].nunique() > 1
    assert context["mae"].nunique() > 1
    assert {study.run(run)["decimals"] for run in ("test-zero-shot", "test-tuned")} == {final["decimals"]}


@pytest.mark.filterwarnings("ignore::loracast.errors.UnseenWarning")  # windows of the adapter are shorter on purpose
def test_the_test_table_is_a_backtest(study: Study):
    """The same adapter, loaded by itself, the same series and the same seed give the same figures."""
    decimals = study.run("final")["tuning"]["decimals"]
    untouched = Forecaster.from_pretrained(study.model, codec=study.bench.codec(decimals), **PLACE)
    tuned = Forecaster.from_pretrained(adapter=study.folder / "runs" / "final", **PLACE)
    split = json.loads((study.folder / "data" / "split.json").read_text())
    series = read_series(study.folder / "data" / "series.parquet")
    result = backtest(
        {ZERO_SHOT: untouched, TUNED: tuned},
        [series[index] for index in split["test"]],
        context=20,
        horizon=20,
        sample=SampleConfig(samples=3, seed=0),
    )
    table = study.table("test").set_index(["forecaster", "variable"])
    for row in result.rows:
        if row["forecaster"] == CLIMATOLOGY:  # which a study does not show
            continue
        for variable, scores in (("all", row), *row["by_variable"].items()):
            for name in SCORES:
                found, wanted = table.loc[(row["forecaster"], variable), name], scores[name]
                assert (math.isnan(found) and wanted is None) or found == pytest.approx(wanted, rel=1e-12), name
        assert table.loc[(row["forecaster"], "all"), "executed"] == row["flops"]["executed"]
    by_series = study.table("test_series").query("forecaster == 'tuned' and variable == 'prey'").set_index("series")
    for record in result.scores[TUNED].per_series():
        wanted = record["by_variable"]["prey"]["mae"]
        assert by_series.loc[int(record["series"]), "mae"] == pytest.approx(wanted, rel=1e-12)


def test_the_untouched_model_is_judged_at_each_decimals(study: Study):
    table = study.table("baseline").query("constrained == True").set_index("decimals")
    for decimals in (1, 2):
        base = Forecaster.from_pretrained(study.model, codec=study.bench.codec(decimals), **PLACE)
        sample = SampleConfig(samples=2, seed=0)
        result = backtest({ZERO_SHOT: base}, study.bench.judged("validation"), 20, 20, sample=sample)
        assert table.loc[decimals, "mae"] == pytest.approx(result.rows[0]["mae"], rel=1e-12)
        assert table.loc[decimals, "executed"] == result.rows[0]["flops"]["executed"]


# -- which settings are best --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "competing", "goes_on"),
    [
        (1.0, [1.0], True),  # the first
        (0.9, [1.0, 0.9], True),  # the best so far
        (1.1, [1.0, 1.1], False),
        (1.0, [1.0, 1.0], True),  # a tie is no worse
        (2.0, [1.0, 1.0, 2.0, 3.0, 4.0, 5.0], False),  # two of six go on, and two are better
        (2.0, [1.0, 2.0, 2.0, 3.0, 4.0, 5.0], True),
        (2.0, [1.0, 2.0, 3.0, 4.0, 5.0], False),  # one of five
        (math.nan, [1.0, math.nan], False),  # diverged
        (math.nan, [1.0, math.nan, math.nan, math.nan, math.nan, math.nan], True),  # among two of six, none is better
        (math.nan, [math.nan], True),  # or else a search could end without one
        (1.0, [math.nan, math.nan, 1.0], True),
        (math.inf, [1.0, math.inf, 2.0], False),
        (-3.0, [-2.0, -3.0, -1.0], True),  # nats a value may be negative
    ],
)
def test_one_in_so_many_goes_on_from_a_rung(value: float, competing: list[float], goes_on: bool):
    assert promoted(value, competing, 3) is goes_on
    assert promoted(value, competing[::-1], 3) is goes_on


def halving_order(study: StudyContext) -> list[tuple[int, int, float]]:
    tunings = [run.tuning for run in halving(study)]
    return [(tuning.decimals, tuning.rank, tuning.learning_rate) for tuning in tunings]


def test_the_order_of_a_halving_depends_on_the_seed_alone(model: Path, tmp_path: Path):
    first, again = (prepared(tmp_path / name, model) for name in ("first", "again"))
    other = prepared(tmp_path / "other", model, tiny(seed=1))
    order = halving_order(first)
    assert halving_order(again) == order
    assert halving_order(other) != order
    assert sorted(halving_order(other)) == sorted(order)
    assert len(set(order)) == 6


def test_halving_stops_the_worse_runs_early(study: Study):
    runs = halving(study.bench)
    table = study.table("search").set_index("run")
    seen: dict[int, list[float]] = {2: [], 4: []}
    pruned = 0
    for run in runs:
        result = study.result(run.name)
        assert read_run(study.run(run.name)) == run
        losses = {
            event["step"]: event["nats"] for event in log(study.folder, run.name) if event["event"] == "validation"
        }
        stopped = None
        for rung, others in seen.items():
            if stopped is None:
                others.append(losses[rung])
                stopped = None if promoted(losses[rung], others, 2) else rung
        assert result["steps"] == (stopped or 8)
        assert table.loc[run.name, "planned_steps"] == 8
        if stopped:
            pruned += 1
            assert result["stopped"] == table.loc[run.name, "stopped"] == "pruned"
            assert result["scores"] is None
            assert "forecasts" not in result["flops"]["executed"]
            assert math.isnan(table.loc[run.name, "mae"])
        else:
            assert result["scores"]["mae"] == table.loc[run.name, "mae"]
    assert 0 < pruned < len(runs) == 6


def test_a_line_that_another_process_is_writing_is_left_out(study: Study, tmp_path: Path):
    folder = StudyFolder(copied(study.folder, tmp_path / "copy"))
    with (folder.run("default") / "metrics.jsonl").open("a") as stream:
        stream.write('{"event": "validation", "st')
    assert folder.log("default") == StudyFolder(study.folder).log("default")
    assert folder.log("default")[0]["event"] == "validation"
    assert folder.log("a-run-that-has-not-begun") == []


def test_a_search_that_optuna_kept_a_journal_of_goes_on(study: Study, tmp_path: Path):
    """As earlier versions did: their runs have the same names, order and logs, and the journal is not read."""
    folder = copied(study.folder, tmp_path / "copy")
    (folder / "search").mkdir()
    (folder / "search" / "optuna.journal").write_text('{"op_code": 0}\n')
    later = [name for name in ledger_files(folder) if name.startswith(("context", "final", "test"))]
    for name in ("search-halving-003", "search-halving-005", *later):
        shutil.rmtree(folder / "runs" / name)
        (folder / "ledger" / f"{name}.json").unlink()
    (folder / "tables" / "search_methods.csv").unlink()
    before = files(folder / "runs" / "search-halving-004")
    bench = prepared(folder, study.model)
    conducted(bench, until="search")
    assert files(folder / "runs" / "search-halving-004") == before
    assert all((folder / "runs" / run.name / "result.json").is_file() for run in halving(bench))
    assert ledger_files(folder).keys() == ledger_files(study.folder).keys() - {*later}


def test_the_methods_are_compared_by_their_best_run(study: Study):
    search, methods = study.table("search"), study.table("search_methods").set_index("method")
    assert set(methods.index) == {"grid", "halving"}
    for method, found in methods.iterrows():
        runs = search[search["method"] == method]
        best: Any = runs.iloc[int(np.nanargmin(np.asarray(runs["mae"])))]
        for name in ("learning_rate", "rank", "decimals"):
            assert found[name] == best[name]
        assert found["best_mae"] == best["mae"] == runs["mae"].min()
        assert found["runs"] == 6
        assert found["pruned"] == (runs["stopped"] == "pruned").sum()
        for convention in ("executed", "published"):
            assert found[convention] == runs[convention].sum()
        assert found["share_of_grid"] == found["executed"] / methods.loc["grid", "executed"]
    same = search.merge(search, on=["learning_rate", "rank", "decimals"])
    same = same.query("method_x == 'grid' and method_y == 'halving' and stopped_y != 'pruned'")
    assert len(same)
    assert (same["mae_x"] == same["mae_y"]).all()  # the same settings are the same run, whoever tries them


def test_a_search_goes_on_where_a_run_diverges(model: Path, tmp_path: Path):
    protocol = tiny(search={"learning_rate": [1e-2, 1e30], "rank": [2]}, context={"tokens": []}, baseline=[1])
    conduct(prepared(tmp_path / "study", model, protocol), until="search")  # with its page
    search = pd.read_csv(tmp_path / "study" / "tables" / "search.csv")
    diverged = search[search["learning_rate"] == 1e30]
    assert list(diverged["stopped"]) == ["diverged"] * 2  # of the grid and of the halving
    assert np.isnan(np.asarray(diverged["mae"])).all()
    assert (diverged["executed"] > 0).all()
    assert not np.isnan(search.loc[search["learning_rate"] == 1e-2, "mae"].to_numpy()).any()
    for name in diverged["run"]:
        spent = ledger_files(tmp_path / "study")[name]["spent"]
        events = log(tmp_path / "study", name)
        assert events[-1]["flops"] == spent["training"]["executed"] + spent["validation"]["executed"]
    methods = pd.read_csv(tmp_path / "study" / "tables" / "search_methods.csv")
    assert (methods["learning_rate"] == 1e-2).all()


def test_a_study_ends_where_all_runs_of_its_search_diverge(model: Path, tmp_path: Path):
    protocol = tiny(search={**ONE_SETTING, "learning_rate": [1e30]}, context={"tokens": []}, baseline=[1])
    with pytest.raises(ModelError, match=r"no run of the search by grid came to its end; put lower learning rates"):
        conducted(prepared(tmp_path / "study", model, protocol))


def test_a_run_that_others_build_on_may_not_diverge(model: Path, tmp_path: Path):
    protocol = tiny(default={"steps": 5, "learning_rate": 1e30}, baseline=[1])
    with pytest.raises(Diverged, match="training diverged: after step"):
        conducted(prepared(tmp_path / "study", model, protocol))


# -- what is refused ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refusal:
    error: type[Exception]
    mentions: tuple[str, ...]
    protocol: dict[str, Any] = field(default_factory=dict)
    series: Callable[[], list[Series]] = few_series
    split: Split | None = None


def with_a_short_one() -> list[Series]:
    series = few_series()
    return [*series[:3], series[3].slice(0, STEPS - 1), *series[4:]]


def with_another_variable() -> list[Series]:
    series = few_series()
    return [*series[:3], Series(series[3].values[:, :1], ("prey",), "3", series[3].time), *series[4:]]


REFUSED = {
    "a budget that is too small": Refusal(
        BudgetError,
        ("the study needs", "the budget is 1.00e+08", "search", "default", "raise --budget"),
        {"budget": 1e8},
    ),
    "a series that is too short": Refusal(
        DataError, ("series '3' has 39 steps", "20 steps from 20 need 40", "under forecasts"), series=with_a_short_one
    ),
    "windows that no series holds": Refusal(
        DataError,
        ("the shortest series has 40 steps", "even at 2 decimals", "250 tokens are about 41 steps", "take these"),
        {"search": {"decimals": [1, 2]}, "context": {"tokens": [60, 240, 250]}},
    ),
    "two series": Refusal(DataError, ("at least 3 series", "not 2"), series=lambda: few_series()[:2]),
    "a split without a test": Refusal(
        DataError, ("no series to test", "at least one position"), split=Split((0, 1), (2, 3), ())
    ),
    "series of other variables": Refusal(DataError, ("series '3' has 1 variables",), series=with_another_variable),
    "an only series that is too short to be cut": Refusal(
        DataError, ("series '0[20:30]' has 10 steps",), series=lambda: few_series()[:1]
    ),
}


@pytest.mark.parametrize("refusal", REFUSED.values(), ids=REFUSED)
def test_what_cannot_end_well_is_refused_before_anything_is_written(refusal: Refusal, model: Path, tmp_path: Path):
    folder, protocol = tmp_path / "study", read_protocol(tiny(**refusal.protocol))
    with pytest.raises(refusal.error) as caught:
        prepare(refusal.series(), folder, protocol, model=str(model), split=refusal.split, **PLACE)
    for mention in refusal.mentions:
        assert mention in str(caught.value)
    assert not folder.exists()


def test_a_study_may_write_numbers_in_two_layouts(model: Path, tmp_path: Path):
    """The untouched model is tried in both; the final run and the test are in one, with an optimiser of their own."""
    final = {"layout": "decimal", "optimizer": "muon", "decay": 0.5, "steps": 3, "noise": 1.0}
    layouts = ["fixed", "decimal"]
    protocol = tiny(budget=6e9, baseline=[1], baseline_layouts=layouts, search=ONE_SETTING, context={"tokens": []})
    study = prepared(tmp_path / "study", model, protocol | {"final": TINY["final"] | final})
    conduct(study)
    table = study.folder.table("baseline").dropna(subset="decimals")
    assert table["layout"].tolist() == ["decimal", "decimal", "fixed", "fixed"]  # by the names of their runs
    assert study.folder.table("search")["layout"].unique().tolist() == ["fixed"]
    last = study.folder.table("final").iloc[0]
    assert (last["layout"], last["optimizer"]) == ("decimal", "muon")
    record = json.loads((study.folder.run("final") / "loracast.json").read_text())
    assert record["codec"]["layout"] == "decimal"
    assert (record["tune"]["optimizer"], record["tune"]["noise"]) == ("muon", 1.0)
    for name in ("test-zero-shot", "test-tuned"):
        assert study.folder.read_json(study.folder.run(name) / "run.json")["layout"] == "decimal"


def test_a_waiting_process_shows_what_another_one_is_at(model: Path, tmp_path: Path):
    study = prepared(tmp_path / "study", model, tiny())
    conduct(study, "data")
    notes: list[str] = []

    class Notes(Listener):
        def note(self, name: str, text: str) -> None:
            notes.append(text)

    progress = StudyProgress(study, Notes())
    progress.look()
    assert not notes  # nobody is at anything
    folder = study.folder.run("final")
    folder.mkdir(parents=True)
    write_json(folder / "run.json", {"stage": "final"})
    study.ledger.open("final", Flops(1000, 1000))
    event = {"event": "train", "step": 7, "steps": 14, "loss": 1.0, "tokens_per_second": 5, "flops": 500}
    (folder / "metrics.jsonl").write_text(json.dumps(event | {"flops_published": 500}) + '\n{"event": "tra')
    progress._next_look = 0.0
    progress.look()
    assert "final" in notes[-1]
    assert "step 7 of 14" in notes[-1]


def test_the_largest_stages_are_named_first(model: Path, tmp_path: Path):
    with pytest.raises(BudgetError) as caught:
        prepared(tmp_path / "study", model, tiny(budget=1e8))
    named = str(caught.value).split("it would be spent on: ")[1].split(". Shrink")[0].split(", ")
    costs = [float(part.split()[1]) for part in named]
    assert named[0].startswith("search ")
    assert costs == sorted(costs, reverse=True)
    needed = float(str(caught.value).split("needs ")[1].split()[0])
    assert sum(costs) == pytest.approx(needed, rel=0.02)


def test_a_budget_that_just_holds_the_plan_is_taken(model: Path, tmp_path: Path):
    bench = assemble(few_series(), tmp_path / "study", read_protocol(TINY), model=str(model), **PLACE)
    needed = Flops.sum(flops for stage in STAGES for flops in stage.estimate(bench)).executed
    costs = plan(assembled(bench, tmp_path / "study", model, budget=float(needed)))
    assert sum(stage["executed"] for stage in costs) == needed
    assert {stage["stage"]: stage["executed"] for stage in costs}["final"] == FinalStage().estimate(bench)[0].executed
    with pytest.raises(BudgetError):
        plan(assembled(bench, tmp_path / "study", model, budget=float(needed - 1)))


def assembled(bench: StudyContext, folder: Path, model: Path, **changes: Any) -> StudyContext:
    return assemble(bench.series, folder, replace(bench.protocol, **changes), model=str(model), **PLACE)


def test_lengths_are_measured_where_numbers_are_longest(model: Path, tmp_path: Path):
    """200 tokens are more steps than there are at one decimal, but not at two."""
    protocol = tiny(search={"decimals": [1, 2]}, context={"tokens": [200]})
    study = assemble(few_series(), tmp_path, read_protocol(protocol), model=str(model), **PLACE)
    assert study.steps_of(200, study.codec(1)) == 50


CHANGES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "protocol": (
        {"budget": 5e9, "tuning": {"rank": 3}},
        ("protocol.budget was 4800000000.0, now 5000000000.0", "protocol.tuning.rank was 2, now 3"),
    ),
    "seed": ({"seed": 1}, ("protocol.seed was 0, now 1", "data.split was")),
    "search": ({"search": {"rank": [1]}}, ("protocol.search.rank was [1, 2], now [1]",)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_study_s_folder_is_refused(name: str, study: Study):
    changes, mentions = CHANGES[name]
    before = files(study.folder)
    with pytest.raises(ConfigError) as caught:
        prepared(study.folder, study.model, tiny(**changes))
    for mention in (str(study.folder), "holds another study", "go on with the settings", *mentions):
        assert mention in str(caught.value)
    assert files(study.folder) == before


def test_a_folder_of_other_series_or_another_model_is_refused(study: Study, make_numeric: Callable[..., Path]):
    before = files(study.folder)
    others = simulate("predator-prey", SERIES, steps=STEPS, seed=1)
    with pytest.raises(ConfigError, match=r"data\.fingerprint was"):
        prepared(study.folder, study.model, series=others)
    other_model = make_numeric(num_hidden_layers=1, seed=1)
    with pytest.raises(ConfigError, match=r"model\.fingerprint was"):
        prepared(study.folder, other_model)
    with pytest.raises(ConfigError, match=r"data\.split was"):
        prepared(study.folder, study.model, split=Split((0, 1, 2, 3), (4, 5), (6, 7)))
    assert files(study.folder) == before


def test_a_folder_of_something_else_is_refused(model: Path, tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("chapter one")
    with pytest.raises(ConfigError, match=r"is not the folder of a study: it holds thesis\.tex; choose another folder"):
        prepared(tmp_path, model)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_another_process_is_claiming_is_not_something_else(model: Path, tmp_path: Path):
    (tmp_path / ".study.0123abcd.partial.json").write_text("{")  # what it is about to rename
    assert prepared(tmp_path, model).folder.record()["budget"] == TINY["budget"]


def test_a_place_under_a_file_is_refused(model: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file; choose another folder"):
        prepared(tmp_path / "file" / "study", model)


# -- other studies ------------------------------------------------------------------------------------------------


def test_an_only_series_is_cut_in_three_and_numbers_may_have_points(model: Path, tmp_path: Path):
    """Parts of unequal lengths, a layout whose texts differ in length, no context stage, convention `published`."""
    series = simulate("lotka-volterra", 1, steps=200)
    protocol = tiny(
        layout="auto", convention="published", budget=3e9, search=ONE_SETTING, context={"tokens": []}, baseline=[1],
        final={"steps": 6},
    )  # fmt: skip
    bench = prepared(tmp_path / "study", model, protocol, series=series)
    assert bench.codec(1).layout == "decimal"  # the model was never taught another
    assert [(one.id, one.steps) for one in bench.series] == [("0[0:100]", 100), ("0[100:150]", 50), ("0[150:200]", 50)]
    assert np.array_equal(np.concatenate([one.values for one in bench.series]), series[0].values)
    conducted(bench)
    study = Study(tmp_path / "study", model, bench)
    assert bench.ledger.spent.published <= 3e9
    for name, entry in ledger_files(study.folder).items():
        spent = Flops.sum(Flops(**part) for part in entry["spent"].values())
        run = read_run(study.run(name))
        assert spent.published <= run.most(bench).published
        if isinstance(run, TuningRun):
            assert spent.published == pytest.approx(run.cost(bench).published, rel=0.1)  # an estimate
    assert list(study.table("final")["steps"]) == [6]
    assert study.table("test").query("variable == 'all'")["n_windows"].unique() == [1]
    assert study.table("search_methods")["share_of_grid"].tolist() == [1.0]
    again = reopen(study.folder, tmp_path / "again", device="cpu")
    assert [one.id for one in again.series] == [one.id for one in bench.series]
    assert again.folder.record()["data"] == bench.folder.record()["data"]


def test_a_split_of_one_s_own_is_kept(model: Path, tmp_path: Path):
    split = Split((0, 1, 2), (3, 4), (5, 6))
    bench = prepared(tmp_path / "study", model, split=split)
    assert [one.id for one in bench.test] == ["5", "6"]
    conducted(bench, until="data")
    table = pd.read_csv(tmp_path / "study" / "tables" / "splits.csv").set_index("subset")["series"]
    assert table.to_dict() == {"train": 3, "validation": 2, "test": 2, "unused": 5}


# -- once more -----------------------------------------------------------------------------------------------------


def test_a_study_is_done_once_more_from_what_it_holds(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)  # auto would be bfloat16 here
    bench = reopen(study.folder, tmp_path / "again", device="cpu")
    assert bench.model.precision == "float32"
    conducted(bench)
    assert_same_study(tmp_path / "again", study.folder)
    then, now = (StudyFolder(folder).record() for folder in (study.folder, tmp_path / "again"))
    assert {**now, "made": None} == {**then, "made": None}


def test_a_run_is_done_once_more(study: Study, tmp_path: Path):
    bench = reopen(study.folder, tmp_path / "again", **PLACE)
    table = study.table("search")
    pruned = table.query("stopped == 'pruned'")["run"].iloc[-1]
    for run, figures in (
        ("search-grid-002", 4),
        (pruned, 2),  # a validation loss and FLOPs
        ("test-tuned", 3),  # after the adapter that it needs
        ("baseline-1-free", 1),  # FLOPs, since nothing of it can be read
    ):
        then, now = rerun_one(study.folder / "runs" / run, bench)
        found = compare(then, now)
        assert len(found) == figures
        for name, old, new in found:
            assert old == new, (run, name)
        assert then["flops"] == now["flops"]
        assert {**then, "seconds": 0} == {**now, "seconds": 0}
    assert set(ledger_files(tmp_path / "again")) == {
        "search-grid-002",
        pruned,
        "final",
        "test-tuned",
        "baseline-1-free",
    }
    assert adapters(tmp_path / "again").items() <= adapters(study.folder).items()


def test_figures_that_only_one_run_has_are_not_compared():
    flops = {"executed": {"total": 7}}
    judged = {"scores": {"mae": 1.0, "crps": None}, "validation_loss": {"tuned": 2.0}, "flops": flops}
    assert compare(judged, {"scores": None, "flops": flops}) == [("FLOPs (executed)", 7, 7)]
    assert [name for name, *_ in compare(judged, judged)] == ["MAE", "validation loss", "FLOPs (executed)"]


def test_a_folder_that_is_no_study_cannot_be_done_once_more(tmp_path: Path):
    with pytest.raises(DataError, match=r"study\.json cannot be read: .*check that its folder is that of a study"):
        reopen(tmp_path, tmp_path / "again")


# -- deaths ------------------------------------------------------------------------------------------------------


def copied(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


@dataclass(frozen=True)
class Death:
    """Where a process is killed, once `run` has come so far; for a table, `run` is its name."""

    at: str
    run: str = ""
    event: str = ""
    step: int = 0


def live(folder: Path, model: Path, protocol: dict[str, Any], death: Death | None, together: Any = None) -> None:
    """Conducts a study in a process of its own, which may be killed. All that share `together` begin at once."""
    torch.set_num_threads(1)
    now_at = ""

    def reached(place: str, run: str, event: str = "", step: int = 0) -> None:
        if death == Death(place, run, event, step):
            os.kill(os.getpid(), signal.SIGKILL)

    def report(run: str, event: dict[str, Any]) -> None:
        nonlocal now_at
        now_at = run
        if together and event["event"] == "run":
            with (folder.parent / f"runs-of-{os.getpid()}").open("a") as stream:
                stream.write(f"{run}\n")
        reached("event", run, event["event"], event.get("step", 0) if "loss" in event else 0)

    def forecasting(*arguments: Any, **options: Any) -> Any:
        reached("before forecasts", now_at)
        told = options.pop("progress")

        def progress(name: str, share: float) -> None:
            told(name, share)
            if share == 1:
                reached("forecasts", now_at)

        return backtest(*arguments, **options, progress=progress)

    def closing(self: SharedLedger, run: str, ledger: Any) -> None:
        close(self, run, ledger)
        reached("closed", run)

    def stopping(study: StudyContext, run: TuningRun) -> Callable[[int, float], str | None]:
        decide = stop_at_rungs(study, run)

        def stop(step: int, nats: float) -> str | None:
            decision = decide(step, nats)
            reached("rung", run.name, step=step)
            return decision

        return stop

    def writing(self: StudyFolder, name: str, frame: pd.DataFrame) -> None:
        reached("table", name)
        write_table(self, name, frame)

    close, write_table = SharedLedger.close, StudyFolder.write_table
    stop_at_rungs, staging.stop_at_rungs = staging.stop_at_rungs, stopping
    running.backtest, SharedLedger.close, StudyFolder.write_table = forecasting, closing, writing
    if together:
        together.wait()
    conduct(prepared(folder, model, protocol, report=report))


def end_of(folder: Path, model: Path, protocol: dict[str, Any], death: Death | None) -> int | None:
    """The exit status of a process that conducts a study."""
    process = FORK.Process(target=live, args=(folder, model, protocol, death))
    process.start()
    process.join(120)
    return process.exitcode


DEATHS = {
    "data": (Death("table", "dynamics"),),
    "baseline": (
        Death("forecasts", "baseline-1-free"),
        Death("closed", "baseline-2-constrained"),
        Death("table", "baseline"),
    ),
    "default": (
        Death("event", "default", "train", 1),  # before there is any checkpoint
        Death("event", "default", "validation", 2),  # logged, but its checkpoint is not saved
        Death("event", "default", "train", 3),  # just after the checkpoint
        Death("event", "default", "validation", 5),
        Death("forecasts", "default"),
    ),
    "search": (
        Death("event", "search-grid-001", "train", 3),
        Death("event", "search-halving-000", "validation", 2),
        Death("rung", "search-halving-001", step=2),  # decided, but not acted on
        Death("event", "search-halving-002", "run"),
        Death("event", "search-halving-003", "result"),
        Death("closed", "search-halving-004"),
        Death("table", "search_methods"),
    ),
    "context": (Death("closed", "context-60"), Death("event", "context-120", "train", 3)),
    "final": (
        Death("event", "final", "run"),  # reserved, and nothing done yet
        Death("event", "final", "train", 3),
        Death("before forecasts", "final"),  # the adapter is there
        Death("closed", "final"),
        Death("table", "final"),
    ),
    "test": (Death("closed", "test-zero-shot"), Death("forecasts", "test-tuned"), Death("table", "pit")),
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", DEATHS)
def test_deaths_in_a_stage_change_nothing(stage: str, study: Study, tmp_path: Path):
    for death in DEATHS[stage]:
        assert end_of(tmp_path / "study", study.model, TINY, death) == -signal.SIGKILL, death
    assert end_of(tmp_path / "study", study.model, TINY, None) == 0
    assert_same_study(tmp_path / "study", study.folder)
    assert not list((tmp_path / "study").glob("runs/*/training.safetensors"))


def test_the_deaths_of_all_stages_are_tried():
    assert list(DEATHS) == STAGE_NAMES


@pytest.mark.slow
def test_deaths_change_nothing_where_numbers_have_points(model: Path, tmp_path: Path):
    """Texts differ in length there, so that what a run costs is only known when it has ended."""
    protocol = tiny(layout="auto", budget=2.4e9, search=ONE_SETTING, baseline=[1], context={"tokens": []})
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert end_of(whole, model, protocol, None) == 0
    for death in (
        Death("event", "default", "train", 3),
        Death("event", "search-grid-000", "validation", 2),
        Death("event", "final", "train", 3),
        Death("before forecasts", "final"),
    ):
        assert end_of(parts, model, protocol, death) == -signal.SIGKILL
    assert end_of(parts, model, protocol, None) == 0
    assert_same_study(parts, whole)
    final = json.loads((whole / "runs" / "final" / "result.json").read_text())
    assert 2 < final["steps"] < TINY["final"]["steps"]


@pytest.mark.slow
def test_two_processes_share_the_runs_of_a_study(study: Study, tmp_path: Path):
    folder, together = tmp_path / "study", FORK.Barrier(2)
    both = [FORK.Process(target=live, args=(folder, study.model, TINY, None, together)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    begun = [path.read_text().splitlines() for path in tmp_path.glob("runs-of-*")]
    assert len(begun) == 2  # both did something
    assert sorted(begun[0] + begun[1]) == sorted(ledger_files(study.folder))  # and no run was begun twice
    unlike = ("search-halving", "final", "test")  # what goes on depends on who came first, and saves more or less
    assert_same_runs(folder, study.folder, but=unlike)
    found, wanted = tables(folder), tables(study.folder)
    assert found.keys() == wanted.keys()
    for name in ("dynamics", "baseline", "default", "context"):
        assert found[name] == wanted[name]
    grids = [[line for line in text["search"].splitlines() if line.startswith("grid")] for text in (found, wanted)]
    assert grids[0] == grids[1]
    assert SharedLedger(folder / "ledger").spent.executed <= TINY["budget"]
    for name, events in logs(folder).items():
        steps = [event["step"] for event in events if event["event"] == "train"]
        result = json.loads((folder / "runs" / name / "result.json").read_text())
        assert steps == list(range(1, result["steps"] + 1))
    halved = [name for name in ledger_files(folder) if name.startswith("search-halving-")]
    assert len(halved) == 6
    assert all((folder / "runs" / name / "result.json").is_file() for name in halved)

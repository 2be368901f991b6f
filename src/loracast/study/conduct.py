"""Running a study: from a file of series to its tables, by one process or by many that share its folder."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import loracast
from loracast.errors import DataError
from loracast.series import Series, Split, read_series, read_split, split_series, write_series, write_split
from loracast.series.checks import same_variables
from loracast.series.windows import fingerprint
from loracast.settings import ComputeKind, Device, Precision
from loracast.study.context import Report, StudyContext, cut
from loracast.study.folder import StudyFolder
from loracast.study.protocol import Protocol, read_protocol
from loracast.study.runs import perform, read_run
from loracast.study.search import PRUNED
from loracast.study.stages import check_lengths, plan, stages_until
from loracast.study.tables import flop_tables

PACKAGES = ("numpy", "scipy", "pandas", "torch", "safetensors", "tokenizers", "scoringrules", "plotly")
POLL_SECONDS = 0.5  # while another process works on the last runs of a stage


def assemble(
    series: Sequence[Series],
    output: str | Path,
    protocol: Protocol,
    *,
    model: str = "bundled",
    split: Split | None = None,
    device: Device = "auto",
    precision: Precision = "auto",
    compute: ComputeKind = "auto",
    report: Report = lambda run, event: None,
) -> StudyContext:
    """What a study works with, its series checked; nothing is written yet. The arguments are those of `prepare`."""
    series, split = _split(series, protocol, split)
    same_variables(series)
    folder = StudyFolder(Path(output))
    where: dict[str, Any] = {"device": device, "precision": precision, "compute": compute}
    study = StudyContext(folder, protocol, series, split, model, **where, report=report)
    check_lengths(study)
    return study


def prepare(
    series: Sequence[Series],
    output: str | Path,
    protocol: Protocol,
    *,
    name: str = "study",
    source: str = "series",
    **options: Any,
) -> StudyContext:
    """A study that can be conducted: checked, costed, and written down in its folder; nothing is computed yet.

    Args:
        series: what is studied; whole series are split, or an only one is cut in consecutive parts.
        output: the study's folder; with the same arguments, an interrupted study is gone on with.
        name, source: what the report calls the protocol and the data.
        options: of `assemble`: `model`; `split`, which series train, validate and test (drawn from the protocol's seed
            unless given); `device`, `precision`, `compute`; `report`, called with a run's name and each event of it.

    Raises:
        BudgetError: the budget does not hold the plan.
        DataError: series too few or too short.
        ConfigError: a folder that holds another study.
    """
    study = assemble(series, output, protocol, **options)
    folder, costs = study.folder, plan(study)
    config = study.model.network.config
    record = {
        "loracast": loracast.__version__,
        "name": name,
        "protocol": protocol.to_dict(),
        "model": {
            "source": study.model.source,
            "fingerprint": study.model.fingerprint,
            "parameters": config.parameters(),
            "layers": config.num_hidden_layers,
            "hidden_size": config.hidden_size,
            "vocabulary": config.vocab_size,
            "precision": study.model.precision,
        },
        "data": {
            "source": source,
            "fingerprint": fingerprint(study.series),
            "split": fingerprint([*study.train, *study.validation, *study.test]),
            "series": len(study.series),
            "steps": min(one.steps for one in study.series),
            "variables": list(study.series[0].names),
        },
        "budget": protocol.budget,
        "convention": protocol.convention,
        "seed": protocol.seed,
        "plan": costs,
        "made": {
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "hardware": study.forecaster(study.codec(1)).hardware,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "packages": {package: version(package) for package in PACKAGES},
        },
    }
    folder.claim(record)
    if not folder.series.is_file():
        write_series(study.series, folder.series)
    if not folder.split.is_file():
        write_split(study.split, folder.split)
    return study


def conduct(
    study: StudyContext,
    until: str | None = None,
    on_stage: Callable[[str, str], None] = lambda stage, state: None,
    on_wait: Callable[[], None] = lambda: None,
) -> None:
    """Works through the stages, and writes the tables of what they found.

    Any number of processes may do so at once in one folder. Each takes the runs that no other is at.

    Args:
        until: the last stage to do; all unless given.
        on_stage: called with each stage and `skipped`, `begun` or `ended`.
        on_wait: called again and again while other processes are at the last runs of a stage.
    """
    for stage in stages_until(until):
        if stage.ended(study):
            on_stage(stage.name, "skipped")
            continue
        on_stage(stage.name, "begun")
        while not stage.work(study):
            on_wait()
            time.sleep(POLL_SECONDS)
        stage.conclude(study)
        on_stage(stage.name, "ended")
    for name, frame in flop_tables(study, study.folder.record()["plan"]).items():
        study.folder.write_table(name, frame)


def reopen(directory: str | Path, output: str | Path, **options: Any) -> StudyContext:
    """The study in a folder, from what the folder holds: once more in another one, or to go on with it in the same.

    Options are those of `prepare`.

    The precision is that of the first one unless given.
    """
    old = StudyFolder(Path(directory))
    record = old.record()
    if options.get("precision", "auto") == "auto":
        options["precision"] = record["model"]["precision"]  # here, auto might be another one
    return prepare(
        *(read_series(old.series), output, read_protocol(record["protocol"])),
        model=record["model"]["source"],
        name=record["name"],
        source=record["data"]["source"],
        split=read_split(old.split, record["data"]["series"]),
        **options,
    )


def rerun_one(directory: str | Path, study: StudyContext) -> tuple[dict[str, Any], dict[str, Any]]:
    """One run of a study once more, in the folder of `study`: what it found then, and what it finds now."""
    directory = Path(directory)
    stored = StudyFolder.read_json(directory / "run.json")
    run = read_run(stored)
    needed = stored.get("adapter")
    if needed:
        perform(study, read_run(StudyFolder.read_json(directory.parent / needed / "run.json")))
    then = StudyFolder.read_json(directory / "result.json")
    pruned_at = then["steps"] if then.get("stopped") == PRUNED else None
    perform(study, run, lambda step, nats: PRUNED if pruned_at is not None and step >= pruned_at else None)
    return then, study.folder.result(run.name) or {}


def _split(series: Sequence[Series], protocol: Protocol, split: Split | None) -> tuple[list[Series], Split]:
    shares = (protocol.data.train, protocol.data.validation, protocol.data.test)
    if len(series) == 1 and split is None:
        series = cut(series, shares)
        split = Split((0,), (1,), (2,))
    if len(series) < 3:
        raise DataError(
            f"a study needs at least 3 series, one each to train, validate and test, or a single one, which it cuts in "
            f"three, not {len(series)}; add series, or leave one"
        )
    split = split or split_series(len(series), shares, protocol.seed)
    for part in ("train", "validation", "test"):
        if not getattr(split, part):
            raise DataError(f"the split has no series to {part}; put at least one position into its list {part}")
    return list(series), split


def compare(then: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, float, float]]:
    """The figures of a run and of its rerun: MAE, CRPS, validation loss and FLOPs, those that both have."""
    found = []
    for result in (then, now):
        scores = result.get("scores") or {}
        found.append(
            {
                "MAE": scores.get("mae"),
                "CRPS": scores.get("crps"),
                "validation loss": (result.get("validation_loss") or {}).get("tuned"),
                "FLOPs (executed)": result["flops"]["executed"]["total"],
            }
        )
    return [(name, found[0][name], found[1][name]) for name in found[0] if None not in (found[0][name], found[1][name])]

"""A whole study in one call, by one process or by several on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from loracast.errors import ConfigError
from loracast.progress import OnProgress, displayed
from loracast.series import Series, Split, read_series
from loracast.settings import ComputeKind, Device, Precision
from loracast.study.conduct import conduct, prepare, reopen
from loracast.study.context import Report, StudyContext
from loracast.study.folder import StudyFolder
from loracast.study.progress import RunEvents, StudyProgress
from loracast.study.protocol import Protocol, read_protocol
from loracast.study.stages import stages_until
from loracast.tracking import Log

OnStage = Callable[[str, str], None]
OnPlan = Callable[[dict[str, Any]], None]


def run(
    protocol: Protocol | Mapping[str, Any] | str | Path,
    data: Sequence[Series] | str | Path,
    *,
    directory: str | Path,
    model: str = "bundled",
    split: Split | None = None,
    until: str | None = None,
    processes: int = 1,
    device: Device = "auto",
    precision: Precision = "auto",
    compute: ComputeKind = "auto",
    name: str | None = None,
    source: str | None = None,
    log: Log | None = None,
    progress: bool | OnProgress | None = None,
    report: Report = lambda run, event: None,
    on_plan: OnPlan = lambda record: None,
    on_stage: OnStage = lambda stage, state: None,
) -> StudyFolder:
    """Runs a study, or goes on with it where it was cut off; `loracast.report.write_report` makes a page of its folder.

    Whatever stops it, the same call goes on with it, also in another program or on another machine, and any number of
    programs may do so at once: they divide the runs among them.

    Args:
        protocol: what is done: `published`, `laptop`, a YAML file of the same form, or its settings.
        data: series to study, or a file of them.
        directory: the study's folder, for runs, ledger and tables.
        model: `bundled`, `smollm2`, a Hugging Face directory, a .gguf file or a repository of the hub.
        split: which series train, validate and test; drawn from the protocol's seed unless given.
        until: the last stage to do: data, baseline, default, search, context, final or test; all unless given.
        processes: how many work at once on this machine, this one among them; they are spread over its GPUs.
        device, precision, compute: where and how to compute, as for `Forecaster.from_pretrained`.
        name, source: what the report calls the protocol and the data; the names of their files unless given.
        log: a tracker that is also given the events of each tuning run; see `loracast.tracking`.
        progress: True shows how far the whole study is, whichever process did the work; a function is called with
            `study` and the share that is done.
        report: called with the name of a run of this process and with each event of it.
        on_plan: called once the study is checked and costed, with what study.json holds.
        on_stage: called with each stage and `skipped`, `begun` or `ended`.

    Returns:
        The study's folder: `table("test")` is a DataFrame of the scores, `record()` what study.json holds.

    Raises:
        BudgetError: the budget does not hold the plan.
        DataError: series too few or too short.
        ConfigError: settings that cannot hold, or a folder that holds another study.

    Warns:
        UserWarning: another process failed; the others did its work.

    Examples:
        >>> from loracast import study
        >>> series = loracast.simulate("predator-prey", n=12, steps=100)
        >>> settings = {"budget": 1e15, "search": {"learning_rate": [1e-3, 5e-3]}}
        >>> folder = study.run(settings, series, directory="study", until="data")  # further calls go on from there
        >>> folder.table("splits").set_index("subset")["series"].to_dict()
        {'train': 8, 'test': 2, 'validation': 2}
    """
    _check(processes, until)
    events = RunEvents(Path(directory), log, report)
    if isinstance(data, str | Path):
        source, data = source or Path(data).name, read_series(data)
    if isinstance(protocol, str | Path):
        name = name or Path(protocol).stem
    study = prepare(
        *(data, directory, protocol if isinstance(protocol, Protocol) else read_protocol(protocol)),
        **{"model": model, "split": split, "name": name or "study", "source": source or "series"},
        **{"device": device, "precision": precision, "compute": compute, "report": events},
    )
    return _carry_out(study, events, until, processes, progress, on_plan, on_stage)


def rerun(
    directory: str | Path,
    output: str | Path,
    *,
    until: str | None = None,
    processes: int = 1,
    device: Device = "auto",
    precision: Precision = "auto",
    compute: ComputeKind = "auto",
    log: Log | None = None,
    progress: bool | OnProgress | None = None,
    report: Report = lambda run, event: None,
    on_plan: OnPlan = lambda record: None,
    on_stage: OnStage = lambda stage, state: None,
) -> StudyFolder:
    """Does the study in `directory` once more, in the folder `output`, from what the first one holds.

    The precision is that of the first one unless given. All other arguments are those of `run`.
    """
    _check(processes, until)
    events = RunEvents(Path(output), log, report)
    where: dict[str, Any] = {"device": device, "precision": precision, "compute": compute}
    study = reopen(directory, output, **where, report=events)
    return _carry_out(study, events, until, processes, progress, on_plan, on_stage)


def _check(processes: int, until: str | None) -> None:
    if processes < 1:
        raise ConfigError([f"processes must be at least 1, not {processes}"])
    stages_until(until)


def _carry_out(
    study: StudyContext,
    events: RunEvents,
    until: str | None,
    processes: int,
    progress: bool | OnProgress | None,
    on_plan: OnPlan,
    on_stage: OnStage,
) -> StudyFolder:
    on_plan(study.folder.record())
    request = {"directory": str(study.folder.path), "until": until, "log": events.log, **study.where}
    with displayed(progress) as display, _workers(processes - 1, study.folder.path, request):
        events.progress = shown = StudyProgress(study, display, until)
        conduct(study, until, on_stage, shown.look)
    return study.folder


@contextmanager
def _workers(count: int, folder: Path, request: dict[str, Any]) -> Iterator[None]:
    """So many more processes while the block runs; they share the processor with this one and are waited for.

    Each is on the next GPU and writes what it says into a log of its own in the study's folder. Where the block raises,
    they are ended; what they were at is taken up again when the study goes on.
    """
    if not count:
        yield
        return
    before = torch.get_num_threads()
    threads = max(1, (os.cpu_count() or 1) // (count + 1))
    torch.set_num_threads(threads)
    started: list[subprocess.Popen[Any]] = []
    try:
        for number in range(1, count + 1):
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads), **_gpu(number)}
            with _log(folder, number).open("w") as stream:
                command = [sys.executable, "-m", "loracast.study.worker", json.dumps(request)]
                output: dict[str, Any] = {"stdout": stream, "stderr": subprocess.STDOUT}
                started.append(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, **output))
        yield
        for number, process in enumerate(started, 1):
            if process.wait():
                warnings.warn(
                    f"process {number} failed, and others did its work; see {_log(folder, number)}", stacklevel=4
                )
    except BaseException:
        for process in started:
            process.terminate()
            process.wait()
        raise
    finally:
        torch.set_num_threads(before)


def _log(folder: Path, number: int) -> Path:
    return folder / f"process-{number}.log"


def _gpu(number: int) -> dict[str, str]:
    """The variable that shows a process one GPU alone: the next one of those that this process sees."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else list(map(str, range(torch.cuda.device_count())))
    return {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}

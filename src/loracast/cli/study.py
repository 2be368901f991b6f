"""`loracast study` and `loracast report`."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from loracast.cli.options import Data, DataOptions, Model, ModelOptions, Output
from loracast.errors import ConfigError, install_advice
from loracast.progress import Display
from loracast.tracking import Log

StageName = Literal["data", "baseline", "default", "search", "context", "final", "test"]

if TYPE_CHECKING:
    from loracast.study.bench import Bench
    from loracast.study.course import Course
    from loracast.tracking import TensorBoard


def study(
    data: Path | None = None,
    /,
    *,
    output: Output,
    protocol: str | None = None,
    budget: float | None = None,
    split: Path | None = None,
    until: StageName | None = None,
    processes: int = 1,
    log: Log | None = None,
    rerun: Path | None = None,
    model: Model = ModelOptions(),
    columns: Data = DataOptions(),
) -> None:
    """Run, resume and report a whole experiment under a FLOP budget: baseline, LoRA, search, final model, test.

    Interrupted or killed, the same command goes on where it was. Started several times with the same folder, on one
    machine or on several that share it, the processes divide the runs among them.

    Parameters
    ----------
    data
        Series to study: .csv, .tsv, .xlsx, .parquet or .h5.
    output
        Folder for runs, ledger, tables, figures and report.html.
    protocol
        course (the published settings), laptop (two processor cores), or a YAML file of the same form. Unless given,
        laptop for the bundled model on a processor, else course.
    budget
        FLOPs that the whole study may spend; the protocol's own unless given.
    split
        JSON file with lists train, validation and test of positions; drawn from the protocol's seed unless given.
    until
        The last stage to do; all unless given.
    processes
        Processes at once on this machine, spread over its GPUs.
    log
        tensorboard: also write the events of each tuning run for TensorBoard.
    rerun
        Folder of a study, or of one of its runs, to do once more from what it holds; DATA is then left out.
    """
    from loracast.cli.console import complain, out, plan_table, say
    from loracast.errors import LoracastError

    check_installed()
    if processes < 1:
        raise ConfigError([f"processes must be at least 1, not {processes}"])
    if (data is None) == (rerun is None):
        raise ConfigError(["name a file of series to study, or a folder with --rerun, and not both"])
    given = model.where()
    report = _Reports(log, output)
    if rerun is not None:
        changed = {"protocol": protocol, "budget": budget, "split": split, "model": model.model}
        if clash := [f"--{name} cannot go with --rerun" for name, value in changed.items() if value is not None]:
            raise ConfigError(clash)
        if output.resolve() in (rerun.resolve(), rerun.resolve().parent.parent):
            raise ConfigError([f"{output} holds what is to be done once more; choose another folder for --output"])
        if (rerun / "run.json").is_file():
            _rerun_one(rerun, output, given, report)
            return
        from loracast.study import conduct

        bench = conduct.rerun(rerun, output, report=report, **given)
    else:
        bench = _prepare(data, output, protocol, budget, split, model, columns, report)
    record = bench.folder.record()
    out.print(plan_table(record["plan"], record["budget"], record["convention"]))
    others = _start_others(processes - 1, output)
    try:
        from loracast.study.conduct import conduct as run
        from loracast.study.course import Course

        with Display() as display:
            report.course = Course(bench, display, until)
            page = run(bench, until, lambda stage, state: say(f"{stage}: {state}") if state != "begun" else None)
    except (LoracastError, KeyboardInterrupt):
        for other in others:
            other.terminate()
        raise
    for number, other in enumerate(others, 1):
        if other.wait():
            complain("warning", f"process {number} failed, and others did its work; see {output}/process-{number}.log")
    _show_result(bench)
    say(f"report → {page}")


def report(directory: Path, /) -> None:
    """Build a study's report anew from what its folder holds.

    Parameters
    ----------
    directory
        Folder of the study.
    """
    from loracast.cli.console import say
    from loracast.study.report import write_report

    say(f"report → {write_report(directory)}")


def check_installed() -> None:
    """Asks for the packages that only studies need, before anything is read."""
    missing = [name for name in ("optuna", "plotly", "pydantic") if find_spec(name) is None]
    if missing:
        raise ConfigError([f"studies need {', '.join(missing)}; {install_advice('study')}"])


def _prepare(data, output, protocol, budget, split, model: ModelOptions, columns: DataOptions, report: Any) -> Bench:
    from loracast.compute.device import choose_device, on_gpu
    from loracast.series import read_split
    from loracast.study.conduct import prepare
    from loracast.study.protocol import read_protocol

    source = model.model or "bundled"
    if protocol is None:
        on_processor = not on_gpu(choose_device(model.device))
        protocol = "laptop" if source == "bundled" and on_processor else "course"
    settings = read_protocol(protocol, **({} if budget is None else {"budget": budget}))
    series = columns.read(data)
    return prepare(
        *(series, output, settings),
        model=source,
        name=Path(protocol).stem,
        source=data.name,
        split=read_split(split, len(series)) if split else None,
        **model.where(),
        report=report,
    )


def _rerun_one(directory: Path, output: Path, given: dict[str, Any], report: Any) -> None:
    from loracast.cli.console import say
    from loracast.study import conduct

    bench = conduct.rerun(directory.resolve().parent.parent, output, report=report, **given)
    then, now = conduct.rerun_one(directory, bench)
    for name, old, new in conduct.compare(then, now):
        say(f"{name}: {old:.6g} then, {new:.6g} now" + ("" if old == new else f" ({new - old:+.2g})"))
    say(f"{directory.name} → {bench.folder.run(directory.resolve().name)}")


class _Reports:
    """Lines and a bar for the events of all runs."""

    def __init__(self, log: Log | None, output: Path):
        from loracast import tracking

        self.course: Course | None = None  # of a whole study
        self._log, self._output = log, output
        self._boards: dict[str, TensorBoard] = {}
        if log:
            tracking.TensorBoard(
                output
            )  # writes nothing yet, but would rather not find out late that its package is missing

    def __call__(self, run: str, event: dict[str, Any]) -> None:
        from loracast.cli.console import say
        from loracast.tracking import TensorBoard

        kind = event["event"]
        if kind == "result":
            if run in self._boards:
                self._boards.pop(run).close()
            say(f"  {run}: {_state(event)} · {event['seconds']:.0f} s")
        elif kind in ("train", "validation") and self._log:
            self._boards.setdefault(run, TensorBoard(self._output / "runs" / run))(event)
        if self.course:
            self.course(run, event)


def _state(result: dict[str, Any]) -> str:
    scores = result["scores"]
    if not scores:
        return f"stopped ({result['stopped']})"
    if scores["mae"] is None:
        return "nothing that it wrote can be read"
    return f"MAE {scores['mae']:.4f}" + (f", {scores['valid_share']:.1%} valid" if scores["valid_share"] < 1 else "")


def _start_others(count: int, output: Path) -> list[subprocess.Popen]:
    """The same command in more processes, each on the next GPU, with a log of its own in the study's folder."""
    if not count:
        return []
    import torch

    gpus = torch.cuda.device_count()
    position = sys.argv.index("--processes") if "--processes" in sys.argv else None
    arguments = [
        argument
        for index, argument in enumerate(sys.argv[1:], 1)
        if position is None or index not in (position, position + 1)
        if not argument.startswith("--processes=")
    ] + ["--processes=1"]  # whatever a file of --config says
    threads = max(1, (os.cpu_count() or 1) // (count + 1))
    torch.set_num_threads(threads)
    others = []
    for number in range(1, count + 1):
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = str(number % gpus)
        with (output / f"process-{number}.log").open("w") as stream:
            command = [sys.executable, "-c", "from loracast.cli import main; main()", *arguments]
            others.append(subprocess.Popen(command, env=environment, stdout=stream, stderr=subprocess.STDOUT))
    return others


def _show_result(bench: Bench) -> None:
    from loracast.cli.console import say

    spent = bench.ledger.spent
    share = spent.of(bench.protocol.convention) / bench.protocol.budget
    say(
        f"spent {spent.hardware:.4e} FLOPs (hardware), {spent.course:.4e} (course): {share:.2%} of the budget "
        f"({bench.protocol.convention})"
    )
    if bench.folder.has_table("test"):
        scores = bench.folder.table("test").query("variable == 'all'").set_index("forecaster")[["mae", "crps"]]
        for name, (error, crps) in scores.T.items():
            say(f"  {name}: MAE {error:.4f}, CRPS {crps:.4f}")

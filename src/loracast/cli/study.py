"""`loracast study` and `loracast report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from loracast.cli.options import Data, DataOptions, Model, ModelOptions, Output
from loracast.errors import ConfigError
from loracast.tracking import Log

if TYPE_CHECKING:
    from loracast.study.folder import StudyFolder

StageName = Literal["data", "baseline", "default", "search", "context", "final", "test"]


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
        published (the published settings), laptop (two processor cores), or a YAML file of the same form. Unless given,
        laptop for the bundled model on a processor, else published.
    budget
        FLOPs that the whole study may spend; the protocol's own unless given.
    split
        JSON file with lists train, validation and test of positions; drawn from the protocol's seed unless given.
    until
        The last stage to do; all unless given.
    processes
        Processes at once on this machine, spread over its GPUs.
    log
        Also give the events of each tuning run to TensorBoard, MLflow, Weights & Biases (offline) or trackio.
    rerun
        Folder of a study, or of one of its runs, to do once more from what it holds; DATA is then left out.
    """
    from loracast.cli.console import say, shown_warnings
    from loracast.study import check_installed

    check_installed()
    if (data is None) == (rerun is None):
        raise ConfigError(["name a file of series to study, or a folder with --rerun, and not both"])
    from loracast.report import write_report
    from loracast.study import rerun as run_again
    from loracast.study import run

    given = {"until": until, "processes": processes, "log": log, "progress": True, **model.where(), **_listeners()}
    with shown_warnings():
        if data is not None:
            folder = run(**_choices(data, protocol, budget, split, model, columns), directory=output, **given)
        elif rerun is not None:
            changed = {"protocol": protocol, "budget": budget, "split": split, "model": model.model}
            if clash := [f"--{name} cannot go with --rerun" for name, value in changed.items() if value is not None]:
                raise ConfigError(clash)
            if output.resolve() in (rerun.resolve(), rerun.resolve().parent.parent):
                raise ConfigError([f"{output} is the study to do once more; choose another folder for --output"])
            if (rerun / "run.json").is_file():
                _rerun_one(rerun, output, model)
                return
            folder = run_again(rerun, output, **given)
    _show_result(folder)
    say(f"report → {write_report(output)}")


def report(directory: Path, /) -> None:
    """Build a study's report anew from what its folder holds.

    Parameters
    ----------
    directory
        Folder of the study.
    """
    from loracast.cli.console import say
    from loracast.report import write_report

    say(f"report → {write_report(directory)}")


def _choices(
    data: Path,
    protocol: str | None,
    budget: float | None,
    split: Path | None,
    model: ModelOptions,
    columns: DataOptions,
) -> dict[str, Any]:
    """What is studied, as `loracast.study.run` takes it."""
    from loracast.compute.device import choose_device, on_gpu
    from loracast.series import read_split
    from loracast.study.protocol import read_protocol

    chosen = model.model or "bundled"
    if protocol is None:
        on_processor = not on_gpu(choose_device(model.device))
        protocol = "laptop" if chosen == "bundled" and on_processor else "published"
    settings = read_protocol(protocol, **({} if budget is None else {"budget": budget}))
    series = columns.read(data)
    subsets = read_split(split, len(series)) if split else None
    names = {"name": Path(protocol).stem, "source": data.name}
    return {"protocol": settings, "data": series, "model": chosen, "split": subsets, **names}


def _listeners() -> dict[str, Any]:
    """What prints a study's plan, its stages and its results as they come."""
    from loracast.cli.console import out, plan_table, say

    def on_plan(record: dict[str, Any]) -> None:
        out.print(plan_table(record["plan"], record["budget"], record["convention"]))

    def on_stage(stage: str, state: str) -> None:
        if state != "begun":
            say(f"{stage}: {state}")

    return {"on_plan": on_plan, "on_stage": on_stage, "report": _say_result}


def _say_result(run: str, event: dict[str, Any]) -> None:
    from loracast.cli.console import say
    from loracast.study.progress import describe_result

    if event["event"] == "result":
        say(f"  {run}: {describe_result(event)}")


def _rerun_one(directory: Path, output: Path, model: ModelOptions) -> None:
    from loracast.cli.console import say
    from loracast.study.conduct import compare, reopen, rerun_one

    study = reopen(directory.resolve().parent.parent, output, report=_say_result, **model.where())
    then, now = rerun_one(directory, study)
    for name, old, new in compare(then, now):
        say(f"{name}: {old:.6g} then, {new:.6g} now" + ("" if old == new else f" ({new - old:+.2g})"))
    say(f"{directory.name} → {study.folder.run(directory.resolve().name)}")


def _show_result(folder: StudyFolder) -> None:
    from loracast.cli.console import say
    from loracast.ledger import SharedLedger

    record, spent = folder.record(), SharedLedger(folder.ledger).spent
    share = spent.of(record["convention"]) / record["budget"]
    say(
        f"spent {spent.executed:.4e} FLOPs (executed), {spent.published:.4e} (published): {share:.2%} of the budget "
        f"({record['convention']})"
    )
    if folder.has_table("test"):
        scores = folder.table("test").query("variable == 'all'").set_index("forecaster")[["mae", "crps"]]
        for name, (error, crps) in scores.T.items():
            say(f"  {name}: MAE {error:.4f}, CRPS {crps:.4f}")

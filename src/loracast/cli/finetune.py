"""`loracast finetune` and `loracast merge`."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from loracast.cli.options import Data, DataOptions, Model, ModelOptions, Output
from loracast.codec import Codec, Layout, OffsetPolicy, ScalePolicy
from loracast.settings import Precision, TuneConfig
from loracast.tracking import Log


@dataclass(frozen=True)
class CodecOptions:
    """How numbers are written; what the model was pretrained with unless given."""

    layout: Layout | None = None
    """fixed (246,999;) or decimal (2.46,10.25;)."""

    digits: int | None = None
    """Digits of a value (fixed), or after the point (decimal)."""

    scale: ScalePolicy | None = None
    """Fit the scale to each variable of a context, to all of them jointly, or once to the whole data set."""

    offset: OffsetPolicy | None = None
    """auto, zero, or low: where the range of numbers begins."""

    def over(self, codec: Codec) -> Codec:
        """A codec with these settings, and the others of `codec`."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return replace(codec, **given)


def finetune(
    data: Path,
    /,
    *,
    output: Output,
    tune: Annotated[TuneConfig, Parameter(name="*")] = TuneConfig(),
    model: Model = ModelOptions(),
    codec: Annotated[CodecOptions, Parameter(name="*")] = CodecOptions(),
    columns: Data = DataOptions(),
    split: Path | None = None,
    log: Log | None = None,
    resume: bool = False,
    force: bool = False,
) -> None:
    """Tune an adapter on a file of series and save it in PEFT's format.

    Ctrl-C saves a checkpoint; the same command with --resume continues from it exactly.

    Parameters
    ----------
    data
        Series to learn: .csv, .tsv, .xlsx, .parquet or .h5.
    output
        Folder for the adapter, its record (loracast.json) and its log (metrics.jsonl).
    split
        JSON file with lists train, validation and test of positions; 15% of the series validate unless given.
    log
        Also give the events of the training to TensorBoard, MLflow, Weights & Biases (offline) or trackio.
    resume
        Continue an interrupted run in the output folder.
    force
        Keep the tuned adapter also where it does not help on the held-out windows. Otherwise one is kept that changes
        nothing.
    """
    from loracast.calibration import recorded
    from loracast.cli.console import say, shown_warnings
    from loracast.errors import Interrupted
    from loracast.files import CHECKPOINT, check_folder
    from loracast.forecaster import Forecaster
    from loracast.progress import Display
    from loracast.tracking import tracker

    check_folder(output)
    series = columns.read_subset(data, split, "train")
    validation = columns.read_subset(data, split, "validation") if split else None
    base = Forecaster.from_pretrained(model.model, **model.where())
    base = Forecaster(base.model, codec.over(base.codec))
    config = base.model.network.config
    trainable = config.lora_parameters(tune.rank, tune.lora.targets)
    say(
        f"{base.model.source}: {config.parameters():,} parameters, {trainable:,} trainable "
        f"(rank {tune.rank} on {', '.join(tune.lora.targets)}) · {len(series)} series of {', '.join(series[0].names)}"
    )
    try:
        with shown_warnings(), Display() as display, ExitStack() as stack:
            report = stack.enter_context(closing(tracker(log, output))) if log else lambda event: None
            given = {"directory": output, "resume": resume, "force": force, "report": report, "progress": display}
            tuned = base.fit(series, tune=tune, validation=validation, **given)
    except KeyboardInterrupt:  # not during the steps, which save their own: while the result was judged, say
        if (output / CHECKPOINT).is_file():
            raise Interrupted(f"continue with --resume from {output / CHECKPOINT}") from None
        raise
    result, verdict = tuned.record["result"], tuned.record["validation_forecasts"]
    losses, flops = result["validation_loss"], tuned.record["flops"]["executed"]["total"]
    say(
        f"validation loss {losses['untouched']:.4f} → {losses['tuned']:.4f} (best at step {result['best_step']} of "
        f"{result['steps']}) · {flops:.3e} FLOPs (executed) · {result['seconds']:.0f} s"
    )
    if verdict:
        say(
            f"validation MAE of {verdict['windows']} forecast{'s' * (verdict['windows'] > 1)}: untouched "
            f"{verdict['untouched_mae']:.4g}, tuned {verdict['tuned_mae']:.4g}; CRPS in standard deviations "
            f"{verdict['untouched_crps']:.4g} → {verdict['tuned_crps']:.4g}; the {verdict['kept']} model is kept"
        )
    if naive := verdict.get("baselines"):
        best, scores = min(naive.items(), key=lambda item: item[1]["crps"])
        say(f"the best baseline on these windows is {best}: MAE {scores['mae']:.4g}, CRPS {scores['crps']:.4g}")
    if widths := recorded(tuned.record):
        say(f"{widths.sentence()}; forecast --raw leaves them as drawn")
    say(f"adapter → {output}")


def merge(
    adapter: Path,
    /,
    *,
    output: Output,
    model: str | None = None,
    precision: Precision = "auto",
) -> None:
    """Write a model and its adapter as one Hugging Face directory, which transformers loads.

    Parameters
    ----------
    adapter
        Adapter directory in PEFT's format.
    output
        Folder for the merged model.
    model
        Base model; the one that the adapter names unless given.
    precision
        Precision of the stored weights; that of the base unless given. The sum is computed in float32.
    """
    from loracast.cli.console import say, shown_warnings
    from loracast.files import check_folder
    from loracast.merge import merge as run
    from loracast.model.checkpoint import recorded_base

    check_folder(output)
    with shown_warnings():
        differences = run(model or recorded_base(adapter), adapter, output, precision)
    say(
        f"merged model → {output}\nlargest difference of logits: {differences['float32']:.2e} from merging in float32, "
        f"{differences['stored']:.2e} with the stored precision"
    )

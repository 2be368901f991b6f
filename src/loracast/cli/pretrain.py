"""`loracast pretrain`."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from loracast.cli.options import Output
from loracast.settings import Device, PretrainConfig


def pretrain(
    *,
    output: Output,
    config: Annotated[PretrainConfig, Parameter(name="*")] = PretrainConfig(),
    device: Device = "auto",
    resume: bool = False,
) -> None:
    """Pretrain a small model from scratch on synthetic series. The defaults are the recipe of the bundled model.

    Ctrl-C saves a checkpoint; the same command with --resume continues from it exactly.

    Parameters
    ----------
    output
        Folder for the model, as a Hugging Face directory with its numeric tokenizer.
    device
        Where to compute; the recipe is meant for a GPU.
    resume
        Continue an interrupted run in the output folder.
    """
    from loracast.cli.console import say
    from loracast.engine.pretrain import model_config
    from loracast.engine.pretrain import pretrain as run
    from loracast.evaluation.kept_out import calibrate
    from loracast.files import check_folder
    from loracast.forecaster import Forecaster
    from loracast.progress import Described, Display

    check_folder(output)
    say(f"{model_config(config).parameters():,} parameters · {config.pool:,} synthetic series")
    with Display() as display:
        describe = Described()
        display("making series", None)

        def report(event: dict[str, Any]) -> None:
            if event["event"] == "pool":
                display("making series", 1.0)
            if event["event"] == "train":
                display("pretraining", event["step"] / event["steps"])
            display.note("pretraining", describe(event))

        record = run(config, output, device=device, resume=resume, report=report)["pretraining"]
        forecaster = Forecaster.from_pretrained(output, device=device)
        widths = calibrate(forecaster, output, progress=lambda share: display("calibrating", share))
    say(
        f"validation loss {record['validation_loss']:.4f} · {record['tokens']:.3e} tokens · "
        f"{record['flops']['executed']['total']:.3e} FLOPs (executed) · {record['seconds']:.0f} s → {output}"
    )
    if widths:
        say(f"on families that it never saw, {widths.sentence()}; forecast --raw leaves them as drawn")

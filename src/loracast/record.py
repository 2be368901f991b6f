"""An adapter's folder: that nothing is overwritten, and what is kept there of how it came about, its loracast.json."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import loracast
from loracast.calibration import Widths
from loracast.codec import Codec
from loracast.compute.device import describe_hardware
from loracast.errors import ConfigError
from loracast.files import ADAPTER_CONFIG, CHECKPOINT
from loracast.language_model import LanguageModel
from loracast.ledger import Ledger
from loracast.series import Series
from loracast.series.seen import seen_record
from loracast.settings import TuneConfig


def adapter_record(
    base: LanguageModel,
    codec: Codec,
    training: Sequence[Series],
    validation: Sequence[Series],
    config: TuneConfig,
    result: dict[str, Any],
    verdict: dict[str, Any],
    widths: Widths | None,
    ledger: Ledger,
) -> dict[str, Any]:
    """The record of an adapter, ready for JSON.

    Args:
        base: the model that it was tuned on.
        training, validation: the series that it was tuned on and that chose the best one, all of the same variables.
        result: what the tuning tells of itself.
        verdict: how its forecasts compare with the untouched model's.
        widths: how wide its forecasts ought to be, where that is known.
        ledger: what all of it cost.
    """
    return {
        "loracast": loracast.__version__,
        "base": {"model": base.source, "fingerprint": base.fingerprint},
        "codec": codec.to_dict(),
        "stand_ins": base.tokens.stand_ins,
        "variables": list(training[0].names),
        "known": list(training[0].known),
        "past": list(training[0].past),
        "split": seen_record(training, validation),
        "tune": asdict(config),
        "result": result,
        "validation_forecasts": verdict,
        "calibration": widths.to_dict() if widths else None,
        "flops": ledger.to_dict(),
        "made": {
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "hardware": describe_hardware(base.device),
            "precision": base.precision,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
    }


def check_unused(directory: Path) -> None:
    """Refuses a folder that holds an earlier run, before anything is computed or overwritten."""
    if (directory / CHECKPOINT).exists():
        raise ConfigError([f"{directory} holds an interrupted run; continue it with --resume or choose another folder"])
    if (directory / ADAPTER_CONFIG).exists():
        raise ConfigError([f"{directory} holds an adapter already; choose another folder or remove this one"])

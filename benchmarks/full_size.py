"""A full-size Qwen2 checkpoint with random weights, through fine-tuning and forecasting: memory and tokens per second.

    python benchmarks/full_size.py CONFIG_DIRECTORY -o DIRECTORY [--steps 20] [--batch 64]

CONFIG_DIRECTORY holds a config.json and a tokenizer.json, such as those of Qwen2.5-0.5B-Instruct; weights are not
needed.
The last line is the result as JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

import torch

import loracast
from loracast.engine.pretrain import initialise
from loracast.forecaster import Forecaster
from loracast.model.checkpoint import write_model
from loracast.model.config import Qwen2Config
from loracast.settings import TuneConfig


def build(source: Path, directory: Path) -> None:
    """Writes random weights in bfloat16 for a configuration, beside its tokenizer."""
    config, _ = Qwen2Config.read(source / "config.json")
    write_model(directory, initialise(config, seed=0), config, torch.bfloat16)
    shutil.copyfile(source / "tokenizer.json", directory / "tokenizer.json")


def peak_memory() -> float | None:
    """GiB of GPU memory at its highest since the last call, or None without a GPU."""
    if not torch.cuda.is_available():
        return None
    peak = torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.reset_peak_memory_stats()
    return round(peak, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--targets", default="attention")
    parser.add_argument("--series", type=int, default=150)
    parser.add_argument("--samples", type=int, default=20)
    options = parser.parse_args()
    if not (options.output / "model.safetensors").exists():
        build(options.source, options.output)

    result: dict[str, object] = {"torch": torch.__version__, "batch": options.batch, "targets": options.targets}
    base = Forecaster.from_pretrained(options.output)
    result |= {"device": str(base.model.device), "load_memory_gib": peak_memory()}
    paces = []
    tune = TuneConfig(
        steps=options.steps, batch=options.batch, targets=options.targets, context=32, horizon=32, validation_series=0
    )
    tuned = base.fit(
        loracast.simulate("predator-prey", 200),
        tune=tune,
        report=lambda event: paces.append(event["tokens_per_second"]) if event["event"] == "train" else None,
    )
    result |= {"tokens_per_window": 512, "train_memory_gib": peak_memory()}
    result["train_tokens_per_second"] = sorted(paces)[len(paces) // 2]
    unseen = loracast.simulate("predator-prey", options.series, seed=1)
    began = time.perf_counter()
    forecast = tuned.predict(unseen, 50, samples=options.samples, context=50)
    seconds = time.perf_counter() - began
    written = forecast.samples.size * (tuned.codec.digits + 1)
    result |= {
        "series": options.series,
        "samples": options.samples,
        "tokens_per_path": 50 * 2 * (tuned.codec.digits + 1),
    }
    result |= {"forecast_seconds": round(seconds, 2), "forecast_tokens_per_second": round(written / seconds)}
    result |= {"forecast_memory_gib": peak_memory(), "valid_share": float(forecast.valid.mean())}
    print(json.dumps(result))


if __name__ == "__main__":
    main()

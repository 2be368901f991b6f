"""How the time of a forecast and of a training step grows with the work, and the fitted exponents.

    python benchmarks/growth.py --model CONFIG_DIRECTORY -o benchmarks/results/growth.json
    python benchmarks/growth.py --model bundled --device cpu

CONFIG_DIRECTORY holds the config.json and tokenizer.json of Qwen2.5-0.5B; its weights are random, and a model of the
shape of Qwen2.5-1.5B is measured beside it. The bundled model is measured alone.

Along each axis one thing grows and all else stays. The exponent is the slope of a least-squares line through the
logarithms of time and size: 1 is proportional, 0 is no growth at all. A forecast is a whole `Forecaster.predict`; steps
are of two variables of three digits, 8 tokens each. The last line of the output is the result as JSON.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import bare_parser, describe, finish, median, note, peak_memory, rounded, timed

from loracast import Codec, Forecaster, simulate
from loracast.compute import choose
from loracast.engine.batch import encode_batch
from loracast.engine.step import TrainingStep
from loracast.grammar import SYMBOLS
from loracast.language_model import LanguageModel, load_model
from loracast.model.config import ModelConfig
from loracast.model.lora import attach
from loracast.model.tokenizer import NumericTokens
from loracast.model.transformer import Transformer
from loracast.settings import SampleConfig, TuneConfig

CODEC = Codec()
LARGER = {  # Qwen2.5-1.5B; the rest is as in Qwen2.5-0.5B
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "head_dim": 128,
}
# what stays the same, and what grows along each axis: a forecast's context and horizon and a window are in steps
FORECAST = {
    "cuda": {"series": 32, "samples": 8, "horizon": 8, "context": 32},
    "cpu": {"series": 4, "samples": 4, "horizon": 4, "context": 16},
}
FORECAST_AXES = {
    "cuda": {
        "series": (32, 128, 512, 2048),
        "samples": (8, 32, 128, 512),
        "horizon": (4, 8, 16, 32, 64),
        "context": (64, 128, 256, 512),
    },
    "cpu": {"series": (2, 8, 32), "samples": (2, 8, 32), "horizon": (2, 8, 32), "context": (16, 64, 256)},
}
TRAINING = {"cuda": {"batch": 8, "window": 64}, "cpu": {"batch": 4, "window": 16}}
TRAINING_AXES = {
    "cuda": {"batch": (4, 16, 64), "window": (64, 128, 256, 512)},
    "cpu": {"batch": (2, 4, 8), "window": (16, 64, 128)},
}
STEPS = 3  # of a training that are timed together


def random_model(config: ModelConfig, tokens: NumericTokens, device: torch.device) -> LanguageModel:
    """Random bfloat16 weights with the numeric rows, made on the device."""
    with torch.device("meta"):
        network = Transformer(config, rows=len(SYMBOLS)).to(torch.bfloat16)
    network = network.to_empty(device=device).requires_grad_(False).eval()
    torch.manual_seed(0)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 2:
            parameter.normal_(0.0, 0.02)
        else:  # biases, and scales of norms
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    rows = torch.arange(len(SYMBOLS), device=device)
    return LanguageModel(network, rows, tokens, "numeric", CODEC, "random weights", "random weights")


def forecast(model: LanguageModel, series: int, samples: int, horizon: int, context: int) -> Callable[[], Any]:
    """A forecast to be timed."""
    forecaster = Forecaster(model, CODEC)
    contexts = simulate("predator-prey", series, steps=context, duration=2.0 * context)
    return lambda: forecaster.predict(contexts, horizon, sample=SampleConfig(samples), context=context)


def training(model: LanguageModel, batch: int, window: int) -> Callable[[], Any]:
    """A few training steps to be timed, with adapters on all linear layers."""
    config = TuneConfig(batch=batch, context=window // 2, horizon=window - window // 2)
    step = TrainingStep(choose(attach(model.network, config.lora, config.seed)), model.rows, config)
    series = simulate("predator-prey", batch, steps=window, duration=2.0 * window)
    encoded = encode_batch(CODEC, np.stack([one.values for one in series]), config.context)

    def steps() -> None:
        for _ in range(STEPS):
            step.run(encoded, 1e-4)

    return steps


def measure(work: Callable[[], Any], device: torch.device, repeats: int, calls: int) -> dict[str, Any]:
    """The median seconds of one of the `calls` that `work` makes, after a first time that is not counted."""
    with peak_memory(device) as memory:
        timed(device, work)
        seconds = median([timed(device, work) for _ in range(repeats)]) / calls
    return {"seconds": rounded(seconds), **memory}


def exponent(sizes: list[float], seconds: list[float]) -> float | None:
    """The slope of log time over log size; None where fewer than two points were measured."""
    if len(sizes) < 2:
        return None
    return rounded(float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]), 3)


def axis(points: dict[float, Callable[[], dict[str, Any]]]) -> dict[str, Any]:
    """Measures by size; a point that fails says why, and the others go on."""
    found: list[dict[str, Any]] = []
    for size, point in points.items():
        try:
            found.append({"size": size, **point()})
        except Exception as error:
            found.append({"size": size, "failed": f"{type(error).__name__}: {error}"[:300]})
        note(f"  {found[-1]}")
        gc.collect()
        torch.cuda.empty_cache()
    measured = [one for one in found if "seconds" in one]
    slope = exponent([one["size"] for one in measured], [one["seconds"] for one in measured])
    return {"exponent": slope, "points": found}


def main() -> None:
    arguments = bare_parser(__doc__ or "", repeats=3)
    arguments.add_argument("--model", default="bundled", help="a CONFIG_DIRECTORY, or `bundled` (the default)")
    options = arguments.parse_args()
    device = torch.device(options.device)
    result = describe(options, "growth")
    if options.model == "bundled":
        models = {"bundled": load_model(device=options.device)}
    else:
        source = Path(options.model)
        tokens = NumericTokens.read(source / "tokenizer.json")
        config, _ = ModelConfig.read(source / "config.json")
        models = {source.name: random_model(config, tokens, device)}
        larger = replace(config, **LARGER)
        models["the shape of Qwen2.5-1.5B"] = random_model(larger, tokens, device)
    first = next(iter(models.values()))
    works = {
        "forecast": (forecast, FORECAST[device.type], FORECAST_AXES[device.type], 1),
        "training": (training, TRAINING[device.type], TRAINING_AXES[device.type], STEPS),
    }
    for kind, (prepare, fixed, axes, calls) in works.items():

        def point(model: LanguageModel, sizes: dict[str, int], prepare: Any = prepare, calls: int = calls) -> Any:
            return lambda: measure(prepare(model, **sizes), device, options.repeats, calls)

        result[kind] = {"fixed": fixed, "axes": {}}
        for name, sizes in axes.items():
            note(f"{kind}, {name}")
            result[kind]["axes"][name] = axis({size: point(first, {**fixed, name: size}) for size in sizes})
        if len(models) > 1:
            note(f"{kind}, parameters")
            bodies = {
                sum(parameter.numel() for parameter in model.network.model.layers.parameters()): model
                for model in models.values()
            }
            points = {size: point(model, fixed) for size, model in bodies.items()}
            result[kind]["axes"]["parameters"] = axis(points)
    finish(result | {"models": list(models), "tokens_a_step": CODEC.grammar(2).step_tokens}, options.output)


if __name__ == "__main__":
    main()

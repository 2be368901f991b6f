"""A model's shape with random weights, all of which are trained on windows of series: what no language has taught."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from loracast import Ledger, Series, TuneConfig
from loracast.codec import Codec
from loracast.compute.device import autocast, on_gpu
from loracast.compute.plain import loss_sum
from loracast.engine.batch import to_device
from loracast.engine.loop import trapezoid_schedule
from loracast.engine.pretrain import initialise, make_optimizers
from loracast.engine.step import VALIDATION_TOKENS, padded
from loracast.engine.train import draw_batch, held_out_batch
from loracast.flops import PassCost
from loracast.grammar import SYMBOLS
from loracast.language_model import LanguageModel
from loracast.series import windows
from loracast.series.windows import WindowSource, evenly_spaced, scorable_windows
from loracast.settings import PretrainConfig


@dataclass(frozen=True)
class Trained:
    """The model after its last step, its validation losses by step, and what it took."""

    model: LanguageModel
    losses: list[list[float]]
    ledger: Ledger


def cost_of(base: LanguageModel) -> PassCost:
    """What passes cost of a model of this shape, all of whose weights are trained."""
    return PassCost(base.network.config, len(SYMBOLS), frozen=False)


def train(
    base: LanguageModel, training: Sequence[Series], validation: Sequence[Series], codec: Codec, config: TuneConfig
) -> Trained:
    """Trains as `loracast.engine.train` tunes: the same windows, noise, gaps and sizes, and the same validation.

    Muon for the matrices of the layers and AdamW for the rest, as models are pretrained; `decay` is that of the config.
    """
    shape = replace(base.network.config, vocab_size=len(SYMBOLS))
    network = initialise(shape, config.seed).to(base.device)
    rate = config.peak_learning_rate(shape.hidden_size)
    optimizers = make_optimizers(network, PretrainConfig(learning_rate=rate))
    rows = torch.arange(len(SYMBOLS), device=base.device)
    source = WindowSource(training, config.context + config.horizon, config.seed)
    scorable = scorable_windows(windows(validation, config.context, config.horizon))
    held_out = held_out_batch(evenly_spaced(scorable, config.validation_windows), codec, config, source.targets)
    hidden: Any = torch.compile(network.hidden) if on_gpu(base.device) else network.hidden
    cost, ledger, losses = cost_of(base), Ledger(), []
    whole = held_out.symbols.shape[1] - 1  # windows with gaps are padded to the length of whole ones

    def validate(step: int) -> None:
        parts = -(-held_out.symbols.size // VALIDATION_TOKENS)
        total = 0.0
        with torch.no_grad(), autocast(base.device):
            for part in held_out.parts(parts):
                total += float(loss_sum(network, *to_device(part, rows)))
        ledger.charge("validation", cost.forward(*held_out.symbols.shape).total)
        losses.append([step, round(total / int(held_out.in_loss.sum()), 5)])

    validate(0)
    for step in range(config.steps):
        batch = padded(draw_batch(source, codec, config, step), whole)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = trapezoid_schedule(step, config.steps, rate, config.warmup, config.decay or 0.0)
        with autocast(base.device):
            loss = loss_sum(network, *to_device(batch, rows), hidden) / int(batch.in_loss.sum())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        ledger.charge("training", cost.training(config.batch, whole).total)
        if (step + 1) % config.validate_every == 0 or step + 1 == config.steps:
            validate(step + 1)
    network.to(base.network.head.dtype).requires_grad_(False)
    model = replace(base.with_network(network), rows=rows, fingerprint=f"from scratch {config.seed}")
    return Trained(model, losses, ledger)

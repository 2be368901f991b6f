"""Pretraining a small Qwen2 from scratch on synthetic series, with a vocabulary of numbers alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from loracast.codec import Codec
from loracast.compute.device import autocast, choose_device, describe_hardware, on_gpu
from loracast.compute.plain import loss_sum
from loracast.engine.batch import Batch, to_device
from loracast.engine.loop import (
    Interruption,
    JsonLines,
    check_converges,
    check_same,
    load_training,
    read_record,
    save_training,
    trapezoid_schedule,
)
from loracast.engine.muon import Muon
from loracast.engine.pool import SHARES, Pool
from loracast.engine.score_clip import clip_cost, clip_scores
from loracast.errors import ConfigError, Interrupted
from loracast.files import RECORD, write_json
from loracast.flops import PassCost
from loracast.grammar import SYMBOLS
from loracast.ledger import Ledger
from loracast.model.checkpoint import write_model
from loracast.model.config import ModelConfig
from loracast.model.tokenizer import END, NUMERIC_VOCABULARY, write_numeric_tokenizer
from loracast.model.transformer import Transformer
from loracast.settings import Device, PretrainConfig

HELD_OUT = 512  # windows that are never trained on
CLIP_EVERY, CLIP_WINDOWS = 10, 4  # steps between two measurements of attention scores, and on how many windows


def model_config(config: PretrainConfig) -> ModelConfig:
    return ModelConfig(
        vocab_size=len(NUMERIC_VOCABULARY),
        hidden_size=config.hidden,
        intermediate_size=config.mlp,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        head_dim=config.hidden // config.heads,
        rope_theta=10_000.0,
        max_position_embeddings=config.tokens,
        eos_token_id=NUMERIC_VOCABULARY.index(END),
    )


def initialise(config: ModelConfig, seed: int) -> Transformer:
    """Random weights of deviation 0.02, smaller by √(2·layers) where a block writes to the residual stream."""
    generator = torch.Generator().manual_seed(seed)
    network = Transformer(config)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 2:
            writes = name.endswith(("o_proj.weight", "down_proj.weight"))
            deviation = 0.02 / math.sqrt(2 * config.num_hidden_layers) if writes else 0.02
            nn.init.normal_(parameter, 0.0, deviation, generator=generator)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    return network


def make_optimizers(network: Transformer, config: PretrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers; AdamW for tables of tokens and for vectors."""
    matrices = [parameter for parameter in network.model.layers.parameters() if parameter.ndim == 2]
    vectors = [parameter for parameter in network.parameters() if parameter.ndim < 2]
    tables = [
        parameter
        for name, parameter in network.named_parameters()
        if name.endswith(("embed_tokens.weight", "lm_head.weight"))
    ]
    others = [{"params": tables, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    rate = config.learning_rate
    return [
        Muon(matrices, rate, config.weight_decay),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), fused=on_gpu(vectors[0].device)),
    ]


def pretrain(
    config: PretrainConfig,
    output: Path,
    *,
    device: Device = "auto",
    resume: bool = False,
    report: Callable[[dict[str, Any]], None] = lambda event: None,
) -> dict[str, Any]:
    """Trains a model and writes it to `output` as a Hugging Face directory; returns its record.

    Ctrl-C saves `training.safetensors`, from which `resume` goes on exactly: same device, same settings, same weights.
    """
    output, place = Path(output), choose_device(device)
    checkpoint = output / "training.safetensors"
    if resume and not checkpoint.is_file():
        raise ConfigError([f"{output} has no interrupted pretraining to resume ({checkpoint.name} is not there)"])
    if not resume and any((output / name).exists() for name in (checkpoint.name, "model.safetensors")):
        raise ConfigError([f"{output} already holds a model or an interrupted run; resume it or choose another folder"])
    if resume:  # before anything is computed
        check_same(checkpoint, read_record(checkpoint)["config"], asdict(config))

    shape, codec = model_config(config), Codec(digits=config.digits)
    network = initialise(shape, config.seed).to(place)
    optimizers = make_optimizers(network, config)
    step, seconds = 0, 0.0
    if resume:
        groups, record = load_training(checkpoint, optimizers)
        network.load_state_dict(groups["weights"])
        step, seconds = record["step"], record["seconds"]
    log = JsonLines(output / "metrics.jsonl", step)

    def emit(event: dict[str, Any]) -> None:
        log.write(event)
        report(event)

    began = time.perf_counter()
    pool = Pool(config, codec, config.seed, config.pool, place)
    held_out = Pool(config, codec, config.seed + 2**31, HELD_OUT, place).batch(0, HELD_OUT)
    emit({"event": "pool", "step": step, "series": config.pool, "seconds": round(time.perf_counter() - began, 2)})

    rows = torch.arange(len(SYMBOLS), device=place)
    cost = PassCost(shape, shape.vocab_size, frozen=False)
    step_flops = cost.training(config.batch, config.tokens - 1).total
    validation_flops = cost.forward(HELD_OUT, config.tokens - 1).total
    ledger = Ledger()
    ledger.charge("training", step * step_flops)
    ledger.charge("validation", step // config.validate_every * validation_flops)
    clip_flops = clip_cost(shape, min(CLIP_WINDOWS, config.batch), config.tokens)
    ledger.charge("clipping", step // CLIP_EVERY * clip_flops)
    # compiled, a small model is three times as fast on a GPU; on a CPU the compiler would cost more than it gives
    if on_gpu(place):
        network.hidden = torch.compile(network.hidden)

    def batch_loss(batch: Batch) -> torch.Tensor:
        on_device = to_device(batch, rows)
        with autocast(place):
            return loss_sum(network, *on_device) / int(batch.in_loss.sum())

    def clip(batch: Batch) -> float:
        apart = max(1, len(batch.symbols) // CLIP_WINDOWS)  # some of each number of variables
        chosen = batch.symbols[::apart][:CLIP_WINDOWS]
        # no cache of casts: what is shrunk is read again at once
        with autocast(place, cache_enabled=False):
            return clip_scores(network, torch.from_numpy(chosen).to(place), config.score_limit)

    def validate() -> float:
        parts = max(1, HELD_OUT // config.batch)
        with torch.no_grad():
            losses = [(batch_loss(part).item(), part.in_loss.sum()) for part in held_out.parts(parts)]
        return float(np.average([loss for loss, _ in losses], weights=[count for _, count in losses]))

    def check(**measured: float) -> None:
        check_converges(measured, step, config.learning_rate, checkpoint)

    def save() -> None:
        check(loss=loss.item(), gradient_norm=norm.item())  # never instead of a checkpoint that is sound
        record = {"step": step, "seconds": seconds + time.perf_counter() - began, "config": asdict(config)}
        save_training(checkpoint, {"weights": dict(network.state_dict())}, optimizers, record)

    validation_loss, largest_score = float("nan"), None
    with log, Interruption() as interruption:
        since, since_step = time.perf_counter(), step
        for batch in pool.batches(step, config.steps, config.batch):
            rate = trapezoid_schedule(step, config.steps, config.learning_rate, config.warmup, config.decay)
            ledger.charge("training", step_flops)
            loss = batch_loss(batch)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(network.parameters(), config.clip)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            step += 1
            if step % CLIP_EVERY == 0:
                ledger.charge("clipping", clip_flops)
                largest_score = clip(batch)
            if step % 10 == 0 or step == config.steps:
                value, now = loss.item(), time.perf_counter()  # the device is only waited for here
                pace = (step - since_step) * config.batch * config.tokens / (now - since)
                since, since_step = now, step
                emit(
                    {
                        "event": "train",
                        "step": step,
                        "steps": config.steps,
                        "loss": value,
                        "learning_rate": rate,
                        "gradient_norm": norm.item(),
                        "largest_score": largest_score,
                        "tokens_per_second": round(pace),
                        "flops": ledger.total.hardware,
                    }
                )
                check(loss=value, gradient_norm=norm.item())
            if step % config.validate_every == 0 or step == config.steps:
                ledger.charge("validation", validation_flops)
                validation_loss = validate()
                emit({"event": "validation", "step": step, "loss": validation_loss})
                check(validation_loss=validation_loss)
            if interruption.requested and step < config.steps:
                save()
                raise Interrupted(f"stopped after step {step} of {config.steps}; continue with --resume")
            if step % config.save_every == 0 and step < config.steps:
                save()

    seconds += time.perf_counter() - began
    record = {
        "codec": codec.to_dict(),
        "pretraining": {
            "config": asdict(config),
            "tokens": config.steps * config.batch * config.tokens,
            "variables": max(SHARES),
            "flops": ledger.to_dict(),
            "validation_loss": validation_loss,
            "seconds": round(seconds, 1),
            "hardware": describe_hardware(place),
            "torch": torch.__version__,
        },
    }
    write_model(output, network, shape, torch.bfloat16)
    write_numeric_tokenizer(output)
    generation = {"eos_token_id": shape.eos_token_id, "pad_token_id": shape.eos_token_id, "do_sample": True}
    write_json(output / "generation_config.json", generation)
    write_json(output / RECORD, record)
    checkpoint.unlink(missing_ok=True)
    return record

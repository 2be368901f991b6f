"""Pretraining a small model from scratch on synthetic series, with a vocabulary of numbers alone."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from loracast.codec import Codec
from loracast.compute.device import autocast, choose_device, describe_hardware, on_gpu
from loracast.compute.plain import loss_sum
from loracast.engine.batch import Batch, to_device
from loracast.engine.loop import check_same, load_training, read_record, trapezoid_schedule
from loracast.engine.muon import Muon
from loracast.engine.pool import Pool
from loracast.engine.score_clip import clip_cost, clip_scores
from loracast.engine.session import Emit, StepResult, TrainingSession
from loracast.errors import ConfigError
from loracast.files import CHECKPOINT, RECORD, write_json
from loracast.flops import Flops, PassCost
from loracast.grammar import SYMBOLS
from loracast.ledger import Ledger
from loracast.model.checkpoint import write_model
from loracast.model.config import ModelConfig
from loracast.model.families import FAMILIES
from loracast.model.tokenizer import END, NUMERIC_VOCABULARY, write_numeric_tokenizer
from loracast.model.transformer import Transformer
from loracast.model.weights import WEIGHTS
from loracast.settings import Device, PretrainConfig

HELD_OUT = 512  # windows that are never trained on
LOG_EVERY = 10  # steps, after which a device is waited for
CLIP_EVERY, CLIP_WINDOWS = 10, 4  # steps between two measurements of attention scores, and on how many windows


def model_config(config: PretrainConfig) -> ModelConfig:
    family = FAMILIES[config.family]
    return ModelConfig(
        vocab_size=len(NUMERIC_VOCABULARY),
        hidden_size=config.hidden,
        intermediate_size=config.mlp,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        head_dim=config.hidden // config.heads,
        rope_theta=10_000.0,
        max_position_embeddings=config.long_tokens,
        eos_token_id=NUMERIC_VOCABULARY.index(END),
        family=config.family,
        qkv_bias=family.qkv_bias,
        qk_norm=family.qk_norm,
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


class Pretraining:
    """What a session trains to pretrain a model; see `session.Training`."""

    def __init__(self, config: PretrainConfig, place: torch.device, codec: Codec):
        self.config, self.place, self.shape = config, place, model_config(config)
        self.network = initialise(self.shape, config.seed).to(place)
        self._optimizers = make_optimizers(self.network, config)
        self.pool = Pool(config, codec, config.seed, config.pool, config.steps, place)
        held_out = Pool(config, codec, config.seed + 2**31, HELD_OUT, 1, place)
        self.held_out = held_out.batch(0, HELD_OUT)
        self.rows = torch.arange(len(SYMBOLS), device=place)
        self.cost = PassCost(self.shape, self.shape.vocab_size, frozen=False)
        self.validation_flops = self.cost.forward(HELD_OUT, self.held_out.symbols.shape[1] - 1).total
        self.ledger, self.validation_loss, self.largest_score = Ledger(), float("nan"), None

    def begin(self, step: int) -> None:
        """Charges the steps that were made before, and compiles.

        Compiled, a small model is three times as fast on a GPU; on a CPU the compiler would cost more than it gives.
        """
        self.ledger.charge("training", Flops.sum(self.step_flops(before) for before in range(step)))
        self.ledger.charge("validation", step // self.config.validate_every * self.validation_flops)
        clipped = range(CLIP_EVERY - 1, step, CLIP_EVERY)
        self.ledger.charge("clipping", Flops.sum(self.clip_flops(before) for before in clipped))
        if on_gpu(self.place):
            self.network.hidden = torch.compile(self.network.hidden, dynamic=False)  # one way for each length

    def step_flops(self, step: int) -> Flops:
        return self.cost.training(self.config.windows(step), self.config.window_tokens(step) - 1).total

    def clip_flops(self, step: int) -> Flops:
        return clip_cost(self.shape, min(CLIP_WINDOWS, self.config.windows(step)), self.config.window_tokens(step))

    @property
    def steps(self) -> int:
        return self.config.steps

    @property
    def peak(self) -> float:
        return self.config.learning_rate

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        return self._optimizers

    def batches(self, first: int) -> Iterator[Batch]:
        return self.pool.batches(first, self.steps)

    def reason_to_stop(self, step: int, batch: Batch) -> str | None:
        return None

    def train(self, step: int, batch: Batch) -> StepResult:
        config = self.config
        rate = trapezoid_schedule(step, config.steps, config.learning_rate, config.warmup, config.decay)
        self.ledger.charge("training", self.step_flops(step))
        loss = self._loss(batch)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if (step + 1) % CLIP_EVERY == 0:
            self.ledger.charge("clipping", self.clip_flops(step))
            self.largest_score = self._clip(batch)
        return StepResult(loss, norm, rate, {"largest_score": self.largest_score})

    def _loss(self, batch: Batch) -> Tensor:
        on_device = to_device(batch, self.rows)
        with autocast(self.place):
            return loss_sum(self.network, *on_device) / int(batch.in_loss.sum())

    def _clip(self, batch: Batch) -> float:
        apart = max(1, len(batch.symbols) // CLIP_WINDOWS)  # some of each number of variables
        chosen = batch.symbols[::apart][:CLIP_WINDOWS]
        # no cache of casts: what is shrunk is read again at once
        with autocast(self.place, cache_enabled=False):
            return clip_scores(self.network, torch.from_numpy(chosen).to(self.place), self.config.score_limit)

    def is_logged(self, step: int) -> bool:
        return step % LOG_EVERY == 0 or step == self.steps

    def is_validated(self, step: int) -> bool:
        return step > 0 and (step % self.config.validate_every == 0 or step == self.steps)

    @torch.no_grad()
    def validate(self, step: int, emit: Emit) -> float:
        self.ledger.charge("validation", self.validation_flops)
        parts = [*self.held_out.parts(max(1, HELD_OUT // self.config.batch))]
        losses = [self._loss(part).item() for part in parts]
        self.validation_loss = float(np.average(losses, weights=[part.in_loss.sum() for part in parts]))
        emit({"event": "validation", "step": step, "loss": self.validation_loss})
        return self.validation_loss

    def accept(self, step: int, loss: float) -> None:
        """The last weights are kept, whatever their loss."""

    def is_saved(self, step: int) -> bool:
        return step % self.config.save_every == 0 and step < self.steps

    def state(self, step: int, seconds: float) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        return {"weights": dict(self.network.state_dict())}, {
            "step": step,
            "seconds": seconds,
            "config": asdict(self.config),
        }

    def spent(self) -> dict[str, int]:
        return {"flops": self.ledger.total.executed}

    def record(self, stopped: str | None, seconds: float) -> dict[str, Any]:
        config = self.config
        return {
            "config": asdict(config),
            "tokens": sum(config.windows(step) * config.window_tokens(step) for step in range(self.steps)),
            "variables": config.variables,
            "flops": self.ledger.to_dict(),
            "validation_loss": self.validation_loss,
            "seconds": round(seconds, 1),
            "hardware": describe_hardware(self.place),
            "torch": torch.__version__,
        }


def pretrain(
    config: PretrainConfig,
    output: Path,
    *,
    device: Device = "auto",
    resume: bool = False,
    report: Emit = lambda event: None,
) -> dict[str, Any]:
    """Trains a model and writes it to `output` as a Hugging Face directory; returns its record.

    Ctrl-C saves a checkpoint, from which `resume` goes on exactly: same device, same settings, same weights.
    """
    output, place = Path(output), choose_device(device)
    checkpoint = output / CHECKPOINT
    if resume and not checkpoint.is_file():
        raise ConfigError([f"{output} has no interrupted pretraining to resume ({CHECKPOINT} is not there)"])
    if not resume and any((output / name).exists() for name in (CHECKPOINT, WEIGHTS)):
        raise ConfigError([f"{output} already holds a model or an interrupted run; resume it or choose another folder"])
    if resume:  # before anything is computed
        begun = {"family": "qwen2", **read_record(checkpoint)["config"]}  # the only family there was at first
        check_same(checkpoint, begun, asdict(config))
    began, codec = time.perf_counter(), Codec(digits=config.digits)
    pretraining, step, seconds = Pretraining(config, place, codec), 0, 0.0
    pooled = round(time.perf_counter() - began, 2)
    if resume:
        groups, stored = load_training(checkpoint, pretraining.optimizers)
        pretraining.network.load_state_dict(groups["weights"])
        step, seconds = stored["step"], stored["seconds"]
    pretraining.begin(step)
    session = TrainingSession(pretraining, step=step, seconds=seconds, directory=output, report=report)
    session.emit({"event": "pool", "step": step, "series": config.pool, "seconds": pooled})
    session.run()
    record = {"codec": codec.to_dict(), "pretraining": pretraining.record(None, session.seconds)}
    write_model(output, pretraining.network, pretraining.shape, torch.bfloat16)
    write_numeric_tokenizer(output, config.family)
    end = pretraining.shape.eos_token_id
    write_json(output / "generation_config.json", {"eos_token_id": end, "pad_token_id": end, "do_sample": True})
    write_json(output / RECORD, record)
    checkpoint.unlink(missing_ok=True)
    return record

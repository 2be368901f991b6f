"""Training steps of loracast beside those of transformers + peft, on a full-size Qwen2 with random weights.

    python benchmarks/training.py CONFIG_DIRECTORY -o benchmarks/results/training.json

CONFIG_DIRECTORY holds the config.json and tokenizer.json of Qwen2.5-0.5B, say; weights are not needed. `--cases` and
`--contestants` choose among what is measured. A case is windows a step and what gets an adapter of rank 8.

A step is the transfer of 512 tokens a window to the device, forward and backward pass, gradient clipping at 1, and
AdamW. All contestants start from the same weights and the same adapter, which is not zero, and see the same tokens.
Before anything is timed, the losses and gradient norms of each contestant's first steps are compared: those with the
full vocabulary with each other, those with the numeric rows with each other and with a peer's logits of the same rows.

The last line of the output is the result as JSON.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from harness import (
    Contest,
    describe,
    median,
    note,
    parser,
    peak_memory,
    random_adapter,
    rounded,
    run_cases,
    timed,
    workplace,
)
from torch import Tensor, nn

from loracast.compute import choose
from loracast.engine.batch import Batch
from loracast.flops import PassCost
from loracast.grammar import COMMA, SEMICOLON, SYMBOLS
from loracast.language_model import load_model
from loracast.model.config import ModelConfig
from loracast.model.lora import attach, load_adapter_state, read_adapter
from loracast.model.tokenizer import NumericTokens
from loracast.settings import TuneConfig

TOKENS = 512  # fed, of a window
CHECKED_STEPS = 3
RATE = 3e-4
LOSS_TOLERANCE, NORM_TOLERANCE = 0.005, 0.05  # relative, of bfloat16


@dataclass(frozen=True)
class Case:
    batch: int
    targets: str
    tokens: int = TOKENS

    @classmethod
    def named(cls, name: str) -> Case:
        batch, targets, *tokens = name.split("/")
        return cls(int(batch), targets, int(tokens[0]) if tokens else TOKENS)

    @property
    def tune(self) -> TuneConfig:
        return TuneConfig(rank=8, alpha=16, targets=self.targets, batch=self.batch, learning_rate=RATE)


@dataclass(frozen=True)
class Setting:
    """What a contestant needs to know: folders of the checkpoint and of the adapter, the case, and the device."""

    model: Path
    adapter: Path
    case: Case
    device: str

    def batches(self) -> list[Batch]:
        """Random numbers of four digits, two a step of the series. The last symbol is neither fed nor predicted."""
        symbols = np.random.default_rng(0).integers(
            10, size=(CHECKED_STEPS, self.case.batch, self.case.tokens + 1)
        )  # [S, B, L]
        symbols[..., 4::10], symbols[..., 9::10] = COMMA, SEMICOLON
        in_loss = np.ones(symbols.shape[1:], bool)
        in_loss[:, [0, self.case.tokens]] = False
        return [Batch(one, in_loss, 0) for one in symbols]


class Trainer:
    """Takes steps on the same few batches, again and again."""

    def __init__(self, setting: Setting):
        self.device = torch.device(setting.device)
        self.batches = setting.batches()
        self.taken = 0

    def step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One step: loss and gradient norm, not waited for."""
        raise NotImplementedError

    def next_step(self) -> tuple[Tensor, Tensor]:
        batch = self.batches[self.taken % len(self.batches)]
        self.taken += 1
        return self.step(batch)

    def first_steps(self) -> dict[str, list[float]]:
        results = [[float(value) for value in self.next_step()] for _ in range(CHECKED_STEPS)]
        losses, norms = zip(*results)
        return {"losses": list(losses), "gradient_norms": list(norms)}

    def round(self, warm_up: int, steps: int) -> dict[str, Any]:
        with peak_memory(self.device) as memory:
            timed(self.device, self.next_step, warm_up)
            seconds = timed(self.device, self.next_step, steps)
        return {"ms": rounded(1000 * seconds), **memory}


class Loracast(Trainer):
    """loracast with the numeric or the full vocabulary, by its fast path or by the plain one."""

    def __init__(self, setting: Setting, vocabulary: str, fast: bool):
        super().__init__(setting)
        self.model = load_model(setting.model, vocabulary=vocabulary, device=setting.device, precision="bfloat16")
        self.config, self.fast = setting.case.tune, fast
        _, self.adapter = read_adapter(setting.adapter)
        self.training_step = None

    def first_steps(self) -> dict[str, list[float]]:
        results = super().first_steps()
        self.training_step = None
        return results

    def round(self, warm_up: int, steps: int) -> dict[str, Any]:
        results = super().round(warm_up, steps) | {"parts": self.training_step.parts}
        self.training_step = None  # with its graphs, whose memory the others need
        return results

    def step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        if self.training_step is None:
            from loracast.engine.step import TrainingStep

            network = attach(self.model.network, self.config.lora, self.config.seed)
            load_adapter_state(network, self.adapter, "the benchmark's adapter")
            way = choose(network, "auto" if self.fast else "plain")
            self.training_step = TrainingStep(way, self.model.rows, self.config)
        return self.training_step.run(batch, RATE)


class Peft(Trainer):
    """transformers + peft as in their documentation: bfloat16 base, float32 adapter, loss from labels."""

    def __init__(self, setting: Setting, compiled: bool = False, liger: bool = False, autocast: bool = False):
        super().__init__(setting)
        self.autocast = autocast
        self.table = torch.from_numpy(NumericTokens.read(setting.model / "tokenizer.json").ids)
        if liger:
            from liger_kernel.transformers import apply_liger_kernel_to_qwen2

            apply_liger_kernel_to_qwen2()
        self.model = self.load(setting)
        self._set_adapter(setting.adapter)
        self.model.train()
        self.adapters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        decay = setting.case.tune.weight_decay
        self.optimizer = torch.optim.AdamW(self.adapters, lr=RATE, betas=(0.9, 0.99), weight_decay=decay)
        self.forward = torch.compile(self.model) if compiled else self.model

    def load(self, setting: Setting) -> nn.Module:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        lora = setting.case.tune.lora
        base = AutoModelForCausalLM.from_pretrained(setting.model, dtype=torch.bfloat16, attn_implementation="sdpa")
        targets = [f"{target}_proj" for target in lora.targets]
        config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=targets, task_type="CAUSAL_LM")
        return get_peft_model(base.to(self.device), config)

    def _set_adapter(self, directory: Path) -> None:
        _, state = read_adapter(directory)
        own = dict(self.model.named_parameters())
        for name, tensor in state.items():
            own[name.removesuffix(".weight") + ".default.weight"].data.copy_(tensor)

    def ids(self, batch: Batch) -> Tensor:
        """Token ids [B, T] on the device."""
        return self.table[torch.from_numpy(batch.symbols[:, :-1])].to(self.device, non_blocking=True)

    def step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        ids = self.ids(batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            loss = self.forward(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.adapters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach(), norm

    @torch.no_grad()
    def numeric_loss(self) -> float:
        """Of the first batch with the logits of the numeric rows alone."""
        base = self.model.get_base_model()
        head = base.get_output_embeddings().weight[self.table.to(self.device)]  # [A, C]
        symbols = torch.from_numpy(self.batches[0].symbols[:, 1:-1]).to(self.device)  # [B, T-1]
        losses = []
        for ids, targets in zip(self.ids(self.batches[0]).split(4), symbols.split(4)):
            logits = F.linear(base.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1], head)  # [4, T-1, A]
            losses.append(F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="sum"))
        return float(sum(losses)) / symbols.numel()


class Unsloth(Peft):
    """Unsloth, which must be imported before transformers."""

    def load(self, setting: Setting) -> nn.Module:
        compiled = str(setting.adapter.parent / "unsloth")
        os.environ |= {"UNSLOTH_COMPILE_LOCATION": compiled, "UNSLOTH_DISABLE_STATISTICS": "1", "HF_HUB_OFFLINE": "1"}
        from unsloth import FastLanguageModel

        lora = setting.case.tune.lora
        base, _ = FastLanguageModel.from_pretrained(
            str(setting.model), max_seq_length=setting.case.tokens, dtype=torch.bfloat16, load_in_4bit=False
        )
        return FastLanguageModel.get_peft_model(
            base,
            r=lora.rank,
            lora_alpha=lora.alpha,
            target_modules=[f"{target}_proj" for target in lora.targets],
            use_gradient_checkpointing=False,
        )


CONTESTANTS = {
    "loracast-numeric": (Loracast, "numeric", True),
    "loracast-full": (Loracast, "full", True),
    "loracast-plain": (Loracast, "numeric", False),
    "peft-eager": (Peft,),
    "peft-compiled": (Peft, True),
    "peft-liger": (Peft, False, True),
    "peft-eager-autocast": (Peft, False, False, True),
    "peft-compiled-autocast": (Peft, True, False, True),
    "unsloth": (Unsloth,),
}
CASES = ("64/attention", "64/all-linear", "4/attention", "4/all-linear")
NUMERIC = ("loracast-numeric", "loracast-plain")


def floor_ms(config: ModelConfig, case: Case, rows: int, tflops: float) -> float:
    """Milliseconds that the matrix products of a step take at the measured peak, and nothing else.

    No gradient of a frozen weight; half of attention's pairs, since a causal kernel skips the rest; reading and writing
    memory, norms, the optimiser and the softmax left out.
    """
    cost = PassCost(config, rows, case.tune.lora).training(case.batch, case.tokens)
    skipped = sum(cost.terms[term].executed for term in ("scores", "weighted sum")) // 2
    return rounded(1000 * (cost.total.executed - skipped) / (tflops * 1e12))


def compare(first: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The largest relative difference of losses and gradient norms from those of the group's first member."""
    values = list(first.values())
    differences = {
        key: [abs(a / b - 1) for one in values[1:] for a, b in zip(one[key], values[0][key])]
        for key in ("losses", "gradient_norms")
    }
    tolerances = {"losses": LOSS_TOLERANCE, "gradient_norms": NORM_TOLERANCE}
    agree = all(difference < tolerances[key] for key, found in differences.items() for difference in found)
    largest = {key: max(found, default=None) for key, found in differences.items()}  # None in a group of one
    return {"first_steps": first, "largest_difference": largest, "agree": agree}


def run_case(
    setting: Setting, chosen: list[str], options: Any, peak: dict[str, float], keep_case: Callable[[Any], None]
) -> dict[str, Any]:
    """All contestants on one case; `keep_case` gets what there is after each round."""
    case = setting.case
    note(f"{case.batch} windows, {case.targets}")
    with Contest(options.limit) as contest:
        contest.enter({name: (CONTESTANTS[name][0], setting, *CONTESTANTS[name][1:]) for name in chosen})
        peers = [name for name in contest.names if CONTESTANTS[name][0] is Peft]
        numeric_loss = contest.call(peers[0], "numeric_loss") if peers else None
        first = {name: found for name in chosen if (found := contest.call(name, "first_steps"))}
        checked = check(first, numeric_loss)

        def summary(answers: dict[str, list[Any]]) -> dict[str, Any]:
            return summarise(setting, chosen, answers, contest.failures, peak) | {"checks": checked}

        answers = contest.interleave(
            dict.fromkeys(chosen, options.repeats),
            "round",
            options.warm_up,
            options.steps,
            after_round=lambda answers: keep_case(summary(answers)),
        )
        return summary(answers)


def summarise(
    setting: Setting, chosen: list[str], answers: dict[str, list[Any]], failures: dict[str, str], peak: dict[str, float]
) -> dict[str, Any]:
    """Medians and ratios of the rounds that there are."""
    case = setting.case
    config, _ = ModelConfig.read(setting.model / "config.json")
    results: dict[str, dict[str, Any]] = {}
    for name in chosen:
        if name in failures:
            results[name] = {"failed": failures[name]}
            continue
        ms = rounded(median([answer["ms"] for answer in answers[name]]))
        rows = len(SYMBOLS) if name in NUMERIC else config.vocab_size
        floor = floor_ms(config, case, rows, peak["matmul_tflops"])
        results[name] = {
            "ms": ms,
            "tokens_per_second": round(1000 * case.batch * case.tokens / ms),
            "peak_gib": max((answer["peak_gib"] for answer in answers[name] if "peak_gib" in answer), default=None),
            "floor_ms": floor,
            "times_floor": rounded(ms / floor, 3),
            "rounds_ms": [answer["ms"] for answer in answers[name]],
        }
        if "parts" in answers[name][-1]:  # that the batch was split into, for want of memory
            results[name]["parts"] = answers[name][-1]["parts"]
    ours = [name for name in results if name.startswith("loracast") and "ms" in results[name]]
    ratios = {
        own: {name: rounded(found["ms"] / results[own]["ms"], 3) for name, found in results.items() if "ms" in found}
        for own in ours
    }
    return {"tokens": case.tokens, "contestants": results, "times_slower_than": ratios}


def check(first: dict[str, dict[str, Any]], numeric_loss: float | None) -> dict[str, Any]:
    """Whether first steps agree within each vocabulary, and the numeric ones with a peer's loss of the same rows."""
    groups = {
        "numeric": {name: found for name, found in first.items() if name in NUMERIC},
        "full": {name: found for name, found in first.items() if name not in NUMERIC},
    }
    checks = {name: compare(group) for name, group in groups.items() if group}
    if numeric_loss is not None and "numeric" in checks:
        loss = next(iter(groups["numeric"].values()))["losses"][0]
        checks["numeric"] |= {"first_loss_of_peer": numeric_loss}
        checks["numeric"]["agree"] &= abs(loss / numeric_loss - 1) < LOSS_TOLERANCE
    return checks


def main() -> None:
    arguments = parser(__doc__ or "", limit=240, repeats=3)
    arguments.add_argument("--cases", nargs="+", default=list(CASES), help=f"among {' '.join(CASES)}, or any other")
    arguments.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), choices=CONTESTANTS)
    arguments.add_argument("--steps", type=int, default=8, help="timed in a round (%(default)s)")
    arguments.add_argument("--warm-up", type=int, default=2, help="steps before those (%(default)s)")
    options = arguments.parse_args()
    result = describe(options, "training")
    with workplace(options) as (model, place):
        config, _ = ModelConfig.read(model / "config.json")

        def run(name: str, keep_case: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
            case = Case.named(name)
            adapter = random_adapter(place / case.targets, config, case.tune.lora)
            setting = Setting(model, adapter, case, options.device)
            return run_case(setting, options.contestants, options, result["peaks"], keep_case)

        run_cases(result, options, run)


if __name__ == "__main__":
    main()

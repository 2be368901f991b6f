"""Training steps, forecasts and start-up on a CPU, at the sizes of `loracast demo`, beside transformers + peft.

    python benchmarks/cpu.py -o benchmarks/results/cpu.json [--model bundled] [--repeats 5] [--skip sampling]

A training step is 8 windows of 50 + 50 steps of predator and prey: rank 8 on all linear layers, forward and backward
pass, clipping and AdamW. A forecast is 50 steps from 50 of 20 series by 16 paths each. Both have the same checkpoint,
the bundled one unless another is named, and the same tokens. Peers come in bfloat16 and float32, with sdpa and eager
attention, `generate` also with a static cache; each is tried, and the fastest ones take turns with loracast.

The first losses of loracast and of the fastest peer must be that of the peer in float32. Sampled text must parse, and
the first step's values must have one distribution (a two-sample Kolmogorov–Smirnov test for each series, and one of all
of their p-values). The floor is what the matrix products take at the peak that was measured in the same run.

The last line of the output is the result as JSON.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line sets it, before torch is imported

import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
import torch
from harness import Contest, bare_parser, describe, finish, keep, median, note, rounded
from scipy.stats import ks_2samp, kstest

import loracast
from loracast.compute import choose
from loracast.engine.batch import Batch, encode_batch, to_device
from loracast.engine.step import TrainingStep
from loracast.flops import PassCost
from loracast.forecaster import Forecaster
from loracast.model.locate import locate
from loracast.model.lora import attach
from loracast.series.windows import WindowSource
from loracast.settings import SampleConfig, TuneConfig

TUNE = TuneConfig()  # batch 8, context and horizon 50, rank 8 on all linear layers
SERIES, SAMPLES = 20, 16
CHECKED_STEPS, LOSS_TOLERANCE = 3, 0.01
EXACT = "float32 sdpa"
PEERS = [f"{precision} {attention}" for precision in ("bfloat16", "float32") for attention in ("sdpa", "eager")]
RATE = 1e-3
LIMIT = 1800  # seconds after which a call fails


def training_batch(base: Forecaster) -> Batch:
    source = WindowSource(loracast.simulate("predator-prey", 50), TUNE.context + TUNE.horizon, TUNE.seed)
    return encode_batch(base.codec, source.draw(0, TUNE.batch), TUNE.context)


def contexts() -> list[loracast.Series]:
    return [one.slice(0, TUNE.context) for one in loracast.simulate("predator-prey", SERIES, seed=1)]


def peak_memory() -> float:
    """GiB of this process at its highest."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


class Ours:
    """loracast as its command line runs it."""

    def __init__(self, model: str):
        self.base = Forecaster.from_pretrained(model, device="cpu")
        self.batch = training_batch(self.base)
        network = attach(self.base.model.network, TUNE.lora)
        self.training = TrainingStep(choose(network), self.base.model.rows, TUNE)
        self.forecasts = 0

    def step(self) -> tuple[float, float]:
        """Seconds and loss."""
        began = time.perf_counter()
        loss = self.training.run(self.batch, RATE)[0].item()
        return time.perf_counter() - began, loss

    def sample(self, horizon: int) -> tuple[float, np.ndarray, float]:
        """Seconds, values [N, S, D] of the first step, and the share of steps that parse."""
        self.forecasts += 1  # other paths each time
        began = time.perf_counter()
        forecast = self.base.predict(
            contexts(), horizon, sample=SampleConfig(SAMPLES, seed=self.forecasts, transform="none")
        )
        seconds = time.perf_counter() - began
        codec, values = self.base.codec, []
        for one, paths in zip(contexts(), forecast.samples):  # as written, for that is what peers' are
            scale = codec.fit_scale(one.values)
            values.append(codec.dequantise(codec.quantise(paths[:, 0], scale)[0], scale))
        return seconds, np.stack(values), float(forecast.valid.mean())

    def memory(self) -> float:
        return peak_memory()


class Peer:
    """transformers + peft."""

    def __init__(self, model: str, kind: str, cache: str | None = None):
        from transformers import Qwen2ForCausalLM

        precision, attention = kind.split()
        self.base, self.cache = Forecaster.from_pretrained(model, device="cpu"), cache
        self.network = Qwen2ForCausalLM.from_pretrained(
            locate(model), dtype=getattr(torch, precision), attn_implementation=attention
        ).eval()
        self.training: Any = None

    def step(self) -> tuple[float, float]:
        if self.training is None:
            from peft import LoraConfig, get_peft_model

            lora = LoraConfig(r=TUNE.rank, lora_alpha=TUNE.lora.alpha, target_modules="all-linear")
            network = get_peft_model(self.network, lora).train()
            adapters = [parameter for parameter in network.parameters() if parameter.requires_grad]
            optimizer = torch.optim.AdamW(adapters, lr=RATE, weight_decay=TUNE.weight_decay, betas=(0.9, 0.99))
            self.training = network, adapters, optimizer, training_batch(self.base)
        network, adapters, optimizer, batch = self.training
        began = time.perf_counter()
        ids, _, in_loss = to_device(batch, torch.from_numpy(self.base.model.tokens.ids))
        loss = network(input_ids=ids, labels=ids.masked_fill(~in_loss, -100), use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(adapters, TUNE.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        value = loss.item()
        return time.perf_counter() - began, value

    def sample(self, horizon: int) -> tuple[float, np.ndarray, float]:
        codec, series = self.base.codec, contexts()
        scales = [codec.fit_scale(one.values) for one in series]
        symbols = np.stack([codec.encode(one.values, scale).ids for one, scale in zip(series, scales)])
        prompt = torch.from_numpy(self.base.model.tokens.ids[symbols])  # [N, P]
        length = horizon * codec.grammar(2).step_tokens
        settings = {"cache_implementation": self.cache, "disable_compile": True} if self.cache else {}
        began = time.perf_counter()
        written = self.network.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=True,
            top_k=0,
            num_return_sequences=SAMPLES,
            min_new_tokens=length,
            max_new_tokens=length,
            pad_token_id=0,
            **settings,
        )[:, prompt.shape[1] :]
        seconds = time.perf_counter() - began
        values, valid = [], []
        for paths, scale in zip(written.view(len(series), SAMPLES, length).numpy(), scales):
            texts = np.stack([self.base.model.tokens.to_symbols(path)[:length] for path in paths])
            decoded = codec.decode(texts, scale, horizon)
            values.append(decoded.values[:, 0])
            valid.append(decoded.valid)
        return seconds, np.stack(values), float(np.mean(valid))

    def memory(self) -> float:
        return peak_memory()


def train(model: str, repeats: int) -> dict[str, Any]:
    """Seconds a step, memory, and how far losses agree."""
    builds = {"loracast": (Ours, model)} | {kind: (Peer, model, kind) for kind in PEERS}
    with Contest(LIMIT) as contest:
        contest.enter(builds)
        first = contest.interleave(dict.fromkeys(builds, CHECKED_STEPS), "step")
        tried = {name: min(seconds for seconds, _ in steps) for name, steps in first.items()}
        best = min((name for name in tried if name != "loracast"), key=tried.__getitem__)
        measured = contest.interleave({"loracast": repeats, best: repeats}, "step")
        memory = {name: contest.call(name, "memory") for name in ("loracast", best)}
        failures = contest.failures
    losses = {name: [loss for _, loss in steps] for name, steps in first.items()}
    # adapters start from other random A, which the first loss does not see: B is zero
    apart = {name: rounded(abs(steps[0] / losses[EXACT][0] - 1)) for name, steps in losses.items()}
    if max(apart["loracast"], apart[best]) > LOSS_TOLERANCE:  # of those that are compared
        raise SystemExit(f"first losses differ from that of {EXACT} by {apart}")
    seconds = {name: median([one for one, _ in steps]) for name, steps in measured.items()}
    return {
        "seconds": {name: rounded(one) for name, one in seconds.items()},
        "ratio": rounded(median([b / a for (a, _), (b, _) in zip(measured["loracast"], measured[best])]), 3),
        "best_peer": best,
        "tried_seconds": {name: rounded(one) for name, one in tried.items()},
        "losses": losses,
        "first_losses_apart": apart,
        "peak_gib": {name: rounded(one, 3) for name, one in memory.items()},
        "failures": failures,
    }


def sample(model: str, repeats: int) -> dict[str, Any]:
    """Seconds of a forecast, memory, and whether both draw from one distribution."""
    kinds = {f"{kind} {cache or 'dynamic'}": (Peer, model, kind, cache) for kind in PEERS for cache in (None, "static")}
    with Contest(LIMIT) as contest:
        contest.enter({"loracast": (Ours, model)})
        tried = {}
        for name, build in kinds.items():  # one at a time, or their prompts' copies would fill the memory
            with Contest(LIMIT) as trial:
                trial.enter({name: build})
                if answer := trial.call(name, "sample", 5):
                    tried[name] = answer[0]
                    note(f"  {name}: {answer[0]:.1f} s for 5 steps")
        finalists = sorted(tried, key=tried.__getitem__)[:2]  # few steps do not tell them apart
        contest.enter({name: kinds[name] for name in finalists})
        names = ["loracast", *finalists]
        for name in names:
            contest.call(name, "sample", 1)  # warms up
        measured = contest.interleave(dict.fromkeys(names, repeats), "sample", TUNE.horizon)
        memory = {name: contest.call(name, "memory") for name in names}
    seconds = {name: median([answer[0] for answer in answers]) for name, answers in measured.items()}
    best = min(finalists, key=seconds.__getitem__)
    ours, theirs = (np.concatenate([values for _, values, _ in measured[name]], 1) for name in ("loracast", best))
    agreement = [
        ks_2samp(one[~np.isnan(one)], other[~np.isnan(other)], method="asymp").pvalue
        for a, b in zip(ours, theirs)
        for one, other in zip(a.T, b.T)  # each variable of each series
    ]
    return {
        "seconds": {name: rounded(one) for name, one in seconds.items()},
        "ratio": rounded(median([b[0] / a[0] for a, b in zip(measured["loracast"], measured[best])]), 3),
        "best_peer": best,
        "tried_seconds": {name: rounded(one) for name, one in tried.items()},
        "parsed_share": {name: rounded(min(answer[2] for answer in answers)) for name, answers in measured.items()},
        "smallest_p_of_same_values": rounded(min(agreement)),
        "p_of_p_values": rounded(float(kstest(agreement, "uniform", alternative="greater").pvalue)),
        "peak_gib": {name: rounded(one, 3) for name, one in memory.items()},
    }


START_UP = {  # by what is run in a cold process
    "help": "import sys; sys.argv = ['loracast', '--help']\nfrom loracast.cli import main; main()",
    "import": "import loracast, sys; assert 'torch' not in sys.modules, 'torch was imported'",
    "first_forecast": "import loracast; one = loracast.simulate('predator-prey', 1)[0].slice(0, 50)\n"
    "loracast.Forecaster.from_pretrained({model!r}, device='cpu').predict(one, 10, sample=loracast.SampleConfig(1))",
}


def start_up(model: str, repeats: int) -> dict[str, float]:
    """Seconds from a cold process to its end."""
    seconds: dict[str, list[float]] = {name: [] for name in START_UP}
    with tempfile.TemporaryDirectory() as place:  # so that nothing is imported from here
        for name in [*START_UP] * (repeats + 1):
            began = time.perf_counter()
            program = START_UP[name].replace("{model!r}", repr(model))
            subprocess.run([sys.executable, "-c", program], check=True, cwd=place, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - began)
    return {name: rounded(median(found[1:]), 3) for name, found in seconds.items()}  # the first one fills disk caches


def floors(model: str, flops_a_second: float) -> dict[str, float]:
    """Seconds of the matrix products at a peak. Of attention, training and prompts count half: causal pairs."""
    base = Forecaster.from_pretrained(model, device="cpu")
    length = (TUNE.context + TUNE.horizon) * base.codec.grammar(2).step_tokens

    def products(cost: Any, pairs: float) -> float:
        terms = {name: flops.executed for name, flops in cost.terms.items()}
        attention = terms.pop("scores") + terms.pop("weighted sum")
        return (sum(terms.values()) + pairs * attention) / flops_a_second

    rows = PassCost.of(base.model.network, TUNE.lora)
    plain = PassCost.of(base.model.network)
    prompt, new = length * TUNE.context // (TUNE.context + TUNE.horizon), length // 2
    sampling = products(plain.prefill(SERIES, prompt), 0.5)
    sampling += products(plain.continuation(SERIES * SAMPLES, prompt, new), 1)
    return {"training": rounded(products(rows.training(TUNE.batch, length - 1), 0.5)), "sampling": rounded(sampling)}


def main() -> None:
    parser = bare_parser(__doc__ or "", repeats=5)
    parser.set_defaults(device="cpu")
    parser.add_argument("--model", default="bundled", help="a checkpoint's directory (%(default)s)")
    parser.add_argument("--skip", nargs="*", default=(), choices=("training", "sampling", "start-up"))
    options = parser.parse_args()
    result = describe(options, "cpu")
    floor = floors(options.model, result["peaks"]["matmul_tflops"] * 1e12)
    for name, measure in (("training", train), ("sampling", sample)):
        if name not in options.skip:
            note(name)
            result[name] = measure(options.model, options.repeats)
            result[name] |= {"floor_seconds": floor[name]}
            result[name] |= {"times_floor": rounded(result[name]["seconds"]["loracast"] / floor[name], 3)}
            keep(result, options.output)
    if "start-up" not in options.skip:
        result["start_up_seconds"] = start_up(options.model, options.repeats)
    finish(result, options.output)


if __name__ == "__main__":
    main()

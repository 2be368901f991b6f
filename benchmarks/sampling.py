"""Forecasts by loracast beside `generate` of transformers, and vLLM, on a full-size Qwen2 with random weights.

    python benchmarks/sampling.py CONFIG_DIRECTORY -o benchmarks/results/sampling.json

CONFIG_DIRECTORY holds the config.json and tokenizer.json of Qwen2.5-0.5B, say; weights are not needed. `--cases` and
`--contestants` choose among what is measured. A case is series × samples × steps to write; a step of two variables of
four digits is 10 tokens, two of them forced, and 50 steps are read of each series.

loracast's time is that of `Forecaster.predict`: series in, numbers out. A peer's is that of writing as many tokens
after the same prompts, with the full vocabulary and no end; it takes the largest batch that fits, found by halving, and
a round may be a share of the work (`--peer-share`, in whole batches), from which the whole is extrapolated.

Checks, on what loracast wrote: all of it parses; the first digits follow the distribution that transformers' logits
give (a p-value), and so do all digits of some whole paths: their log-likelihood under transformers, as a number of
standard deviations from its expectation.

The last line of the output is the result as JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from numpy.typing import NDArray
from scipy.stats import chi2
from torch import Tensor

from loracast import Codec, Forecaster, Series, simulate
from loracast.flops import Cost, PassCost
from loracast.grammar import SYMBOLS
from loracast.model.config import ModelConfig
from loracast.model.tokenizer import NumericTokens
from loracast.settings import LoraConfig, SampleConfig

CONTEXT = 50  # steps that are read
CODEC = Codec(digits=4)
DIGITS = 10
LORA = LoraConfig()
CHECKED_SERIES, CHECKED_PATHS = 512, 64


@dataclass(frozen=True)
class Case:
    series: int
    samples: int
    horizon: int

    @classmethod
    def named(cls, name: str) -> Case:
        return cls(*map(int, name.split("x")))

    @property
    def paths(self) -> int:
        return self.series * self.samples

    @property
    def tokens(self) -> int:
        """Written for a path, and read of a series a step."""
        return self.horizon * CODEC.grammar(2).step_tokens

    @property
    def sampled(self) -> int:
        """Tokens of a path that are not forced."""
        return self.horizon * 2 * CODEC.digits


# -- contestants -----------------------------------------------------------------------------------------------------


class Loracast:
    """Forecaster.predict, with an adapter or without one."""

    def __init__(self, model: Path, adapter: Path | None, device: str, case: Case, series: Sequence[Series]):
        self.device, self.case, self.series = torch.device(device), case, series
        self.forecaster = Forecaster.from_pretrained(
            model, adapter, codec=CODEC, device=self.device.type, precision="bfloat16"
        )

    def predict(self) -> None:
        sample, horizon = SampleConfig(self.case.samples, transform="none"), self.case.horizon  # what peers read, too
        self.forecast = self.forecaster.predict(self.series, horizon, sample=sample, context=CONTEXT)

    def first(self) -> float:
        """Seconds of a process's first forecast, which compiles what is not compiled yet."""
        return timed(self.device, self.predict)

    def round(self) -> dict[str, Any]:
        with peak_memory(self.device) as memory:
            seconds = timed(self.device, self.predict)
        return {"seconds": seconds, **memory}

    def written(self) -> tuple[float, NDArray[np.int8] | None]:
        """The share of steps that parse and, if all do, the symbols [N, S, L]."""
        valid = float(self.forecast.valid.mean())
        if valid < 1:
            return valid, None
        symbols = np.empty((self.case.series, self.case.samples, self.case.tokens), np.int8)
        for row, series, paths in zip(symbols, self.series, self.forecast.samples):  # paths: [S, H, D]
            scale = CODEC.fit_scale(series.values)
            row[:] = CODEC.encode(paths.reshape(-1, paths.shape[2]), scale).ids.reshape(row.shape)
        return valid, symbols


class Peer:
    """Writes batches of paths; half as many at once after each time that memory ran out."""

    def __init__(self, device: str, case: Case, prompts: NDArray[np.int64], batch: int | None, share: float):
        self.device, self.case, self.share = torch.device(device), case, share
        self.prompts = np.repeat(prompts, case.samples, 0)  # [B, P] token ids, as num_return_sequences repeats them
        self.batch = min(batch or case.paths, case.paths)

    def write(self, prompts: NDArray[np.int64], most: int) -> Tensor:
        """The first `most` tokens [B, T] that continue prompts [B, P], in buffers that have room for all."""
        raise NotImplementedError

    def release(self) -> None:
        """Frees the buffers."""

    def round(self) -> dict[str, Any]:
        while True:
            try:
                return self._round()
            except torch.OutOfMemoryError:
                if self.batch == 1:
                    raise
            self.batch = -(-self.batch // 2)
            self.release()
            torch.cuda.empty_cache()
            note(f"  memory ran out; now {self.batch} paths at once")

    def _round(self) -> dict[str, Any]:
        full = self.case.paths // self.batch  # a smaller one at the end would be compiled anew
        done = self.batch * max(1, round(self.share * full))

        def work() -> None:
            for start in range(0, done, self.batch):
                ids = self.write(self.prompts[start : start + self.batch], self.case.tokens)
                if ids.shape[1] != self.case.tokens:
                    raise RuntimeError(f"wrote {ids.shape[1]} tokens of {self.case.tokens}")

        with peak_memory(self.device) as memory:
            self.write(self.prompts[: self.batch], 8)  # compiles, and makes its buffers
            seconds = timed(self.device, work) * self.case.paths / done
        self.release()  # buffers of this size leave others no room
        return {"seconds": seconds, "batch": self.batch, "share": round(done / self.case.paths, 4), **memory}


class Generate(Peer):
    """transformers.generate in bfloat16 with sdpa; with a static cache it compiles its decoding steps by itself."""

    def __init__(self, model: Path, cache: str, device: str, *work: Any):
        from transformers import AutoModelForCausalLM, GenerationConfig

        super().__init__(device, *work)
        network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16, attn_implementation="sdpa")
        self.network = network.to(self.device).eval()
        self.network.generation_config = GenerationConfig(
            do_sample=True, top_k=0, top_p=1.0, temperature=1.0, pad_token_id=0, cache_implementation=cache
        )

    def write(self, prompts: NDArray[np.int64], most: int) -> Tensor:
        def stop(ids: Tensor, _scores: Tensor, **_: Any) -> Tensor:
            return torch.full((len(ids),), ids.shape[1] >= prompts.shape[1] + most, device=ids.device)

        ids = torch.from_numpy(prompts).to(self.device)
        whole = self.network.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=self.case.tokens,
            stopping_criteria=[stop] if most < self.case.tokens else None,
        )
        return whole[:, prompts.shape[1] :]

    def release(self) -> None:
        torch._dynamo.reset()  # with its graphs


class Vllm(Peer):
    """vLLM, which batches by itself and shares the prefix of a series' samples."""

    def __init__(self, model: Path, device: str, case: Case, prompts: NDArray[np.int64], _batch: Any, share: float):
        from vllm import LLM

        super().__init__(device, case, prompts, case.paths, share)
        length = prompts.shape[1] + case.tokens
        self.engine = LLM(str(model), dtype="bfloat16", skip_tokenizer_init=True, max_model_len=length)

    def write(self, prompts: NDArray[np.int64], most: int) -> Tensor:
        from vllm import SamplingParams

        settings = SamplingParams(
            n=self.case.samples, temperature=1.0, max_tokens=most, ignore_eos=True, detokenize=False
        )
        series = [{"prompt_token_ids": ids} for ids in prompts[:: self.case.samples].tolist()]
        answers = self.engine.generate(series, settings, use_tqdm=False)
        return torch.tensor([path.token_ids for answer in answers for path in answer.outputs])


class Reference:
    """Probabilities of digits by transformers, and by peft where there is an adapter, in float32."""

    def __init__(self, model: Path, adapter: Path | None, device: str, prompts: NDArray[np.int64]):
        from transformers import AutoModelForCausalLM

        self.device, self.prompts = torch.device(device), torch.from_numpy(prompts)  # [N, P]
        self.table = torch.from_numpy(NumericTokens.read(model / "tokenizer.json").ids)
        network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        self.head = network.get_input_embeddings().weight[self.table[:DIGITS]].detach().to(self.device)  # [10, C]
        if not network.config.tie_word_embeddings:
            self.head = network.get_output_embeddings().weight[self.table[:DIGITS]].detach().to(self.device)
        if adapter:
            from peft import PeftModel

            network = PeftModel.from_pretrained(network, adapter).merge_and_unload()
        self.body = network.model.to(self.device).eval()

    @torch.no_grad()
    def _log_p(self, ids: Tensor, first: int) -> Tensor:
        """Log probabilities [B, L - first, 10] of the digit after each of ids [B, L] from `first` on."""
        hidden = self.body(input_ids=ids.to(self.device), use_cache=False).last_hidden_state[:, first:]
        return torch.log_softmax(F.linear(hidden, self.head), -1).double()

    def check(self, symbols: NDArray[np.int8]) -> dict[str, Any]:
        """How well symbols [N, S, L] follow those probabilities."""
        last = self.prompts.shape[1] - 1
        chosen = self.prompts[:CHECKED_SERIES]
        expected = torch.cat([self._log_p(part, last)[:, 0].exp() for part in chosen.split(32)])  # [N', 10]
        expected = expected.sum(0).cpu().numpy() * symbols.shape[1]
        found = np.bincount(symbols[:CHECKED_SERIES, :, 0].ravel(), minlength=DIGITS)
        distance = ((found - expected) ** 2 / expected).sum()

        paths = np.linspace(0, symbols.shape[0] * symbols.shape[1] - 1, CHECKED_PATHS).round().astype(int)
        paths = np.unique(paths)
        series, sample = np.unravel_index(paths, symbols.shape[:2])
        excess = variance = 0.0
        for index, path in zip(series, torch.from_numpy(symbols[series, sample].astype(np.int64))):  # path: [L]
            ids = torch.cat([self.prompts[index], self.table[path[:-1]]])[None]
            log_p = self._log_p(ids, last)[0].cpu()  # [L, 10]
            free = path < DIGITS
            log_p, drawn = log_p[free], path[free]
            mean = (log_p.exp() * log_p).sum(1)
            excess += float((log_p.gather(1, drawn[:, None])[:, 0] - mean).sum())
            variance += float(((log_p.exp() * log_p**2).sum(1) - mean**2).sum())
        deviations = excess / variance**0.5
        p_value = float(chi2.sf(distance, DIGITS - 1))
        return {
            "first_digits": int(found.sum()),
            "first_digits_p_value": rounded(p_value, 3),
            "whole_paths": len(paths),
            "whole_paths_deviations": rounded(deviations, 3),
            "agree": p_value > 1e-3 and abs(deviations) < 4,
        }


# -- the benchmark ---------------------------------------------------------------------------------------------------

CASES = ("150x20x50", "1x100x50", "10000x1x10")
OURS = ("loracast", "loracast-adapter")
CONTESTANTS = (*OURS, "generate-static", "generate-dynamic", "vllm")


def floor_seconds(config: ModelConfig, case: Case, prompt: int, peaks: dict[str, float]) -> dict[str, float]:
    """What the work takes at the measured peaks, if each byte is read once a pass and nothing else takes time.

    The prompts' matrix products; for each pass that samples a token the longer of its products and of reading the
    weights; and the keys and values, of a prompt once a pass for all paths of a series. A forced token has no pass of
    its own. Half of a prompt's attention is left out, since a causal kernel skips it.
    """
    cost = PassCost(config, len(SYMBOLS))
    rate, bandwidth = peaks["matmul_tflops"] * 1e12, peaks["copy_tbs"] * 1e12

    def products(of: Cost, attention: float) -> float:
        kept = {"scores": attention, "weighted sum": attention}
        return sum(flops.executed * kept.get(term, 1) for term, flops in of.terms.items()) / rate

    body = sum(inputs * outputs for inputs, outputs in config.projections().values()) * config.num_hidden_layers
    token_bytes = 2 * 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    own = case.paths * sum(case.tokens * step // case.sampled for step in range(case.sampled))
    found = {
        "prefill": products(cost.prefill(case.series, prompt), 0.5),
        "products": products(cost.continuation(case.paths, prompt, case.tokens), 1),
        "weights": case.sampled * 2 * body / bandwidth,
        "keys_and_values": (case.sampled * case.series * prompt + own) * token_bytes / bandwidth,
    }
    total = found["prefill"] + max(found["products"], found["weights"]) + found["keys_and_values"]
    return {name: rounded(value) for name, value in found.items()} | {"total": rounded(total)}


def run_case(
    case: Case, model: Path, adapter: Path, options: Any, peaks: dict[str, float], keep_case: Callable[[Any], None]
) -> dict[str, Any]:
    """All contestants on one case; `keep_case` gets what there is after each round."""
    note(f"{case.series} series x {case.samples} samples x {case.tokens} tokens")
    series = simulate("predator-prey", case.series, steps=CONTEXT, duration=100.0)
    symbols = np.stack([CODEC.encode(one.values, CODEC.fit_scale(one.values)).ids for one in series])  # [N, P]
    prompts = NumericTokens.read(model / "tokenizer.json").ids[symbols]
    adapters = {"loracast": None, "loracast-adapter": adapter}
    peer = (options.device, case, prompts, options.peer_batch, options.peer_share)
    builds = {name: (Loracast, model, path, options.device, case, series) for name, path in adapters.items()}
    builds |= {f"generate-{cache}": (Generate, model, cache, *peer) for cache in ("static", "dynamic")}
    builds |= {"vllm": (Vllm, model, *peer)}
    chosen = options.contestants
    rounds = {name: options.repeats if name in OURS else options.peer_repeats for name in chosen}
    config, _ = ModelConfig.read(model / "config.json")
    floor = floor_seconds(config, case, prompts.shape[1], peaks)
    checks: dict[str, Any] = {}
    with Contest(options.limit) as contest:
        contest.enter({name: builds[name] for name in chosen})
        firsts = {name: contest.call(name, "first") for name in chosen if name in OURS}

        def summary(answers: dict[str, list[Any]]) -> dict[str, Any]:
            found = summarise(case, chosen, answers, firsts, contest.failures, floor["total"])
            tokens = {"prompt_tokens": prompts.shape[1], "tokens": case.paths * case.tokens}
            tokens |= {"tokens_forced": case.paths * (case.tokens - case.sampled)}
            return tokens | {"floor_seconds": floor} | found | {"checks": checks}

        answers = contest.interleave(rounds, "round", after_round=lambda answers: keep_case(summary(answers)))
        for name in contest.names:
            if name in OURS and (found := contest.call(name, "written")):
                checks[name] = {"valid_share": found[0], "agree": False}
                if found[1] is not None:
                    reference = f"reference for {name}"
                    contest.enter({reference: (Reference, model, adapters[name], options.device, prompts)})
                    checks[name] |= contest.call(reference, "check", found[1]) or {}
        return summary(answers)


def summarise(
    case: Case,
    chosen: list[str],
    answers: dict[str, list[Any]],
    firsts: dict[str, float | None],
    failures: dict[str, str],
    floor: float,
) -> dict[str, Any]:
    """Medians and ratios of the rounds that there are."""
    results: dict[str, dict[str, Any]] = {}
    for name in chosen:
        if name in failures:
            results[name] = {"failed": failures[name]}
            continue
        taken = answers[name]
        seconds = rounded(median([answer["seconds"] for answer in taken]))
        results[name] = {
            "seconds": seconds,
            "tokens_per_second": round(case.paths * case.tokens / seconds),
            "peak_gib": max((answer["peak_gib"] for answer in taken if "peak_gib" in answer), default=None),
            "times_floor": rounded(seconds / floor, 3),
            "rounds_seconds": [rounded(answer["seconds"]) for answer in taken],
        }
        if first := firsts.get(name):
            results[name]["first_seconds"] = rounded(first)
        if name not in OURS:
            share = taken[-1]["share"]
            results[name] |= {"batch": taken[-1]["batch"], "share_measured": share, "extrapolated": share < 1}
    measured = {name: found["seconds"] for name, found in results.items() if "seconds" in found}
    return {
        "contestants": results,
        "times_slower_than": {
            own: {name: rounded(seconds / measured[own], 3) for name, seconds in measured.items()}
            for own in OURS
            if own in measured
        },
        "failures": {name: why for name, why in failures.items() if name not in chosen},
    }


def main() -> None:
    arguments = parser(__doc__ or "", limit=300, repeats=3)
    arguments.add_argument("--cases", nargs="+", default=list(CASES), help=f"among {' '.join(CASES)}, or any other")
    arguments.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), choices=CONTESTANTS)
    arguments.add_argument("--peer-repeats", type=int, default=1, help="rounds of each peer (%(default)s)")
    arguments.add_argument("--peer-batch", type=int, help="paths at once that peers begin with (default: all)")
    arguments.add_argument(
        "--peer-share", type=float, default=1.0, help="of the batches that peers write (%(default)g)"
    )
    options = arguments.parse_args()
    result = describe(options, "sampling")
    with workplace(options) as (model, place):
        config, _ = ModelConfig.read(model / "config.json")
        adapter = random_adapter(place / "adapter", config, LORA)
        run_cases(
            result,
            options,
            lambda name, keep_case: run_case(Case.named(name), model, adapter, options, result["peaks"], keep_case),
        )


if __name__ == "__main__":
    main()

"""SmolLM2 on a CPU: loracast beside transformers + peft in tuning, beside llama.cpp in decoding, from one file.

    pip install llama-cpp-python==0.3.36        # compiles llama.cpp for this processor, in some minutes
    python benchmarks/cpu_language_model.py -o benchmarks/results/cpu-language-model.json

A training step is 4 windows of 50 + 20 steps of predator and prey, 559 tokens each: rank 8 on all linear layers,
forward and backward pass and AdamW; peft computes all rows of the head. A forecast is 20 steps (160 tokens) after 50
(400 tokens) of one series, by 1 and by 16 paths, which share their prompt in both. llama.cpp multiplies by the weights
as they are quantised to 4 bits, computes all rows of the head and draws from those of numbers; loracast computes in
bfloat16 where the processor is fast at it.

The first losses must agree within 0.02, of which loracast's is among the rows of numbers, and so must the mean
log-probabilities, over the whole vocabulary, of the prompt's tokens in llama.cpp.
"""

from __future__ import annotations

import ctypes
import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line sets it, before torch is imported

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from harness import Contest, bare_parser, describe, finish, median, rounded

import loracast
from loracast.codec import Codec
from loracast.compute import choose
from loracast.engine.batch import encode_batch, to_device
from loracast.engine.step import TrainingStep
from loracast.forecaster import Forecaster
from loracast.model.locate import locate
from loracast.model.lora import attach
from loracast.series.windows import WindowSource
from loracast.settings import SampleConfig, TuneConfig

TUNE = TuneConfig(batch=4, horizon=20)
PATHS = (1, 16)
RATE, LIMIT = 1e-3, 1800
PEERS = ("bfloat16", "float32")
AGREE = 0.02  # of losses and mean log-probabilities


def training_batch() -> Any:
    source = WindowSource(loracast.simulate("predator-prey", 50), TUNE.context + TUNE.horizon, TUNE.seed)
    return encode_batch(Codec(), source.draw(0, TUNE.batch), TUNE.context)


def context() -> loracast.Series:
    return loracast.simulate("predator-prey", 1, seed=1)[0].slice(0, TUNE.context)


def prompt() -> np.ndarray:
    """Symbols of the context."""
    codec, series = Codec(), context()
    return codec.encode(series.values, codec.fit_scale(series.values)).ids


class Ours:
    def __init__(self, model: str):
        self.base = Forecaster.from_pretrained(model, device="cpu", codec=Codec())
        network = attach(self.base.model.network, TUNE.lora)
        self.training = TrainingStep(choose(network), self.base.model.rows, TUNE)

    def step(self) -> tuple[float, float]:
        """Seconds and loss."""
        batch, began = training_batch(), time.perf_counter()
        loss = self.training.run(batch, RATE)[0].item()
        return time.perf_counter() - began, loss

    def decode(self, paths: int) -> tuple[float, float]:
        """Seconds of a forecast, and 0."""
        began = time.perf_counter()
        self.base.predict(context(), TUNE.horizon, sample=SampleConfig(paths, transform="none"))
        return time.perf_counter() - began, 0.0

    def log_probability(self) -> float:
        """Mean of the prompt's tokens after the first, over the whole vocabulary."""
        whole = Forecaster.from_pretrained(self.base.model.source, device="cpu", vocabulary="full", codec=Codec()).model
        ids = whole.rows[torch.from_numpy(prompt())][None]
        with torch.inference_mode():
            logits = whole.network.logits(whole.network.hidden(ids[:, :-1])).float()
        return float(logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).mean())


class Peft:
    def __init__(self, model: str, precision: str):
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        path = locate(model)
        network = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=getattr(torch, precision), attn_implementation="sdpa"
        )
        lora = LoraConfig(r=TUNE.rank, lora_alpha=TUNE.lora.alpha, target_modules="all-linear")
        self.network = get_peft_model(network, lora).train()
        self.adapters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.adapters, lr=RATE, betas=(0.9, 0.99))
        self.ids = torch.from_numpy(Forecaster.from_pretrained(model, device="cpu").model.tokens.ids)

    def step(self) -> tuple[float, float]:
        batch, began = training_batch(), time.perf_counter()
        ids, _, in_loss = to_device(batch, self.ids)
        loss = self.network(input_ids=ids, labels=ids.masked_fill(~in_loss, -100), use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.adapters, TUNE.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        value = loss.item()
        return time.perf_counter() - began, value


class LlamaCpp:
    """llama.cpp through its C interface, which decodes many sequences at once."""

    def __init__(self, model: str):
        import llama_cpp

        self.library = llama_cpp
        self._quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self._quiet, ctypes.c_void_p(0))
        path = str(locate(model)).encode()
        self.model = llama_cpp.llama_model_load_from_file(path, llama_cpp.llama_model_default_params())
        self.rows = Forecaster.from_pretrained(model, device="cpu").model.tokens.ids
        self.ids = self.rows[prompt()]
        self.new = TUNE.horizon * Codec().grammar(2).step_tokens
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def _context(self, paths: int) -> Any:
        settings = self.library.llama_context_default_params()
        settings.n_ctx = len(self.ids) + paths * self.new + 64
        settings.n_batch = settings.n_ubatch = max(512, len(self.ids))
        settings.n_seq_max, settings.kv_unified = paths, True
        settings.n_threads = settings.n_threads_batch = torch.get_num_threads()
        return self.library.llama_init_from_model(self.model, settings)

    def _batch(self, tokens: Sequence[int], places: Sequence[int], sequences: Sequence[int], wanted: bool) -> Any:
        """Tokens with their places and sequences; logits of all, or of the last."""
        batch = self.library.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for index, (token, place, sequence) in enumerate(zip(tokens, places, sequences)):
            batch.token[index], batch.pos[index], batch.n_seq_id[index] = token, place, 1
            batch.seq_id[index][0] = sequence
            batch.logits[index] = wanted or index == len(tokens) - 1
        return batch

    def decode(self, paths: int) -> tuple[float, float]:
        """Seconds of a forecast, its context made before, and 0."""
        library, state = self.library, self._context(paths)
        draws = np.random.default_rng(0)
        began = time.perf_counter()
        count = len(self.ids)
        library.llama_decode(state, self._batch(self.ids, range(count), [0] * count, wanted=False))
        memory = library.llama_get_memory(state)
        for path in range(1, paths):
            library.llama_memory_seq_cp(memory, 0, path, -1, -1)
        logits = [self._logits(state, count - 1)] * paths
        for step in range(self.new):
            scores = np.stack([one[self.rows] for one in logits])  # [S, A]
            drawn = (scores + draws.gumbel(size=scores.shape)).argmax(-1)
            if step == self.new - 1:
                break
            tokens = self.rows[drawn].tolist()
            library.llama_decode(state, self._batch(tokens, [count + step] * paths, range(paths), wanted=True))
            logits = [self._logits(state, path) for path in range(paths)]
        seconds = time.perf_counter() - began
        library.llama_free(state)
        return seconds, 0.0

    def _logits(self, state: Any, index: int) -> np.ndarray:
        return np.ctypeslib.as_array(self.library.llama_get_logits_ith(state, index), (self.vocabulary,))

    def log_probability(self) -> float:
        state, count = self._context(1), len(self.ids)
        self.library.llama_decode(state, self._batch(self.ids, range(count), [0] * count, wanted=True))
        logits = torch.from_numpy(np.stack([self._logits(state, index) for index in range(count - 1)]))
        self.library.llama_free(state)
        targets = torch.from_numpy(self.ids[1:]).long()[:, None]
        return float(logits.log_softmax(-1).gather(-1, targets).mean())


def main() -> None:
    parser = bare_parser(__doc__ or "", repeats=3)
    parser.set_defaults(device="cpu")
    parser.add_argument("--model", default="smollm2", help="what is measured (%(default)s)")
    options = parser.parse_args()
    result = describe(options, "cpu_language_model")
    tokens = {"training": int(training_batch().symbols[:, 1:].size), "decoding": TUNE.horizon * 8}
    with Contest(LIMIT) as contest:
        contest.enter({"loracast": (Ours, options.model), "llama.cpp": (LlamaCpp, options.model)})
        apart = abs(contest.call("loracast", "log_probability") - contest.call("llama.cpp", "log_probability"))
        if apart > AGREE:
            raise SystemExit(f"log-probabilities of the prompt differ by {apart:.3f}")
        result["log_probabilities_apart"] = rounded(apart)
        for paths in PATHS:
            found = contest.interleave(dict.fromkeys(contest.names, options.repeats), "decode", paths)
            seconds = {name: median([one for one, _ in rounds]) for name, rounds in found.items()}
            result[f"decoding-{paths}"] = {
                "seconds": {name: rounded(one) for name, one in seconds.items()},
                "tokens_per_second": {
                    name: round(paths * tokens["decoding"] / one, 1) for name, one in seconds.items()
                },
            }
    with Contest(LIMIT) as contest:
        contest.enter(
            {"loracast": (Ours, options.model)} | {f"peft {one}": (Peft, options.model, one) for one in PEERS}
        )
        found = contest.interleave(dict.fromkeys(contest.names, options.repeats), "step")
        first = {name: rounds[0][1] for name, rounds in found.items()}
        if max(abs(loss - first["peft float32"]) for loss in first.values()) > AGREE:
            raise SystemExit(f"first losses differ: {first}")
        seconds = {name: median([one for one, _ in rounds]) for name, rounds in found.items()}
        result["training"] = {
            "first_losses": {name: rounded(loss) for name, loss in first.items()},
            "seconds": {name: rounded(one) for name, one in seconds.items()},
            "tokens_per_second": {name: round(tokens["training"] / one, 1) for name, one in seconds.items()},
        }
    finish(result, options.output)


if __name__ == "__main__":
    main()

"""What the benchmarks share: contestants in processes of their own, peaks of the hardware, and the files of results.

A contestant is an object that is built and called in a process of its own, so that its peak memory is its own, what it
patches (Liger and Unsloth patch transformers) touches nobody else, and its failure is a line in the result. Only one
contestant computes at a time, and between its calls it holds little more of the GPU's memory than its weights.
"""

from __future__ import annotations

import argparse
import functools
import gc
import importlib.metadata
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

import loracast
from loracast.compute.device import describe_hardware
from loracast.engine.pretrain import initialise
from loracast.files import write_text
from loracast.language_model import load_model
from loracast.model.checkpoint import write_model
from loracast.model.config import ModelConfig
from loracast.model.lora import adapter_layers, adapter_state, attach, save_adapter
from loracast.model.packaged import PACKAGED
from loracast.model.stored import open_model
from loracast.model.transformer import Transformer
from loracast.settings import LoraConfig

PACKAGES = ("torch", "triton", "transformers", "peft", "liger_kernel", "unsloth", "vllm")
GIB = 2**30
SUSTAINED_SECONDS = 2


# -- contestants -----------------------------------------------------------------------------------------------------


def _serve(connection: Connection, build: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Builds a contestant and answers calls of its methods until None comes; an answer is (whether it failed, what)."""
    os.dup2(2, 1)  # the last line of standard output is the result, and the parent's
    contestant = None

    def answer(work: Callable[..., Any], *parameters: Any) -> None:
        try:
            reply = False, work(*parameters)
        except Exception as error:
            traceback.print_exc()
            reply = True, f"{type(error).__name__}: {error}".strip().splitlines()[0][:300]
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        connection.send(reply)

    def start() -> None:
        nonlocal contestant
        contestant = build(*arguments)

    def call(method: str, parameters: tuple[Any, ...]) -> Any:
        return getattr(contestant, method)(*parameters)

    answer(start)
    while (message := connection.recv()) is not None:
        answer(call, *message)


class Contest:
    """Contestants that take turns.

    `failures` says why a contestant is out of it: it could not be built, raised, or took longer than `limit` seconds
    for one call.
    """

    def __init__(self, limit: float):
        self.limit = limit
        self.failures: dict[str, str] = {}
        self._workers: dict[str, tuple[Any, Connection]] = {}

    def __enter__(self) -> Contest:
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.names:
            self._end(name)

    @property
    def names(self) -> list[str]:
        """Those that are still in it."""
        return list(self._workers)

    def enter(self, builds: dict[str, tuple[Any, ...]]) -> None:
        """Starts contestants, all at once: by name, what builds it and its arguments."""
        context = multiprocessing.get_context("spawn")
        for name, (build, *arguments) in builds.items():
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there, build, tuple(arguments)), name=name)
            process.start()
            there.close()
            self._workers[name] = process, here
        for name in builds:
            self._answer(name)

    def call(self, name: str, method: str, *parameters: Any) -> Any:
        """What a contestant's method returns, or None where it failed, now or before."""
        if name not in self._workers:
            return None
        with suppress(OSError):  # it died since, which the answer tells
            self._workers[name][1].send((method, parameters))
        return self._answer(name)

    def interleave(
        self,
        rounds: dict[str, int],
        method: str,
        *parameters: Any,
        after_round: Callable[[dict[str, list[Any]]], None] = lambda answers: None,
    ) -> dict[str, list[Any]]:
        """Calls a method of all in turn, again and again, each as often as `rounds` says; what each returned.

        `after_round` is given what there is after each turn of all.
        """
        answers: dict[str, list[Any]] = {name: [] for name in rounds}
        for index in range(max(rounds.values())):
            for name, wanted in rounds.items():
                if index < wanted and (answer := self.call(name, method, *parameters)) is not None:
                    answers[name].append(answer)
                    note(f"  {name}, round {index + 1}: {str(answer)[:200]}")
            after_round(answers)
        return answers

    def _answer(self, name: str) -> Any:
        process, connection = self._workers[name]
        try:
            failed, answer = True, f"took longer than {self.limit:g} s"
            if connection.poll(self.limit):
                failed, answer = connection.recv()
        except (EOFError, OSError):
            process.join(20)
            answer = f"its process ended with code {process.exitcode}"
        if not failed:
            return answer
        self.failures[name] = answer
        note(f"  {name} failed: {answer}")
        self._end(name)
        return None

    def _end(self, name: str) -> None:
        process, connection = self._workers.pop(name)
        with suppress(OSError):  # it ended by itself
            connection.send(None)
        process.join(5 if name not in self.failures else 0)
        if process.is_alive():
            process.kill()
        process.join()
        connection.close()


# -- measuring -------------------------------------------------------------------------------------------------------


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(device: torch.device, work: Callable[[], Any], count: int = 1) -> float:
    """Seconds a call of `count` calls, from an idle device to an idle device."""
    synchronize(device)
    began = time.perf_counter()
    for _ in range(count):
        work()
    synchronize(device)
    return (time.perf_counter() - began) / count


@contextmanager
def peak_memory(device: torch.device) -> Iterator[dict[str, float]]:
    """Fills in `peak_gib`, the most memory allocated on the GPU within the block; nothing on a CPU."""
    found: dict[str, float] = {}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    yield found
    if device.type == "cuda":
        found["peak_gib"] = round(torch.cuda.max_memory_allocated(device) / GIB, 2)


def peaks(device: torch.device) -> dict[str, float]:
    """What the hardware reaches: `matmul_tflops` of a large bfloat16 product of random matrices, and `copy_tbs`,
    terabytes a second of a large copy, bytes read and written.

    On a GPU also `sustained_matmul_tflops`, of the same product after two seconds of it, when heat and the power limit
    have lowered the clock.
    """
    on_gpu = device.type == "cuda"
    size, bytes_copied = (8192, 4 * GIB) if on_gpu else (1024, GIB // 4)
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    product = torch.empty_like(left)
    source = torch.randint(256, (bytes_copied,), device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    found = {}
    for name, work, amount in (
        ("matmul_tflops", lambda: torch.matmul(left, right, out=product), 2 * size**3),
        ("copy_tbs", lambda: target.copy_(source), 2 * bytes_copied),
    ):
        timed(device, work, 3)  # warms up
        found[name] = round(amount / timed(device, work, 10) / 1e12, 4)
    if on_gpu:
        amount = 2 * size**3
        work = functools.partial(torch.matmul, left, right, out=product)
        timed(device, work, round(SUSTAINED_SECONDS * found["matmul_tflops"] * 1e12 / amount))
        found["sustained_matmul_tflops"] = round(amount / timed(device, work, 100) / 1e12, 4)
        del left, right, product, source, target, work
        gc.collect()
        torch.cuda.empty_cache()
    return found


def median(values: Sequence[float]) -> float:
    return float(statistics.median(values))


def rounded(value: float, digits: int = 4) -> float:
    """A number with so many significant digits."""
    return float(f"{value:.{digits}g}")


# -- the model -------------------------------------------------------------------------------------------------------


def checkpoint(source: Path, directory: Path) -> Path:
    """A checkpoint of random bfloat16 weights for the configuration in `source`; made unless it is there already.

    Of `smollm2` or a GGUF file, it is the model itself.
    """
    if (directory / "model.safetensors").exists():
        return directory
    note(f"building a checkpoint of {source} in {directory}")
    directory.mkdir(parents=True, exist_ok=True)
    if str(source) in PACKAGED or source.suffix == ".gguf":
        network = load_model(source, vocabulary="full", device="cpu", precision="bfloat16").network
        write_model(directory, network, network.config, torch.bfloat16)
        open_model(source).tokenizer.save(str(directory / "tokenizer.json"))
    else:
        config, _ = ModelConfig.read(source / "config.json")
        shutil.copyfile(source / "tokenizer.json", directory / "tokenizer.json")
        write_model(directory, initialise(config, seed=0), config, torch.bfloat16)
    return directory


def random_adapter(directory: Path, config: ModelConfig, lora: LoraConfig) -> Path:
    """A directory with an adapter whose B is random and not zero, so that whoever ignores it is found out."""
    with torch.device("meta"):
        skeleton = Transformer(config, rows=1)
    network = attach(skeleton.to_empty(device="cpu"), lora)
    generator = torch.Generator().manual_seed(1)
    for _, layer in adapter_layers(network):
        torch.nn.init.normal_(layer.lora_B, 0.0, 0.02, generator=generator)
    save_adapter(directory, adapter_state(network), lora, "random weights")
    return directory


# -- options and results ---------------------------------------------------------------------------------------------


def parser(description: str, *, limit: float, repeats: int) -> argparse.ArgumentParser:
    """The options of every benchmark with peers."""
    result = bare_parser(description, repeats=repeats)
    add_source(result)
    result.add_argument("--limit", type=float, default=limit, help="seconds after which a call fails (%(default)g)")
    return result


def add_source(parser: argparse.ArgumentParser) -> None:
    """The options that `workplace` reads: of which model's size, and where its random weights are kept."""
    parser.add_argument(
        "source", type=Path, metavar="CONFIG_DIRECTORY", help="of config.json and tokenizer.json; or smollm2"
    )
    parser.add_argument("--checkpoint", type=Path, help="folder to keep the random weights in (default: a temporary)")


def bare_parser(description: str, *, repeats: int | None = None) -> argparse.ArgumentParser:
    """The options of every benchmark; what is measured more than once also takes the number of its rounds."""
    result = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    result.add_argument("-o", "--output", type=Path, help="file to keep the result in, as JSON")
    result.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cuda", "cpu"))
    if repeats:
        result.add_argument("--repeats", type=int, default=repeats, help="rounds that medians are of (%(default)s)")
    result.add_argument("--commit", help="of the code, where there is no git to ask")
    return result


@contextmanager
def workplace(options: argparse.Namespace) -> Iterator[tuple[Path, Path]]:
    """The checkpoint's folder and a temporary one."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        yield checkpoint(options.source, options.checkpoint or place / "model"), place


def origin(options: argparse.Namespace) -> dict[str, Any]:
    """What a result was measured on, with which versions, when, of which commit."""
    device = describe_hardware(torch.device(options.device))
    return {
        "hardware": {"device": device, "cpu": _cpu_name(), "cores": len(os.sched_getaffinity(0))},
        "versions": {"loracast": loracast.__version__, "python": platform.python_version()} | _versions(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": options.commit or _commit(),
    }


def describe(options: argparse.Namespace, benchmark: str) -> dict[str, Any]:
    """The head of a result: its origin, its settings, and what the hardware reaches."""
    settings = {name: value for name, value in vars(options).items() if name not in ("output", "checkpoint", "commit")}
    settings |= {name: Path(settings[name]).name for name in ("source", "model") if name in settings}
    head = {"benchmark": benchmark, **origin(options), "settings": settings}
    return head | {"peaks": peaks(torch.device(options.device))}


def keep(result: dict[str, Any], output: Path | None) -> None:
    """Writes a result, also while it is not complete: what was measured outlives a run that is cut off."""
    if output:
        write_text(output, json.dumps(result, indent=1, default=_plain) + "\n")


def run_cases(
    result: dict[str, Any],
    options: argparse.Namespace,
    run: Callable[[str, Callable[[dict[str, Any]], None]], dict[str, Any]],
) -> None:
    """Runs all cases and finishes. `run` gets a case's name and what keeps what there is of it so far."""
    cases: dict[str, Any] = {}
    for name in options.cases:
        cases[name] = run(
            name, lambda found, name=name: keep(result | {"cases": cases | {name: found}}, options.output)
        )
    checks = [check["agree"] for case in cases.values() for check in case["checks"].values()]
    finish(result | {"cases": cases, "agree": bool(checks) and all(checks)}, options.output)


def finish(result: dict[str, Any], output: Path | None) -> None:
    """Keeps a result and prints it as one line."""
    keep(result, output)
    print(json.dumps(result, default=_plain), flush=True)


def note(text: str) -> None:
    """Progress, beside the result."""
    print(text, file=sys.stderr, flush=True)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found | {"torch": torch.__version__}  # with the build, such as +cu130


def _cpu_name() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str | None:
    """The checkout's commit, with `+` where files differ from it; None without git."""
    here = Path(__file__).parent
    try:
        answers = [
            subprocess.run(["git", *command], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
            for command in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return answers[0] + ("+" if answers[1] else "")

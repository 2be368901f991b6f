"""Decoding in C on a CPU, against its plain twin; and what happens on machines that cannot compile it."""

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from loracast.compute import choose
from loracast.compute.cpu import CpuCompute, native
from loracast.compute.cpu.decoder import NativeDecoder
from loracast.compute.plain import PlainCompute, PlainDecoder
from loracast.language_model import load_model
from loracast.model.lora import adapter_layers, attach
from loracast.model.transformer import Transformer
from loracast.settings import LoraConfig

needs_compiler = pytest.mark.skipif(native.library() is None, reason="no C compiler")
SHAPES = {  # by head size and query heads a key-value head
    (32, 1): {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2},
    (64, 2): {"hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2},
    (64, 7): {"hidden_size": 112, "num_attention_heads": 14, "num_key_value_heads": 2},
    (128, 3): {"hidden_size": 96, "num_attention_heads": 3, "num_key_value_heads": 1},
}


def load(make_qwen2: Any, size: int, share: int) -> Transformer:
    return load_model(make_qwen2(head_dim=size, **SHAPES[size, share]), device="cpu", precision="bfloat16").network


def relative_error(found: torch.Tensor, truth: torch.Tensor) -> float:
    return ((found.float() - truth).norm() / truth.norm()).item()


@pytest.fixture(params=["native", "portable"])
def instructions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The processor's own instructions for bfloat16, where it has them, and those that every processor has."""
    if request.param == "portable":
        if "avx512_bf16" not in Path("/proc/cpuinfo").read_text():
            pytest.skip("these are the portable ones")
        monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, "-mno-avx512bf16"))
    native.library.cache_clear()
    yield
    monkeypatch.undo()
    native.library.cache_clear()


@needs_compiler
@torch.inference_mode()
@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("targets", [None, ("q", "v"), ("q", "k", "v", "o", "gate", "up", "down")])
@pytest.mark.parametrize(("size", "share"), SHAPES)
def test_states_are_as_near_to_float32_as_the_plain_ones(make_qwen2: Any, size: int, share: int, targets: Any):
    network = load(make_qwen2, size, share)
    if targets:
        network = attach(network, LoraConfig(3, 5.0, 0.0, targets))
        for index, (_, layer) in enumerate(adapter_layers(network)):
            layer.lora_B.data.normal_(0, 0.3, generator=torch.Generator().manual_seed(index))
    generator = torch.Generator().manual_seed(1)
    lengths, samples = torch.tensor([130, 3, 64]), 23  # more paths than a task has
    prompt = torch.randint(15, (3, 130), generator=generator)
    feeds = [torch.randint(15, (3 * samples, new), generator=generator) for new in (1, 2, 60, 1, 2, 13, 1)]
    most = sum(feed.shape[1] for feed in feeds)
    fast, plain, exact = (
        compute.decoder(prompt, lengths, samples, most)
        for compute in (CpuCompute(network), PlainCompute(network), PlainCompute(copy.deepcopy(network).float()))
    )
    assert isinstance(fast, NativeDecoder)
    for decoder in (fast, plain, exact):
        decoder.prefill()
    for feed in feeds:
        states = [decoder.advance(feed) for decoder in (fast, plain, exact)]
        errors = [relative_error(states[index], states[2]) for index in range(2)]
        print(f"relative errors: native {errors[0]:.5f}, plain {errors[1]:.5f}")
        assert errors[0] < 1.2 * errors[1]


@needs_compiler
@torch.inference_mode()
def test_what_is_left_in_empty_memory_changes_nothing(make_qwen2: Any, monkeypatch: pytest.MonkeyPatch):
    network = attach(load(make_qwen2, 64, 2), LoraConfig(3, 5.0, 0.0, ("q", "v", "o", "up", "down")))
    prompt, feed = torch.arange(70)[None] % 15, torch.tensor([[3, 4], [11, 5]])
    made = torch.empty

    def states(left: float) -> torch.Tensor:
        monkeypatch.setattr(torch, "empty", lambda *size, **options: made(*size, **options).fill_(left))
        decoder = CpuCompute(network).decoder(prompt, torch.tensor([70]), 2, 2)
        assert isinstance(decoder, NativeDecoder)
        decoder.prefill()
        return decoder.advance(feed)

    assert torch.equal(states(float("nan")), states(0))


@needs_compiler
@torch.inference_mode()
def test_strong_attention_does_not_overflow(make_qwen2: Any):
    network = load(make_qwen2, 64, 2)
    blocks: Any = network.model.layers
    for block in blocks:
        block.self_attn.q_proj.weight.data *= 30  # scores of hundreds
    prompt, feed = torch.arange(70)[None] % 15, torch.tensor([[3], [11]])
    ways = CpuCompute(network), PlainCompute(copy.deepcopy(network).float())
    decoders = [compute.decoder(prompt, torch.tensor([70]), 2, 1) for compute in ways]
    for decoder in decoders:
        decoder.prefill()
    ours, exact = (decoder.advance(feed) for decoder in decoders)
    assert relative_error(ours, exact) < 0.3  # one key has all the weight, so a rounded score changes a state


@needs_compiler
def test_where_it_is_taken(make_qwen2: Any, monkeypatch: pytest.MonkeyPatch):
    prompt, lengths = torch.zeros(1, 4, dtype=torch.long), torch.tensor([4])

    def taken(network: Transformer) -> type:
        return type(choose(network).decoder(prompt, lengths, 2, 8))

    network = load(make_qwen2, 64, 2)
    assert taken(network) is NativeDecoder
    assert taken(copy.deepcopy(network).float()) is PlainDecoder
    odd = load_model(make_qwen2(head_dim=16), device="cpu", precision="bfloat16").network
    assert taken(odd) is PlainDecoder  # heads of half a vector
    monkeypatch.setattr("loracast.compute.cpu.decoder.library", lambda: None)
    assert taken(network) is PlainDecoder


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache for libraries, and no memory of one that was loaded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    native.library.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    native.library.cache_clear()


def test_without_a_compiler(fresh: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(fresh))
    monkeypatch.delenv("CC", raising=False)
    assert native.library() is None


def test_a_compiler_that_fails(fresh: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CC", shutil.which("false") or pytest.skip("no command `false`"))
    assert native.library() is None
    assert not (fresh / "cache").exists()


@needs_compiler
def test_it_is_compiled_once(fresh: Path, monkeypatch: pytest.MonkeyPatch):
    assert native.library()
    (kept,) = (fresh / "cache" / "loracast").iterdir()
    made = kept.stat().st_mtime_ns
    native.library.cache_clear()
    assert native.library()
    assert kept.stat().st_mtime_ns == made
    monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, "-DANOTHER"))
    native.library.cache_clear()
    assert native.library()
    assert len(list(kept.parent.iterdir())) == 2


@needs_compiler
def test_a_cache_that_cannot_be_written(fresh: Path):
    (fresh / "cache").write_text("a file, where a folder is wanted")
    assert native.library()


@needs_compiler
def test_a_broken_library_in_the_cache(fresh: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, "-DBROKEN"))  # a name that this process has not loaded yet
    names = []

    def load(path: Path) -> None:
        names.append(path)
        raise OSError("no library")

    with monkeypatch.context() as patch:
        patch.setattr(native, "_load", load)
        assert native.library() is None
    names[0].write_bytes(b"no library")
    native.library.cache_clear()
    assert native.library()
    assert names[0].read_bytes() != b"no library"

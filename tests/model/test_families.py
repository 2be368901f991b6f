"""Every family against transformers and peft on random configurations; a new family is a row of `FAMILIES` here, too.

Logits in float32, greedy continuations, adapters in both directions, merging, FLOPs, and each faster way of computing.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from conftest import randomise, write_byte_tokenizer
from loracast.compute import choose, unsupported
from loracast.compute.plain import PlainCompute
from loracast.errors import ModelError
from loracast.flops import PassCost
from loracast.language_model import load_adapted, load_model
from loracast.merge import merge
from loracast.model import families
from loracast.model.config import ModelConfig
from loracast.model.lora import adapter_layers, adapter_state, attach, save_adapter
from loracast.model.rotary import frequencies
from loracast.settings import PROJECTIONS, LoraConfig

# peft asks transformers by an old name
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@dataclass(frozen=True)
class Case:
    """A family as transformers has it, and settings of its configuration that differ from the common ones."""

    model_type: str
    architecture: str
    changes: dict[str, Any] = field(default_factory=dict)


COMMON: dict[str, Any] = {
    "vocab_size": 272,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
ROTARY = {
    "default": {"rope_type": "default", "rope_theta": 10_000.0},
    "linear": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0},
    "llama3": {**LLAMA3, "original_max_position_embeddings": 64, "rope_theta": 500_000.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "rope_theta": 10_000.0},
    "yarn, weighted": {
        **{"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64, "rope_theta": 1e6},
        **{"mscale": 1.2, "mscale_all_dim": 0.8, "beta_fast": 16.0, "beta_slow": 2.0},
    },
}
FAMILIES = {
    "qwen2": Case("qwen2", "Qwen2ForCausalLM", {"tie_word_embeddings": True}),
    "qwen2, window": Case("qwen2", "Qwen2ForCausalLM", {"use_sliding_window": True, "sliding_window": 40}),
    "qwen3": Case("qwen3", "Qwen3ForCausalLM", {"head_dim": 16, "tie_word_embeddings": True}),
    "llama": Case("llama", "LlamaForCausalLM", {"rms_norm_eps": 1e-5}),
    "llama, heads apart": Case("llama", "LlamaForCausalLM", {"head_dim": 20, "tie_word_embeddings": True}),
    "mistral": Case("mistral", "MistralForCausalLM", {"num_key_value_heads": 1, "sliding_window": 64}),
    **{f"llama, {name}": Case("llama", "LlamaForCausalLM", {"rope_parameters": ROTARY[name]}) for name in ROTARY},
}
EACH_ONCE = ["qwen2", "qwen3", "llama", "mistral"]
IDS = torch.randint(272, (2, 40), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random model of each case, as transformers writes it."""
    import transformers
    from transformers.utils import logging

    logging.disable_progress_bar()
    found = {}
    for seed, (name, case) in enumerate(FAMILIES.items()):
        found[name] = directory = tmp_path_factory.mktemp("family")
        settings = {**COMMON, "rope_parameters": ROTARY["default"], **case.changes}
        network: Any = getattr(transformers, case.architecture)(
            transformers.AutoConfig.for_model(case.model_type, **settings)
        )
        randomise(network, seed)
        network.save_pretrained(directory)
        write_byte_tokenizer(directory)
    return found


def reference(directory: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()


def load(directory: Path, **options: Any) -> Any:
    return load_model(directory, **{"vocabulary": "full", "device": "cpu", "precision": "float32", **options})


def fill(network: Any, strength: float = 0.1) -> Any:
    """Gives each B of an adapter random values, as if it had been tuned."""
    generator = torch.Generator().manual_seed(1)
    for _, layer in adapter_layers(network):
        layer.lora_B.data.copy_(torch.randn(layer.lora_B.shape, generator=generator) * strength)
    return network


def test_every_family_is_tested():
    assert {case.model_type for case in FAMILIES.values()} == families.FAMILIES.keys()


@torch.no_grad()
@pytest.mark.parametrize("name", FAMILIES)
def test_logits_and_greedy_continuations_are_those_of_transformers(directories: dict[str, Path], name: str):
    theirs, ours = reference(directories[name]), load(directories[name])
    torch.testing.assert_close(ours.network(IDS), theirs(IDS).logits, rtol=1e-4, atol=1e-4)
    ids = IDS[:1, :8]
    expected = theirs.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False, eos_token_id=271
    )
    decoder = ours.compute.decoder(ids, torch.tensor([8]), 1, 24)
    hidden, written = decoder.prefill(), []
    for _ in range(expected.shape[1] - 8):
        written.append(ours.network.logits(hidden).argmax(-1))
        feed = decoder.buffer(1)
        feed[:, 0] = written[-1]
        hidden = decoder.advance(feed)
    assert torch.stack(written, 1).tolist() == expected[:, 8:].tolist()


@pytest.mark.parametrize("kind", ROTARY)
def test_rotary_frequencies_are_those_of_transformers(kind: str):
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    stored = LlamaConfig(**COMMON, rope_parameters=dict(ROTARY[kind]))
    theirs = LlamaRotaryEmbedding(stored)
    config = ModelConfig.from_dict({**stored.to_dict(), "model_type": "llama"}, "here")
    torch.testing.assert_close(frequencies(config), theirs.inv_freq, rtol=1e-6, atol=0)
    factor = config.rope_scaling.attention_factor if config.rope_scaling else 1.0
    assert factor == pytest.approx(theirs.attention_scaling)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_configuration_is_written_as_it_was_read(directories: dict[str, Path], name: str):
    config, _ = ModelConfig.read(directories[name] / "config.json")
    assert ModelConfig.from_dict(config.to_dict("float32"), "here") == config


@torch.no_grad()
@pytest.mark.parametrize("name", EACH_ONCE)
def test_adapters_are_those_of_peft_both_ways(directories: dict[str, Path], name: str, tmp_path: Path):
    import peft

    lora = LoraConfig(rank=3, alpha=5.0, targets=PROJECTIONS)
    ours = load(directories[name])
    network = fill(attach(ours.network, lora))
    save_adapter(tmp_path / "ours", adapter_state(network), lora, str(directories[name]))
    theirs = peft.PeftModel.from_pretrained(reference(directories[name]), tmp_path / "ours").eval()
    torch.testing.assert_close(network(IDS), theirs(IDS).logits, rtol=1e-4, atol=1e-4)
    theirs.save_pretrained(tmp_path / "theirs")
    again, _, _ = load_adapted(ours, tmp_path / "theirs")
    assert again.network(IDS).equal(network(IDS))


@torch.no_grad()
@pytest.mark.parametrize("name", EACH_ONCE)
def test_a_merged_model_is_a_directory_that_transformers_loads(directories: dict[str, Path], name: str, tmp_path: Path):
    lora = LoraConfig(rank=3, targets=("q", "v", "down"))
    ours = load(directories[name])
    network = fill(attach(ours.network, lora))
    save_adapter(tmp_path / "adapter", adapter_state(network), lora, str(directories[name]))
    differences = merge(directories[name], tmp_path / "adapter", tmp_path / "merged")
    assert differences["float32"] < 1e-4
    torch.testing.assert_close(reference(tmp_path / "merged")(IDS).logits, network(IDS), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(load(tmp_path / "merged").network(IDS), network(IDS), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", EACH_ONCE)
def test_flops_are_those_that_are_counted(directories: dict[str, Path], name: str):
    network = load(directories[name]).network
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counted:  # whose products are counted
        network(IDS)
    assert counted.get_total_flops() == PassCost.of(network).forward(*IDS.shape).total.executed
    assert network.config.parameters() == sum(parameter.numel() for parameter in network.parameters())


def computed(way: PlainCompute) -> tuple[Tensor, Tensor]:
    """Hidden states, and the gradients of an adapter, in one row."""
    adapters = [parameter for parameter in way.network.parameters() if parameter.requires_grad]
    passes = way.passes(adapters)
    passes.add_gradients(IDS, IDS, torch.ones_like(IDS, dtype=torch.bool), torch.full((), 1 / IDS.numel()))
    gradient = torch.cat([parameter.grad.flatten() for parameter in adapters if parameter.grad is not None])
    way.network.zero_grad()
    with torch.no_grad():
        return way.hidden(IDS).float(), gradient


@pytest.mark.parametrize("name", FAMILIES)
def test_the_way_of_a_cpu_is_as_near_to_float32_as_the_plain_one(directories: dict[str, Path], name: str):
    low, high = (
        fill(attach(load(directories[name], precision=precision).network, LoraConfig(rank=3, targets=PROJECTIONS)))
        for precision in ("bfloat16", "float32")
    )
    fast = choose(low)
    assert fast.name == "cpu"
    exact, plain = computed(PlainCompute(high)), computed(PlainCompute(low))
    for one, other, truth in zip(computed(fast), plain, exact):
        errors = [((found - truth).norm() / truth.norm()).item() for found in (one, other)]
        assert errors[0] < 1.5 * errors[1]


@torch.no_grad()
@pytest.mark.parametrize("name", EACH_ONCE)
def test_decoding_on_a_cpu_is_as_near_to_float32_as_the_plain_one(tmp_path: Path, name: str):
    """With sizes that the C functions divide by."""
    import transformers

    case = FAMILIES[name]
    sizes = {**COMMON, "hidden_size": 64, "intermediate_size": 96, **case.changes, "head_dim": 32}
    network: Any = getattr(transformers, case.architecture)(transformers.AutoConfig.for_model(case.model_type, **sizes))
    randomise(network, 0)
    network.save_pretrained(tmp_path)
    write_byte_tokenizer(tmp_path)
    low, high = load(tmp_path, precision="bfloat16"), load(tmp_path)
    ids, lengths = IDS[:, :30], torch.tensor([30, 17])
    ways = low.compute, PlainCompute(low.network), PlainCompute(high.network)
    decoders = [way.decoder(ids, lengths, 3, 4) for way in ways]
    states = [[decoder.prefill()] for decoder in decoders]
    for new in (1, 2, 1):
        feed = IDS[0, : 6 * new].view(6, new)
        for decoder, found in zip(decoders, states):
            found.append(decoder.advance(feed))
    fast, plain, exact = (torch.cat([one.float() for one in found]) for found in states)
    errors = [((found - exact).norm() / exact.norm()).item() for found in (fast, plain)]
    assert errors[0] < 1.5 * errors[1]


def test_ways_that_do_not_compute_a_family_say_why(directories: dict[str, Path], capsys: pytest.CaptureFixture[str]):
    from loracast.cli.inspect import inspect

    directory = directories["llama, heads apart"]
    inspect(str(directory))
    assert "fused kernels on an NVIDIA GPU, since its heads have 20 values" in " ".join(capsys.readouterr().out.split())
    assert unsupported(load(directory).network.config).keys() == {
        "fused kernels on an NVIDIA GPU",
        "decoding in C on a CPU",
    }
    assert not {"qwen2", "qwen3", "llama", "mistral"} - {
        name for name in EACH_ONCE if not unsupported(replace(load(directories[name]).network.config, head_dim=64))
    }


def test_attention_that_reaches_less_far_limits_the_positions(directories: dict[str, Path]):
    assert load(directories["mistral"]).network.config.max_position_embeddings == 64
    assert load(directories["qwen2, window"]).network.config.max_position_embeddings == 40
    assert load(directories["llama"]).network.config.max_position_embeddings == 512


def test_biases_that_are_not_computed_are_refused(directories: dict[str, Path], tmp_path: Path, edit_json: Any):
    import shutil

    directory = tmp_path / "model"
    shutil.copytree(directories["llama"], directory)
    edit_json(directory / "config.json", attention_bias=True)
    with pytest.raises(ModelError, match="attention_bias is True; only False is computed"):
        load(directory)

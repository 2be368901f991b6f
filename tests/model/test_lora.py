"""Adapters: what they change and what they leave alone, and their files against peft's."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from loracast.errors import ModelError
from loracast.language_model import LanguageModel, load_adapted, load_model
from loracast.model.lora import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    adapter_layers,
    adapter_state,
    attach,
    load_adapter_state,
    merged_weights,
    read_adapter,
    save_adapter,
)
from loracast.model.transformer import Transformer
from loracast.settings import PROJECTIONS, LoraConfig

# peft asks transformers by an old name
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

IDS = torch.randint(272, (2, 20), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def base(qwen2_directory) -> LanguageModel:
    return load_model(qwen2_directory, vocabulary="full", device="cpu", precision="float32")


def reference(directory: Path):
    from transformers import Qwen2ForCausalLM

    return Qwen2ForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


def fill(network: Transformer, seed: int = 1) -> Transformer:
    """Gives each B random values, as if it had been tuned."""
    generator = torch.Generator().manual_seed(seed)
    for _, layer in adapter_layers(network):
        layer.lora_B.data.copy_(torch.randn(layer.lora_B.shape, generator=generator) * 0.1)
    return network


def digest(tensors: dict[str, Tensor]) -> str:
    digested = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digested.update(name.encode() + tensor.detach().numpy().tobytes())
    return digested.hexdigest()


def test_a_new_adapter_changes_nothing(base):
    adapted = attach(base.network, LoraConfig())
    assert len(list(adapter_layers(adapted))) == 7 * base.network.config.num_hidden_layers
    with torch.no_grad():
        assert adapted(IDS).equal(base.network(IDS))


def test_training_moves_the_adapter_and_no_bit_of_the_base(base):
    before, logits_before = digest(base.network.state_dict()), base.network(IDS)
    config = LoraConfig(rank=3, alpha=5.0, dropout=0.1, targets=("q", "v", "down"))
    adapted = attach(base.network, config).train()
    start = adapter_state(adapted)
    for name, parameter in adapted.named_parameters():
        assert parameter.requires_grad == ("lora_" in name)
    shared = {parameter.data_ptr() for parameter in base.network.parameters()}
    assert shared < {parameter.data_ptr() for parameter in adapted.parameters()}

    parameters = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    assert sum(parameter.numel() for parameter in parameters) == base.network.config.lora_parameters(3, config.targets)
    optimizer = torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        adapted(IDS).logsumexp(-1).sum().backward()
        optimizer.step()

    assert all(not tensor.equal(start[name]) for name, tensor in adapter_state(adapted).items())
    assert digest(base.network.state_dict()) == before
    assert base.network(IDS).equal(logits_before)
    assert not adapted.eval()(IDS).equal(logits_before)


def test_dropout_acts_in_training_only(base):
    adapted = fill(attach(base.network, LoraConfig(dropout=0.5)))
    assert not adapted.train()(IDS).equal(adapted(IDS))
    assert adapted.eval()(IDS).equal(adapted(IDS))


def test_the_start_depends_on_seed_and_name_alone(base):
    def start(seed: int, *targets: str) -> dict[str, Tensor]:
        return adapter_state(attach(base.network, LoraConfig(targets=targets), seed))

    torch.manual_seed(7)
    untouched = torch.get_rng_state()
    few = start(0, "q", "v")
    assert torch.get_rng_state().equal(untouched)
    torch.manual_seed(8)
    all_of_them = start(0, *PROJECTIONS)
    assert all(all_of_them[name].equal(tensor) for name, tensor in few.items())
    firsts = [tensor.flatten()[:8] for name, tensor in all_of_them.items() if "lora_A" in name]
    assert len({tuple(first.tolist()) for first in firsts}) == len(firsts)
    assert all(not tensor.equal(few[name]) for name, tensor in start(1, "q", "v").items() if "lora_A" in name)


def test_a_second_adapter_is_refused(base):
    with pytest.raises(ModelError, match="already has an adapter"):
        attach(attach(base.network, LoraConfig()), LoraConfig())


@pytest.mark.parametrize("targets", [("q", "v"), ("k", "o", "up"), PROJECTIONS], ids="-".join)
def test_peft_loads_our_adapter(base, qwen2_directory, tmp_path, targets):
    from peft import PeftModel

    config = LoraConfig(rank=4, alpha=12.0, targets=targets)
    adapted = fill(attach(base.network, config, seed=3))
    save_adapter(tmp_path, adapter_state(adapted), config, "base", {"codec": {}})
    theirs = PeftModel.from_pretrained(reference(qwen2_directory), tmp_path)
    with torch.no_grad():
        expected, actual = adapted(IDS), theirs(IDS).logits
    change = (expected - base.network(IDS)).abs().max().item()
    difference = (actual - expected).abs().max().item()
    print(f"the adapter changes logits by {change:.1f}; peft's differ by {difference:.1e}")
    assert change > 0.1
    assert difference < 5e-5
    assert json.loads((tmp_path / "loracast.json").read_text()) == {"codec": {}}


@pytest.mark.parametrize(
    ("rank", "alpha", "targets"),
    [(2, 4, ["q", "v"]), (5, 7, ["gate", "down"]), (8, 1, ["o"]), (3, 16, list(PROJECTIONS))],
    ids=["attention", "part of the mlp", "weak", "all linear"],
)
def test_we_load_an_adapter_of_peft(base, qwen2_directory, tmp_path, rank, alpha, targets):
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    theirs = get_peft_model(
        reference(qwen2_directory),
        PeftConfig(
            r=rank,
            lora_alpha=alpha,
            target_modules=[f"{target}_proj" for target in targets],
            init_lora_weights=False,  # both matrices random
        ),
    ).eval()
    theirs.save_pretrained(tmp_path)
    ours, _, record = load_adapted(base, tmp_path)
    assert record == {}
    with torch.no_grad():
        expected, actual = theirs(IDS).logits, ours.network(IDS)
    difference = (actual - expected).abs().max().item()
    print(f"ours differ from peft's by {difference:.1e}")
    assert (expected - base.network(IDS)).abs().max() > 0.1
    assert difference < 5e-5
    config, _ = read_adapter(tmp_path)
    assert (config.rank, config.alpha, set(config.targets)) == (rank, alpha, set(targets))


def test_an_adapter_comes_back_bit_by_bit(base, tmp_path):
    config = LoraConfig(rank=2, alpha=3.0, dropout=0.25, targets=("k", "gate"))
    state = adapter_state(fill(attach(base.network, config)))
    save_adapter(tmp_path, state, config, "base")
    assert not (tmp_path / "loracast.json").exists()
    stored_config, stored = read_adapter(tmp_path)
    assert stored_config == config
    assert stored.keys() == state.keys()
    assert all(tensor.equal(state[name]) for name, tensor in stored.items())
    again = attach(base.network, stored_config, seed=9)
    load_adapter_state(again, stored, "here")
    assert digest(adapter_state(again)) == digest(state)


def test_merged_weights_are_computed_in_float32(base):
    adapted = fill(attach(base.network, LoraConfig(targets=("q",))))
    name, layer = next(adapter_layers(adapted))
    expected = layer.base.weight.double() + 2.0 * layer.lora_B.double() @ layer.lora_A.double()
    merged = merged_weights(adapted)
    assert len(merged) == base.network.config.num_hidden_layers
    assert merged[f"{name}.weight"].dtype == torch.float32
    assert (merged[f"{name}.weight"] - expected).abs().max() < 1e-6


@pytest.fixture
def saved(base, tmp_path) -> Path:
    config = LoraConfig(rank=2, targets=("q", "v"))
    save_adapter(tmp_path, adapter_state(attach(base.network, config)), config, "base")
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"use_rslora": True}, "use_rslora"),
        ({"bias": "lora_only"}, "bias is 'lora_only'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 4}}, "alpha_pattern"),
        ({"layer_replication": [[0, 1], [0, 1]]}, "layer_replication"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
        ({"init_lora_weights": "pissa"}, "'pissa', which alters the base"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"r": "eight"}, "r is 'eight'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_we_do_not_compute_is_refused(base, saved, edit_json, changes, told):
    edit_json(saved / ADAPTER_CONFIG, **changes)
    with pytest.raises(ModelError, match=told) as raised:
        load_adapted(base, saved)
    assert str(saved / ADAPTER_CONFIG) in str(raised.value)


def test_all_that_is_wrong_is_told_at_once(base, saved, edit_json):
    edit_json(saved / ADAPTER_CONFIG, use_dora=True, use_rslora=True, bias="all")
    with pytest.raises(ModelError, match=r"use_dora.*use_rslora.*bias is 'all'"):
        load_adapted(base, saved)


@pytest.mark.parametrize("kind", ["dora", "rslora", "bias", "modules_to_save"])
def test_adapters_that_peft_wrote_in_other_ways_are_refused(base, qwen2_directory, tmp_path, kind):
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    settings = {
        "dora": {"use_dora": True},
        "rslora": {"use_rslora": True},
        "bias": {"bias": "lora_only"},
        "modules_to_save": {"modules_to_save": ["norm"]},
    }[kind]
    config = PeftConfig(r=2, target_modules=["q_proj"], **settings)
    get_peft_model(reference(qwen2_directory), config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=kind):
        load_adapted(base, tmp_path)


FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: state.pop(FIRST), "q_proj.lora_A.weight is missing"),
        (lambda state: state.update({FIRST.replace("q_proj", "g_proj"): torch.zeros(2)}), "g_proj.*is unknown"),
        (lambda state: state.update({FIRST: torch.zeros(2, 3)}), r"is \[2, 3\], the model needs \[2, 48\]"),
        (lambda state: state.clear(), "holds no LoRA of a known projection"),
    ],
    ids=["missing", "extra", "wrong shape", "empty"],
)
def test_tensors_that_do_not_fit_are_refused(base, saved, change, told):
    state = load_file(saved / ADAPTER_WEIGHTS)
    change(state)
    save_file(state, saved / ADAPTER_WEIGHTS)
    with pytest.raises(ModelError, match=told) as raised:
        load_adapted(base, saved)
    assert str(saved) in str(raised.value)


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_truncated_file_is_refused(base, saved, kept):
    path = saved / ADAPTER_WEIGHTS
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelError, match="not a whole safetensors file") as raised:
        load_adapted(base, saved)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '"LORA"'])
def test_a_configuration_that_is_none_is_refused(base, saved, text):
    (saved / ADAPTER_CONFIG).write_text(text)
    with pytest.raises(ModelError, match=ADAPTER_CONFIG):
        load_adapted(base, saved)


def test_missing_files_are_named(base, saved):
    (saved / ADAPTER_WEIGHTS).unlink()
    with pytest.raises(ModelError, match=f"{ADAPTER_WEIGHTS} does not exist"):
        load_adapted(base, saved)
    with pytest.raises(ModelError, match="not the folder of an adapter"):
        load_adapted(base, saved / "elsewhere")

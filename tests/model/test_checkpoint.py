"""Model directories in and out: what loads, what is refused and how, and what transformers makes of ours."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models

import conftest
from loracast.codec import Codec
from loracast.compute.device import choose_device, choose_precision
from loracast.errors import ModelError
from loracast.language_model import LanguageModel, load_adapted, load_model
from loracast.merge import merge
from loracast.model.locate import locate
from loracast.model.lora import ADAPTER_WEIGHTS, adapter_layers, adapter_state, attach, save_adapter
from loracast.settings import LoraConfig, Precision, Vocabulary

# peft asks transformers by an old name
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture
def directory(qwen2_directory, tmp_path) -> Path:
    """A copy that may be spoilt."""
    return Path(shutil.copytree(qwen2_directory, tmp_path / "model"))


def load(directory: Path, vocabulary: Vocabulary = "numeric", precision: Precision = "float32") -> LanguageModel:
    return load_model(directory, vocabulary=vocabulary, device="cpu", precision=precision)


def tuned_adapter(base: LanguageModel, directory: Path, codec: Codec | None = None) -> Path:
    """Saves an adapter with random matrices, and a record of its base as fine-tuning writes it."""
    config = LoraConfig(rank=4, alpha=6.0, targets=("q", "v", "o", "down"))
    network = attach(base.network, config)
    generator = torch.Generator().manual_seed(2)
    for _, layer in adapter_layers(network):
        layer.lora_B.data.copy_(torch.randn(layer.lora_B.shape, generator=generator) * 0.1)
    record = {
        "base": {"model": "the one it was tuned on", "fingerprint": base.fingerprint},
        "codec": (codec or Codec()).to_dict(),
    }
    save_adapter(directory, adapter_state(network), config, base.source, record)
    return directory


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(directory, name):
    (directory / name).unlink()
    with pytest.raises(ModelError, match=name) as raised:
        load(directory)
    assert str(directory) in str(raised.value)


@pytest.mark.parametrize("kept", [0, 7, 1000, -1])
def test_truncated_weights_are_refused(directory, kept):
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelError, match="not a whole safetensors file") as raised:
        load(directory)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("spoil", ["missing", "truncated"])
def test_a_spoilt_shard_is_named(make_qwen2, spoil):
    directory = make_qwen2(max_shard_size="30KB")
    shard = sorted(directory.glob("*.safetensors"))[1]
    if spoil == "missing":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(ModelError, match=shard.name):
        load(directory)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": 3}'])
def test_an_index_that_is_none_is_refused(make_qwen2, text):
    directory = make_qwen2(max_shard_size="30KB")
    index = directory / "model.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(ModelError, match=index.name):
        load(directory)


def test_one_file_goes_before_shards_that_were_left_behind(directory):
    before = load(directory).fingerprint
    (directory / "model.safetensors.index.json").write_text('{"weight_map": {"x": "absent.safetensors"}}')
    assert load(directory).fingerprint == before


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model_type": "gpt2"}, "model_type is 'gpt2', which loracast does not compute; it computes 'qwen2'"),
        ({"model_type": "llama", "mlp_bias": True}, "mlp_bias is True; only False is computed"),
        ({"rope_scaling": {"type": "dynamic", "factor": 4.0}}, "'dynamic'"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": "long"}}, "scaling of rotary positions cannot be read"),
        ({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "rotates a part of each head only"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"num_hidden_layers": None}, "num_hidden_layers is None"),
        ({"hidden_size": "48"}, "hidden_size is '48'"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"num_key_value_heads": 3}, "not a multiple of num_key_value_heads 3"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_configuration_that_we_do_not_compute_is_refused(directory, edit_json, changes, told):
    edit_json(directory / "config.json", **changes)
    with pytest.raises(ModelError, match=told) as raised:
        load(directory)
    assert str(directory / "config.json") in str(raised.value)


def test_all_problems_of_a_configuration_are_told_at_once(directory, edit_json):
    edit_json(directory / "config.json", hidden_act="relu", rope_scaling={"type": "longrope"}, vocab_size=None)
    with pytest.raises(ModelError, match=r"'relu'.*vocab_size.*'longrope'"):
        load(directory)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "loracast.json"])
@pytest.mark.parametrize("text", ["", "{", "[1]", "\ufeff"])
def test_text_that_is_no_json_object_is_refused(directory, name, text):
    (directory / name).write_text(text)
    with pytest.raises(ModelError, match=name) as raised:
        load(directory)
    assert str(directory) in str(raised.value)


@pytest.mark.parametrize("stored", [{}, {"codec": {"digits": 99}}, {"codec": {"colour": "red"}}, {"codec": 3}], ids=str)
def test_a_stored_codec_that_is_none_is_refused(directory, stored):
    (directory / "loracast.json").write_text(json.dumps(stored))
    with pytest.raises(ModelError, match=r"loracast\.json: the codec cannot be read"):
        load(directory)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"intermediate_size": 96}, r"mlp.\w+_proj.weight is \[\d+, \d+\], config.json says \[\d+, \d+\]"),
        ({"num_hidden_layers": 3}, r"model.layers.2.\S+ is missing"),
        ({"num_hidden_layers": 1}, r"unknown tensor model.layers.1"),
        ({"tie_word_embeddings": False}, "lm_head.weight is missing"),
        ({"vocab_size": 257}, "tokenizer has id 257, the model only 257 rows"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_weights_that_do_not_fit_the_configuration_are_refused(directory, edit_json, changes, told):
    edit_json(directory / "config.json", **changes)
    with pytest.raises(ModelError, match=told) as raised:
        load(directory)
    assert str(directory) in str(raised.value)


def test_a_repeated_head_of_a_tied_model_is_no_problem(directory):
    path = directory / "model.safetensors"
    state = load_file(path)
    save_file({**state, "lm_head.weight": state["model.embed_tokens.weight"].clone()}, path)
    assert load(directory).fingerprint


def test_a_tokenizer_without_a_token_for_each_digit_is_refused(directory):
    vocabulary = {text: index for index, text in enumerate("012345678.,;-?")}
    Tokenizer(models.BPE(vocabulary, [])).save(str(directory / "tokenizer.json"))
    with pytest.raises(ModelError, match="no single token for '9'") as raised:
        load(directory)
    assert str(directory / "tokenizer.json") in str(raised.value)


def test_an_adapter_keeps_what_stands_in_for_a_symbol(directory, tmp_path):
    conftest.write_byte_tokenizer(directory, ((";", "-"),))
    base = load(directory)
    state, lora = adapter_state(attach(base.network, LoraConfig(2))), LoraConfig(2)
    for stand_ins in ({"NaN": "?"}, {"NaN": "_"}):
        save_adapter(tmp_path, state, lora, str(directory), {"stand_ins": stand_ins})
        if stand_ins == base.tokens.stand_ins:
            load_adapted(base, tmp_path)
        else:
            with pytest.raises(ModelError, match=r"was tuned with \{'NaN': '_'\} in place of symbols"):
                load_adapted(base, tmp_path)


def test_places_that_are_no_model_are_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ModelError, match="is a file"):
        locate(file)
    for absent in (tmp_path / "absent", "./absent", "one/two/three", "absent"):
        with pytest.raises(ModelError, match="does not exist"):
            locate(absent)
    with pytest.raises(ModelError, match="nobody/nothing is not a folder here"):
        locate("nobody/nothing")


def test_device_and_precision_are_what_is_asked_for(monkeypatch):
    cpu = torch.device("cpu")
    assert choose_precision("bfloat16", cpu) == torch.bfloat16
    assert choose_precision("float32", torch.device("cuda")) == torch.float32
    assert choose_precision("auto", torch.device("cuda")) == torch.bfloat16
    assert choose_device("cpu") == cpu
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == cpu
    with pytest.raises(ModelError, match="sees no GPU"):
        choose_device("cuda")


# -- what is loaded ------------------------------------------------------------------------------------------------


def test_a_loaded_model_is_frozen_and_knows_its_codec(directory):
    assert load(directory).codec is None
    codec = Codec(layout="decimal", digits=1)
    (directory / "loracast.json").write_text(json.dumps({"codec": codec.to_dict()}))
    model = load(directory)
    assert model.codec == codec
    assert model.source == str(directory)
    assert not model.network.training
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


def test_the_fingerprint_is_of_the_weights_alone(directory):
    fingerprints = {
        load(directory, vocabulary, precision).fingerprint
        for vocabulary in ("numeric", "full")
        for precision in ("float32", "bfloat16")
    }
    assert len(fingerprints) == 1


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.1.mlp.down_proj.weight",
        "model.layers.1.self_attn.k_proj.bias",
        "model.norm.weight",
    ],
)
def test_other_weights_have_another_fingerprint(directory, name):
    before = load(directory).fingerprint
    path = directory / "model.safetensors"
    state = load_file(path)
    save_file({**state, name: state[name] * 1.001}, path)
    assert load(directory).fingerprint != before


def test_an_adapter_of_another_base_is_refused(qwen2_directory, make_qwen2, tmp_path):
    base, other = load(qwen2_directory), load(make_qwen2(seed=1))
    adapter = tuned_adapter(base, tmp_path / "adapter")
    model, _, record = load_adapted(load(qwen2_directory, "full"), adapter)
    assert model.source == base.source
    assert record["base"]["fingerprint"] == base.fingerprint
    with pytest.raises(ModelError, match=r"another base model \(the one it was tuned on") as raised:
        load_adapted(other, adapter)
    assert str(adapter) in str(raised.value)


def test_an_adapter_of_a_wider_base_is_refused_without_a_record(qwen2_directory, make_qwen2, tmp_path):
    adapter = tuned_adapter(load(make_qwen2(hidden_size=64)), tmp_path / "adapter")
    (adapter / "loracast.json").unlink()
    with pytest.raises(ModelError, match="does not fit this base model") as raised:
        load_adapted(load(qwen2_directory), adapter)
    assert str(adapter) in str(raised.value)


# -- what is written -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_a_merged_model_is_what_peft_merges(make_qwen2, tmp_path, tied):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    source = make_qwen2(tie_word_embeddings=tied, max_shard_size="30KB")
    codec = Codec(layout="decimal", digits=2)
    base = load(source)
    adapter = tuned_adapter(base, tmp_path / "adapter", codec)
    output = tmp_path / "merged"
    differences = merge(source, adapter, output)
    assert differences.keys() == {"float32", "stored"}
    assert 0 < differences["float32"] < 1e-4
    assert differences["stored"] == differences["float32"]

    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32), adapter)
    expected_network = theirs.merge_and_unload()
    actual_network = AutoModelForCausalLM.from_pretrained(output)
    assert actual_network.dtype == torch.float32
    ids = torch.randint(272, (2, 30), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, actual = expected_network(ids).logits, actual_network(ids).logits
    difference = (actual - expected).abs().max().item()
    print(f"merged logits differ from peft's by {difference:.1e}; reported: {differences}")
    assert difference < 1e-4

    merged = load(output)
    assert merged.codec == codec
    assert merged.fingerprint != base.fingerprint
    symbols = torch.randint(15, (1, 40), generator=torch.Generator().manual_seed(1))
    adapted, _, _ = load_adapted(base, adapter)
    assert (merged.network(symbols) - adapted.network(symbols)).abs().max() < 1e-4
    assert (merged.network(symbols) - base.network(symbols)).abs().max() > 0.1


def test_merging_keeps_the_precision_of_the_base_unless_told(make_qwen2, tmp_path):
    source = make_qwen2(dtype=torch.bfloat16)
    adapter = tuned_adapter(load(source), tmp_path / "adapter")
    kept = merge(source, adapter, tmp_path / "kept")
    wide = merge(source, adapter, tmp_path / "wide", "float32")
    assert kept["float32"] == wide["float32"] < 1e-4
    assert kept["stored"] > 10 * wide["stored"]
    for name, dtype in (("kept", torch.bfloat16), ("wide", torch.float32)):
        state = load_file(tmp_path / name / "model.safetensors")
        assert {tensor.dtype for tensor in state.values()} == {dtype}
        assert json.loads((tmp_path / name / "config.json").read_text())["torch_dtype"] == str(dtype).split(".")[1]


def test_merging_over_its_own_sources_is_refused(directory, tmp_path):
    adapter = tuned_adapter(load(directory), tmp_path / "adapter")
    before = (directory / "model.safetensors").read_bytes()
    for output, told in ((directory, "the base model itself"), (adapter, "the adapter itself")):
        with pytest.raises(ModelError, match=told):
            merge(directory, adapter, output)
    assert (directory / "model.safetensors").read_bytes() == before


def test_a_merge_that_fails_leaves_nothing_behind(directory, tmp_path):
    adapter = tuned_adapter(load(directory), tmp_path / "adapter")
    (adapter / ADAPTER_WEIGHTS).write_bytes(b"")
    with pytest.raises(ModelError, match=ADAPTER_WEIGHTS):
        merge(directory, adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_transformers_loads_what_we_write(numeric_directory, numeric_model):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(numeric_directory)
    text = "246,NaN;12,-3;"
    ids = tokenizer(text)["input_ids"]
    assert ids == [2, 4, 6, 11, 14, 12, 1, 2, 11, 13, 3, 12]
    assert tokenizer.decode(ids) == text
    assert tokenizer.eos_token == "<|endoftext|>"

    theirs = AutoModelForCausalLM.from_pretrained(numeric_directory)
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0, :, : len(numeric_model.rows)]
        actual = numeric_model.network(torch.tensor([ids]))[0]
    assert (actual - expected).abs().max() < 1e-4

"""GGUF files: each family and kind of numbers against transformers' own reading, and files that are not whole."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import randomise
from loracast.errors import ModelError
from loracast.language_model import load_model
from loracast.model.stored import open_model

gguf = pytest.importorskip("gguf")

SIZES = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}
TOKENS = [*(chr(33 + index) for index in range(94)), *(f"token{index}" for index in range(206))]
OURS = {  # names of a layer's tensors, as Hugging Face has them
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


NAMED = {"qwen2": "Qwen2", "qwen3": "Qwen3", "llama": "Llama", "mistral": "Mistral"}


def network(family: str) -> Any:
    import transformers

    config = transformers.AutoConfig.for_model(
        family,
        **SIZES,
        **({"head_dim": 16} if family == "qwen3" else {}),
        tie_word_embeddings=family not in ("llama", "mistral"),
    )
    made: Any = getattr(transformers, NAMED[family] + "ForCausalLM")
    made = made(config)
    randomise(made, 0)
    return made.eval()


def write(path: Path, model: Any, family: str, kind: str = "F32", **changes: Any) -> Path:
    """Writes a model as llama.cpp does: its names, and the rows of Llama's queries and keys in its order."""
    writer = gguf.GGUFWriter(path, family)
    config = model.config
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(16)
    writer.add_key_length(16)
    writer.add_tokenizer_model(changes.pop("tokenizer", "gpt2"))
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(changes.pop("tokens", TOKENS))
    writer.add_token_merges([])
    for name, value in changes.items():
        writer.add_string(name, value)
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    names = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if family == "llama":
        names["lm_head.weight"] = "output.weight"
    for layer in range(config.num_hidden_layers):
        for theirs, ours in OURS.items():
            for part in ("weight", "bias"):
                if (name := f"model.layers.{layer}.{ours}.{part}") in state:
                    names[name] = f"blk.{layer}.{theirs}.{part}"
    for name, theirs in names.items():
        tensor = state[name]
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        if family == "llama" and name.split(".")[-2] in heads:
            shape = heads[name.split(".")[-2]], 2, -1, *tensor.shape[1:]
            tensor = tensor.reshape(shape).swapaxes(1, 2).reshape(tensor.shape)
        if kind == "F32" or tensor.ndim == 1:
            writer.add_tensor(theirs, np.ascontiguousarray(tensor))
        else:
            wanted = gguf.GGMLQuantizationType[kind]
            writer.add_tensor(theirs, gguf.quants.quantize(tensor, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "model.gguf", network("llama"), "llama")


IDS = torch.randint(300, (2, 20), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_a_file_holds_the_model_that_was_written(tmp_path: Path, family: str):
    theirs = network(family)
    # llama.cpp calls a Mistral a Llama, which computes the same
    path = write(tmp_path / "model.gguf", theirs, "llama" if family == "mistral" else family)
    ours = load_model(path, vocabulary="full", device="cpu", precision="float32")
    with torch.no_grad():
        torch.testing.assert_close(ours.network(IDS), theirs(IDS).logits, rtol=1e-4, atol=1e-4)
    few = load_model(tmp_path, device="cpu", precision="float32")  # the folder, and only the rows of numbers
    assert few.fingerprint == ours.fingerprint
    with torch.no_grad():
        hidden = few.network.hidden(torch.arange(10)[None])
        torch.testing.assert_close(hidden, ours.network.hidden(ours.rows[:10][None]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_quantised_numbers_are_those_that_transformers_reads(tmp_path: Path, kind: str):
    import transformers

    path = write(tmp_path / "model.gguf", network("qwen2"), "qwen2", kind)
    theirs: Any = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32)
    ours = load_model(path, vocabulary="full", device="cpu", precision="float32").network.state_dict()
    found = theirs.state_dict()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, found[name].float(), rtol=0, atol=0)
    assert open_model(path).quantised[kind] == 15


@pytest.mark.parametrize("kind", ["Q4_K", "Q5_K", "Q6_K"])
def test_larger_blocks_are_read_row_by_row(tmp_path: Path, kind: str):
    """What only llama.cpp writes: blocks of random bytes, as the library dequantises them."""
    from loracast.model.gguf import GgufFile

    number = gguf.GGMLQuantizationType[kind]
    _, size = gguf.GGML_QUANT_SIZES[number]
    data = np.random.default_rng(0).integers(0, 200, (6, 2 * size)).astype(np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_tensor("x.weight", data, raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    opened = GgufFile(tmp_path / "a.gguf")
    whole = torch.from_numpy(gguf.quants.dequantize(data, number))
    assert opened.tensors["x.weight"].shape == (6, 512)
    torch.testing.assert_close(opened.read("x.weight"), whole, equal_nan=True)
    torch.testing.assert_close(opened.read("x.weight", [4, 1]), whole[[4, 1]], equal_nan=True)


def test_inspect_shows_what_is_quantised(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from loracast.cli.inspect import inspect

    inspect(str(write(tmp_path / "model.gguf", network("llama"), "llama", "Q8_0")))
    assert "16 of Q8_0, 5 of F32" in " ".join(capsys.readouterr().out.split())


def damage(path: Path, at: int, value: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[at : at + len(value)] = value
    path.write_bytes(bytes(content))


def test_files_that_are_not_whole_are_refused(file: Path, tmp_path: Path):
    whole = file.read_bytes()
    for length in (0, 3, 8, 20, 100, len(whole) // 2, len(whole) - 40):
        file.write_bytes(whole[:length])
        with pytest.raises(ModelError, match="is not a whole GGUF file"):
            load_model(file, device="cpu")
    for at, value, message in (
        (0, b"GGML", "does not begin with GGUF"),
        (4, struct.pack("<I", 9), "its version is 9"),
        (4, struct.pack(">I", 3), "the other way round"),
        (8, struct.pack("<Q", 2**60), "goes beyond its end"),
        (16, struct.pack("<Q", 2**60), "goes beyond its end"),
        (24, struct.pack("<Q", 2**62), "ends within its header"),
    ):
        file.write_bytes(whole)
        damage(file, at, value)
        with pytest.raises(ModelError, match=message):
            load_model(file, device="cpu")


def test_what_is_not_computed_is_named(tmp_path: Path):
    model = network("llama")
    with pytest.raises(ModelError, match=r"tokenizer.ggml.model is 'bert'"):
        load_model(write(tmp_path / "a.gguf", model, "llama", tokenizer="bert"))
    with pytest.raises(ModelError, match=r"general\.architecture is 'mamba'"):
        load_model(write(tmp_path / "b.gguf", model, "mamba"))
    with pytest.raises(ModelError, match="no single token for '7'"):
        load_model(write(tmp_path / "c.gguf", model, "llama", tokens=[*TOKENS[:22], "seven", *TOKENS[23:]]))
    with pytest.raises(ModelError, match="holds 3 GGUF files; name one of them"):
        load_model(tmp_path)


def test_an_adapter_of_a_file_is_merged_into_a_directory(file: Path, tmp_path: Path):
    import loracast
    from loracast.merge import merge
    from loracast.settings import TuneConfig

    base = loracast.Forecaster.from_pretrained(file, device="cpu", precision="float32")
    tune = TuneConfig(steps=2, batch=2, context=6, horizon=6, validation_windows=2, validation_series=0)
    tuned = base.fit(loracast.simulate("predator-prey", 6, steps=30), tune=tune)
    tuned.save(tmp_path / "adapter")
    again = loracast.Forecaster.from_pretrained(adapter=tmp_path / "adapter", device="cpu", precision="float32")
    assert again.model.source == str(file.resolve())
    differences = merge(file, tmp_path / "adapter", tmp_path / "merged")
    assert differences["float32"] < 1e-4
    merged = load_model(tmp_path / "merged", device="cpu", precision="float32")
    assert merged.tokens.ids.tolist() == base.model.tokens.ids.tolist()

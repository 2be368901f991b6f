"""Qwen2 against transformers' implementation of it."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from loracast.grammar import SYMBOLS
from loracast.language_model import LanguageModel, load_model
from loracast.model.attention import SharedPrefixCache
from loracast.model.config import ModelConfig
from loracast.model.rotary import rotary
from loracast.model.transformer import Transformer
from loracast.settings import Precision, Vocabulary

TOLERANCE = 1e-4

ARCHITECTURES = {
    "one head a group": {"num_attention_heads": 4, "num_key_value_heads": 4},
    "two heads a group, untied": {"tie_word_embeddings": False},
    "four heads a group, wide heads": {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 32},
    "seven heads a group": {"num_attention_heads": 14, "num_key_value_heads": 2, "hidden_size": 56},
    "seven heads, one group, narrow heads, untied": {
        "num_attention_heads": 7,
        "num_key_value_heads": 1,
        "head_dim": 6,
        "tie_word_embeddings": False,
    },
    "a base of a million, another epsilon": {
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        "rms_norm_eps": 1e-3,
    },
    "a base of a hundred, deeper": {
        "rope_parameters": {"rope_type": "default", "rope_theta": 100.0},
        "num_hidden_layers": 5,
    },
}


def reference(directory: Path) -> Any:  # the library's own types do not admit to `generate`
    from transformers import Qwen2ForCausalLM

    return Qwen2ForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


def random_ids(shape: tuple[int, int], rows: int, seed: int = 0) -> Tensor:
    return torch.randint(rows, shape, generator=torch.Generator().manual_seed(seed))


def load(directory: Path, vocabulary: Vocabulary = "full", precision: Precision = "float32") -> LanguageModel:
    return load_model(directory, vocabulary=vocabulary, device="cpu", precision=precision)


@torch.no_grad()
def greedy(network: Transformer, ids: Tensor, new: int) -> Tensor:
    """The likeliest continuation [B, new] of ids [B, T], computed from the start for every token."""
    for _ in range(new):
        ids = torch.cat([ids, network(ids)[:, -1:].argmax(-1)], 1)
    return ids[:, -new:]


@torch.no_grad()
def greedy_cached(network: Transformer, ids: Tensor, new: int, samples: int) -> Tensor:
    """The same [B, samples, new], through the cache."""
    cache = SharedPrefixCache(torch.full((len(ids),), ids.shape[1]), samples)
    hidden = network.hidden(ids, cache)[:, -1:].repeat_interleave(samples, 0)  # [B * samples, 1, C]
    tokens = []
    for _ in range(new):
        tokens.append(network.logits(hidden).argmax(-1))  # [B * samples, 1]
        hidden = network.hidden(tokens[-1], cache)
    return torch.cat(tokens, 1).unflatten(0, (len(ids), samples))


@pytest.mark.parametrize("changes", ARCHITECTURES.values(), ids=ARCHITECTURES.keys())
def test_logits_and_greedy_continuations_are_those_of_transformers(make_qwen2, changes):
    directory = make_qwen2(seed=len(str(changes)), **changes)
    theirs, ours = reference(directory), load(directory).network
    assert sum(parameter.numel() for parameter in theirs.parameters()) == ours.config.parameters()
    ids = random_ids((3, 40), 272)
    with torch.no_grad():
        expected, actual = theirs(ids).logits, ours(ids)
    difference = (actual - expected).abs().max().item()
    print(f"largest difference of logits up to {expected.abs().max():.1f}: {difference:.1e}")
    assert expected.std() > 0.5  # or the comparison would say little
    assert difference < TOLERANCE

    prompt = ids[:2, :17]
    continued = theirs.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=24, do_sample=False, pad_token_id=0
    )[:, 17:]
    assert len(continued.unique()) > 4
    assert greedy(ours, prompt, 24).equal(continued)
    assert greedy_cached(ours, prompt, 24, samples=2).equal(continued[:, None].expand(-1, 2, -1))


@pytest.mark.parametrize("style", ["rope_parameters", "rope_theta"])
def test_both_styles_of_configuration_give_the_rotary_base(make_qwen2, edit_json, style):
    directory = make_qwen2(rope_parameters={"rope_type": "default", "rope_theta": 5e4})
    if style == "rope_theta":
        edit_json(directory / "config.json", rope_parameters=None, rope_theta=5e4, dtype=None, torch_dtype="float32")
    assert ModelConfig.read(directory / "config.json")[0].rope_theta == 5e4
    ids = random_ids((1, 64), 272)
    with torch.no_grad():
        assert (load(directory).network(ids) - reference(directory)(ids).logits).abs().max() < TOLERANCE


def test_far_positions_turn_by_the_angles_of_transformers(qwen2_directory):
    theirs = reference(qwen2_directory).model.rotary_emb
    positions = torch.tensor([[0, 1, 500, 32_767]])
    expected = theirs(torch.zeros(1), positions)
    config, _ = ModelConfig.read(qwen2_directory / "config.json")
    for actual, wanted in zip(rotary(positions, config, torch.float32), expected):
        assert actual[:, 0].equal(wanted)


@pytest.mark.parametrize("tied", [True, False])
def test_shards_are_read_as_one_file_is(make_qwen2, tied):
    whole, sharded = (make_qwen2(tie_word_embeddings=tied, max_shard_size=size) for size in ("1GB", "30KB"))
    assert len(list(sharded.glob("*.safetensors"))) > 2
    first, second = load(whole), load(sharded)
    ids = random_ids((2, 9), 272)
    assert first.network(ids).equal(second.network(ids))
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize("tied", [True, False])
def test_the_numeric_vocabulary_is_columns_of_the_full_one(make_qwen2, tied):
    directory = make_qwen2(tie_word_embeddings=tied)
    full, numeric = load(directory, "full"), load(directory, "numeric")
    symbols = random_ids((2, 30), len(SYMBOLS))
    expected = full.network(full.rows[symbols])[..., full.rows]
    actual = numeric.network(numeric.rows[symbols])
    assert actual.shape[-1] == len(SYMBOLS)
    assert (actual - expected).abs().max() < 1e-5
    assert numeric.network.model.embed_tokens.weight.shape == (len(SYMBOLS), 48)


@pytest.mark.parametrize("vocabulary", ["numeric", "full"])
def test_bfloat16_rounds_and_no_more(make_qwen2, vocabulary):
    directory = make_qwen2()
    exact, rounded = (load(directory, vocabulary, precision) for precision in ("float32", "bfloat16"))
    assert {parameter.dtype for parameter in rounded.network.parameters()} == {torch.bfloat16}
    ids = exact.rows[random_ids((2, 30), len(SYMBOLS))]
    expected, actual = exact.network(ids), rounded.network(ids)
    assert actual.dtype == torch.float32
    assert 0 < (actual - expected).abs().max() < 0.05 * expected.abs().max()


def test_a_checkpoint_in_bfloat16_is_computed_in_float32(make_qwen2):
    directory = make_qwen2(dtype=torch.bfloat16)
    ids = random_ids((2, 30), 272)
    with torch.no_grad():
        assert (load(directory).network(ids) - reference(directory)(ids).logits).abs().max() < TOLERANCE


def test_parameters_are_counted_without_the_weights(qwen_files):
    config, _ = ModelConfig.read(qwen_files / "config.json")
    assert config.parameters() == 494_032_768
    assert config.lora_parameters(8, ("q", "v")) == 540_672


@pytest.mark.slow
def test_full_size_logits_and_greedy_continuation_are_those_of_transformers(qwen_files):
    from transformers import Qwen2Config as ReferenceConfig
    from transformers import Qwen2ForCausalLM

    with tempfile.TemporaryDirectory() as folder:  # a gigabyte, which pytest would keep for three runs
        directory = Path(folder)
        torch.manual_seed(0)
        settings = ReferenceConfig.from_pretrained(qwen_files)
        theirs = Qwen2ForCausalLM._from_config(settings, dtype=torch.bfloat16)
        for name, parameter in theirs.named_parameters():
            if name.endswith("bias"):  # which transformers begins at zero
                torch.nn.init.normal_(parameter, 0.0, 0.5)
            elif "proj" in name:  # or the embedding would outweigh the layers and the last token be repeated
                parameter.data.mul_(3)
        theirs.save_pretrained(directory)
        (directory / "tokenizer.json").symlink_to((qwen_files / "tokenizer.json").resolve())
        del theirs
        theirs, ours = reference(directory), load(directory)
        assert sum(parameter.numel() for parameter in ours.network.parameters()) == 494_032_768
        text = (
            "The hare and the lynx, in thousands of pelts: 30,4;47.2,6.1;70.2,9.8;77.4,35.2; and so on, every ten "
            "years or so, as the Hudson's Bay Company wrote it down."
        )
        ids = torch.tensor([ours.tokens.tokenizer.encode(text).ids])
        with torch.no_grad():
            expected, actual = theirs(ids).logits, ours.network(ids)
        difference = (actual - expected).abs().max().item()
        print(f"{ids.shape[1]} tokens, largest difference of logits up to {expected.abs().max():.2f}: {difference:.1e}")
        assert difference < TOLERANCE
        theirs.generation_config.eos_token_id = None
        continued = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False, pad_token_id=0
        )[:, ids.shape[1] :]
        assert len(continued.unique()) > 4
        assert greedy_cached(ours.network, ids, 20, samples=1)[:, 0].equal(continued)
        with torch.no_grad():  # and without a cache, all positions at once
            predicted = ours.network(torch.cat([ids, continued], 1)[:, :-1]).argmax(-1)
        assert predicted[:, -20:].equal(continued)

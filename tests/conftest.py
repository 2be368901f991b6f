"""Small checkpoints that several test modules use. Nothing here needs a network, nor a file outside the repository."""

# Before anything else of loracast and before torch: the first so that shapes are checked, the second so that waiting
# threads do not spin, which on a busy machine is 25 times as slow.
import loracast  # noqa: F401
import shapes

shapes.enforce()

# isort: split
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import nn

from loracast.engine.pretrain import initialise
from loracast.language_model import LanguageModel, load_model
from loracast.model.checkpoint import write_model
from loracast.model.config import ModelConfig
from loracast.model.tokenizer import NUMERIC_VOCABULARY, QWEN2_SPLIT, write_numeric_tokenizer

os.environ["HF_HUB_OFFLINE"] = "1"  # transformers and huggingface_hub read it when they are imported, which is later
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"  # files that the repository does not hold; tests that want them skip without
QWEN = SHARED / "qwen2.5-0.5b-instruct"
MERGES = (("N", "a"), ("Na", "N"), (";", "-"))  # as Qwen's, which has "NaN" and merges ";-" across two symbols

FIRST = ("test_docs.py", "test_examples.py", "test_docstrings.py")  # few long tests, which would keep one process last

MakeDirectory = Callable[..., Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in FIRST)


@pytest.fixture(scope="session")
def load_benchmark() -> Iterator[Callable[[str], Any]]:
    """Imports a module of benchmarks/ by its name."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield import_module
    sys.path.remove(str(ROOT / "benchmarks"))


def randomise(network: nn.Module, seed: int) -> None:
    """Weights that all matter: transformers' own start has logits near zero, no bias and norms of one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 2:
                parameter.copy_(noise * (0.15 if "embed" in name else 1.5 * parameter.shape[1] ** -0.5))
            else:
                parameter.copy_(noise * 0.1 + (0.0 if name.endswith("bias") else 1.0))


def write_byte_tokenizer(
    directory: Path, merges: Sequence[tuple[str, str]] = MERGES, split: str = QWEN2_SPLIT
) -> dict[str, int]:
    """Writes a byte-level tokenizer of 256 bytes and what merges make of them; returns its vocabulary."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: index for index, piece in enumerate([*alphabet, *("".join(pair) for pair in merges)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    return vocabulary


@pytest.fixture(scope="session")
def make_qwen2(tmp_path_factory: pytest.TempPathFactory) -> MakeDirectory:
    """Makes directories of random models, as transformers writes them: `make_qwen2(seed=0, hidden_size=48, ...)`."""
    from transformers import Qwen2Config as ReferenceConfig
    from transformers import Qwen2ForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()

    def make(*, seed: int = 0, max_shard_size: str = "1GB", dtype: torch.dtype = torch.float32, **changes: Any) -> Path:
        settings = {
            "vocab_size": 272,  # more rows than the tokenizer has tokens, as Qwen2 has
            "hidden_size": 48,
            "intermediate_size": 80,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
            **changes,
        }
        directory = tmp_path_factory.mktemp("qwen2")
        network: Any = Qwen2ForCausalLM(ReferenceConfig(**settings))
        randomise(network, seed)
        network.to(dtype).save_pretrained(directory, max_shard_size=max_shard_size)
        write_byte_tokenizer(directory)
        return directory

    return make


@pytest.fixture(scope="session")
def qwen2_directory(make_qwen2: MakeDirectory) -> Path:
    """A tied model of 272 rows with a byte-level tokenizer. To be read only."""
    return make_qwen2()


@pytest.fixture(scope="session")
def make_numeric(tmp_path_factory: pytest.TempPathFactory) -> MakeDirectory:
    """Makes directories as pretraining writes them, of models that have opinions: `make_numeric(seed=0, ...)`."""

    def make(*, seed: int = 0, strength: float = 6.0, **changes: Any) -> Path:
        settings = {
            "vocab_size": len(NUMERIC_VOCABULARY),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "rope_theta": 10_000.0,
            **changes,
        }
        config = ModelConfig(**settings)
        directory = tmp_path_factory.mktemp("numeric")
        network = initialise(config, seed)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(strength if parameter.ndim == 2 else 1.0)
        write_model(directory, network, config, torch.float32)
        write_numeric_tokenizer(directory)
        return directory

    return make


@pytest.fixture(scope="session")
def numeric_directory(make_numeric: MakeDirectory) -> Path:
    """A model of numbers alone. To be read only."""
    return make_numeric()


@pytest.fixture(scope="session")
def numeric_model(numeric_directory: Path) -> LanguageModel:
    return load_model(numeric_directory, device="cpu", precision="float32")


@pytest.fixture(scope="session")
def qwen_files() -> Path:
    """The folder with Qwen2.5-0.5B-Instruct's config.json and tokenizer.json, where there is one."""
    if not (QWEN / "tokenizer.json").is_file():
        pytest.skip("needs Qwen2.5-0.5B-Instruct's config.json and tokenizer.json beside the repository")
    return QWEN


@pytest.fixture
def edit_json() -> Callable[..., None]:
    """Changes keys of a JSON file; a key set to None goes."""

    def edit(path: Path, **changes: Any) -> None:
        stored = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({key: value for key, value in stored.items() if value is not None}))

    return edit

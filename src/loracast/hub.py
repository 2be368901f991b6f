"""Adapters on the Hugging Face hub, or a server that speaks as it does (HF_ENDPOINT): they are pushed with their card.

What peft and transformers need to load an adapter is its base by a name that they know. A base that has none, because
it comes with loracast or lies in a folder, is pushed as a repository of its own beside the adapter.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from loracast.card import CARD, adapter_card, public_name
from loracast.errors import ConfigError, LoracastError, ModelError
from loracast.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, RECORD, write_json, write_text
from loracast.language_model import LanguageModel
from loracast.model.checkpoint import TOKENIZER_FILES
from loracast.model.config import read_json
from loracast.model.locate import is_repository, locate
from loracast.model.lora import adapter_state, read_adapter, save_adapter
from loracast.settings import LoraConfig

MODEL_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json", RECORD, *TOKENIZER_FILES)
BASE_CARD = """---
library_name: transformers
tags: [loracast, time-series]
---

# {name}

A causal language model that writes numbers, the base of the adapter [{adapter}](https://huggingface.co/{adapter}) of
loracast. `transformers.AutoModelForCausalLM` loads it, and `loracast.Forecaster.from_pretrained("{name}")`.
"""


class HubError(LoracastError):
    """The hub did not take or give what it was asked for."""


class SharedMethods:
    """Of a forecaster: its adapter as a folder, and on a hub."""

    model: LanguageModel
    lora: LoraConfig | None
    record: dict[str, Any]

    def save(self, directory: str | Path) -> None:
        """Writes the adapter, with its card, as a directory that peft and `from_pretrained` load."""
        if self.lora is None:
            raise ModelError("an untouched model has no adapter to save")
        save_adapter(Path(directory), adapter_state(self.model.network), self.lora, self.model.source, self.record)
        if "tune" in self.record:
            write_text(Path(directory) / CARD, adapter_card(self.record, self.lora))

    def push_to_hub(
        self, repository: str, *, base: str | None = None, private: bool = False, token: str | None = None
    ) -> str:
        """Pushes the adapter with its card to owner/name on the Hugging Face hub, and returns its address.

        A base that others cannot find, such as the bundled model, is pushed beside it; see `loracast.hub.push_adapter`
        for the arguments and the errors.
        """
        with TemporaryDirectory() as folder:
            self.save(folder)
            return push_adapter(Path(folder), repository, base=base, private=private, token=token)


def push_adapter(
    directory: Path,
    repository: str,
    *,
    base: str | None = None,
    private: bool = False,
    token: str | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> str:
    """Pushes an adapter's folder with its card, and its base where others could not find that; returns its address.

    Args:
        repository: owner/name, made unless it is there.
        base: a repository that holds the base already. Unless given, what the record says, or, where that is no
            repository, one that is pushed too, by the adapter's name with `-base`.
        private: of repositories that are made.
        token: what the hub knows its user by; what `hf auth login` has kept unless given.
        say: told before anything is sent what will be.

    Raises:
        ModelError: the folder holds no adapter of loracast, or its base cannot be pushed.
        ConfigError: a name that is none of a repository.
        HubError: the hub refused.
    """
    lora, _ = read_adapter(directory)
    if not (directory / RECORD).is_file():
        raise ModelError(f"{directory} has no {RECORD}: loracast did not tune this adapter; push it with peft")
    for name, given in (("the adapter's repository", repository), ("base", base)):
        if given is not None:
            check_repository(name, given)
    record = read_json(directory / RECORD)
    own = record["base"]["model"]
    known = public_name(own)  # a repository, or a model that comes in a package
    named = base or (known if known and is_repository(known) else None)
    folder = None if named else base_folder(own)
    base = named or f"{repository}-base"
    with TemporaryDirectory() as place:
        adapter, beside = Path(place) / "adapter", Path(place) / "base"
        adapter.mkdir()
        shutil.copy(directory / ADAPTER_WEIGHTS, adapter)
        write_json(adapter / ADAPTER_CONFIG, read_json(directory / ADAPTER_CONFIG) | {"base_model_name_or_path": base})
        write_json(adapter / RECORD, record | {"base": {**record["base"], "model": base}})
        write_text(adapter / CARD, adapter_card(record, lora, repository, base))
        if folder:
            beside.mkdir()
            for pattern in MODEL_FILES:
                for file in folder.glob(pattern):
                    shutil.copy(file, beside)
            write_text(beside / CARD, BASE_CARD.format(name=base, adapter=repository))
            say(f"{size_of(beside)} of the base → {base}")
            upload(beside, base, private, token)
        say(f"{size_of(adapter)} of the adapter → {repository}")
        return upload(adapter, repository, private, token)


def check_repository(what: str, name: str) -> None:
    """Refuses what is no owner/name of a repository."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
        valid = is_repository(name)
    except HFValidationError:
        valid = False
    if not valid:
        raise ConfigError([f"{what} is {name!r}, which is no owner/name of letters, digits, '-', '_' and '.'"])


def base_folder(model: str) -> Path:
    """The folder of a base that no hub has. Raises ModelError for one that peft could not load from there."""
    found = locate(model)
    if not found.is_dir():
        raise ModelError(
            f"the base {model!r} is a GGUF file, which peft does not load; name a repository that holds the same model "
            "with --base"
        )
    return found


def size_of(folder: Path) -> str:
    """`4 files, 3.1 MB`."""
    files = [file for file in folder.iterdir() if file.is_file()]
    return f"{len(files)} files, {sum(file.stat().st_size for file in files) / 1e6:.1f} MB"


def upload(folder: Path, repository: str, private: bool, token: str | None) -> str:
    """The address of a repository that holds the files of a folder now."""
    from huggingface_hub import HfApi

    try:
        api = HfApi(token=token)
        api.create_repo(repository, private=private, exist_ok=True)
        done: Any = api.upload_folder(repo_id=repository, folder_path=folder, commit_message="loracast push")
    except Exception as error:  # the hub, the network and a missing token each raise their own
        told = str(error).strip().splitlines()
        raise HubError(
            f"the hub did not take {repository}: {type(error).__name__}: {told[0] if told else ''}".rstrip(": ")
            + "; log in with hf auth login, or give --token-file, and check that the name is yours"
        ) from None
    return str(done.repo_url)

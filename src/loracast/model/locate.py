"""Where a model is: in the package, in a directory, or on the Hugging Face hub. Knows no torch."""

from __future__ import annotations

from pathlib import Path

from loracast.errors import ModelError, did_you_mean
from loracast.files import ADAPTER_CONFIG
from loracast.model.packaged import PACKAGED

BUNDLED = Path(__file__).parent.parent / "bundled"
DESCRIPTION, WEIGHTS = ("*.json", "merges.txt"), ("*.safetensors",)  # files by their names


def is_repository(source: str | Path) -> bool:
    """Whether a name is of a repository on a hub, owner/name, and not of a path."""
    return len(Path(source).parts) == 2 and not str(source).startswith((".", "/", "~"))


def locate(source: str | Path, *, weights: bool = True) -> Path:
    """Where a model or an adapter is: a directory or a GGUF file, of a name, a path, or a repository of the hub
    (downloaded once).

    Names are `bundled` and those of `packaged.PACKAGED`.

    A directory without config.json that holds one GGUF file is that file.

    Without `weights`, only what describes a model is downloaded.
    """
    if str(source) == "bundled":
        return BUNDLED
    if str(source) in PACKAGED:
        return PACKAGED[str(source)].find(str(source))
    path = Path(source)
    if path.is_dir():
        files = [] if (path / "config.json").exists() else sorted(path.glob("*.gguf"))
        if len(files) > 1:
            raise ModelError(f"{source} holds {len(files)} GGUF files; name one of them, such as {files[0]}")
        return files[0] if files else path
    if path.is_file() and path.suffix == ".gguf":
        return path
    if path.exists():
        raise ModelError(
            f"{source} is a file; a model is a .gguf file or a directory with config.json, weights and tokenizer.json"
        )
    if not is_repository(source) or path.parent.is_dir():
        raise ModelError(
            f"{source} does not exist; name a model directory, a .gguf file, a hub repository (owner/name), 'bundled' "
            f"or 'smollm2'{did_you_mean(source, ['bundled', *PACKAGED])}"
        )
    from huggingface_hub import snapshot_download

    wanted = [*DESCRIPTION, *WEIGHTS] if weights else [*DESCRIPTION]
    try:
        found = snapshot_download(str(source), allow_patterns=wanted)
    except Exception as error:  # the hub, the network and the cache each raise their own
        raise ModelError(
            f"{source} is not a folder here, and the hub did not give it: {type(error).__name__}: {error}".strip()
        ) from None
    return Path(found)


def locate_adapter(source: str | Path) -> Path:
    """Where an adapter is: a folder, which may turn out to be none, or a repository of the hub (downloaded once)."""
    path = Path(source)
    return locate(source) if is_repository(source) and not path.exists() and not path.parent.is_dir() else path


def holds_adapter(folder: Path) -> bool:
    """Whether a folder is that of an adapter, and not of a model."""
    return (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file()

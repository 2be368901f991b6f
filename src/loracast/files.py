"""Files: writing one so that a crash, a full disk or Ctrl-C leaves the old one or the new one, never half of one.

JSON that any reader takes, and YAML files of settings, are written and read here for the whole house.
"""

import json
import math
import os
import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from loracast.errors import ConfigError, DataError

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # as peft names them
RECORD = "loracast.json"  # beside weights and adapters: what loracast knows of them
CHECKPOINT = "training.safetensors"  # of a training, from which it goes on


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, with the same suffix, which takes the place of `path` when the block succeeds.

    Missing parent folders are made. When the block raises, the temporary file is removed and `path` is as it was.
    An OSError (a read-only folder, a full disk) becomes a DataError that names `path` and the reason.
    """
    target = Path(path).resolve()  # through a link: what it points to is replaced, not the link itself
    temporary = target.parent / f".{target.stem}.{secrets.token_hex(4)}.partial{target.suffix}"
    try:
        if target.exists() and not target.is_file():
            raise DataError(f"{path}: cannot be written: it exists and is not a regular file; choose another name")
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())  # before the rename, or a power cut could leave the name on an empty file
        temporary.chmod(0o666 & ~_umask())  # some writers make files that only their owner can read
        temporary.replace(target)
    except OSError as error:
        reason = error.strerror or str(error)  # h5py's errors come without an errno
        raise DataError(f"{path}: cannot be written: {reason}; choose a writable place with enough room") from error
    finally:
        with suppress(OSError):  # most often it is not there, and what went wrong is already being told
            temporary.unlink()


def check_folder(folder: str | Path) -> None:
    """Refuses a folder into which no file can be written, before anything is computed. It need not exist yet."""
    nearest = next(place for place in (Path(folder), *Path(folder).absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise DataError(f"{folder}: nothing can be written there, for {nearest} is a file; choose another folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise DataError(f"{folder}: nothing can be written there, for {nearest} is read-only; choose another folder")


def check_file(path: str | Path, suffixes: Collection[str]) -> None:
    """Refuses a file that cannot be written for its place or its suffix, before anything is computed."""
    if Path(path).suffix.lower() not in suffixes:
        raise ConfigError([f"{path}: unknown suffix '{Path(path).suffix}'; write a {' or '.join(suffixes)} file"])
    if Path(path).is_dir():
        raise DataError(f"{path}: cannot be written: it is a folder; choose another name")
    check_folder(Path(path).parent)


def check_distinct(read: Sequence[Path], written: Sequence[Path | None]) -> None:
    """Refuses to write a file over one that is read, or two files to one place, before anything is computed."""
    taken = {path.resolve() for path in read}
    for path in filter(None, written):
        if path.resolve() in taken:
            raise ConfigError(
                [f"{path}: would be written over a file that is read or written here; choose another name"]
            )
        taken.add(path.resolve())


def _umask() -> int:
    mask = os.umask(0)  # there is no way to read it without setting it
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> None:
    """Writes a UTF-8 text file through `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any, indent: int | None = 2) -> None:
    """Writes JSON through `atomic_path`; see `json_text`."""
    write_text(path, json_text(content, indent) + "\n")


def json_text(content: Any, indent: int | None = None) -> str:
    """Content as JSON. NaN and infinities, which JSON does not have, become null."""
    return json.dumps(_finite(content), indent=indent, allow_nan=False)


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def read_yaml(path: str | Path, advice: str = "check its name") -> dict[Any, Any]:
    """The settings that a YAML file holds as `name: value` lines; none where it is empty.

    Args:
        advice: what to do about a file that cannot be opened.

    Raises:
        ConfigError: a file that cannot be opened, that is not YAML, with the place, or that holds anything else.
    """
    import yaml

    try:
        stored = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{path} cannot be read: {error.strerror}; {advice}"]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        place = getattr(error, "problem_mark", None)
        where = f", line {place.line + 1}, column {place.column + 1}" if place else ""
        raise ConfigError([f"{path}{where}: not YAML: {getattr(error, 'problem', None) or error}"]) from None
    if stored is not None and not isinstance(stored, dict):
        raise ConfigError([f"{path} must hold settings as 'name: value' lines, not a {type(stored).__name__}"])
    return stored or {}


def read_token(path: str | Path) -> str:
    """A secret that a file holds as its only line. Raises ConfigError for what cannot be one, without repeating it."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            lines = file.read(4096).split()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path} cannot be read as a token: {getattr(error, 'strerror', None) or error}"]) from None
    if len(lines) != 1:
        raise ConfigError([f"{path} holds {len(lines)} words; a token is one"])
    return lines[0]

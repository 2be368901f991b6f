"""Writing a file so that a crash, a full disk or Ctrl-C leaves the old file or the new one, never half of one."""

import os
import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from loracast.errors import ConfigError, DataError

RECORD = "loracast.json"  # beside weights and adapters: what loracast knows of them


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

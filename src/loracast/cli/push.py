"""`loracast push`."""

from __future__ import annotations

from pathlib import Path


def push(
    adapter: Path,
    repository: str,
    /,
    *,
    base: str | None = None,
    private: bool = False,
    token_file: Path | None = None,
) -> None:
    """Push an adapter with its card to the Hugging Face hub.

    A base that others cannot find, such as the bundled model, is pushed beside it, as a repository of its own.

    Parameters
    ----------
    adapter
        Folder of an adapter that loracast tuned.
    repository
        Its name there, owner/name.
    base
        Repository that holds its base already. Unless given, what its record says, or else one that is pushed
        beside it, by the adapter's name with -base.
    private
        Make private repositories.
    token_file
        File with a token of the hub; what `hf auth login` has kept unless given.
    """
    from loracast.cli.console import say
    from loracast.files import read_token
    from loracast.hub import push_adapter

    token = read_token(token_file) if token_file else None
    say(push_adapter(adapter, repository, base=base, private=private, token=token, say=say))

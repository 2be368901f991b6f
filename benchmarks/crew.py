"""Work that a benchmark shares out among processes, piece by piece; a piece that fails is a line in the result."""

from __future__ import annotations

import multiprocessing
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from harness import bare_parser

Do = Callable[[str], dict[str, Any]]


def shared_out(
    make: Callable[..., Do], names: Sequence[str], processes: int, *arguments: Any
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each name with what is found for it, as it is done; {"failed": why} where an error was raised.

    Args:
        make: called in each process with its number and the arguments; what it returns is called with names.
    """
    context = multiprocessing.get_context("spawn")
    tasks, results = context.Queue(), context.Queue()
    processes = min(processes, len(names))
    for name in [*names, *[None] * processes]:
        tasks.put(name)
    crew = [
        context.Process(target=_work, args=(make, number, tasks, results, arguments)) for number in range(processes)
    ]
    for process in crew:
        process.start()
    for _ in names:
        yield results.get()
    for process in crew:
        process.join()


def _work(make: Callable[..., Do], number: int, tasks: Any, results: Any, arguments: Sequence[Any]) -> None:
    do = None
    while (name := tasks.get()) is not None:
        try:
            do = do or make(number, *arguments)
            results.put((name, do(name)))
        except Exception as error:
            results.put((name, {"failed": f"{type(error).__name__}: {error}"[:300]}))


def forecasters_parser(description: str, output: Path) -> ArgumentParser:
    """The options of a benchmark whose pieces are forecasters."""
    made = bare_parser(description)
    made.set_defaults(output=output)
    made.add_argument("--forecasters", nargs="+", metavar="NAME", help="those to run (default: all)")
    made.add_argument("--samples", type=int, default=100, help="paths a forecast (%(default)s)")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--processes", type=int, default=1, help="forecasters at once (%(default)s)")
    return made


def forecasters(parser: ArgumentParser, options: Namespace, known: Sequence[str]) -> Sequence[str]:
    """The forecasters that were asked for, all unless some were; an error of the parser for one that is not known."""
    names = options.forecasters or known
    if unknown := [name for name in names if name not in known]:
        parser.error(f"unknown forecasters {', '.join(unknown)}; there are {', '.join(known)}")
    return names

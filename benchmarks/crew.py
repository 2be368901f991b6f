"""Work that a benchmark shares out among processes, piece by piece; a piece that fails is a line in the result."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

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

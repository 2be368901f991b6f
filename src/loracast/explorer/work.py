"""Work that is done in a thread and told of as it goes on, until nobody wants it any more."""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from loracast.errors import LoracastError
from loracast.files import json_text

MOST_THREADS = 4
Tell = Callable[[dict[str, Any]], None]


class Unwanted(Exception):
    """Nobody wants what is being worked on."""


class Worker:
    """One thread in which models compute, one piece of work after the other.

    A model is loaded in it, too: products of several threads are waited for least where one thread begins them all.
    """

    def __init__(self) -> None:
        # the browser draws on the same machine, and a product of several threads waits for the last of them
        threads = max(1, min(MOST_THREADS, torch.get_num_threads() - 1))
        self._pool = ThreadPoolExecutor(1, "drawing", torch.set_num_threads, (threads,))

    def run(self, work: Callable[[], Any]) -> Any:
        """What a piece of work returns; waits for it."""
        return self._pool.submit(work).result()

    async def stream(
        self,
        work: Callable[[Tell, Callable[[float], None]], None],
        first: Callable[[], dict[str, Any]] | None = None,
    ) -> AsyncIterator[bytes]:
        """What a piece of work tells, as lines of JSON; its last one may tell an error.

        The work is given a function to tell by and one to call as it goes on, which raises Unwanted once nobody reads
        these lines any more. first: makes the first line, and does not wait for the thread.
        """
        loop, lines = asyncio.get_running_loop(), asyncio.Queue[bytes | None]()
        unwanted = threading.Event()

        def tell(event: dict[str, Any]) -> None:
            loop.call_soon_threadsafe(lines.put_nowait, json_text(event).encode() + b"\n")

        def go_on(share: float = 0.0) -> None:
            if unwanted.is_set():
                raise Unwanted

        def whole() -> None:
            try:
                go_on()
                work(tell, go_on)
            except Unwanted:
                pass
            except Exception as error:
                tell({"error": problems_of(error)})
            finally:
                loop.call_soon_threadsafe(lines.put_nowait, None)

        if first:
            try:
                yield json_text(await asyncio.to_thread(first)).encode() + b"\n"
            except Exception as error:
                yield json_text({"error": problems_of(error)}).encode() + b"\n"
                return
        done = self._pool.submit(whole)
        try:
            while (line := await lines.get()) is not None:
                yield line
        finally:
            unwanted.set()
            done.cancel()

    def end(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def problems_of(error: Exception) -> list[str]:
    """What the page shows of an error; the log has the rest of one that nobody expected."""
    if isinstance(error, LoracastError):
        return error.problems
    traceback.print_exception(error)
    return [f"an error of the page itself: {type(error).__name__}: {error}"]

"""Requests that wait, and the threads that draw them: what waits and is alike is drawn together.

Nothing waits for company. What arrives while a batch is drawn makes up the next ones, so that batches grow with the
load and a request that comes alone is drawn at once.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Event, Thread

import torch

from loracast.drawing import Request
from loracast.errors import LoracastError
from loracast.forecast import Forecast
from loracast.forecaster import Forecaster
from loracast.serve.refusals import Refusal
from loracast.together import answer_together, join

PACE = 0.2  # how much the newest batch counts in the seconds that a request takes


class Abandoned(Exception):
    """Nobody waits any more for what is being drawn."""


@dataclass(eq=False)
class Job:
    """A request on its way.

    Attributes:
        due: the time (monotonic) after which nobody waits for it.
        left: set when whoever asked has gone.
        answer: the forecast, once it is drawn.
        batch: how many requests were drawn with it.
        began: when it was begun to be drawn.
    """

    forecaster: Forecaster
    request: Request
    raw: bool
    due: float
    left: Event = field(default_factory=Event)
    answer: Future[Forecast] = field(default_factory=Future)
    batch: int = 0
    began: float = 0.0

    @property
    def kind(self) -> Hashable:
        return self.raw, self.request.kind

    def joins(self, other: Job) -> bool:
        """Whether both can be drawn together, each as if it were alone."""
        return self.kind == other.kind and join(self.forecaster, other.forecaster)

    @property
    def paths(self) -> int:
        return len(self.request.asked) * self.request.sample.samples

    def wanted(self) -> bool:
        return not self.left.is_set() and time.monotonic() < self.due


class Queue:
    """Draws jobs in the order of their arrival, each with those behind it that are of its kind.

    Args:
        batch_paths: paths that are drawn together, unless a single job has more.
        workers: batches that are drawn at once, each on one core where there is no GPU.
        on_batch: told how many requests and paths each batch had, and the seconds that it took.
    """

    def __init__(
        self,
        batch_paths: int,
        workers: int = 1,
        on_batch: Callable[[int, int, float], None] = lambda jobs, paths, seconds: None,
    ):
        self.batch_paths, self.workers, self.on_batch = batch_paths, workers, on_batch
        self._waiting: deque[Job] = deque()
        self._changed, self._ended = Condition(), False
        self._seconds = 0.5  # that a request takes, drawn with others
        self._threads = [Thread(target=self._run, name=f"drawing {number}", daemon=True) for number in range(workers)]
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, job: Job) -> None:
        with self._changed:
            if self._ended:
                raise Refusal(503, "the service is ending; ask again when it is back")
            self._waiting.append(job)
            self._changed.notify()

    def retry_after(self) -> int:
        """Seconds after which what waits now will probably have been drawn."""
        return max(1, math.ceil((len(self._waiting) + 1) * self._seconds / self.workers))

    def end(self) -> None:
        """Draws what waits, then ends; nothing more is taken."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        torch.set_num_threads(1)  # of this thread; two that share the cores wait for each other at every product
        while True:
            with self._changed:
                while not self._waiting and not self._ended:
                    self._changed.wait()
                if not self._waiting:
                    return
                batch = self._next()
            if batch:
                begin = time.monotonic()
                self._draw(batch)
                seconds = time.monotonic() - begin
                self._seconds += PACE * (seconds / len(batch) - self._seconds)
                self.on_batch(len(batch), sum(job.paths for job in batch), seconds)

    def _next(self) -> list[Job]:
        """The first job that somebody waits for, and those of its kind behind it; they are taken out."""
        batch: list[Job] = []
        rest: deque[Job] = deque()
        paths = 0
        for job in self._waiting:
            if not job.wanted():
                job.answer.cancel()
            elif batch and not (job.joins(batch[0]) and paths + job.paths <= self.batch_paths):
                rest.append(job)
            elif job.answer.set_running_or_notify_cancel():
                batch.append(job)
                paths += job.paths
        self._waiting = rest
        return batch

    def _draw(self, batch: list[Job]) -> None:
        def on_progress(share: float) -> None:
            if not any(job.wanted() for job in batch):
                raise Abandoned

        first, now = batch[0], time.monotonic()
        for job in batch:
            job.batch, job.began = len(batch), now
        try:
            asked = [(job.forecaster, job.request) for job in batch]
            found = answer_together(asked, raw=first.raw, progress=on_progress)
            for job, forecast in zip(batch, found):
                job.answer.set_result(forecast)
        except Abandoned as error:
            for job in batch:
                job.answer.set_exception(error)
        except LoracastError as error:
            if len(batch) == 1:
                first.answer.set_exception(error)
            else:  # so that what is wrong with one is not told to the others
                for job in batch:
                    self._draw([job])
        except BaseException as error:  # what is unexpected must not leave anybody waiting, nor end the thread
            for job in batch:
                job.answer.set_exception(error)

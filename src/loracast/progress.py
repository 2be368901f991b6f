"""How far long work is: a bar with the time left in a terminal or a notebook, a line every ten seconds in a log.

Work has phases, and each phase tells its name and the share of it that is done. Nothing is shown of a phase that ends
within two seconds.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

BAR_WIDTH = 10  # characters
QUIET_SECONDS = 2.0  # a phase that ends sooner is never shown
LINE_SECONDS = 10.0  # between two lines of a log
BEAT_SECONDS = 0.25  # between two looks at the clock
PACE_SECONDS = 60.0  # the time left is judged by the later half of a phase, but by at least the last minute
EVIDENCE_SECONDS = 1.0  # of steady work, before anything is estimated from it
ANNOUNCED_SECONDS = 5.0  # shorter work is not announced

OnProgress = Callable[[str, float], None]  # a phase's name and the share of it that is done


def duration(seconds: float) -> str:
    """Seconds as a person says them, such as `40 s`, `2 min 5 s` or `3 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    larger, smaller = ("min", "s") if whole < 3600 else ("h", "min")
    minutes, rest = divmod(whole, 60)
    first, second = (minutes, rest) if whole < 3600 else divmod(minutes, 60)
    return f"{first} {larger} {second} {smaller}" if second else f"{first} {larger}"


def about(seconds: float) -> str:
    """An estimated time, rounded to what an estimate can claim: `about 40 s`, `about 7 min`, `about 3 h 10 min`."""
    unit = next((unit for limit, unit in ((10, 1), (90, 5), (600, 30), (3600, 60)) if seconds < limit), 600)
    return f"about {duration(max(1, round(seconds / unit)) * unit)}"


@dataclass
class Phase:
    """One part of the work. `share` is None while it is not known how far the phase is."""

    began: float
    share: float | None = None
    note: str = ""
    ended: float | None = None
    shown: bool = False
    records: deque[tuple[float, float]] = field(default_factory=deque)  # times and shares

    def record(self, now: float, share: float | None) -> None:
        """Notes how far the phase is."""
        self.share = share
        if share is None:
            return
        if len(self.records) > 2 and now - self.records[-2][0] < (now - self.began) / 200:
            self.records.pop()  # a few hundred are enough
        self.records.append((now, share))
        window = max(PACE_SECONDS, (now - self.began) / 2)
        while len(self.records) > 3 and now - self.records[1][0] > window:
            self.records.popleft()
        if share >= 1 and self.ended is None:
            self.ended = now

    def pace(self) -> float | None:
        """The share that is done in a second, or None before enough is done to tell.

        The way to the first report is left out, since it holds what is done only once: reading prompts, compiling.
        """
        if len(self.records) < 3:
            return None
        (since, before), (until, after) = self.records[1], self.records[-1]
        steady = until - since >= EVIDENCE_SECONDS and after > before
        return (after - before) / (until - since) if steady else None

    def left(self, now: float) -> float | None:
        """The seconds that the phase will still take, or None where that is unknown."""
        if self.ended is not None:
            return 0.0
        pace = self.pace()
        if pace is None:
            return None
        until, share = self.records[-1]
        return max(0.0, (1 - share) / pace - (now - until))


class Listener:
    """Passes on how far the phases are to a function, or to nobody."""

    def __init__(self, on_progress: OnProgress | None = None):
        self._on_progress = on_progress

    def __call__(self, name: str, share: float) -> None:
        """Passes on the share of a phase that is done. A phase begins with its first share, and ends at 1."""
        if self._on_progress:
            self._on_progress(name, share)

    def plan(self, weights: Mapping[str, float]) -> None:
        """Announces the phases to come by name, with numbers that their times are proportional to, such as FLOPs."""

    def note(self, name: str, text: str) -> None:
        """Changes what stands beside a phase's bar, such as a loss."""


class Display(Listener):
    """Shows the phases on stderr while the block that it opens runs.

    Args:
        kind: what every phase's name is preceded by where it is shown.
        console: where to show; stderr unless given.
        clock: the time in seconds.
        heartbeat: whether a thread looks at the clock. Tests call `beat` themselves.

    Example:
        with Display() as display:
            for index, item in enumerate(items):
                work(item)
                display("items", (index + 1) / len(items))
    """

    def __init__(
        self,
        kind: str = "",
        *,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        heartbeat: bool = True,
    ):
        super().__init__()
        self.kind, self._clock, self._heartbeat = kind, clock, heartbeat
        self._console = console
        self._phases: dict[str, Phase] = {}
        self._weights: dict[str, float] = {}
        self._lock, self._stopped = threading.RLock(), threading.Event()
        self._announced, self._line = False, clock()
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Display:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self._console = self._console or Console(stderr=True, highlight=False, emoji=False)
        self._began = self._line = self._clock()
        if self._console.is_terminal or self._console.is_jupyter:
            columns = TextColumn("{task.description}", markup=False), BarColumn(BAR_WIDTH), TaskProgressColumn()
            columns += TextColumn("{task.fields[left]}", markup=False), TextColumn("{task.fields[said]}", markup=False)
            self._bars = Progress(*columns, console=self._console, auto_refresh=False)
        if self._heartbeat:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._stopped.set()
        if self._heartbeat:
            self._thread.join()
        with self._lock:
            now = self._clock()
            for phase in self._phases.values():
                if phase.ended is None and problem[0] is None:  # it did not know how far it was
                    phase.ended = now
            self._show(now)
            if self._bars and self._tasks:
                self._bars.stop()

    def __call__(self, name: str, share: float | None) -> None:
        with self._lock:
            now = self._clock()
            phase = self._phases.setdefault(name, Phase(began=now))
            phase.record(now, share)

    def plan(self, weights: Mapping[str, float]) -> None:
        with self._lock:
            self._weights = dict(weights)

    def note(self, name: str, text: str) -> None:
        with self._lock:
            self._phases.setdefault(name, Phase(began=self._clock())).note = text

    def beat(self) -> None:
        """Looks at the clock and shows what is due."""
        with self._lock:
            now = self._clock()
            self._announce(now)
            self._show(now)

    def _run(self) -> None:
        while not self._stopped.wait(BEAT_SECONDS):
            self.beat()

    # -- what is shown -------------------------------------------------------------------------------------------

    def _announce(self, now: float) -> None:
        """Says once, as soon as it is known, how long all phases will take together."""
        if self._announced or (seconds := self._in_all(now)) is None:
            return
        self._announced = True
        if seconds >= ANNOUNCED_SECONDS:
            self._print(f"{self.kind or ' and '.join(self._weights or self._phases)}: {about(seconds)} in all")

    def _in_all(self, now: float) -> float | None:
        """The seconds of all phases, those to come by their weights; None before the first one knows its pace."""
        known = [(name, phase, left) for name, phase in self._phases.items() if (left := phase.left(now)) is not None]
        if not known or len(known) < len(self._phases):
            return None
        name, phase, _ = known[-1]
        whole = (phase.ended or now) - phase.began if phase.ended else 1 / (phase.pace() or 1)
        waiting = sum(weight for other, weight in self._weights.items() if other not in self._phases)
        to_come = whole * waiting / self._weights[name] if waiting and self._weights.get(name) else 0.0
        return now - self._began + sum(left for *_, left in known) + to_come

    def _show(self, now: float) -> None:
        if self._bars:
            self._show_bars(now)
        else:
            self._show_lines(now)

    def _show_bars(self, now: float) -> None:
        assert self._console is not None
        for name, phase in self._phases.items():
            if not phase.shown and (phase.ended or now) - phase.began < QUIET_SECONDS:
                continue
            if not phase.shown:
                phase.shown = True
                self._bars.start()  # not before there is a bar to show
                self._tasks[name] = self._bars.add_task(self._title(name), total=1.0, said="", left="")
            left = self._time(phase, now)
            room = self._console.width - len(self._title(name)) - BAR_WIDTH - len(left) - 9  # 9: the share and spaces
            self._bars.update(
                self._tasks[name],
                total=None if phase.share is None and phase.ended is None else 1.0,
                completed=1.0 if phase.ended else phase.share or 0.0,
                said=phase.note if len(phase.note) <= room else f"{phase.note[: max(0, room - 1)]}…",
                left=left,
            )
        if self._tasks:
            self._bars.refresh()

    def _show_lines(self, now: float) -> None:
        due = now - self._line >= LINE_SECONDS
        for name, phase in self._phases.items():
            if phase.ended is not None:
                if phase.shown:  # so that each phase with lines has a last one
                    self._print(self._sentence(name, phase, now))
                    phase.shown = False
                    self._line = now
            elif due and now - phase.began >= QUIET_SECONDS:
                phase.shown = True
                self._print(self._sentence(name, phase, now))
                self._line = now

    def _sentence(self, name: str, phase: Phase, now: float) -> str:
        share = "" if phase.share is None or phase.ended is not None else f"{phase.share:.0%}"
        return (
            f"{self._title(name)}: {' · '.join(part for part in (share, phase.note, self._time(phase, now)) if part)}"
        )

    def _time(self, phase: Phase, now: float) -> str:
        if phase.ended is not None:
            return f"done in {duration(phase.ended - phase.began)}"
        left = phase.left(now)
        return f"{duration(now - phase.began)} so far" if left is None else f"{about(left)} left"

    def _title(self, name: str) -> str:
        return f"{self.kind} {name}".strip()

    def _print(self, text: str) -> None:
        assert self._console is not None
        self._console.print(text, markup=False, soft_wrap=True)


class Described:
    """Turns the events of a training into what stands beside its bar: step, losses, tokens per second."""

    def __init__(self):
        self._parts = {"step": "", "loss": "", "validation": "", "pace": ""}

    def __call__(self, event: Mapping[str, Any]) -> str:
        if event["event"] == "train":
            self._parts["step"] = f"step {event['step']} of {event['steps']}"
            self._parts["loss"] = f"loss {event['loss']:.3f}"
            self._parts["pace"] = f"{event['tokens_per_second']:,} tok/s"
        elif event["event"] == "validation":
            self._parts["validation"] = f"val {event['loss']:.3f}"
        return " · ".join(part for part in self._parts.values() if part)


@contextmanager
def displayed(progress: bool | OnProgress | None, kind: str = "") -> Iterator[Listener]:
    """What an argument `progress` asks for: True for a display, a function to call, or a display already open."""
    if progress is True:
        with Display(kind) as display:
            yield display
    elif isinstance(progress, Listener):
        yield progress
    else:
        yield Listener(progress or None)


@contextmanager
def displayed_share(progress: bool | Callable[[float], None] | None, name: str) -> Iterator[Callable[[float], None]]:
    """The same for work of one phase, whose function is called with the share alone."""
    if progress is True:
        with Display() as display:
            display(name, 0.0)
            yield lambda share: display(name, share)
    else:
        yield progress or (lambda share: None)

"""Tuning for the page: it runs in a thread, tells how it goes, shows a forecast meanwhile, can be paused and ended."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from loracast.errors import ConfigError
from loracast.explorer.forecasts import Question, picture
from loracast.explorer.work import problems_of
from loracast.forecaster import Forecaster
from loracast.series import Series
from loracast.settings import TuneConfig

PACE_STEPS = 2  # of a tuning that is thrown away, to see how long a step takes
MOST_JUDGED = 12  # held-out windows that are forecast at the end
JUDGING = 0.2  # share of the seconds for these forecasts
LOOKS = 3  # measurements of the validation loss, and forecasts to watch, beside the first
WATCHED_PATHS = 8
SMALL, LARGE = 4, 8  # windows a step, of a short and of a long tuning
SURE = 0.7  # of the seconds that are left for steps; validations take some, and two steps tell the pace badly
LONG_SECONDS = 300
LONGEST = 48  # steps of context, and of the horizon with half as many


class Tuning:
    """One tuning at a time.

    Attributes:
        events: all that was told of it, in order; whoever has read n of them goes on from there.
    """

    def __init__(self, on_tuned: Callable[[str, Forecaster], None]):
        self.events: list[dict[str, Any]] = []
        self.on_tuned = on_tuned
        self._going, self._ended = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def begin(
        self,
        base: Forecaster,
        name: str,
        series: Sequence[Series],
        question: Question,
        *,
        seconds: float | None,
        flops: float | None,
        rank: int,
    ) -> None:
        """Begins to tune on series, in a thread; what is shown meanwhile is the forecast that the question asks for."""
        if self.running:
            raise ConfigError(["a tuning is under way; end it first"])
        if (seconds is None) == (flops is None):
            raise ConfigError(["give a budget in seconds or in FLOPs"])
        if not 2 <= (seconds or 2) <= 86_400:
            raise ConfigError([f"{seconds:g} seconds; give 2 to 86,400"])
        shortest = min(one.steps for one in series)
        horizon = max(1, min(question.horizon, shortest // 3, LONGEST // 2))
        context = max(4, min(LONGEST, (shortest - horizon) * 2 // 3))
        config: dict[str, Any] = {
            "context": context,
            "horizon": horizon,
            "rank": rank,
            "batch": LARGE if (seconds or LONG_SECONDS) >= LONG_SECONDS else SMALL,
            "validation_windows": SMALL,
            "validation_samples": WATCHED_PATHS,
        }
        self.events = []
        self._going.set()
        self._ended.clear()
        work = (base, name, [*series], question, seconds, flops, config)
        self._thread = threading.Thread(target=self._run, args=work, name="tuning", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        self._going.clear()
        self._tell({"event": "paused"})

    def go_on(self) -> None:
        self._going.set()
        self._tell({"event": "goes on"})

    def end(self) -> None:
        """Ends the training after the step that is under way; the verdict follows."""
        self._ended.set()
        self._going.set()

    def _tell(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def _run(
        self,
        base: Forecaster,
        name: str,
        series: list[Series],
        question: Question,
        seconds: float | None,
        flops: float | None,
        config: dict[str, Any],
    ) -> None:
        try:
            with tempfile.TemporaryDirectory() as place:
                watch = self._seen(question)
                begin = time.monotonic()
                watch(0, base)
                look = time.monotonic() - begin  # seconds that one takes
                if seconds:
                    pace = self._pace(base, series, config)
                    judged = max(SMALL, min(MOST_JUDGED, int(JUDGING * seconds / look)))
                    left = seconds - (time.monotonic() - begin) - JUDGING * seconds - LOOKS * look
                    steps = max(PACE_STEPS, int(SURE * left / pace))
                    self._tell({"event": "pace", "seconds": pace, "steps": steps})
                else:
                    judged, steps = MOST_JUDGED, 100_000
                every = max(1, -(-steps // LOOKS)) if seconds else 25
                settings = TuneConfig(
                    **config, steps=steps, flops=flops, validate_every=every, validation_series=judged
                )
                tuned = base.fit(
                    series,
                    tune=settings,
                    directory=Path(place) / "run",
                    stop=self._stop,
                    report=self._report,
                    watch=lambda step, forecaster: watch(step, forecaster) if step else None,
                )
            self.on_tuned(name, tuned)
            self._tell({"event": "tuned", "name": name, "verdict": tuned.record["validation_forecasts"]})
        except Exception as error:
            self._tell({"event": "failed", "problems": problems_of(error)})

    def _pace(self, base: Forecaster, series: list[Series], config: dict[str, Any]) -> float:
        """Seconds of a step, by a few that are thrown away."""
        settings: dict[str, Any] = config | {"steps": PACE_STEPS, "validation_windows": 1, "validation_series": 0}
        times = []
        base.fit(
            series,
            tune=TuneConfig(**settings),
            report=lambda event: times.append(time.monotonic()) if event["event"] == "train" else None,
        )
        return (times[-1] - times[0]) / (len(times) - 1)

    def _report(self, event: dict[str, Any]) -> None:
        if event["event"] in ("train", "validation"):
            keep = ("event", "step", "steps", "loss", "flops")
            self._tell({name: event[name] for name in keep if name in event})
        self._going.wait()

    def _stop(self, step: int, nats: float) -> str | None:
        return "it was ended" if self._ended.is_set() else None

    def _seen(self, question: Question) -> Callable[[int, Forecaster], None]:
        def seen(step: int, forecaster: Forecaster) -> None:
            sample = replace(question.sample, samples=WATCHED_PATHS)
            found = forecaster.predict(question.context, question.horizon, sample=sample, known=question.known)
            self._tell({"event": "forecast", "step": step, **picture(found)})

        return seen

"""Bars in a terminal, lines in a log, by a clock that the tests hold."""

from __future__ import annotations

import io
import re
from collections import Counter
from types import SimpleNamespace

import pytest
from rich.console import Console

import loracast
from loracast.evaluation.backtest import backtest
from loracast.forecaster import Forecaster
from loracast.progress import Described, Display, Listener, about, displayed, displayed_share, duration
from loracast.study.progress import StudyProgress


class Bench:
    """A display whose clock stands still until it is set on."""

    def __init__(self, terminal: bool = False, kind: str = ""):
        self.now, self.stream = 1000.0, io.StringIO()
        console = Console(
            file=self.stream, force_terminal=terminal, force_jupyter=False, width=120, color_system=None, _environ={}
        )
        self.display = Display(kind, console=console, clock=lambda: self.now, heartbeat=False)

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds * 4)):
            self.now += 0.25
            self.display.beat()

    def work(self, name: str, seconds: float, first: float = 0.0, last: float = 1.0) -> None:
        """A phase that goes on evenly, and tells so four times a second."""
        self.display(name, first)
        for quarter in range(1, round(seconds * 4) + 1):
            self.now += 0.25
            self.display(name, first + (last - first) * quarter / round(seconds * 4))
            self.display.beat()

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    @property
    def shown(self) -> list[str]:
        """What a terminal was sent, without the codes that move its cursor."""
        return [line for line in re.split(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]+", self.stream.getvalue()) if line.strip()]


# -- words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (125, "2 min 5 s"), (3599, "59 min 59 s"), (11_400, "3 h 10 min")],
)
def test_durations_are_said_as_a_person_does(seconds: float, text: str):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "about 1 s"),
        (7.4, "about 7 s"),
        (42, "about 40 s"),
        (86, "about 1 min 25 s"),
        (100, "about 1 min 30 s"),
        (640, "about 11 min"),
        (11_300, "about 3 h 10 min"),
    ],
)
def test_estimates_are_round(seconds: float, text: str):
    assert about(seconds) == text


# -- a log -------------------------------------------------------------------------------------------------------


def test_a_log_gets_a_line_every_ten_seconds_and_a_last_one():
    bench = Bench()
    with bench.display:
        bench.work("forecast", 40)
    assert bench.lines == [
        "forecast: about 40 s in all",
        "forecast: 25% · about 30 s left",
        "forecast: 50% · about 20 s left",
        "forecast: 75% · about 10 s left",
        "forecast: done in 40 s",
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_short_work_leaves_no_trace(terminal: bool):
    bench = Bench(terminal)
    with bench.display:
        for name in ("reading", "one", "two"):
            bench.work(name, 1.5)
    assert bench.stream.getvalue() == ""


def test_a_phase_of_unknown_length_says_how_long_it_has_taken():
    bench = Bench()
    with bench.display:
        bench.display("reading mine.csv", None)
        bench.wait(21)
    assert bench.lines == [
        "reading mine.csv: 10 s so far",
        "reading mine.csv: 20 s so far",
        "reading mine.csv: done in 21 s",
    ]


def test_notes_stand_beside_the_share():
    bench = Bench()
    describe = Described()
    with bench.display:
        bench.display("tuning", 0.0)
        bench.display.note("tuning", describe({"event": "validation", "loss": 2.5}))
        train = {"event": "train", "step": 3, "steps": 60, "loss": 1.25, "tokens_per_second": 1200}
        bench.display.note("tuning", describe(train))
        bench.work("tuning", 12, last=0.1)
    assert bench.lines[1] == "tuning: 8% · step 3 of 60 · loss 1.250 · val 2.500 · 1,200 tok/s · about 2 min left"


def test_work_that_fails_is_not_said_to_be_done():
    bench = Bench()

    def stopped() -> None:
        with bench.display:
            bench.work("forecast", 15, last=0.5)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert not any("done" in line for line in bench.lines)


# -- estimates ---------------------------------------------------------------------------------------------------


def test_all_phases_are_announced_together_by_their_weights():
    bench = Bench(kind="forecast")
    with bench.display:
        bench.display.plan({"zero-shot": 1.0, "tuned": 2.0})
        bench.work("zero-shot", 20)
        bench.work("tuned", 40)
    assert bench.lines[0] == "forecast: about 1 min in all"
    assert sum("in all" in line for line in bench.lines) == 1


def test_the_way_to_the_first_report_is_no_pace():
    """Reading the prompts or compiling takes 8 seconds, all else 10."""
    bench = Bench()
    with bench.display:
        bench.display("forecast", 0.0)
        bench.wait(8)
        bench.work("forecast", 10, first=0.01)
    assert bench.lines[0] == "forecast: about 20 s in all"
    assert bench.lines[1].endswith("about 8 s left")


def test_the_estimate_follows_the_pace():
    """The second half is four times as slow; after a while, what was fast is forgotten."""
    bench = Bench()
    with bench.display:
        bench.work("tuning", 100, last=0.5)
        bench.work("tuning", 300, first=0.5, last=0.875)
        bench.wait(1)
    left = [line for line in bench.lines if line.endswith("left")]
    assert left[8] == "tuning: 45% · about 2 min left"  # of 110 s
    assert left[-1].endswith("about 1 min 30 s left")  # of 100 s


def test_a_run_that_is_resumed_is_judged_by_what_it_does_now():
    bench = Bench()
    with bench.display:
        bench.work("tuning", 20, first=0.5)
    assert bench.lines[:2] == ["tuning: about 20 s in all", "tuning: 75% · about 10 s left"]


def test_the_estimate_is_told_before_one_part_in_ten_is_done():
    bench = Bench()
    with bench.display:
        bench.work("forecast", 60, last=0.1)
    assert bench.lines[0] == "forecast: about 10 min in all"
    first = Bench()
    with first.display:
        first.work("forecast", 2, last=0.002)
        assert first.lines == ["forecast: about 17 min in all"]


# -- a terminal --------------------------------------------------------------------------------------------------


def test_a_terminal_gets_a_bar_with_the_time_left():
    bench = Bench(terminal=True, kind="forecast")
    with bench.display:
        bench.work("zero-shot", 30)
        bench.display.note("zero-shot", "a note")
    assert bench.shown[0] == "forecast: about 30 s in all"
    bars = [line for line in bench.shown if line.startswith("forecast zero-shot")]
    assert any("50%" in line and "about 15 s left" in line for line in bars)
    assert "100%" in bars[-1]
    assert "done in 30 s a note" in bars[-1]


def test_a_terminal_shows_each_phase_on_a_line_of_its_own():
    bench = Bench(terminal=True)
    with bench.display:
        bench.work("tuning", 5)
        bench.work("validation forecasts", 5)
    assert [line.split("━")[0].strip() for line in bench.shown[-2:]] == ["tuning", "validation forecasts"]


def test_a_bar_takes_one_line_however_long_its_note():
    bench = Bench(terminal=True)
    with bench.display:
        bench.display.note("tuning", "a very long note " * 12)
        bench.work("tuning", 30)
    assert max(len(line) for line in bench.shown) <= 120
    assert all(line.startswith("tuning") for line in bench.shown)
    assert bench.shown[-1].rstrip().endswith("…")


# -- what an argument asks for -----------------------------------------------------------------------------------


def test_progress_may_be_a_function_a_display_or_nothing():
    seen: list[tuple[str, float]] = []
    with displayed(lambda name, share: seen.append((name, share))) as listener:
        listener("a", 0.5)
        listener.plan({"a": 1.0})
        listener.note("a", "said to nobody")
    assert seen == [("a", 0.5)]
    for nothing in (None, False):
        with displayed(nothing) as listener:
            listener("a", 0.5)
    mine = Listener()
    with displayed(mine) as listener:
        assert listener is mine
    shares: list[float] = []
    with displayed_share(shares.append, "forecast") as share:
        share(0.5)
    assert shares == [0.5]


@pytest.mark.filterwarnings("ignore:.mine. was tuned on")
@pytest.mark.filterwarnings("ignore:TUNING DID NOT HELP")
def test_true_shows_fit_predict_and_backtest(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """As lines, since nothing here is a terminal; as many as there is work, since no time counts as short."""
    monkeypatch.setattr("loracast.progress.QUIET_SECONDS", 0.0)
    monkeypatch.setattr("loracast.progress.LINE_SECONDS", 0.0)
    monkeypatch.setattr("loracast.progress.BEAT_SECONDS", 0.001)
    series = loracast.simulate("lotka-volterra", 6, steps=24)
    tune = loracast.TuneConfig(steps=2, batch=2, context=8, horizon=8, validation_series=2, validation_samples=2)
    base = Forecaster.from_pretrained("bundled")
    tuned = base.fit(series, tune=tune, progress=True)
    said = capsys.readouterr().err
    assert re.search(r"^tuning: .*step 2 of 2 · loss \d", said, re.M)
    assert re.search(r"^tuning: .*done in", said, re.M)
    assert re.search(r"^validation forecasts: done in", said, re.M)
    tuned.predict(series, 4, progress=True)
    assert re.search(r"^forecast: done in", capsys.readouterr().err, re.M)
    backtest({"mine": tuned}, series, 8, 8, progress=True)
    assert re.search(r"^forecast mine: done in", capsys.readouterr().err, re.M)


def test_fit_tells_a_function_of_both_phases():
    series = loracast.simulate("lotka-volterra", 6, steps=24)
    tune = loracast.TuneConfig(steps=3, batch=2, context=8, horizon=8, validation_series=2, validation_samples=2)
    seen: list[tuple[str, float]] = []
    base = Forecaster.from_pretrained("bundled")
    base.fit(series, tune=tune, progress=lambda name, share: seen.append((name, share)))
    for phase in ("tuning", "validation forecasts"):
        shares = [share for name, share in seen if name == phase]
        assert shares[0] == 0.0
        assert shares[-1] == 1.0
        assert shares == sorted(shares)
        assert len(set(shares)) > 3


# -- a study -----------------------------------------------------------------------------------------------------


class Recorder(Listener):
    """Keeps what it is seen."""

    def __init__(self):
        super().__init__(lambda name, share: self.shares.append(share))
        self.shares: list[float] = []
        self.notes: list[str] = []

    def note(self, name: str, text: str) -> None:
        self.notes.append(text)


class StandIn:
    """Of a study's bench: a plan, and the runs that have ended, of which the test decides."""

    def __init__(self, convention: str = "executed"):
        self.plan = [
            {"stage": "data", "runs": 0, "executed": 0, "published": 0},
            {"stage": "baseline", "runs": 2, "executed": 20, "published": 40},
            {"stage": "search", "runs": 3, "executed": 60, "published": 90},
            {"stage": "final", "runs": 1, "executed": 100, "published": 150},
        ]
        self.done: Counter[str] = Counter()
        self.protocol = SimpleNamespace(convention=convention)
        self.folder = SimpleNamespace(record=lambda: {"plan": self.plan}, ended=lambda: self.done)


def test_a_study_is_one_bar_by_the_flops_of_its_plan():
    bench, seen = StandIn(), Recorder()
    shown = StudyProgress(bench, seen)
    assert seen.shares == [0.0]
    shown("baseline-2", {"event": "run", "stage": "baseline", "most": 10})
    shown("baseline-2", {"event": "forecast", "share": 0.5})
    assert seen.shares[-1] == pytest.approx(5 / 180)
    assert seen.notes[-1] == "run 1 of 6 · baseline-2"
    bench.done["baseline"] = 2  # another process did the other one
    shown("baseline-2", {"event": "result"})
    assert seen.shares[-1] == pytest.approx(20 / 180)
    shown("search-0", {"event": "run", "stage": "search", "most": 20})
    train = {"event": "train", "step": 3, "steps": 9, "loss": 1.0, "tokens_per_second": 10}
    shown("search-0", {**train, "flops": 15, "flops_published": 29})
    assert seen.shares[-1] == pytest.approx(35 / 180)
    assert seen.notes[-1] == "run 3 of 6 · search-0 · step 3 of 9 · loss 1.000 · 10 tok/s"
    shown("search-0", {"event": "forecast", "share": 0.5})
    assert seen.shares[-1] == pytest.approx((20 + 15 + 2.5) / 180)
    bench.done["search"] = 3  # some ended early, which settles all that was planned for them
    shown("search-0", {"event": "result"})
    shown("final", {"event": "run", "stage": "final", "most": 400})  # what the search has left
    assert seen.shares[-1] == pytest.approx(80 / 480)
    bench.done["final"] = 1
    shown("final", {"event": "result"})
    assert seen.shares[-1] == 1.0


def test_a_study_counts_in_its_own_convention_and_up_to_its_last_stage():
    bench, seen = StandIn("published"), Recorder()
    bench.done["baseline"] = 1
    shown = StudyProgress(bench, seen, until="search")
    assert seen.shares == [pytest.approx(20 / 130)]
    shown("search-0", {"event": "run", "stage": "search", "most": 30})
    shown("search-0", {"event": "validation", "loss": 1.0, "flops": 15, "flops_published": 29})
    assert seen.shares[-1] == pytest.approx(49 / 130)
    assert seen.notes[-1].startswith("run 2 of 5")

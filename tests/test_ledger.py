"""Budgets: what one run may spend, and what runs side by side may spend together, even where some of them die."""

import json
import math
import os
import random
import signal
import time
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from loracast.errors import BudgetError, DataError
from loracast.flops import Convention, Flops, column_name, renamed
from loracast.ledger import Ledger, SharedLedger

SPAWN = get_context("spawn")  # nothing is inherited, as with processes that were started by hand
HUGE = 2**60  # whole numbers of this size have no exact float beside them

both_conventions = pytest.mark.parametrize("convention", ["executed", "published"])


def flops(convention: Convention, counted: int, other: int) -> Flops:
    return Flops(counted, other) if convention == "executed" else Flops(other, counted)


# -- one run -----------------------------------------------------------------------------------------------------


def test_a_ledger_adds_up_by_purpose_in_both_conventions():
    ledger = Ledger()
    for purpose, spent in (("training", Flops(5, 50)), ("validation", Flops(2, 20)), ("training", Flops(7, 1))):
        ledger.charge(purpose, spent)
    assert ledger.spent == {"training": Flops(12, 51), "validation": Flops(2, 20)}
    assert ledger.total == Flops(14, 71)
    assert ledger.left == math.inf
    assert ledger.affords(Flops(10**30, 10**30))


@both_conventions
def test_a_ledger_refuses_to_pass_its_budget_before_anything_is_spent(convention: Convention):
    ledger = Ledger(1e3, convention)
    ledger.charge("training", flops(convention, 600, 10**9))  # the other convention is counted and not limited
    assert ledger.left == 400
    assert ledger.affords(flops(convention, 400, 10**9))
    assert not ledger.affords(flops(convention, 401, 0))
    told = rf"validation would take 4\.010e\+02 FLOPs \({convention}\), but 6\.000e\+02 of 1\.000e\+03 are spent; raise"
    with pytest.raises(BudgetError, match=told):
        ledger.charge("validation", flops(convention, 401, 0))
    with pytest.raises(BudgetError, match=told):
        ledger.check("validation", flops(convention, 401, 0))
    ledger.check("validation", flops(convention, 400, 0))  # which spends nothing
    assert ledger.spent == {"training": flops(convention, 600, 10**9)}
    ledger.charge("validation", flops(convention, 400, 1))
    assert ledger.total == flops(convention, 1000, 10**9 + 1)
    assert ledger.left == 0
    assert ledger.affords(flops(convention, 0, 1))
    assert not ledger.affords(flops(convention, 1, 0))


@pytest.mark.parametrize("spent", [HUGE - 9, HUGE - 65, HUGE - 1])
def test_a_large_budget_is_kept_to_the_flop(spent: int):
    ledger = Ledger(float(HUGE))
    ledger.charge("training", Flops(spent))
    assert ledger.affords(Flops(HUGE - spent))
    assert not ledger.affords(Flops(HUGE - spent + 1))


def test_ledgers_do_not_share_what_they_spent():
    Ledger().charge("training", Flops(1, 1))
    assert Ledger().total == Flops()


def test_what_a_ledger_stores_is_taken_up_again():
    ledger = Ledger(1e17, "published")
    ledger.charge("training", Flops(HUGE // 100 + 1, HUGE // 50 + 1))
    ledger.charge("forecasts", Flops(3, 4))
    stored = ledger.to_dict()
    assert stored == {
        "executed": {"training": HUGE // 100 + 1, "forecasts": 3, "total": HUGE // 100 + 4},
        "published": {"training": HUGE // 50 + 1, "forecasts": 4, "total": HUGE // 50 + 5},
    }
    other = Ledger(1e17, "published")
    other.charge("training", Flops(9, 9))  # by work that is now forgotten, since the stored state came before it
    other.restore(json.loads(json.dumps(stored)))
    assert other == ledger
    assert other.to_dict() == stored
    other.charge("likelihood", Flops(1, 1))
    assert "likelihood" not in ledger.spent


def test_a_ledger_that_spent_nothing_is_stored_too():
    ledger = Ledger()
    ledger.restore(json.loads(json.dumps(Ledger().to_dict())))
    assert ledger == Ledger()
    assert Ledger().to_dict() == {"executed": {"total": 0}, "published": {"total": 0}}


# -- runs side by side -------------------------------------------------------------------------------------------


@both_conventions
def test_a_run_reserves_what_it_may_spend_and_frees_the_rest(tmp_path: Path, convention: Convention):
    shared = SharedLedger(tmp_path / "ledger", 1000, convention)
    assert shared.left == 1000
    one = shared.open("one", flops(convention, 600, 1))
    assert (one.budget, one.convention, one.spent) == (600, convention, {})
    assert shared.left == 400
    assert shared.spent == Flops()
    told = rf"two may take 4\.010e\+02 FLOPs \({convention}\), but 6\.000e\+02 of 1\.000e\+03 are spent or reserved"
    with pytest.raises(BudgetError, match=told):
        shared.open("two", flops(convention, 401, 0))
    assert [entry.run for entry in shared.entries()] == ["one"]  # a refused run leaves nothing behind
    shared.open("two", flops(convention, 400, 10**9))
    assert shared.left == 0

    one.charge("training", flops(convention, 100, 7))
    one.charge("forecasts", flops(convention, 23, 2))
    with pytest.raises(BudgetError):
        one.charge("training", flops(convention, 478, 0))
    shared.close("one", one)
    assert shared.left == 1000 - 400 - 123
    assert shared.spent == flops(convention, 123, 9)
    closed = shared.entries()[0]
    assert closed.spent == one.spent
    assert (closed.closed, closed.reserved) == (True, Flops())
    shared.open("three", flops(convention, 477, 0))
    with pytest.raises(BudgetError):
        shared.open("four", flops(convention, 1, 0))


def test_a_reservation_can_be_spent_to_the_flop(tmp_path: Path):
    shared = SharedLedger(tmp_path, 4.0 * HUGE)
    ledger = shared.open("odd", Flops(HUGE + 1))
    assert not ledger.affords(Flops(HUGE + 2))
    ledger.charge("training", Flops(HUGE + 1))
    shared.close("odd", ledger)
    assert shared.spent == Flops(HUGE + 1)


def test_without_a_budget_everything_is_counted_and_nothing_refused(tmp_path: Path):
    shared = SharedLedger(tmp_path)
    for run in ("a", "b"):
        ledger = shared.open(run, Flops(1, 1))
        ledger.charge("training", Flops(10**20, 10**21))
        shared.close(run, ledger)
    assert shared.spent == Flops(2 * 10**20, 2 * 10**21)
    assert shared.left == math.inf


def test_every_look_at_a_folder_sees_the_same_ledger(tmp_path: Path):
    SharedLedger(tmp_path, 100).open("a", Flops(60, 1))
    other = SharedLedger(tmp_path, 100)
    assert other.left == 40
    with pytest.raises(BudgetError):
        other.open("b", Flops(41, 1))


def test_a_run_that_died_and_opens_again_keeps_one_reservation(tmp_path: Path):
    shared = SharedLedger(tmp_path, 100)
    shared.open("a", Flops(30))
    shared.open("b", Flops(60))
    assert shared.open("b", Flops(60)).total == Flops()
    assert shared.left == 10
    shared.open("b", Flops(70))  # which its own reservation is no part of
    assert shared.left == 0
    with pytest.raises(BudgetError):
        shared.open("b", Flops(71))
    assert shared.left == 0  # a refused run keeps what it had
    assert [entry.run for entry in shared.entries()] == ["a", "b"]


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '"a"',
        '{"run": "b"}',
        '{"run": "b", "reserved": {"executed": 1, "cuorse": 2}, "spent": {}, "closed": true}',
        '{"run": "b", "reserved": {}, "spent": {"training": 3}, "closed": true}',
        '{"run": "b", "reserved": {}, "spent": 3, "closed": true}',
    ],
)
def test_a_broken_entry_names_its_file(tmp_path: Path, content: str):
    shared = SharedLedger(tmp_path, 100)
    ledger = shared.open("a", Flops(1))
    (tmp_path / "b.json").write_text(content)
    for attempt in (shared.entries, lambda: shared.left, lambda: shared.spent, lambda: shared.open("c", Flops(1))):
        with pytest.raises(
            DataError, match=rf"{tmp_path / 'b.json'} cannot be read as an entry of a ledger .*; remove it"
        ):
            attempt()
    shared.close("a", ledger)  # what a run spent is written down whatever the others' entries are
    (tmp_path / "b.json").unlink()
    assert shared.left == 100


# -- many processes ----------------------------------------------------------------------------------------------


def work(directory: Path, worker: int, together: Barrier, rounds: int) -> None:
    """Opens many runs and closes each with all that it reserved; writes down what those that were let in spent."""
    shared, spent = SharedLedger(directory / "ledger", 1000.0), {}
    random_numbers = random.Random(worker)

    def attempt(shared: SharedLedger, run: str, wanted: int) -> None:
        try:
            ledger = shared.open(run, Flops(wanted, 2 * wanted))
        except BudgetError:
            return
        for purpose, part in (("training", wanted - 7), ("forecasts", 7)):
            ledger.charge(purpose, Flops(part, 2 * part))
        shared.close(run, ledger)
        spent[run] = wanted

    for index in range(rounds):  # there is room for one of them
        together.wait()
        attempt(SharedLedger(directory / f"round {index}", 100.0), f"race-{index}-{worker}", 60)
    for number in range(12):
        attempt(shared, f"{worker}-{number}", random_numbers.randrange(20, 100))
    (directory / f"{worker}.json").write_text(json.dumps(spent))


def test_many_processes_at_once_never_pass_the_budget(tmp_path: Path):
    shared, workers, rounds = SharedLedger(tmp_path / "ledger", 1000.0), range(4), 12
    together = SPAWN.Barrier(len(workers))
    processes = [SPAWN.Process(target=work, args=(tmp_path, worker, together, rounds)) for worker in workers]
    for process in processes:
        process.start()
    seen = []
    while any(process.is_alive() for process in processes):
        seen.append(shared.left)  # to look on is always possible
        time.sleep(0.005)
    assert [process.exitcode for process in processes] == [0] * len(workers)
    by_worker = [json.loads((tmp_path / f"{worker}.json").read_text()) for worker in workers]
    races = [run for spent in by_worker for run in spent if run.startswith("race")]
    assert sorted(int(run.split("-")[1]) for run in races) == list(range(rounds))  # one was let in each time

    spent = {run: wanted for spent in by_worker for run, wanted in spent.items() if run not in races}
    total = sum(spent.values())
    assert 1000 - 100 < total <= 1000
    assert shared.spent == Flops(total, 2 * total)
    assert {entry.run: entry.committed.executed for entry in shared.entries()} == spent
    assert min(seen) >= 0
    assert seen == sorted(seen, reverse=True)


def die(directory: Path, when: str) -> None:
    def kill(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    shared = SharedLedger(directory, 100.0)
    if when == "in its work":
        shared.open("dying", Flops(60)).charge("training", Flops(50))
        kill()
    Path.replace = kill  # type: ignore[method-assign]  # an entry is written beside its place, then moved there
    shared.open("dying", Flops(60))


@pytest.mark.parametrize(
    ("when", "reserved"), [("in its work", 60), ("while it wrote its entry and held the lock", 0)], ids=lambda v: str(v)
)
def test_a_process_that_is_killed_leaves_its_reservation_and_nothing_else(tmp_path: Path, when: str, reserved: int):
    process = SPAWN.Process(target=die, args=(tmp_path, when))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    shared = SharedLedger(tmp_path, 100.0)
    assert shared.left == 100 - reserved
    again = shared.open("dying", Flops(60))
    assert shared.left == 40
    again.charge("training", Flops(55))
    shared.close("dying", again)
    assert shared.spent == Flops(55)
    assert shared.left == 45


def test_files_of_before_are_read_by_the_names_of_now(tmp_path: Path):
    ledger = Ledger()
    ledger.restore({"hardware": {"training": 3, "total": 3}, "course": {"training": 5, "total": 5}})
    assert ledger.total == Flops(3, 5)
    (tmp_path / "a.json").write_text(
        '{"run": "a", "reserved": {"hardware": 1, "course": 2}, "spent": {"x": {"hardware": 1, "course": 2}}, '
        '"closed": true}'
    )
    assert SharedLedger(tmp_path).spent == Flops(1, 2)
    stored = {"convention": "hardware", "made": {"hardware": "2 cores"}, "plan": [{"hardware": 1, "course": 2}]}
    assert renamed(stored) == {
        **{"convention": "executed", "made": {"hardware": "2 cores"}, "plan": [{"executed": 1, "published": 2}]}
    }
    assert [column_name(name) for name in ("hardware", "predicted_course", "mae")] == [
        *("executed", "predicted_published", "mae")
    ]

"""An adapter's record keeps its split, and windows that it was tuned on are recognised."""

import numpy as np

from loracast.series import Series, windows
from loracast.series.seen import MOST, split_record, steps_seen, windows_tuned_on


def series(n: int, steps: int = 20) -> list[Series]:
    values = np.random.default_rng(0).normal(size=(n, steps, 2))
    return [Series(one, ("a", "b"), f"s{index}") for index, one in enumerate(values)]


def test_training_and_validation_series_are_told_apart_and_others_are_new():
    a, b, c = series(3)
    record = {"split": split_record([a], [b])}
    assert steps_seen(record, [a, b, c], "training") == [20, 0, 0]
    assert steps_seen(record, [a, b, c], "validation") == [0, 20, 0]


def test_a_series_is_recognised_by_another_id_and_when_it_has_grown():
    (one,) = series(1)
    record = {"split": split_record([one.slice(0, 12)], [])}
    renamed = Series(one.values, one.names, "other")
    assert steps_seen(record, [renamed], "training") == [12]
    tuned_on = windows_tuned_on(record, windows([renamed], 4, 4))
    assert [window.start for window in tuned_on] == [0, 4]  # the third begins its forecast at step 12


def test_a_record_without_a_split_knows_no_series():
    assert steps_seen({}, series(2), "training") == [0, 0]


def test_a_record_is_bounded_and_says_how_many_there_were():
    (one,) = series(1)
    part = split_record([one] * (MOST + 1), [])["training"]
    assert (part["n"], len(part["series"])) == (MOST + 1, MOST)

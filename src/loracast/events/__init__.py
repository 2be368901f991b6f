"""Events: what is asked of a forecast in words, judged on its joint sample paths, and put as sentences and a table."""

from loracast.events.judge import Paths, judge, thresholds
from loracast.events.language import read_event
from loracast.events.outcome import Outcome, frame, interval, outcomes
from loracast.events.tree import Event, Extreme, FirstTime

__all__ = [
    "Event",
    "Extreme",
    "FirstTime",
    "Outcome",
    "Paths",
    "frame",
    "interval",
    "judge",
    "outcomes",
    "read_event",
    "thresholds",
]

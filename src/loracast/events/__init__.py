"""Events: what is asked of a forecast in words, judged on its joint sample paths, and told as sentences and a table."""

from loracast.events.judge import Paths, judge, thresholds
from loracast.events.language import Event, Extreme, FirstTime, read_event
from loracast.events.outcome import Outcome, frame, outcomes

__all__ = [
    "Event",
    "Extreme",
    "FirstTime",
    "Outcome",
    "Paths",
    "frame",
    "judge",
    "outcomes",
    "read_event",
    "thresholds",
]

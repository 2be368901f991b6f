"""Dynamical systems that make as many series as anyone wants, and the real series that ships with the package."""

from loracast.systems import laws  # which registers them
from loracast.systems.pelts import lynx_hare
from loracast.systems.siblings import siblings
from loracast.systems.simulate import simulate
from loracast.systems.system import SYSTEMS, Event, Range, System, get_system, register

__all__ = ["SYSTEMS", "Event", "Range", "System", "get_system", "laws", "lynx_hare", "register", "siblings", "simulate"]

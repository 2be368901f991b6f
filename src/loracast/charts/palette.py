"""The colours of a report: one table for the page's style sheet, for Plotly and for matplotlib.

Every role has a colour for light and one for dark backgrounds, each with a contrast of at least 3.5 to its background.
The hues are those of Okabe and Ito, which colour-blind readers tell apart.
"""

from __future__ import annotations

BLUE, ORANGE, GREEN, PINK = (
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#f5874a"),
    ("#00825f", "#2cc097"),
    ("#a8508a", "#dc93c0"),
)
AMBER, VIOLET, GREY = ("#9a6a00", "#e6b23c"), ("#6a51a3", "#ab97e6"), ("#767676", "#a3a3a3")

COLOURS: dict[str, tuple[str, str]] = {  # of a role: on light, on dark
    "tuned": BLUE,
    "zero-shot": ORANGE,
    "best-period": GREEN,
    "context-mean": PINK,
    "last-value": GREY,
    "final": BLUE,
    "default": ORANGE,
    "context": VIOLET,
    "search": GREY,
    "first": GREEN,  # of a series' variables, and of whatever else has an order and no name of its own
    "second": VIOLET,
    "third": AMBER,
    "fourth": PINK,
    "fifth": BLUE,
    "sixth": ORANGE,
    "ink": ("#1b1f24", "#e6e8eb"),
    "muted": ("#5c6570", "#9aa4b0"),
    "grid": ("#e3e6ea", "#2c333b"),
    "paper": ("#ffffff", "#14181d"),
}
ORDER = ("first", "second", "third", "fourth", "fifth", "sixth")


def ordered_role(index: int) -> str:
    """The role of the variable at a position; from the seventh on they repeat."""
    return ORDER[index % len(ORDER)]


def role_of(forecaster: str) -> str:
    """The role of a forecaster's name; one that the palette does not know is drawn in ink."""
    return forecaster if forecaster in COLOURS else "ink"


def red_green_blue(colour: str) -> str:
    """`#0072b2` as `0,114,178`."""
    return ",".join(str(int(colour[place : place + 2], 16)) for place in (1, 3, 5))


def rgba(role: str, alpha: float = 1.0) -> str:
    """The colour on light of a role, as Plotly and CSS write it."""
    return f"rgba({red_green_blue(COLOURS[role][0])},{alpha:g})"


def light_to_dark() -> dict[str, str]:
    """Of each light colour its dark twin, both as `0,114,178`: what the page swaps in drawn figures."""
    return {red_green_blue(light): red_green_blue(dark) for light, dark in COLOURS.values()}


def css_variables(dark: bool) -> str:
    """A declaration a role: `--tuned: #0072b2;`."""
    return " ".join(f"--{role}: {colours[dark]};" for role, colours in COLOURS.items())

"""How numbers and names are written for readers; whatever is not a finite number becomes a dash."""

from __future__ import annotations

import math

from loracast.charts.marks import power_text

NOTHING = "–"


def number(value: float) -> str:
    """Four digits of a quantity, or all of a whole number: 0.04271, 1,234, 2.3·10⁻⁷."""
    if not math.isfinite(value):
        return NOTHING
    if float(value).is_integer() and abs(value) < 1e9:
        return f"{value:,.0f}".replace("-", "−")
    sign = "−" if value < 0 else ""
    size = abs(value)
    return sign + (f"{size:.4g}" if 1e-4 <= size < 1e4 else f"{size:,.0f}" if 1e4 <= size < 1e6 else power_text(size))


def flops(value: float) -> str:
    """Three digits of a cost: 1.23·10¹⁴."""
    if not math.isfinite(value):
        return NOTHING
    return "0" if value <= 0 else power_text(float(f"{value:.3g}"))


def percent(share: float) -> str:
    """A share of 1 as a percentage of three digits: 71.9%."""
    return f"{100 * share:.3g}%" if math.isfinite(share) else NOTHING


def decimals_text(count: float, layout: str = "") -> str:
    """How precisely numbers are written: digits after the point, or all digits of a whole number (layout fixed)."""
    plural = "" if count == 1 else "s"
    return f"{count:g} digit{plural} (fixed)" if layout == "fixed" else f"{count:g} decimal{plural}"


def duration(seconds: float) -> str:
    """Seconds as the two largest units a reader needs: 12 s, 3 min 20 s, 2 h 5 min."""
    if not math.isfinite(seconds):
        return NOTHING
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def shortened(name: str, most: int = 22) -> str:
    """A name that fits above a panel."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def listed(names: list[str]) -> str:
    """Names in a sentence: a, b and c."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))

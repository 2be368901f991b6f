"""loracast: fine-tune a causal language model with LoRA until it forecasts your dynamical system.

    import loracast

    series = loracast.simulate("predator-prey", n=100, seed=0)
    tuned = loracast.Forecaster.from_pretrained("bundled").fit(series)
    forecast = tuned.predict(loracast.simulate("predator-prey", n=1, seed=1), horizon=20)
    forecast.probability("predator < 0.1")

Names are imported when they are first used, so that `import loracast` is quick. Import it before torch: it then keeps
waiting threads from spinning (GOMP_SPINCOUNT=1000, unless the environment says otherwise).
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from loracast._version import __version__

if "torch" not in sys.modules:
    # Threads that spin for long while they wait are many times slower when anything else wants a core. OpenMP reads
    # this once, when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

_HOMES = {
    "Backtest": "evaluation.backtest",
    "Calendar": "series",
    "Codec": "codec",
    "Columns": "series",
    "Flops": "flops",
    "Forecast": "forecast",
    "Forecaster": "forecaster",
    "Ledger": "ledger",
    "LoraConfig": "settings",
    "LoracastError": "errors",
    "Outcome": "events",
    "SampleConfig": "settings",
    "Series": "series",
    "TuneConfig": "settings",
    "UnseenWarning": "errors",
    "Window": "series",
    "backtest": "evaluation.backtest",
    "lynx_hare": "systems",
    "read_series": "series",
    "series_from_frame": "series",
    "siblings": "systems",
    "simulate": "systems",
    "windows": "series",
    "write_series": "series",
}
__all__ = [
    "Backtest",
    "Calendar",
    "Codec",
    "Columns",
    "Flops",
    "Forecast",
    "Forecaster",
    "Ledger",
    "LoraConfig",
    "LoracastError",
    "Outcome",
    "SampleConfig",
    "Series",
    "TuneConfig",
    "UnseenWarning",
    "Window",
    "__version__",
    "backtest",
    "lynx_hare",
    "read_series",
    "series_from_frame",
    "siblings",
    "simulate",
    "windows",
    "write_series",
]

if TYPE_CHECKING:
    from loracast.codec import Codec as Codec
    from loracast.errors import LoracastError as LoracastError
    from loracast.errors import UnseenWarning as UnseenWarning
    from loracast.evaluation.backtest import Backtest as Backtest
    from loracast.evaluation.backtest import backtest as backtest
    from loracast.events import Outcome as Outcome
    from loracast.flops import Flops as Flops
    from loracast.forecast import Forecast as Forecast
    from loracast.forecaster import Forecaster as Forecaster
    from loracast.ledger import Ledger as Ledger
    from loracast.series import Calendar as Calendar
    from loracast.series import Columns as Columns
    from loracast.series import Series as Series
    from loracast.series import Window as Window
    from loracast.series import read_series as read_series
    from loracast.series import series_from_frame as series_from_frame
    from loracast.series import windows as windows
    from loracast.series import write_series as write_series
    from loracast.settings import LoraConfig as LoraConfig
    from loracast.settings import SampleConfig as SampleConfig
    from loracast.settings import TuneConfig as TuneConfig
    from loracast.systems import lynx_hare as lynx_hare
    from loracast.systems import siblings as siblings
    from loracast.systems import simulate as simulate


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'loracast' has no attribute {name!r}")
    return getattr(import_module(f"loracast.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

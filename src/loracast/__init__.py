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

if "torch" not in sys.modules:
    # Threads that spin for long while they wait are many times slower when anything else wants a core. OpenMP reads
    # this once, when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

__version__ = "0.1.0"

_HOMES = {
    "Codec": "codec",
    "Forecast": "forecast",
    "Forecaster": "forecaster",
    "LoracastError": "errors",
    "SampleConfig": "settings",
    "Series": "series",
    "TuneConfig": "settings",
    "Window": "series",
    "backtest": "evaluation.backtest",
    "lynx_hare": "systems",
    "read_series": "series",
    "simulate": "systems",
    "windows": "series",
    "write_series": "series",
}
__all__ = [
    "Codec",
    "Forecast",
    "Forecaster",
    "LoracastError",
    "SampleConfig",
    "Series",
    "TuneConfig",
    "Window",
    "__version__",
    "backtest",
    "lynx_hare",
    "read_series",
    "simulate",
    "windows",
    "write_series",
]

if TYPE_CHECKING:
    from loracast.codec import Codec as Codec
    from loracast.errors import LoracastError as LoracastError
    from loracast.evaluation.backtest import backtest as backtest
    from loracast.forecast import Forecast as Forecast
    from loracast.forecaster import Forecaster as Forecaster
    from loracast.series import Series as Series
    from loracast.series import Window as Window
    from loracast.series import read_series as read_series
    from loracast.series import windows as windows
    from loracast.series import write_series as write_series
    from loracast.settings import SampleConfig as SampleConfig
    from loracast.settings import TuneConfig as TuneConfig
    from loracast.systems import lynx_hare as lynx_hare
    from loracast.systems import simulate as simulate


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'loracast' has no attribute {name!r}")
    return getattr(import_module(f"loracast.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

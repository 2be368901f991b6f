"""A forecaster of sktime: `pip install 'loracast[sktime]'`."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sktime.forecasting.base import BaseForecaster, ForecastingHorizon

from loracast.errors import DataError
from loracast.forecast import Forecast
from loracast.forecaster import Forecaster
from loracast.series import Series
from loracast.settings import Device, SampleConfig, TuneConfig


class LoracastForecaster(BaseForecaster):
    """Forecasts by sample paths that a language model writes: medians, quantiles, intervals and variances of them.

    Several columns of `y` are one series whose variables are forecast jointly. `X` holds variables that are known
    beforehand: `predict` needs them for every step up to the last one of the horizon. Absent steps and NaN are read as
    missing values. The same data and settings give the same forecast.

    Parameters
    ----------
    model : str, default="bundled"
        A Hugging Face directory, a repository of the hub, or the bundled model.
    adapter : str or None
        A directory with an adapter that `loracast finetune` or `Forecaster.fit` wrote.
    tune : TuneConfig or None
        Settings of a tuning on `y` in `fit`; unless given, nothing is tuned there.
    sample : SampleConfig or None
        How many paths are drawn, and how; 100 unless given.
    context : int or None
        Steps that are read; as many as the model or the adapter was made for unless given.
    device : str, default="auto"
        What to compute on, such as "cpu" or "cuda".

    Attributes
    ----------
    forecaster_ : Forecaster
        The model, with the adapter where there is one.

    Examples
    --------
    >>> from sktime.datasets import load_airline
    >>> from loracast.integrations.sktime import LoracastForecaster
    >>> from loracast.settings import SampleConfig
    >>> forecaster = LoracastForecaster(sample=SampleConfig(samples=5))
    >>> forecaster.fit(load_airline())
    LoracastForecaster(...)
    >>> len(forecaster.predict(fh=range(1, 13)))
    12
    """

    _tags: ClassVar[dict[str, Any]] = {
        "authors": ["loracast"],
        "maintainers": ["loracast"],
        "python_dependencies": ["torch", "tokenizers"],
        "y_inner_mtype": "pd.DataFrame",
        "X_inner_mtype": "pd.DataFrame",
        "capability:multivariate": True,
        "capability:exogenous": True,
        "capability:categorical_in_X": False,
        "capability:non_contiguous_X": False,
        "capability:missing_values": True,
        "capability:insample": False,
        "capability:pred_int": True,
        "capability:pred_int:insample": False,
        "capability:update": True,
        "capability:random_state": False,  # the seed is a field of `sample`
        "property:randomness": "deterministic",
        "requires-fh-in-fit": False,
    }

    _config: ClassVar[dict[str, Any]] = {"remember_data": False}  # what was read is kept in attributes of its own
    _y = _X = None  # the base only sets these where it remembers

    def __init__(
        self,
        model: str = "bundled",
        adapter: str | None = None,
        tune: TuneConfig | None = None,
        sample: SampleConfig | None = None,
        context: int | None = None,
        device: Device = "auto",
    ):
        self.model = model
        self.adapter = adapter
        self.tune = tune
        self.sample = sample
        self.context = context
        self.device = device
        super().__init__()

    def _fit(self, y: pd.DataFrame, X: pd.DataFrame | None, fh: ForecastingHorizon | None) -> LoracastForecaster:
        device: Any = self.device
        loaded = Forecaster.from_pretrained(self.model, self.adapter, device=device)
        self._read_y, self._read_X = y, X
        self.forecaster_ = loaded.fit([self._series()], tune=self.tune) if self.tune else loaded
        return self

    def _update(self, y: pd.DataFrame, X: pd.DataFrame | None = None, update_params: bool = True) -> LoracastForecaster:
        """Reads on: later forecasts follow the new rows. Weights stay as they are, which `fit` alone changes."""
        self._read_y = y.combine_first(self._read_y)
        if X is not None and self._read_X is not None:
            self._read_X = X.combine_first(self._read_X)
        return self

    def _predict(self, fh: ForecastingHorizon, X: pd.DataFrame | None) -> pd.DataFrame:
        values = self._forecast(fh, X).median()[0]  # [H, D]
        return self._rows(fh, values, self._read_y.columns)

    def _predict_quantiles(self, fh: ForecastingHorizon, X: pd.DataFrame | None, alpha: list[float]) -> pd.DataFrame:
        values = self._forecast(fh, X).quantiles(alpha)[0]  # [Q, H, D]
        columns = pd.MultiIndex.from_product([self._get_varnames(), alpha])
        return self._rows(fh, np.moveaxis(values, 0, 2).reshape(values.shape[1], -1), columns)

    def _predict_var(self, fh: ForecastingHorizon, X: pd.DataFrame | None = None, cov: bool = False) -> pd.DataFrame:
        if cov:
            raise NotImplementedError("covariances are not given; take cov=False")
        values = np.nanvar(self._forecast(fh, X).samples[0], 0)  # [H, D]
        return self._rows(fh, values, pd.Index(self._get_varnames()))

    def _forecast(self, fh: ForecastingHorizon, X: pd.DataFrame | None) -> Forecast:
        series, horizon = self._series(), int(max(self._steps(fh)))
        known = None
        if series.known:
            ahead = ForecastingHorizon(np.arange(1, horizon + 1), is_relative=True).to_absolute_index(self.cutoff)
            if X is None:
                raise DataError(f"X holds {', '.join(series.known)} in fit; give predict its values up to {ahead[-1]}")
            known = X.reindex(ahead).to_numpy(np.float64)[None]  # [1, H, K]
        return self.forecaster_.predict(series, horizon, sample=self.sample, context=self.context, known=known)

    def _series(self) -> Series:
        """What has been read, on its whole grid: absent steps are missing values."""
        y, X = self._read_y, self._read_X
        table = y if X is None else pd.concat([X.reindex(y.index), y], axis=1)
        index, time = table.index, None
        if isinstance(index, pd.PeriodIndex):
            table = table.reindex(pd.period_range(index[0], index[-1], freq=index.freq))
        elif isinstance(index, pd.DatetimeIndex):
            if (freq := index.freq or (pd.infer_freq(index) if len(index) > 2 else None)) is None and len(index) > 1:
                time = index.tz_localize(None).to_numpy()  # uneven dates are refused
            elif freq is not None:
                table = table.reindex(pd.date_range(index[0], index[-1], freq=freq))
        else:
            table = table.reindex(pd.RangeIndex(index[0], index[-1] + 1))
        names = [str(name) for name in table.columns]
        count = 0 if X is None else X.shape[1]
        names[:count] = [f"X {name}" if name in names[count:] else name for name in names[:count]]
        known, names = tuple(names[:count]), tuple(names)
        return Series(table.to_numpy(np.float64), names, time=time, known=known)

    def _steps(self, fh: ForecastingHorizon) -> NDArray[np.int64]:
        """The steps of a horizon, counted from 1."""
        return np.asarray(fh.to_relative(self.cutoff).to_numpy(), np.int64)

    def _rows(self, fh: ForecastingHorizon, values: NDArray[np.float64], columns: Any) -> pd.DataFrame:
        """Those rows of values [H, columns] that the horizon asks for, as sktime gives them back."""
        return pd.DataFrame(values[self._steps(fh) - 1], index=fh.to_absolute_index(self.cutoff), columns=columns)

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Settings that are quick, for sktime's checks: few paths of the bundled model, without tuning."""
        return [{"sample": SampleConfig(5)}, {"sample": SampleConfig(3, seed=1), "context": 6}]

"""A model of fev's benchmarks: `pip install 'loracast[fev]'`.

import fev
from loracast.integrations.fev import LoracastModel

task = fev.Task(dataset_path="monthly.parquet", horizon=12, num_windows=2, quantile_levels=[0.1, 0.5, 0.9])
model = LoracastModel()
summary = task.evaluation_summary(model.fit_predict(task), model.model_name, inference_time_s=model.inference_time)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import fev
import pandas as pd
from fev.model import ForecastingModel

from loracast.forecaster import Forecaster
from loracast.settings import SampleConfig, TuneConfig

if TYPE_CHECKING:
    import datasets


class LoracastModel(ForecastingModel):
    """Forecasts the windows of a task: all its targets jointly, with what the task says is known beforehand or past.

    Attributes that do not change with time are not read.

    Args:
        forecaster: what forecasts; the bundled model, untouched, unless given.
        tune: settings of a tuning before each window, on its past alone; unless given, the forecaster stays as it is.
        sample: how many paths are drawn, and how; 100 unless given.
        context: steps that are read of each series; as many as the model was made for unless given.
    """

    model_name = "loracast"

    def __init__(
        self,
        forecaster: Forecaster | None = None,
        *,
        tune: TuneConfig | None = None,
        sample: SampleConfig | None = None,
        context: int | None = None,
    ):
        super().__init__()
        self.forecaster = forecaster or Forecaster.from_pretrained("bundled")
        self.tune, self.sample, self.context = tune, sample, context

    def _fit_predict(self, task: fev.Task) -> list[datasets.DatasetDict]:
        return [self._window(task, window) for window in task.iter_windows()]

    def _window(self, task: fev.Task, window: fev.EvaluationWindow) -> datasets.DatasetDict:
        """The forecast of one window, in the order of fev's series and in its form."""
        import datasets

        past, future, _ = fev.convert_input_data(window, adapter="pandas")
        heads = {"id_column": task.id_column, "time_column": task.timestamp_column, "target": task.target_columns}
        known, read_only = task.known_dynamic_columns, task.past_dynamic_columns
        past = past[[task.id_column, task.timestamp_column, *known, *read_only, *task.target_columns]]
        forecaster = self.forecaster
        if self.tune:
            with self._record_training_time():
                forecaster = forecaster.fit_df(past, **heads, known=known, past=read_only, tune=self.tune)
        with self._record_inference_time():
            table = forecaster.predict_df(
                past,
                task.horizon,
                **heads,
                known=future if known else None,
                past=read_only,
                quantile_levels=task.quantile_levels,
                sample=self.sample,
                context=self.context,
            )
        order = pd.unique(past[task.id_column])
        predictions = {}
        for name in task.target_columns:
            rows = table[table["target_name"] == name].groupby(task.id_column, sort=False)
            columns = {column: rows[column].agg(list).loc[order].tolist() for column in task.predictions_schema}
            predictions[name] = datasets.Dataset.from_dict(columns, features=task.predictions_schema)
        return datasets.DatasetDict(predictions)

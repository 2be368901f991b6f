"""Events for MLflow: to the server that MLFLOW_TRACKING_URI names, or a database `mlflow.db` in the run's folder."""

from __future__ import annotations

import os

import alembic  # noqa: F401  what the database needs, which mlflow-skinny does not bring
import sqlalchemy  # noqa: F401
from mlflow import MlflowClient

from loracast import tracking

EXPERIMENT = "loracast"


class Tracker(tracking.Tracker):
    """Each start of a run is a run of its own there, by the folder's name, also where it takes up an earlier one."""

    def open(self, step: int) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        own = f"sqlite:///{(self.directory / 'mlflow.db').resolve().as_posix()}"
        self._client = MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or own)
        known = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = known.experiment_id if known else self._client.create_experiment(EXPERIMENT)
        self._run = self._client.create_run(experiment, run_name=self.name).info.run_id

    def write(self, curves: dict[str, float], step: int) -> None:
        for name, value in curves.items():
            self._client.log_metric(self._run, name, value, step=step)

    def end(self) -> None:
        self._client.set_terminated(self._run)

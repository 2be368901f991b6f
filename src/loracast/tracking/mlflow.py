"""Events for MLflow: to the server that MLFLOW_TRACKING_URI names, or a database `mlflow.db` in the run's folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import alembic  # noqa: F401  what the database needs, which mlflow-skinny does not bring
import sqlalchemy  # noqa: F401
from mlflow import MlflowClient

from loracast.tracking import scalars

EXPERIMENT = "loracast"


class Tracker:
    """Each start of a run is a run of its own there, by the folder's name, also where it takes up an earlier one."""

    def __init__(self, directory: Path):
        self._directory, self._client, self._run = directory, None, ""

    def __call__(self, event: dict[str, Any]) -> None:
        if not (found := scalars(event)):
            return
        if self._client is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            own = f"sqlite:///{(self._directory / 'mlflow.db').resolve().as_posix()}"
            self._client = MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or own)
            known = self._client.get_experiment_by_name(EXPERIMENT)
            experiment = known.experiment_id if known else self._client.create_experiment(EXPERIMENT)
            self._run = self._client.create_run(experiment, run_name=self._directory.resolve().name).info.run_id
        for name, value in found.items():
            self._client.log_metric(self._run, name, value, step=event["step"])

    def close(self) -> None:
        if self._client:
            self._client.set_terminated(self._run)

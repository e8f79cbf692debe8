"""MLflow: a folder with a SQLite file; figures, report and rows are artifacts beside it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cosp.track.tracker import Wanted, folder_of, library

EXTRA = "mlflow"
LIBRARY = "mlflow"
EXPERIMENT = "cosp"
LONGEST = 6000
"""Characters of a parameter's value that MLflow takes."""


class MLflow:
    """``place`` is a folder: ``mlflow ui --backend-store-uri sqlite:///PLACE/mlflow.db`` shows it."""

    def __init__(self, wanted: Wanted) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read as it is imported
        mlflow = library(LIBRARY, EXTRA)
        for name in ("mlflow", "alembic"):  # the store's making is no news
            logging.getLogger(name).setLevel(logging.WARNING)
        place = folder_of(wanted)
        self._metric = mlflow.entities.Metric
        self._client: Any = mlflow.MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
        self.run: str = wanted.run or self._begin(wanted, place, mlflow.entities.Param)
        if wanted.run:
            self._client.update_run(self.run, status="RUNNING")

    def _begin(self, wanted: Wanted, place: Path, param: Any) -> str:
        known = self._client.get_experiment_by_name(EXPERIMENT)
        artifacts = (place / "artifacts").as_uri()
        experiment = known.experiment_id if known else self._client.create_experiment(EXPERIMENT, artifacts)
        run: str = self._client.create_run(experiment, run_name=wanted.name).info.run_id
        params = [param(key, str(value)[:LONGEST]) for key, value in wanted.settings.items()]
        for first in range(0, len(params), 100):  # as many as it takes at a time
            self._client.log_batch(run, params=params[first : first + 100])
        return run

    def log(self, version: int, values: Mapping[str, float]) -> None:
        now_ms = int(1000 * time.time())
        metrics = [self._metric(name, value, now_ms, version) for name, value in values.items()]
        for first in range(0, len(metrics), 1000):
            self._client.log_batch(self.run, metrics=metrics[first : first + 1000])

    def files(self, version: int, pictures: Mapping[str, Path], others: list[Path]) -> None:
        for path in pictures.values():
            self._client.log_artifact(self.run, str(path), "figures")
        for path in others:
            self._client.log_artifact(self.run, str(path))

    def close(self, *, failed: bool) -> None:
        self._client.set_terminated(self.run, "KILLED" if failed else "FINISHED")

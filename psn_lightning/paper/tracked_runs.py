"""Runs of reproductions in MLflow, as lines of the record."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from psn_lightning.checkpoints.differences import decisive
from psn_lightning.commands.compare import find
from psn_lightning.errors import SettingError, in_one_line
from psn_lightning.paper.recorded_run import ACCURACY, RecordedRun
from psn_lightning.tracking.store import Store

TAG = "reproduction"
"""Tag of the MLflow runs of reproductions; the value is the key of the run, see :attr:`RecordedRun.key`."""

PLAN_TAG = "plan"
"""Tag of the MLflow runs of reproductions with the digest of the analysis plan."""

_CURVES = (ACCURACY, "gradient/ratio", "fan_in/ccv/")  # prefixes of the metrics that are recorded for every epoch
_DIGITS = 6  # significant digits of recorded values


def recorded(
    client: MlflowClient, run: Run, reproduction: str, data: str, cell: dict[str, Any], plan: str = ""
) -> RecordedRun:
    """Convert a finished MLflow run to a line of the record.

    Args:
        client: Client of the store that has the run.
        run: Finished MLflow run.
        reproduction: Name of the reproduction.
        data: Short name of the data set.
        cell: Settings of the table cell.
        plan: Digest of the analysis plan.

    Raises:
        ValueError, LookupError: If the run lacks a param, a tag or the test accuracy.
    """
    tags, params = run.data.tags, run.data.params
    names = [name for name in run.data.metrics if name.startswith(_CURVES)]
    history = {name: client.get_metric_history(run.info.run_id, name) for name in names}
    text = json.dumps(sorted(decisive(params).items()))
    steps = [metric.step for metric in history[ACCURACY]]
    epochs = int(params["trainer.max_epochs"])
    evaluated = [_round((step + 1) / (steps[-1] + 1) * epochs) for step in steps] if len(steps) > epochs else []
    return RecordedRun(
        reproduction=reproduction,
        data=data,
        cell=cell,
        seed=int(params["seed_everything"]),
        digest=hashlib.sha256(text.encode()).hexdigest()[:16],
        dataset=tags["dataset.name"],
        completeness=tags["dataset.completeness"],
        metrics={name: _round(value) for name, value in sorted(run.data.metrics.items())},
        curves={name: [_round(metric.value) for metric in values] for name, values in sorted(history.items())},
        seconds=round((run.info.end_time - run.info.start_time) / 1000, 1),
        storage=tags["storage"],
        machine=tags["machine"],
        version=tags["version.psn_lightning"],
        commit=tags.get("git.commit", ""),
        date=datetime.fromtimestamp(run.info.end_time / 1000, UTC).isoformat(timespec="seconds"),
        plan=plan,
        evaluated=evaluated,
    )


def from_experiment(uri: str | None, experiment: str) -> list[RecordedRun]:
    """Read the finished runs of reproductions from an MLflow experiment; of repeated runs, the newest one counts.

    Args:
        uri: MLflow store; the default store if None.
        experiment: Name of the experiment.

    Raises:
        SettingError: If the store cannot be used, has no such experiment, or a run has the tag of reproductions but
            not the params, tags and metrics of one.
    """
    found = find(uri, experiment, f"tags.{TAG} != '' AND attributes.status = 'FINISHED'")
    client = Store(uri).client
    runs = {}
    for run in reversed(found):  # oldest first: newer runs replace older ones
        try:
            reproduction, data, cell, *_ = json.loads(run.data.tags[TAG])
            one = recorded(client, run, reproduction, data, cell, run.data.tags.get(PLAN_TAG, ""))
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise SettingError(
                f"run {run.info.run_id} of experiment {experiment} has the tag {TAG} but is not a run of a "
                f"reproduction ({in_one_line(error)}): delete the tag"
            ) from error
        runs[one.key] = one
    return list(runs.values())


def _round(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")

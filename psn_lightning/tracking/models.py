"""Data sets and models of a run, as MLflow's own entities. What a model is made of is not known here."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModel,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Run,
)
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from psn_lightning.tracking.mlflow_private import MLFLOW_MODEL_VERSIONS

KEY_TAG = "psn_lightning.key"
"""Tag of a LoggedModel: identity of the operation that logs it, by which a repeated one finds it."""

MLMODEL = "MLmodel"
"""File that describes a model in MLflow's format."""

_LONGEST_DIGEST = 36
_CONTEXT = "mlflow.data.context"


def log_dataset(client: MlflowClient, run_id: str, name: str, digest: str, source: str) -> None:
    """Log the data set that a run trains on.

    Args:
        client: MLflow's client.
        run_id: Run to write to.
        name: Name of the data set.
        digest: Digest of its files.
        source: Folder or address that it was read from.
    """
    dataset = Dataset(name, digest[:_LONGEST_DIGEST], "local", json.dumps({"uri": source}))
    client.log_inputs(run_id, [DatasetInput(dataset, [InputTag(_CONTEXT, "training")])])


def log_model(
    client: MlflowClient,
    run: Run,
    file: str,
    key: str,
    name: str,
    step: int,
    metrics: Sequence[str],
    register: str | None,
    alias: str | None,
) -> None:
    """Log a model that is in MLflow's format, once, however often this is called.

    Args:
        client: MLflow's client.
        run: Run that trained the model.
        file: Zip archive of the model's folder.
        key: Identity of this operation.
        name: Name of the LoggedModel.
        step: Optimizer step of its weights.
        metrics: Metrics of the run to link to it: the last value up to that step, or else the first one.
        register: Name of the registered model that gets it as a new version; None for none.
        alias: Alias of that version, which an earlier version loses; None for none.

    Raises:
        MlflowException: If the store is away or refuses something.
        OSError: If the archive cannot be unpacked or the artifacts cannot be written.
    """
    experiment, run_id = run.info.experiment_id, run.info.run_id
    found = client.search_logged_models([experiment], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
    model = next(iter(found), None) or client.create_logged_model(
        experiment, name, run_id, tags={KEY_TAG: key}, params=run.data.params
    )
    if model.status != LoggedModelStatus.READY:
        _upload(client, model, run_id, Path(file))
        known = run.outputs.model_outputs if run.outputs else []
        if all(output.model_id != model.model_id for output in known):  # MLflow refuses a second link
            client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step)])
        linked = [_linked(client, run, name, step, model.model_id) for name in metrics]
        client.log_batch(run_id, metrics=[metric for metric in linked if metric is not None])
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    if register is not None:
        _register(client, model, run_id, register, alias)


def _upload(client: MlflowClient, model: LoggedModel, run_id: str, archive: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shutil.unpack_archive(archive, folder, "zip")
        description = Model.load(folder)
        description.model_id = description.model_uuid = model.model_id
        description.run_id, description.artifact_path = run_id, model.artifact_location
        description.save(str(Path(folder) / MLMODEL))
        client.log_model_artifacts(model.model_id, folder)


def _linked(client: MlflowClient, run: Run, name: str, step: int, model_id: str) -> Metric | None:
    """A metric of the run, linked to a model and to the run's data set; None if the store has refused the metric."""
    history = sorted(client.get_metric_history(run.info.run_id, name), key=lambda metric: metric.step)
    if not history:
        return None
    point = next((metric for metric in reversed(history) if metric.step <= step), history[0])
    used = run.inputs.dataset_inputs if run.inputs else []
    data = {"dataset_name": used[0].dataset.name, "dataset_digest": used[0].dataset.digest} if used else {}
    return Metric(name, point.value, point.timestamp, point.step, model_id=model_id, run_id=run.info.run_id, **data)


def _register(client: MlflowClient, model: LoggedModel, run_id: str, name: str, alias: str | None) -> None:
    """Make a model a version of a registered one."""
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = model.artifact_location
    known = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    versions = [version for version in known if version.source == source]  # a local store does not keep the model's id
    version = next(iter(versions), None) or client.create_model_version(
        name, source, run_id, model_id=model.model_id, await_creation_for=0
    )
    _show_version(client, model.model_id, name, str(version.version))
    if alias is not None:
        client.set_registered_model_alias(name, alias, version.version)


def _show_version(client: MlflowClient, model_id: str, name: str, version: str) -> None:
    """Note a version in the tag by which MLflow's page of the LoggedModel shows it, as its own ``register_model``."""
    listed = json.loads(client.get_logged_model(model_id).tags.get(MLFLOW_MODEL_VERSIONS, "[]"))
    if all((entry["name"], str(entry["version"])) != (name, version) for entry in listed):
        noted = [*listed, {"name": name, "version": version}]
        client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: json.dumps(noted)})

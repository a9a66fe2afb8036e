"""What a checkpoint and its MLflow run tell of the training of a network, for its model card."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn
from mlflow import MlflowClient

from psn_lightning.checkpoints.origin import Origin, read_config_text, read_origin
from psn_lightning.commands.lightning_cli import PSNCLI
from psn_lightning.commands.run_record import name_rule
from psn_lightning.commands.summary import LIBRARY_METRICS
from psn_lightning.data import ClassificationData
from psn_lightning.errors import SettingError
from psn_lightning.export.card import TrainedRun
from psn_lightning.tracking import MLflowLogger
from psn_lightning.tracking.address import URI_VARIABLE


def describe_training(cli: PSNCLI, checkpoint: Path, weights_only: bool) -> TrainedRun:
    """Describe the training of a checkpoint.

    Args:
        cli: Model, data module and Trainer of its configuration, the data module set up.
        checkpoint: Checkpoint of psn-train.
        weights_only: See :func:`~psn_lightning.checkpoints.origin.read_origin`.
    """
    origin = read_origin(checkpoint, weights_only)
    assert origin is not None, "only checkpoints with a configuration are exported"
    data, facts = type(cli.datamodule).__name__, {"psn_lightning": origin.version}
    if isinstance(cli.datamodule, ClassificationData):
        found = cli.datamodule.description()
        data = found["dataset.name"]
        facts |= {"rows": found["dataset.rows"], "digest of the data": found["dataset.digest"]}
    if origin.run_id is not None:
        facts["MLflow run"] = origin.run_id
    seed = origin.config.get("seed_everything")
    return TrainedRun(
        method=name_rule(cli.trainer),
        data=data,
        seed=seed if isinstance(seed, int) else None,
        step=origin.step,
        metrics=_read_metrics(origin),
        configuration=read_config_text(checkpoint, weights_only),
        sources=facts,
    )


def _read_metrics(origin: Origin) -> dict[str, float]:
    """Metrics of the run that are the model's own, with their last values up to the step of the checkpoint.

    Those of a run that MLflow does not have are left out, with a warning.
    """
    if origin.run_id is None:
        return {}
    try:
        store = MLflowLogger(origin.config.get("tracking.uri")).store
        if store.is_new:
            raise SettingError(f"there is no {store.shown}: go to the folder of the run, or set {URI_VARIABLE}")
        with store.told():
            store.check()
            return _metrics_at(store.client, origin.run_id, origin.step)
    except SettingError as error:
        rank_zero_warn(f"the model card has no metrics: {error}")
        return {}


def _metrics_at(client: MlflowClient, run_id: str, step: int) -> dict[str, float]:
    names = [name for name in client.get_run(run_id).data.metrics if not name.startswith(LIBRARY_METRICS)]
    values = {}
    for name in sorted(names):
        history = [metric for metric in client.get_metric_history(run_id, name) if metric.step <= step]
        if history:
            values[name] = max(history, key=lambda metric: metric.step).value
    return values

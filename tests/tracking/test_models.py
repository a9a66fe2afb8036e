"""Models and data sets as MLflow's entities, once; here a model is any folder in MLflow's format."""

import json
import shutil

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from psn_lightning.tracking import MLflowLogger
from psn_lightning.tracking.models import MLMODEL
from psn_lightning.tracking.outbox import Outbox
from psn_lightning.tracking.sender import Delivery, Sender
from psn_lightning.tracking.writer import RunWriter


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model" / "data").mkdir(parents=True)
    (tmp_path / "model" / "data" / "weights").write_text("w")
    Model().save(str(tmp_path / "model" / MLMODEL))
    return tmp_path / "model"


def logged(**settings):
    """A finished run with metrics of three evaluations and a data set."""
    logger = MLflowLogger(run_name="a/b", **settings)
    logger.log_dataset("Digits", "d" * 64, "/data")
    for step, value in ((10, 0.5), (20, 0.9), (30, 0.7)):
        logger.log_metrics({"val/accuracy": value}, step)
    logger.finalize()
    return logger


def models(client, logger):
    return client.search_logged_models([client.get_run(logger.run).info.experiment_id])


@pytest.mark.parametrize(("step", "value"), [(20, 0.9), (25, 0.9), (30, 0.7), (5, 0.5)])
def test_a_model_with_its_metric_and_its_data(client, folder, step, value):
    logger = logged()
    logger.log_model(folder, step, ["val/accuracy"])
    (model,) = models(client, logger)
    assert (model.name, model.status, model.source_run_id) == ("a-b", "READY", logger.run)
    (metric,) = model.metrics
    assert (metric.key, metric.value, metric.dataset_name) == ("val/accuracy", value, "Digits")
    run = client.get_run(logger.run)
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    (data,) = run.inputs.dataset_inputs
    assert json.loads(data.dataset.source) == {"uri": "/data"}
    assert run.info.status == "FINISHED"
    assert len(client.get_metric_history(logger.run, "val/accuracy")) == 3
    found = mlflow.artifacts.download_artifacts(model.artifact_location)
    assert Model.load(found).model_id == model.model_id


def test_a_metric_that_the_store_does_not_have_is_left_out(client, folder):
    logger = logged()
    logger.log_model(folder, 30, ["val/refused", "val/accuracy"])
    (model,) = models(client, logger)
    assert model.status == "READY"
    assert [metric.key for metric in model.metrics] == ["val/accuracy"]


def test_each_fit_is_a_new_version_and_the_alias_moves(client, folder):
    for _ in range(2):
        last = logged(register="net", alias="champion")
        last.log_model(folder, 30, [])
    assert len(client.search_model_versions("name = 'net'")) == 2
    newest = client.get_model_version_by_alias("net", "champion")
    assert str(newest.version) == "2"
    (model,) = [model for model in models(client, last) if model.source_run_id == last.run]
    assert (newest.run_id, newest.source) == (last.run, model.artifact_location)
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "net", "version": "2"}]  # its page shows that


def test_an_operation_that_was_cut_off_is_finished_once(client, folder, monkeypatch):
    logger = logged()
    archive = shutil.make_archive(str(folder.parent / "m"), "zip", folder)
    content = {"key": "k", "name": "n", "step": 30, "metrics": ["val/accuracy"], "register": "net", "alias": "a"}
    operations = ("log_model_artifacts", "log_batch", "finalize_logged_model", "create_model_version")
    for cut_off in (*operations, "set_logged_model_tags", "set_registered_model_alias"):
        with monkeypatch.context() as patch:

            def fail(*_, **__):
                raise MlflowException("away")

            patch.setattr(mlflow.MlflowClient, cut_off, fail)
            with pytest.raises(MlflowException, match="away"):
                RunWriter(client, logger.run).model(file=archive, **content)
    for _ in range(2):
        RunWriter(client, logger.run).model(file=archive, **content)
    (model,) = models(client, logger)
    assert model.status == "READY"
    assert len(json.loads(model.tags["mlflow.modelVersions"])) == 1
    assert len(client.search_model_versions("name = 'net'")) == 1
    assert len(client.get_run(logger.run).outputs.model_outputs) == 1


def test_an_outbox_keeps_a_model_until_it_is_sent(database, outbox, run_id, client, folder):
    shutil.make_archive(str(folder.parent / "m"), "zip", folder)
    content = {"key": "k", "name": "n", "step": 1, "metrics": [], "register": "net", "alias": None}
    outbox.put("dataset", name="Digits", digest="d", source="/data")
    outbox.put_model(folder.parent / "m.zip", **content)
    (folder.parent / "m.zip").unlink()
    outbox.close()
    again = Outbox(outbox.path)
    assert again.left() == {"dataset": 1, "model": 1}
    delivery = Delivery(database, again)
    while delivery.send_next():
        pass
    again.close()
    assert not outbox.path.exists()
    assert not outbox.path.with_suffix("").exists()
    (model,) = client.search_logged_models([client.get_run(run_id).info.experiment_id])
    assert model.status == "READY"
    assert len(client.search_model_versions("name = 'net'")) == 1


def test_a_server_that_was_away_at_the_end_of_the_run_is_not_waited_for_twice(workdir, folder, monkeypatch):
    monkeypatch.setattr("psn_lightning.tracking.sender._PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr("psn_lightning.tracking.sender._SHORT_PATIENCE_SECONDS", 0.1)
    waits = []
    close = Sender.close
    monkeypatch.setattr(Sender, "close", lambda self, was_away=False: (waits.append(was_away), close(self, was_away)))
    logger = logged(uri="http://127.0.0.1:9", on_error="queue")
    logger.log_model(folder, 30, [])
    assert waits == [False, True]
    left = Outbox(logger.undelivered)
    assert left.left()["model"] == 1
    left.close()

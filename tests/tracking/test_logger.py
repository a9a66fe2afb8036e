import os
from pathlib import Path

import pytest
from lightning.pytorch.loggers import Logger

from psn_lightning.errors import SettingError
from psn_lightning.tracking import MLflowLogger


@pytest.fixture
def tracking(workdir):
    return MLflowLogger(experiment="e", run_name="r", tags={"k": "v"})


def test_defaults_live_under_mlruns(tracking, client, workdir):
    tracking.start()
    run = client.get_run(tracking.run_id)
    assert run.info.run_name == "r"
    assert run.data.tags["k"] == "v"
    assert run.info.artifact_uri.startswith((workdir / "mlruns" / "artifacts").as_uri())


def test_environment_names_the_store(workdir, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///elsewhere/mlflow.db")
    assert MLflowLogger().store.uri == "sqlite:///elsewhere/mlflow.db"
    assert MLflowLogger(uri="sqlite:///mlruns/mlflow.db").store.uri == "sqlite:///mlruns/mlflow.db"


def test_metrics_are_sent_in_batches_and_all_arrive(tracking, client, monkeypatch):
    calls = []
    log_batch = type(tracking.client).log_batch
    monkeypatch.setattr(
        type(tracking.client), "log_batch", lambda *a, **k: (calls.append(len(k["metrics"])), log_batch(*a, **k))
    )
    for step in range(2500):
        tracking.log_metrics({"a": step / 7, "epoch": 1.0}, step=step)
    tracking.finalize("success")
    assert len(calls) <= 4
    history = client.get_metric_history(tracking.run_id, "a")
    assert [m.step for m in history] == list(range(2500))
    assert history[3].value == 3 / 7
    assert client.get_run(tracking.run_id).info.status == "FINISHED"
    assert "epoch" not in client.get_run(tracking.run_id).data.metrics


def test_metrics_do_not_wait_for_ever(tracking, client, monkeypatch):
    tracking.log_metrics({"a": 1.0}, step=0)
    assert client.get_metric_history(tracking.run_id, "a") == []
    monkeypatch.setattr(tracking._buffer, "_emptied", tracking._buffer._emptied - 60)
    tracking.log_metrics({"a": 2.0}, step=1)
    assert len(client.get_metric_history(tracking.run_id, "a")) == 2


def test_long_parameters_are_kept_in_full(tracking, client, workdir):
    tracking.log_hyperparams({"short": 1, "long": "x" * 7000} | {f"p{i}": i for i in range(150)})
    tracking.hand_over()
    params = client.get_run(tracking.run_id).data.params
    assert params["short"] == "1"
    assert params["p149"] == "149"
    assert params["long"] == "7000 characters, in the artifact params/long.txt"
    path = client.download_artifacts(tracking.run_id, "params/long.txt", str(workdir))
    assert Path(path).read_text() == "x" * 7000


def test_a_failed_run_is_marked(tracking, client):
    tracking.start()
    tracking.finalize("failed")
    assert client.get_run(tracking.run_id).info.status == "FAILED"


def test_folders_are_refused_with_the_remedy(workdir):
    for uri in ("file:/tmp/x", "file:///tmp/x", "/tmp/x"):
        with pytest.raises(SettingError, match=r"use sqlite:////tmp/x/mlflow\.db"):
            MLflowLogger(uri=uri)


def test_a_server_that_is_away_is_named_at_once(workdir):
    with pytest.raises(SettingError, match=r"tracking\.uri 'http://127\.0\.0\.1:9' cannot be used"):
        MLflowLogger(uri="http://127.0.0.1:9").start()


def test_the_environment_is_left_as_it_was(tracking, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other/mlflow.db")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    before = _environment()
    tracking.start()
    MLflowLogger(uri="http://127.0.0.1:9")
    assert _environment() == before


def _environment():
    """Variables but for MLflow's own mark of a session."""
    return {key: value for key, value in os.environ.items() if not key.startswith("_MLFLOW")}


def test_looking_at_the_client_starts_no_run(tracking, client):
    _ = tracking.client
    assert client.get_experiment_by_name("e") is None


def test_it_is_a_lightning_logger(tracking):
    assert isinstance(tracking, Logger)
    assert tracking.save_dir == "mlruns"


def test_metrics_are_in_a_local_store_after_a_flush(tracking, client):
    """A checkpoint calls it: a kill after that loses nothing."""
    tracking.log_metrics({"a": 1.0}, step=0)
    tracking.flush()
    assert [m.value for m in client.get_metric_history(tracking.run_id, "a")] == [1.0]
    assert not Path("mlruns/outbox").exists()


def test_a_run_that_is_under_way_in_another_process_is_not_resumed(tracking, client, monkeypatch):
    tracking.start()
    again = MLflowLogger(experiment="e")
    again.resume(tracking.run_id, 3)
    monkeypatch.setattr("psn_lightning.tracking.run.is_alive_elsewhere", lambda text: '"pid"' in text)
    with pytest.raises(SettingError, match=f"run {tracking.run_id} is under way"):
        again.start()


def test_links_are_logged_as_what_they_point_to(tracking, client, workdir):
    (workdir / "last.ckpt").write_text("weights")
    (workdir / "files" / "deep").mkdir(parents=True)
    (workdir / "files" / "deep" / "link.ckpt").symlink_to(workdir / "last.ckpt")
    tracking.log_artifacts(workdir / "files")
    path = client.download_artifacts(tracking.run_id, "deep/link.ckpt", str(workdir))
    assert Path(path).read_text() == "weights"


def test_names_that_mlflow_does_not_allow_are_changed_in_metrics_and_parameters(tracking, client):
    with pytest.warns(UserWarning, match="top@5"):
        tracking.log_metrics({"top@5": 0.5}, step=0)
    tracking.log_hyperparams({"top@5": 1})
    tracking.finalize("success")
    run = client.get_run(tracking.run_id)
    assert (run.data.metrics, run.data.params) == ({"top_5": 0.5}, {"top_5": "1"})

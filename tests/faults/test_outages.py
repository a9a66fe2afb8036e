"""MLflow goes away, comes back, hangs, or is not there at all: the run does not care, and nothing is lost."""

import csv
import re
import sqlite3
from contextlib import closing

import mlflow
import pytest
from mlflow import MlflowClient

from psn_lightning.data import Digits
from tests.conftest import CONF
from tests.faults.running import (
    FIT,
    artifacts,
    assert_same_end,
    checkpoints,
    finished,
    history,
    start,
    step_of,
    store_of,
    wait_until,
)

EPOCHS = 60
LONG = [*FIT, f"--trainer.max_epochs={EPOCHS}", "--data.init_args.batch_size=16"]
LAST = EPOCHS * 90  # 1437 rows in batches of 16
FILES = {"config.yaml", "fan_in_before_after.png", "equilibrium.png", "connectivity/fc1.npz", "connectivity/fc2.npz"}
FILES |= {"checkpoints/best.ckpt", "checkpoints/last.ckpt"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    finished(start(folder, *LONG))
    return folder


def assert_complete(server, undisturbed, folder):
    (metrics, run), (expected, _) = history(server.uri), history(store_of(undisturbed))
    assert metrics == expected
    assert run.info.status == "FINISHED"
    assert artifacts(server.uri, run) == FILES
    assert run.data.params["model.sparsity"] == "0.9"
    assert run.data.tags["dataset.name"] == "Digits"
    assert_same_end(undisturbed, folder)
    assert not list(folder.glob("mlruns/outbox/*"))
    return run


def test_killed_and_restarted_three_times(server, tmp_path):
    """The server takes some ten seconds to come back, so the run must be long."""
    undisturbed, longer = tmp_path / "undisturbed", [*LONG, f"--trainer.max_epochs={5 * EPOCHS}"]
    undisturbed.mkdir()
    finished(start(undisturbed, *longer))
    process = start(tmp_path, *longer, MLFLOW_TRACKING_URI=server.uri)
    for fifth in (1, 2, 3):
        wait_until(lambda fifth=fifth: step_of(tmp_path) >= fifth * LAST, process)
        server.end()
        gone_at = step_of(tmp_path)
        wait_until(lambda gone_at=gone_at: step_of(tmp_path) >= gone_at + 180, process)  # it trains on
        server.begin()
    printed = finished(process)
    assert f"MLflow at {server.uri} is unavailable" in printed
    assert "training continues" in printed
    assert f"MLflow at {server.uri} is back" in printed
    assert "MLflow run" in printed
    assert_complete(server, undisturbed, tmp_path)


def test_away_until_after_the_end(server, undisturbed, tmp_path):
    process = start(tmp_path, *LONG, MLFLOW_TRACKING_URI=server.uri)
    wait_until(lambda: step_of(tmp_path) >= 90, process)
    server.end()
    printed = finished(process)
    assert "psn-train sync" in printed
    (outbox,) = tmp_path.glob("mlruns/outbox/*.db")
    assert str(outbox.relative_to(tmp_path)) in printed
    assert f"tracking.uri '{server.uri}' cannot be used" in finished(start(tmp_path, "sync"), code=2)
    assert outbox.exists()
    server.begin()
    assert re.search(r"Run \w{32} in http://.*: [\d]+ metrics", finished(start(tmp_path, "sync")))
    assert_complete(server, undisturbed, tmp_path)


def test_a_server_that_hangs_does_not_hold_a_step_up(server, undisturbed, tmp_path):
    process = start(tmp_path, *LONG, MLFLOW_TRACKING_URI=server.uri)
    wait_until(lambda: step_of(tmp_path) >= 90, process)
    server.hang()
    try:
        wait_until(lambda: step_of(tmp_path) == LAST, process)  # all of the training without one answer
    finally:
        server.wake()
    finished(process)
    assert_complete(server, undisturbed, tmp_path)


def test_away_at_the_start_fails_early(tmp_path):
    printed = finished(start(tmp_path, *LONG, MLFLOW_TRACKING_URI="http://127.0.0.1:9"), code=2)
    assert "tracking.uri 'http://127.0.0.1:9' cannot be used" in printed
    assert not checkpoints(tmp_path)


def test_away_at_the_start_and_all_the_time(server, undisturbed, tmp_path):
    """Stopped and continued without the store, synchronised, and found again when it is there."""
    server.end()
    queueing = [*LONG, "--tracking.on_error=queue", "--tracking.run_name=r"]
    environment = {"MLFLOW_TRACKING_URI": server.uri}
    process = start(tmp_path, *queueing, **environment)
    wait_until(lambda: step_of(tmp_path) >= 90, process)
    process.kill()
    process.communicate()
    printed = finished(start(tmp_path, *queueing, "--ckpt_path=last", **environment))
    assert "psn-train sync" in printed
    server.begin()
    finished(start(tmp_path, "sync"))
    run = assert_complete(server, undisturbed, tmp_path)
    assert run.info.run_name == "r"
    assert run.data.tags["offline_id"].startswith("offline-")
    assert int(run.data.tags["resumed_at"]) >= 90
    printed = finished(start(tmp_path, *LONG, "--tracking.run_name=r", "--ckpt_path=last", **environment))
    assert history(server.uri)[0] == history(store_of(undisturbed))[0]  # nothing was left to do, and nothing came twice


def test_begun_without_the_store_which_comes_meanwhile(server, undisturbed, tmp_path):
    server.end()
    queueing = [*LONG, "--tracking.on_error=queue"]
    process = start(tmp_path, *queueing, MLFLOW_TRACKING_URI=server.uri)
    wait_until(lambda: step_of(tmp_path) >= 90, process)
    server.begin()
    finished(process)
    assert_complete(server, undisturbed, tmp_path)


WIDE = [*FIT, "--trainer.max_epochs=3", "--model.hidden=[2048,2048]", "--tracking.model=last"]
REGISTERED = ["--tracking.register=digits", "--tracking.alias=champion"]
MOMENTS = {
    "the run is complete, the model is not there": "SELECT 1 FROM runs WHERE status = 'FINISHED'",
    "half of the model is there": "SELECT 1 FROM logged_models",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_away_while_the_model_is_handed_over(moment, server, tmp_path):
    def is_there():
        with closing(sqlite3.connect(f"file:{server.folder}/mlflow.db?mode=ro", uri=True)) as database:
            return bool(database.execute(MOMENTS[moment]).fetchall())

    process = start(tmp_path, *WIDE, *REGISTERED, MLFLOW_TRACKING_URI=server.uri)
    wait_until(is_there, process)
    server.end()
    printed = finished(process)
    assert re.search("did not receive .*1 model", printed)  # or its end, too: that answer may have been lost
    assert "Not all of the run is in MLflow yet" in printed
    assert step_of(tmp_path) == 69
    server.begin()
    assert "1 model" in finished(start(tmp_path, "sync"))
    assert "nothing to send" in finished(start(tmp_path, "sync"))
    metrics, run = history(server.uri)
    assert run.info.status == "FINISHED"
    assert artifacts(server.uri, run) == FILES
    assert [step for step, _ in metrics["test/accuracy"]] == [22, 45, 68]
    client = MlflowClient(server.uri)
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert (model.status, model.source_run_id) == ("READY", run.info.run_id)
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    assert {metric.key: metric.value for metric in model.metrics} == {
        key: metrics[key][-1][1] for key in ("test/accuracy", "test/loss")
    }
    (version,) = client.search_model_versions("name = 'digits'")
    assert client.get_model_version_by_alias("digits", "champion").version == version.version
    assert_predicts_alike(server, tmp_path)


def assert_predicts_alike(server, folder):
    """The model of the server has the classes of ``psn-train predict``."""
    finished(start(folder, "predict", *WIDE[1:], "--ckpt_path=last", MLFLOW_TRACKING_URI=server.uri))
    with (folder / "predictions.csv").open(newline="") as file:
        expected = [int(row["predicted"]) for row in csv.DictReader(file)]
    data = Digits()
    data.setup()
    mlflow.set_tracking_uri(server.uri)
    loaded = mlflow.pyfunc.load_model("models:/digits@champion")
    logits = [loaded.predict(rows.numpy()) for rows, _ in data.predict_dataloader()]
    assert [int(label) for part in logits for label in part.argmax(axis=1)] == expected


def test_a_sweep_during_an_outage(server, tmp_path):
    """Also where one trial ends during it, and the next one asks whether it was begun before."""
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(
        f"name: away\nbase: [{CONF / 'quickstart.yaml'}]\nspace: {{model.lr: [0.001, 0.002, 0.003]}}\nsampler: grid\n"
        "objective: test/accuracy\nsettings: {trainer.max_epochs: 40, trainer.enable_model_summary: false}\n"
    )
    process = start(tmp_path, "sweep", "--config", str(sweep), MLFLOW_TRACKING_URI=server.uri)
    wait_until(lambda: step_of(tmp_path) >= 90, process)
    server.end()
    logs = tmp_path / "mlruns" / "studies"
    wait_until(lambda: any("Retrying for" in path.read_text() for path in logs.rglob("*.log")), process)
    server.begin()
    printed = finished(process)
    assert "3 complete, 0 pruned, 0 failed" in printed
    if "psn-train sync" in printed:  # the first trial's end was given up after a minute
        finished(start(tmp_path, "sync"))
    client = MlflowClient(server.uri)
    runs = client.search_runs([client.get_experiment_by_name("psn_lightning").experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 4  # the study's, and three trials'
    assert all(len(client.get_metric_history(run.info.run_id, "test/accuracy")) == 40 for run in runs[:3])

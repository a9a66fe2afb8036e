"""The newest checkpoint of the newest run is found wherever it is: known to the store, or only to an outbox."""

import time

import pytest

from psn_lightning.checkpoints.signals import StopRequest
from psn_lightning.cli import main
from psn_lightning.tracking.sender import Delivery
from psn_lightning.tracking.store import Store, StoreAwayError
from tests.conftest import CONF, QUIET

FIT = [
    "fit",
    "--config",
    str(CONF / "quickstart.yaml"),
    *QUIET,
    "--data.init_args.batch_size=96",
    "--trainer.callbacks.init_args.period=7",
]
QUEUE = [*FIT, "--tracking.on_error=queue"]


def away(store):
    raise StoreAwayError("away")


@pytest.fixture
def _database(workdir, monkeypatch):
    """The store is reached like a server's database: what is logged goes through an outbox."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite+pysqlite:///{workdir}/mlruns/mlflow.db")


@pytest.fixture
def outage(monkeypatch, _database):
    """A run that begins while the store is away, and is stopped after its first epoch."""

    def stopped():
        with monkeypatch.context() as patch:
            patch.setattr(Store, "check", away)
            patch.setattr(Delivery, "send_next", away)
            patch.setattr("psn_lightning.tracking.sender._PATIENCE_SECONDS", 0.1)
            patch.setattr(StopRequest, "is_requested", lambda self, trainer, exchange=False: trainer.global_step >= 20)
            assert main([*QUEUE, "--trainer.max_epochs=3"]) == 143

    return stopped


def runs(client):
    return client.search_runs([e.experiment_id for e in client.search_experiments()])


def test_one_that_the_store_does_not_know_goes_on_and_not_an_older_one_that_it_knows(outage, workdir, client, capsys):
    assert main([*FIT, "--trainer.max_epochs=1"]) == 0
    time.sleep(0.01)
    outage()
    (folder,) = workdir.glob("mlruns/offline/offline-*/checkpoints")
    again = [*QUEUE, "--trainer.max_epochs=3", "--ckpt_path=last"]
    assert main(again) == 0
    found = [run for run in runs(client) if "offline_id" in run.data.tags]
    assert len(found) == 1
    assert len(runs(client)) == 2
    assert found[0].info.status == "FINISHED"
    assert [m.step for m in client.get_metric_history(found[0].info.run_id, "test/accuracy")][-1] == 44
    places = set(workdir.glob("mlruns/*/*/checkpoints"))
    assert folder in places  # where it has begun; in another one, Lightning would forget which was the best
    assert len(places) == 2
    assert not list(workdir.glob("mlruns/outbox/*"))
    assert main(again) == 0  # now that it has an id of its own
    assert len(runs(client)) == 2
    assert set(workdir.glob("mlruns/*/*/checkpoints")) == places


@pytest.mark.usefixtures("_database")
def test_a_damaged_outbox_is_in_nobodys_way(workdir, capsys):
    folder = workdir / "mlruns" / "outbox"
    folder.mkdir()
    (folder / "x.db").write_bytes(b"garbage" * 100)
    assert main([*FIT, "--ckpt_path=last"]) == 2
    assert "there is no training run" in capsys.readouterr().err

"""Runs and outboxes of them in a store that is reached like a server's database, but is a file."""

import pytest

from psn_lightning.tracking.outbox import Outbox, QueuedRun
from psn_lightning.tracking.store import Store
from psn_lightning.tracking.writer import ensure_experiment


@pytest.fixture
def database(workdir):
    """A store that is no local one for us: what is logged to it goes through an outbox."""
    store = Store(f"sqlite+pysqlite:///{workdir}/mlruns/mlflow.db")
    assert store.file is None
    return store


@pytest.fixture
def run_id(database):
    """A run in it."""
    return database.client.create_run(ensure_experiment(database, "e")).info.run_id


@pytest.fixture
def outbox(database, run_id):
    """The run's outbox."""
    return Outbox(database.home / "outbox" / f"{run_id}.db", QueuedRun(database.uri, "e", run_id, None, {}, 0, None))


@pytest.fixture
def offline(database):
    """The outbox of a run that began while the store was away."""
    run = QueuedRun(database.uri, "e", None, "r1", {"t": "1"}, 77, "offline-1")
    return Outbox(database.home / "outbox" / "offline-1.db", run)

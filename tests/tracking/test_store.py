"""The store: what it says of errors, and runs whose process has died."""

import json

import pytest
from mlflow.exceptions import MlflowException, RestException

from psn_lightning.errors import SettingError
from psn_lightning.tracking.processes import identity
from psn_lightning.tracking.store import PROCESS_TAG, Store, StoreAwayError, patiently
from psn_lightning.tracking.writer import ensure_experiment

SERVER = "http://127.0.0.1:9"


def test_a_local_store_has_its_folders_beside_its_file(workdir):
    store = Store("sqlite:///a/b.db")
    assert (str(store.home), store.artifacts) == ("a", (workdir / "a" / "artifacts").as_uri())
    assert (store.is_new, Store(None).is_new) == (True, False)


@pytest.mark.parametrize("uri", [SERVER, "postgresql+psycopg://me:secret@host/db", "sqlite+pysqlite:///a/b.db"])
def test_any_other_store_has_them_in_mlruns(uri):
    store = Store(uri)
    assert (str(store.home), store.artifacts, store.file, store.is_new) == ("mlruns", None, None, False)
    assert "secret" not in store.shown


def raised(store, error):
    with pytest.raises(SettingError) as told, store.told():
        raise error
    return told.value


def mlflow_error(code, kind=MlflowException):
    return kind({"message": "why", "error_code": code}) if kind is RestException else kind("why", error_code=code)


@pytest.mark.parametrize("error", [ConnectionError("why"), mlflow_error(1)])
def test_a_store_that_does_not_answer_is_away(error):
    told = raised(Store(SERVER), error)
    assert isinstance(told, StoreAwayError)
    assert f"tracking.uri '{SERVER}'" in str(told)
    assert "why" in str(told)


def test_a_refusal_is_final():
    told = raised(Store(SERVER), mlflow_error("RESOURCE_DOES_NOT_EXIST", RestException))
    assert not isinstance(told, StoreAwayError)
    assert "why" in str(told)


def test_a_missing_driver_is_final():
    assert not isinstance(raised(Store("mysql://host/db"), ImportError("no driver")), StoreAwayError)


def test_a_login_that_is_wanted_is_named():
    told = raised(Store(SERVER), mlflow_error("UNAUTHENTICATED", RestException))
    assert "MLFLOW_TRACKING_PASSWORD" in str(told)


def test_only_a_servers_own_answer_is_a_refusal():
    """A proxy before a server that is away may answer 404; a database has no proxy."""
    by_proxy = MlflowException("404")
    by_proxy.error_code = "RESOURCE_DOES_NOT_EXIST"
    assert not Store(SERVER).has_refused(by_proxy)
    assert Store(None).has_refused(by_proxy)


def test_runs_whose_process_has_died_are_marked(workdir):
    store, mine = Store(None), identity()
    experiment = ensure_experiment(store, "e")
    dead = {**mine, "started": mine["started"] - 100}
    tags = {"alive": json.dumps(mine), "dead": json.dumps(dead), "odd": "{nothing", "other": "{}"}
    runs = {
        name: store.client.create_run(experiment, tags={PROCESS_TAG: tag}).info.run_id for name, tag in tags.items()
    }
    runs["untagged"] = store.client.create_run(experiment).info.run_id
    store.mark_killed([experiment])
    found = {name: store.client.get_run(run_id) for name, run_id in runs.items()}
    assert {name: run.info.status for name, run in found.items()} == {
        **dict.fromkeys(runs, "RUNNING"),
        "dead": "KILLED",
    }
    assert f"process {mine['pid']} died" in found["dead"].data.tags["killed"]


def test_a_store_that_is_away_is_retried_until_a_time_limit(monkeypatch):
    monkeypatch.setattr("psn_lightning.tracking.store._PAUSE_SECONDS", 0.01)
    tries = []

    def back_at_the_third():
        tries.append(1)
        if len(tries) < 3:
            raise StoreAwayError("away")
        return "back"

    assert patiently(back_at_the_third, 60) == "back"

    def never():
        raise StoreAwayError("away")

    with pytest.raises(StoreAwayError, match="away"):
        patiently(never, 0.05)

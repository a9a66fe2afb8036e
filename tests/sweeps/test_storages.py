import time

import optuna
import pytest
from optuna.storages import JournalStorage, RDBStorage

from psn_lightning.errors import SettingError
from psn_lightning.sweeps.storages import journal_of, open_storage, refuse_shared


def test_without_an_address_it_is_a_journal_below_mlruns(workdir):
    assert isinstance(open_storage(None, "mine"), JournalStorage)
    optuna.create_study(storage=open_storage(None, "mine"), study_name="mine")
    assert (workdir / "mlruns" / "studies" / "mine.journal").is_file()
    assert optuna.load_study(storage=open_storage(None, "mine"), study_name="mine").study_name == "mine"


def test_with_an_address_it_is_a_database(workdir):
    assert isinstance(open_storage(f"sqlite:///{workdir}/optuna.db", "mine"), RDBStorage)


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("mysql+nothing://host/x", "cannot be used"),
        ("no address", "cannot be used"),
        ("postgresql+psycopg://me:secret@127.0.0.1:1/x", "postgresql+psycopg://me:***@127.0.0.1:1/x cannot be used"),
    ],
)
def test_a_database_that_is_of_no_use_is_named_without_its_password(workdir, storage, message):
    with pytest.raises(SettingError) as refused:
        open_storage(storage, "mine")
    assert message in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_journal_that_cannot_be_written_is_named(workdir):
    (workdir / "mlruns" / "studies").write_text("in the way")
    with pytest.raises(SettingError, match=f"the journal {journal_of('mine')} cannot be written"):
        open_storage(None, "mine")


@pytest.mark.parametrize("left", ["{", '{"op_code": 4, "wor', '{"op_code": 4}'])
def test_a_line_that_a_full_disk_cut_is_in_nobodys_way(workdir, left):
    """Optuna alone would write on behind it, and could not read any of it again."""
    study = optuna.create_study(storage=open_storage(None, "mine"), study_name="mine")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    with journal_of("mine").open("a") as file:
        file.write(left)
    again = optuna.load_study(storage=open_storage(None, "mine"), study_name="mine")
    again.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    assert len(optuna.load_study(storage=open_storage(None, "mine"), study_name="mine").trials) == 5


@pytest.mark.parametrize(
    ("storage", "tracking"),
    [
        ("sqlite:///mlruns/mlflow.db", "sqlite:///mlruns/mlflow.db"),
        ("sqlite:///./mlruns/../mlruns/mlflow.db", "sqlite:///mlruns/mlflow.db"),
        ("sqlite+pysqlite:///mlruns/mlflow.db", "sqlite:///mlruns/mlflow.db"),
        ("postgresql://psn:a@localhost/one", "postgresql+psycopg2://other:b@127.0.0.1:5432/one"),
    ],
)
def test_one_database_for_both_is_refused_however_it_is_spelled(workdir, storage, tracking):
    with pytest.raises(SettingError, match="would break each other's"):
        refuse_shared(storage, tracking)


@pytest.mark.parametrize(
    ("storage", "tracking"),
    [
        (None, "sqlite:///mlruns/mlflow.db"),
        ("sqlite:///mlruns/optuna.db", "sqlite:///mlruns/mlflow.db"),
        ("postgresql://psn@localhost/one", "postgresql://psn@localhost/two"),
        ("postgresql://psn@localhost:5432/one", "postgresql://psn@localhost:5433/one"),
        ("postgresql://psn@here/one", "http://here:5000"),
    ],
)
def test_databases_of_their_own_are_taken(workdir, storage, tracking):
    refuse_shared(storage, tracking)


def test_the_lock_of_a_process_that_was_killed_is_broken(workdir):
    """A relative link would dangle, and Optuna would wait for ever."""
    optuna.create_study(storage=open_storage(None, "mine"), study_name="mine")
    left = journal_of("mine").with_suffix(".journal.lock")
    storage = open_storage(None, "mine")
    lock = storage._backend._lock
    assert lock.acquire()  # and is never released
    assert left.is_symlink()
    other = open_storage(None, "mine")
    other._backend._lock.grace_period = 0.5
    began = time.monotonic()
    optuna.create_study(storage=other, study_name="next")
    assert 0.5 <= time.monotonic() - began < 20

"""The newest run of a store; outboxes and checkpoints: tests/commands/test_newest_checkpoint.py."""

import time

import pytest

from psn_lightning.errors import SettingError
from psn_lightning.tracking import MLflowLogger
from psn_lightning.tracking.newest import find_newest_run, read_logged_config
from psn_lightning.tracking.store import Store, StoreAwayError


def away(store):
    raise StoreAwayError("away")


def start_run(stage, name="mine"):
    tracking = MLflowLogger(run_name=name)
    tracking.add_tags({"stage": stage})
    tracking.start()
    time.sleep(0.01)
    return tracking


def test_the_newest_training_run_of_the_name_is_found(workdir):
    """Also one that was killed before it logged anything: the stage is among the first tags."""
    logger = MLflowLogger(run_name="mine")
    assert find_newest_run(logger) == ([], None)
    start_run("fit")
    newest = start_run("fit")
    start_run("test")
    start_run("fit", "other")
    ids, run = find_newest_run(logger)
    assert ids == [newest.run_id] == [run.info.run_id]
    assert logger.newest_fit().info.run_id == newest.run_id
    assert read_logged_config(logger.client, newest.run_id) is None
    newest.log_text("a: 1", "config.yaml")
    newest.finalize()
    assert read_logged_config(logger.client, newest.run_id) == "a: 1"


@pytest.mark.parametrize("on_error", ["fail", "queue"])
def test_a_local_store_that_is_away_is_named(on_error, workdir, monkeypatch):
    """Only a server is waited for."""
    monkeypatch.setattr(Store, "check", away)
    with pytest.raises(SettingError, match="away"):
        MLflowLogger(on_error=on_error).newest_fit()
    with pytest.raises(SettingError, match="away"):
        MLflowLogger(on_error=on_error).start()

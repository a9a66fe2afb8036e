"""Runs of reproductions in MLflow; what they record of real runs is tested with ``psn-train reproduce``."""

import pytest

from psn_lightning.errors import SettingError
from psn_lightning.paper.tracked_runs import from_experiment


def test_a_run_that_only_claims_to_be_of_one_is_named(client):
    run = client.create_run(client.create_experiment("mine"), tags={"reproduction": "[", "stage": "fit"})
    client.set_terminated(run.info.run_id)
    with pytest.raises(SettingError, match=f"run {run.info.run_id} of experiment mine has the tag reproduction"):
        from_experiment(None, "mine")

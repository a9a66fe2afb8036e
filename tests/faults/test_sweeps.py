"""A sweep whose command is killed."""

import psutil
from optuna.trial import TrialState

from psn_lightning.sweeps.liveness import WORKER
from tests.helpers.sweeps import assert_whole, finished, running, start, study, trials_told, uri_of
from tests.sweeps.test_command import GRID


def test_workers_end_with_their_command_and_lose_nothing(workdir):
    sweep = {**GRID, "space": {"model.sparsity": [0.8, 0.9]}, "settings": {"trainer.max_epochs": 30}, "retries": 0}
    process = start(workdir, sweep)
    trial = running(workdir, sweep)
    worker = psutil.Process(trial.user_attrs[WORKER]["pid"])
    process.kill()
    process.wait()
    worker.wait(timeout=60)
    (stopped,) = [t for t in study(workdir, sweep).get_trials() if t.number == trial.number]
    assert stopped.state == TrialState.FAIL
    assert stopped.user_attrs["reason"] == "the sweep was stopped"  # which is no fault: it may go on without a retry
    assert len(trials_told(finished(start(workdir, sweep)))) == 2
    assert_whole(workdir, sweep, 2, uri_of(workdir), died=1)

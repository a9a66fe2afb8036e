import dataclasses
import multiprocessing
import signal
import sys
import time

import pytest
from optuna.trial import TrialState

from psn_lightning.errors import SettingError
from psn_lightning.sweeps.launchers import LocalLauncher, SlurmLauncher, _gpu_of, make_launcher
from psn_lightning.sweeps.logs import read_message, trial_log
from psn_lightning.sweeps.parent import StudyRun
from psn_lightning.sweeps.supervisor import Supervisor
from psn_lightning.sweeps.sweep import Sweep
from psn_lightning.sweeps.tickets import TICKET
from tests.conftest import CONF

SWEEP = {
    "name": "small",
    "base": [str(CONF / "quickstart.yaml")],
    "space": {"model.sparsity": [0.8, 0.9]},
    "settings": {"trainer.max_epochs": 1},
    "sampler": "grid",
    "objective": "test/accuracy",
}


def begin(plan):
    StudyRun(plan, "a: 1")
    plan.tickets.fill(plan.open()[0])
    return plan


@pytest.fixture
def plan(planned):
    return begin(planned(SWEEP))


def states(plan):
    return {trial.user_attrs[TICKET]: trial.state for trial in plan.open()[0].get_trials()}


@pytest.mark.services
def test_a_process_runs_one_trial_in_the_commands_place_and_environment(plan, monkeypatch):
    """A fork server is as old as the first sweep of this process; the environment is that of now."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlruns/mlflow.db")
    launcher, until = LocalLauncher(1), time.monotonic() + 120
    worker = launcher.start(plan, 1, 0)
    while worker.exitcode is None and time.monotonic() < until:
        launcher.pause([worker], 100)  # its end ends the pause
    assert worker.exitcode == 0
    assert time.monotonic() < until - 20
    assert states(plan) == {0: TrialState.WAITING, 1: TrialState.COMPLETE}
    assert "Seed set to" in trial_log("small", 1).read_text()


@pytest.mark.services
def test_the_fork_server_has_no_threads_but_its_own():
    """What is imported ahead must not start any: a fork has none of them, and may wait for one for ever."""
    context = multiprocessing.get_context("forkserver")
    LocalLauncher(1)
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=report_state, args=(writer,))
    process.start()
    modules, threads, cuda = reader.recv()
    process.join()
    assert modules
    assert threads == ["MainThread"]
    assert not cuda


def report_state(writer):
    """Tell what a fork server has imported, before anything else is."""
    import threading

    modules = all(name in sys.modules for name in ("psn_lightning.sweeps.worker", "mlflow", "optuna"))
    cuda = modules and sys.modules["torch"].cuda.is_initialized()
    writer.send((modules, [thread.name for thread in threading.enumerate()], cuda))


def test_a_fork_server_that_dies_is_named(plan, monkeypatch):
    def die(self):
        raise EOFError("unexpected EOF")

    monkeypatch.setattr("multiprocessing.context.ForkServerProcess.start", die)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set())
    with pytest.raises(SettingError, match="memory"):
        LocalLauncher(1).start(plan, 0, 0)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, set()) == before


@pytest.mark.services
def test_a_job_runs_one_trial(plan):
    """By submitit's local executor, which starts jobs as processes."""
    one = dataclasses.replace(plan, tickets=dataclasses.replace(plan.tickets, left_out=frozenset([0])))
    state = Supervisor(one, SlurmLauncher(1, {"timeout_min": 5}, cluster="local")).run()
    assert [trial.user_attrs[TICKET] for trial in state.complete] == [1]
    assert "Seed set to" in trial_log("small", 1).read_text()


@pytest.mark.services
def test_a_job_returns_its_exit_code_and_logs_its_message(plan):
    empty = dataclasses.replace(plan, config={"seed_everything": 1})
    worker = SlurmLauncher(1, {"timeout_min": 5}, cluster="local").start(empty, 0, 0)
    worker.join()
    assert worker.exitcode == 2
    assert "model.sparsity" in read_message(trial_log("small", 0))


@pytest.mark.services
def test_a_job_that_is_cancelled_ends(planned):
    plan = begin(planned({**SWEEP, "settings": {"trainer.max_epochs": 100_000}}))  # hours
    launcher = SlurmLauncher(1, {"timeout_min": 5}, cluster="local")
    worker = launcher.start(plan, 0, 0)
    while states(plan)[0] == TrialState.WAITING:  # until then submitit's handler swallows the signal
        launcher.pause([worker], 0.1)
    assert worker.exitcode is None
    worker.terminate()
    worker.join()
    worker._job._results_timeout_s = 0  # that submitit waits for a slow file system
    assert worker.exitcode in {1, 143}  # 1 where submitit's controller ends before it has read the code


def test_parameters_of_jobs_are_checked(plan):
    with pytest.raises(SettingError, match="partitoin"):
        SlurmLauncher(1, {"slurm_partitoin": "gpu"}, cluster="local").start(plan, 0, 0)


def test_a_machine_without_slurm_is_named(plan, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SettingError, match="srun"):
        SlurmLauncher(1, {}).start(plan, 0, 0)


def test_without_submitit_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    sweep = Sweep("x", ["base"], {"model.lr": [0.1]}, launcher="slurm", sampler="grid", storage="postgresql://x/y")
    with pytest.raises(SettingError, match=r"psn_lightning\[slurm\]"):
        make_launcher(sweep)


def test_gpus_are_given_in_turn(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert [_gpu_of(slot)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == ["3", "5", "3"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert _gpu_of(0) == {}

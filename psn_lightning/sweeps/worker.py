"""A worker: a process that runs one trial of a study. Its exit code is that of ``psn-train fit``."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import optuna
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from psn_lightning.commands.exit_codes import STOPPED, report_error
from psn_lightning.errors import compact
from psn_lightning.sweeps.liveness import start_heartbeat
from psn_lightning.sweeps.logs import redirect_output, trial_log
from psn_lightning.sweeps.plan import Plan
from psn_lightning.sweeps.storages import silence_optuna
from psn_lightning.sweeps.tickets import fail_trial, requeue
from psn_lightning.sweeps.trials import run_trial

DONE = 0
"""Exit code: the trial is complete or pruned, or another worker has claimed it."""

FAILED = 1
"""Exit code: the trial failed; as of any Python process that an exception ends."""


class StopHandler:
    """Handler of SIGTERM that ends a run, but never what is written to the study afterwards.

    While the network trains, the handler of ``psn-train fit`` takes its place and lets the step finish.
    """

    def __init__(self) -> None:
        self._asked = False
        self._running = False

    def __call__(self, *_: object) -> None:
        """Handle the signal."""
        self._asked = True
        if self._running:
            raise SIGTERMException("the sweep was stopped")

    @contextmanager
    def interrupt_run(self) -> Iterator[None]:
        """Context of the code that the signal may interrupt.

        Raises:
            SIGTERMException: If the signal arrives now, or did before.
        """
        self._running = True
        try:
            if self._asked:
                raise SIGTERMException("the sweep was stopped")
            yield
        finally:
            self._running = False


def start_local(plan: Plan, ticket: int, n_threads: int, environment: Mapping[str, str]) -> None:
    """Run a trial in a process of this machine, and exit with its code.

    Args:
        plan: Study of the trial.
        ticket: Ticket of the trial.
        n_threads: Number of torch's threads.
        environment: Environment variables of the process; a fork server has those of the time when it was started.
    """
    os.setpgrp()  # Ctrl-C reaches the command alone, which stops its workers in turn
    os.environ.clear()
    os.environ.update(environment)
    redirect_output(trial_log(plan.name, ticket))
    torch.set_num_threads(n_threads)
    sys.exit(run_ticket(plan, ticket))


def start_job(plan: Plan, ticket: int) -> int:
    """Run a trial in a job of a cluster.

    Args:
        plan: Study of the trial.
        ticket: Ticket of the trial.

    Returns:
        Exit code of the worker.
    """
    # Slurm sends it, by submitit's order, before the time is over or the node is taken away.
    signal.signal(signal.SIGUSR2, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    redirect_output(trial_log(plan.name, ticket))
    return run_ticket(plan, ticket)


def run_ticket(plan: Plan, ticket: int) -> int:
    """Claim the waiting trial of a ticket, run it in this process and write to the study how it ended.

    Args:
        plan: Study of the trial.
        ticket: Ticket of the trial.

    Returns:
        Exit code: 0 if the trial is done or is not there any more, 2 if a setting cannot work, 143 if the trial was
        stopped, 1 if it failed.
    """
    stop = StopHandler()
    signal.signal(signal.SIGTERM, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    silence_optuna()
    study, storage = plan.open()
    trial = plan.tickets.claim(study, storage, plan.sampler_of(ticket), ticket)
    if trial is None:
        return DONE
    start_heartbeat(storage, trial._trial_id)
    try:
        return _run(study, trial, plan, stop)
    except UpdateFinishedTrialError:  # another command took this worker for dead
        return DONE


def _run(study: optuna.Study, trial: optuna.Trial, plan: Plan, stop: StopHandler) -> int:
    try:
        with stop.interrupt_run():
            value = run_trial(trial, plan)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
        return DONE
    except SIGTERMException:
        requeue(study, trial, "the sweep was stopped")
        return STOPPED
    except UpdateFinishedTrialError:
        raise
    except Exception as error:
        code = report_error(error, debug=False)
        if code is None:
            traceback.print_exc()
            fail_trial(study, trial, f"{type(error).__name__}: {compact(error)}")
            return FAILED
        requeue(study, trial, compact(error))
        return code
    study.tell(trial, value, skip_if_finished=True)
    return DONE

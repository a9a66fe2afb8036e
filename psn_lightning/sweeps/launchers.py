"""Where the workers of a study run: as processes of this machine, or as jobs of a Slurm cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Collection, Mapping
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any, TypeAlias

import torch

from psn_lightning.errors import SettingError, in_one_line
from psn_lightning.sweeps.plan import Plan
from psn_lightning.sweeps.storages import FOLDER
from psn_lightning.sweeps.sweep import Sweep
from psn_lightning.sweeps.worker import FAILED, start_job, start_local

_PRELOADED = [  # imports that would cost every worker seconds; the server skips what is not installed
    "psn_lightning.sweeps.worker",
    "psn_lightning.nn.csr_network",
    "mlflow.store.tracking.sqlalchemy_store",
    "optuna.storages._rdb.models",
    "alembic.command",
]


def fork_context() -> ForkServerContext:
    """Context that forks processes from a server in which everything is imported: they start without delay."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def start_process(
    context: ForkServerContext, target: Callable[..., None], arguments: tuple[Any, ...]
) -> ForkServerProcess:
    """Start a process that may be asked to stop from its first moment on.

    Args:
        context: Context of the fork server, see :func:`fork_context`.
        target: Function that the process runs; it unblocks SIGTERM when it can handle it.
        arguments: Arguments of the function.

    Raises:
        SettingError: If the fork server died meanwhile.
    """
    process = context.Process(target=target, args=arguments)
    # The fork server that is started here inherits the mask: a SIGTERM to all processes of the command, as of
    # timeout(1), would otherwise end it before its workers. A worker unblocks the signal when it can handle it.
    # The resource tracker, which the fork server needs, unblocks the signal where it is started: so it comes first.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        process.start()
    except (EOFError, ConnectionError) as error:
        raise SettingError(
            "the process that starts workers died, perhaps because memory is short: start the same command again"
        ) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process


class LocalLauncher:
    """Starts each worker as a process of this machine.

    Args:
        workers: Largest number of workers at a time; torch's threads and the GPUs are divided among them.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._context = fork_context()

    def start(self, plan: Plan, ticket: int, slot: int) -> ForkServerProcess:
        """Start the worker of a ticket.

        Args:
            plan: Study of the ticket.
            ticket: Number of the ticket.
            slot: Number of the worker among those that run at a time; decides about its GPU.

        Raises:
            SettingError: If the fork server died meanwhile.
        """
        threads = max(1, torch.get_num_threads() // self.workers)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), **_gpu_of(slot)}
        return start_process(self._context, start_local, (plan, ticket, threads, environment))

    def pause(self, workers: Collection[Any], seconds: float) -> None:
        """Wait until one of some workers has ended, or for some seconds."""
        wait([worker.sentinel for worker in workers], seconds)


class SlurmLauncher:
    """Submits each worker as a job of its own.

    Args:
        workers: Largest number of jobs at a time.
        parameters: Parameters of submitit's executor: ``timeout_min``, ``gpus_per_node``, ``slurm_partition`` …
        cluster: Executor of submitit.

    Raises:
        SettingError: If submitit is not installed.
    """

    def __init__(self, workers: int, parameters: Mapping[str, Any], cluster: str = "slurm") -> None:
        try:
            import submitit
        except ModuleNotFoundError as error:
            raise SettingError("launcher slurm needs submitit: pip install 'psn_lightning[slurm]'") from error
        self.workers = workers
        self._parameters = parameters
        self._cluster = cluster
        self._make_executor = submitit.AutoExecutor

    def start(self, plan: Plan, ticket: int, slot: int) -> SlurmWorker:
        """Submit the job of a ticket; the cluster decides about its GPU, whatever the slot.

        Raises:
            SettingError: If submitit refuses a parameter, or the cluster refuses the job.
        """
        try:
            executor = self._make_executor(FOLDER / plan.name / "slurm", cluster=self._cluster)
            executor.update_parameters(**{"name": f"{plan.family}-{ticket:03d}", **self._parameters})
            return SlurmWorker(executor.submit(start_job, plan, ticket))
        except (NameError, AssertionError, ValueError, RuntimeError) as error:
            raise SettingError(f"launcher slurm: {in_one_line(error)}; parameters of jobs are set in slurm") from error

    def pause(self, workers: Collection[Any], seconds: float) -> None:
        """Wait for some seconds."""
        time.sleep(seconds)


class SlurmWorker:
    """Worker in a job.

    Args:
        job: Job of submitit.
    """

    def __init__(self, job: Any) -> None:
        self._job = job
        self._exitcode: int | None = None

    @property
    def exitcode(self) -> int | None:
        """Exit code of the worker; 1 if the job was ended without one; None: it has not ended."""
        if self._exitcode is None and self._job.done():
            try:
                self._exitcode = int(self._job.result())
            except RuntimeError:  # submitit's, with the job's traceback or its state
                self._exitcode = FAILED
        return self._exitcode

    def terminate(self) -> None:
        """Cancel the job: the worker is asked to stop, and ended by Slurm where it does not within KillWait."""
        self._job.cancel(check=False)

    kill = terminate

    def join(self) -> None:
        """Wait until the job has ended."""
        self._job.wait()


Launcher: TypeAlias = LocalLauncher | SlurmLauncher
Worker: TypeAlias = ForkServerProcess | SlurmWorker


def make_launcher(sweep: Sweep) -> Launcher:
    """Launcher of a sweep.

    Raises:
        SettingError: If submitit is needed and not installed.
    """
    return LocalLauncher(sweep.workers) if sweep.launcher == "local" else SlurmLauncher(sweep.workers, sweep.slurm)


def _gpu_of(slot: int) -> dict[str, str]:
    """Environment variable that gives a worker one GPU, in turn; empty on a machine without a GPU."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    return {"CUDA_VISIBLE_DEVICES": names[slot % len(names)]} if names else {}

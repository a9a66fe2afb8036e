"""The newest training run of a name, in the store or in an outbox."""

from __future__ import annotations

import tempfile
from contextlib import closing, suppress
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from psn_lightning.errors import SettingError
from psn_lightning.tracking.logger import MLflowLogger
from psn_lightning.tracking.outbox import Outbox, QueuedRun, find_outboxes
from psn_lightning.tracking.run import TrackedRun
from psn_lightning.tracking.store import STAGE_TAG, StoreAwayError
from psn_lightning.tracking.writer import OFFLINE_TAG


def find_newest_run(logger: MLflowLogger) -> tuple[list[str], Run | None]:
    """Find the newest training run of a logger's experiment and run name; while the store is away, a queued one.

    Args:
        logger: Logger of the new run.

    Returns:
        Ids of the run, none without one, and the run, if the store has it.

    Raises:
        StoreAwayError: If the store is away, and its runs are not queued.
    """
    queued = _newest_queued(logger.tracked)
    try:
        run = logger.newest_fit()
    except StoreAwayError:
        if not logger.tracked.may_queue:
            raise
        return [id_ for id_ in (queued.run_id, queued.offline_id) if id_] if queued else [], None
    if queued and queued.run_id is None and (run is None or run.info.start_time < queued.started):
        return [str(queued.offline_id)], None
    if run is None:
        return [], None
    return [run.info.run_id, *([run.data.tags[OFFLINE_TAG]] if OFFLINE_TAG in run.data.tags else [])], run


def _newest_queued(wanted: TrackedRun) -> QueuedRun | None:
    """The newest training run in an outbox, of the wanted experiment and name."""
    found = []
    for path in find_outboxes(wanted.store.home):
        with suppress(SettingError, FileNotFoundError), closing(Outbox(path)) as outbox:  # in use, damaged, or sent
            found.append(outbox.run)
    fits = [run for run in found if run.experiment == wanted.experiment and wanted.name in (None, run.name)]
    return max((run for run in fits if run.tags.get(STAGE_TAG) == "fit"), key=lambda run: run.started, default=None)


def read_logged_config(client: MlflowClient, run_id: str) -> str | None:
    """Read ``config.yaml`` that a run has logged; None without one.

    Args:
        client: Client of the run's store.
        run_id: Id of the run.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            return Path(client.download_artifacts(run_id, "config.yaml", folder)).read_text()
    except (MlflowException, OSError):
        return None

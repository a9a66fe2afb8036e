"""The newest run of a name, and the newest of its checkpoints that is whole."""

from __future__ import annotations

import tempfile
from contextlib import closing, suppress
from pathlib import Path

import yaml
from lightning.pytorch.utilities import rank_zero_warn
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from psn_lightning.checkpoints.best_and_last import BEST, LAST, PREVIOUS
from psn_lightning.checkpoints.flat import flatten
from psn_lightning.checkpoints.origin import DamagedError, Origin, read_origin
from psn_lightning.errors import SettingError
from psn_lightning.tracking.logger import MLflowLogger
from psn_lightning.tracking.outbox import Outbox, QueuedRun, find_outboxes
from psn_lightning.tracking.run import TrackedRun
from psn_lightning.tracking.store import STAGE_TAG, StoreAwayError
from psn_lightning.tracking.writer import OFFLINE_TAG


def newest_origin(logger: MLflowLogger, name: str, weights_only: bool) -> Origin:
    """Checkpoint at which the newest training run of the logger's experiment and run name is resumed.

    A damaged checkpoint is passed over for the newest of the others, with a warning.

    Args:
        logger: Logger of the new run.
        name: ``last`` or ``best``.
        weights_only: See :func:`read_origin`.

    Raises:
        SettingError: If no such run exists, or the run has no complete checkpoint.
    """
    ids, run = _newest_run(logger)
    if not ids:
        wanted = logger.tracked
        named = f" named {wanted.name!r}" if wanted.name else ""
        raise SettingError(
            f"--ckpt_path {name}: there is no training run of experiment {wanted.experiment!r}{named} in "
            f"{logger.store.shown}; give the path of a checkpoint, or start without --ckpt_path"
        )
    folders = [path for id_ in ids for path in Path(logger.save_dir).glob(f"*/{id_}/checkpoints")]
    names = [LAST, PREVIOUS, BEST] if name == "last" else [BEST]
    whole, damaged = [], []
    for path in (folder / name for folder in folders for name in names):
        if path.is_file():
            try:
                whole.append(read_origin(path, weights_only) or Origin(path, 0, {}, ids[0]))
            except DamagedError as error:
                damaged.append(path)
                rank_zero_warn(f"{path} is damaged ({error.reason}) and passed over")
    if whole:
        return max(whole, key=lambda origin: origin.step)  # of equal steps the first: last, previous, best
    if damaged:
        raise SettingError(f"--ckpt_path {name}: {', '.join(map(str, damaged))} is damaged, and there is no other")
    if run is not None and run.info.status == "FINISHED":
        raise SettingError(f"--ckpt_path {name}: run {ids[0]} has finished, but has no {names[0]}; give its path")
    config = _logged_config(logger.client, ids[0]) if run is not None else None
    return Origin(None, 0, flatten(yaml.safe_load(config)) if config else {}, ids[0])


def _newest_run(logger: MLflowLogger) -> tuple[list[str], Run | None]:
    """Ids of the newest run, none without one, and the run, if the store has it; while it is away, of a queued one."""
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


def _logged_config(client: MlflowClient, run_id: str) -> str | None:
    """``config.yaml`` that a run has logged; None without one."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            return Path(client.download_artifacts(run_id, "config.yaml", folder)).read_text()
    except (MlflowException, OSError):
        return None

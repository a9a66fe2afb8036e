"""The newest run of a name, and the newest of its checkpoints that is whole."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import yaml
from lightning.pytorch.utilities import rank_zero_warn

from psn_lightning.checkpoints.best_and_last import BEST, LAST, PREVIOUS
from psn_lightning.checkpoints.flat import flatten
from psn_lightning.checkpoints.origin import DamagedError, Origin, read_origin
from psn_lightning.errors import SettingError
from psn_lightning.tracking.delivery import OFFLINE_TAG
from psn_lightning.tracking.logger import MLflowLogger
from psn_lightning.tracking.spool import SpooledRun, spools, whose
from psn_lightning.tracking.store import STAGE_TAG, StoreAwayError, logged_config


def newest_origin(tracking: MLflowLogger, name: str, weights_only: bool) -> Origin:
    """Where the newest training run of the same experiment and name stands.

    A checkpoint that is damaged is passed over for the newest of the others, with a warning.

    Args:
        tracking: Says which store, experiment and run name.
        name: ``last`` or ``best``.
        weights_only: See :func:`read_origin`.

    Raises:
        SettingError: If there is no such run, or no checkpoint of it that is whole.
    """
    run = _newest_run(tracking)
    if run is None:
        raise SettingError(
            f"--ckpt_path {name}: there is no training run of {tracking.described()} in {tracking.store.shown}; "
            "give the path of a checkpoint, or start without --ckpt_path"
        )
    folders = [path for id_ in run.ids for path in Path(tracking.save_dir).glob(f"*/{id_}/checkpoints")]
    names = [LAST, PREVIOUS, BEST] if name == "last" else [BEST]
    whole, damaged = [], []
    for path in (folder / name for folder in folders for name in names):
        if path.is_file():
            try:
                whole.append(read_origin(path, weights_only) or Origin(path, 0, {}, run.ids[0]))
            except DamagedError as error:
                damaged.append(path)
                rank_zero_warn(f"{path} is damaged ({error.reason}) and passed over")
    if whole:
        return max(whole, key=lambda origin: origin.step)  # of equals the first: last, previous, best
    if damaged:
        raise SettingError(f"--ckpt_path {name}: {', '.join(map(str, damaged))} is damaged, and no other is there")
    if run.finished:
        raise SettingError(f"--ckpt_path {name}: run {run.ids[0]} has finished, but has no {names[0]}; give its path")
    config = logged_config(tracking.client, run.ids[0]) if run.is_in_store else None
    return Origin(None, 0, flatten(yaml.safe_load(config)) if config else {}, run.ids[0])


@dataclass(frozen=True)
class _Known:
    """A run that may go on."""

    ids: list[str]
    """What it is called in MLflow, and was before it was there."""
    finished: bool
    is_in_store: bool
    """Whether its logged configuration can be asked for."""


def _newest_run(tracking: MLflowLogger) -> _Known | None:
    """The newest run, in the store or among those that it does not know yet; where it is away, in the spools."""
    spooled = _newest_spooled(tracking)
    try:
        run = tracking.newest_fit()
    except StoreAwayError:
        if not tracking.may_spool:
            raise
        return _of_spool(spooled) if spooled else None
    if spooled and spooled.run_id is None and (run is None or run.info.start_time < spooled.started):
        return _of_spool(spooled)
    if run is None:
        return None
    ids = [run.info.run_id, *([run.data.tags[OFFLINE_TAG]] if OFFLINE_TAG in run.data.tags else [])]
    return _Known(ids, run.info.status == "FINISHED", True)


def _newest_spooled(tracking: MLflowLogger) -> SpooledRun | None:
    found = []
    for path in spools(Path(tracking.save_dir)):
        with suppress(OSError, ValueError, TypeError):  # sent meanwhile, or damaged: psn-train sync tells of that
            found.append(whose(path))
    fits = [run for run in found if tracking.is_called(run) and run.tags.get(STAGE_TAG) == "fit"]
    return max(fits, key=lambda run: run.started, default=None)


def _of_spool(run: SpooledRun) -> _Known:
    return _Known([id_ for id_ in (run.run_id, run.offline_id) if id_], False, False)

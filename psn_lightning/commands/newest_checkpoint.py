"""The newest complete checkpoint of the newest run of a name."""

from __future__ import annotations

from pathlib import Path

import yaml
from lightning.pytorch.utilities import rank_zero_warn

from psn_lightning.checkpoints.best_and_last import BEST, LAST, PREVIOUS
from psn_lightning.checkpoints.flat import flatten
from psn_lightning.checkpoints.origin import DamagedError, Origin, read_origin
from psn_lightning.errors import SettingError
from psn_lightning.tracking import MLflowLogger
from psn_lightning.tracking.newest import find_newest_run, read_logged_config


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
    ids, run = find_newest_run(logger)
    if not ids:
        wanted = logger.tracked
        named = f" named {wanted.name!r}" if wanted.name else ""
        raise SettingError(
            f"checkpoint {name}: there is no training run of experiment {wanted.experiment!r}{named} in "
            f"{logger.store.shown}; give the path of a checkpoint, or start a new run"
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
        raise SettingError(
            f"checkpoint {name}: run {ids[0]} has no complete checkpoint, damaged are "
            f"{', '.join(map(str, damaged))}; give the path of another one, or start a new run"
        )
    if run is not None and run.info.status == "FINISHED":
        raise SettingError(
            f"checkpoint {name}: run {ids[0]} has finished, but there is no {names[0]} in "
            f"{logger.save_dir}/*/{ids[0]}/checkpoints; give its path"
        )
    config = read_logged_config(logger.client, ids[0]) if run is not None else None
    return Origin(None, 0, flatten(yaml.safe_load(config)) if config else {}, ids[0])

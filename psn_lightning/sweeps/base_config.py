"""Complete configuration of a sweep's runs, checked before any worker starts."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import tempfile
import warnings
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from psn_lightning.commands.trainer import check_trainer
from psn_lightning.commands.training import PSNCLI
from psn_lightning.errors import SettingError, UnreachableError
from psn_lightning.sweeps.space import apply_settings, decode_settings
from psn_lightning.sweeps.sweep import Range, Sweep


def configuration(sweep: Sweep) -> dict[str, Any]:
    """Complete configuration that every run of a sweep starts from.

    Raises:
        SettingError: If a setting of the sweep is not one of the configuration's, has an impossible value, or does not
            suit a run of a sweep.
    """
    given = [part for path in sweep.base for part in ("--config", str(path.absolute))]
    config = apply_settings(resolve(given), sweep.settings)
    values = {key: [v.low, v.high] if isinstance(v, Range) else list(v) for key, v in sweep.space.items()}
    seeds = values.pop("seed_everything", [config["seed_everything"]])  # no object depends on them
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        for i in range(max(map(len, values.values()), default=1)):  # every value once, beside others
            chosen = {key: listed[min(i, len(listed) - 1)] for key, listed in values.items()}
            cell = apply_settings(config, decode_settings(chosen, sweep.space))
            path.write_text(yaml.safe_dump(cell))
            build(path)
            _check(cell, seeds)
        path.write_text(yaml.safe_dump(apply_settings(config, {"trainer.devices": 1})))
        return resolve(["--config", str(path)])


def _check(config: dict[str, Any], seeds: Sequence[Any]) -> None:
    """Refuse a configuration, or seeds, that do not suit a run of a sweep."""
    check_fit(config, "sweep")
    epochs = config["trainer"]["max_epochs"]
    if not isinstance(epochs, int) or epochs < 1:
        raise SettingError(
            f"trainer.max_epochs {epochs}: trials are reported and pruned by epoch; give it in the sweep's settings"
        )
    for seed in seeds:
        if type(seed) is not int or not 0 <= seed < 2**32:
            raise SettingError(f"seed_everything {seed} must be an integer from 0 to {2**32 - 1}")


def check_fit(config: dict[str, Any], command: str) -> None:
    """Refuse a configuration that does not suit a fit which another command starts.

    Args:
        config: Complete configuration.
        command: Name of that command.

    Raises:
        SettingError: If the fit would start the command again, or could not be found in MLflow.
    """
    trainer = config["trainer"]
    devices, nodes = trainer["devices"], trainer["num_nodes"]
    if devices not in (1, "1", "auto"):  # the Trainer would start the whole command again on each device
        raise SettingError(f"trainer.devices {devices}: a fit of a {command} has one device")
    if nodes != 1:
        raise SettingError(f"trainer.num_nodes {nodes}: a fit of a {command} has one process")
    if trainer["logger"] is False:
        raise SettingError(f"trainer.logger false: a {command} finds its fits in MLflow; leave it out")
    if trainer["fast_dev_run"]:
        raise SettingError("trainer.fast_dev_run: such a run writes no checkpoint; use trainer.max_epochs 1")
    if config["ckpt_path"] is not None:
        raise SettingError(f"ckpt_path: a {command} chooses the checkpoints of its fits itself; leave it out")
    check_trainer({**trainer, "devices": 1}, True)  # as the fits will have it


def build(path: Path) -> None:
    """Create all objects of a run but its data, to find impossible values.

    A topology that cannot be reached passes: it ends its own trial alone.

    Args:
        path: Complete configuration.

    Raises:
        SettingError: If a value is impossible.
    """
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            PSNCLI(["--config", str(path)], run=False)
    except (ValueError, ArgumentError) as error:
        if not isinstance(SettingError.inside(error), UnreachableError):
            raise
    finally:
        logging.disable(logging.NOTSET)


def resolve(arguments: Sequence[str]) -> dict[str, Any]:
    """Configuration that ``psn-train fit … --print_config`` prints.

    Args:
        arguments: Command line after ``psn-train fit``.
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        PSNCLI(["fit", *arguments, "--print_config"])
    text = printed.getvalue()
    begin = re.search("^seed_everything:", text, re.MULTILINE)  # code of the user may have printed something before
    config: dict[str, Any] = yaml.safe_load(text[begin.start() if begin else 0 :])
    return config

"""Origin of a resumed run: its checkpoint, and the comparison of the two configurations."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from packaging.version import InvalidVersion, Version

from psn_lightning import __version__
from psn_lightning.checkpoints.best_and_last import PREVIOUS
from psn_lightning.checkpoints.durable import find_damage
from psn_lightning.checkpoints.flat import flatten
from psn_lightning.errors import SettingError, in_one_line

_SEED = "seed_everything"

KEY = "psn_lightning.origin"
"""Entry of a checkpoint with the configuration and the MLflow run that it belongs to."""

_FREE = (
    "ckpt_path",
    "weights_only",
    "allow_config_changes",
    "config",
    "tracking",
    "predictions",
    "checkpoints",
    "guards",
    "data.init_args.data_dir",
    "data.init_args.download",
    "trainer.default_root_dir",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.enable_checkpointing",
    "trainer.logger",
    "trainer.profiler",
    "trainer.max_time",
)
"""Settings, with all settings below them, that do not influence the results of a run."""


@dataclass(frozen=True)
class Origin:
    """Origin of a resumed run."""

    path: Path | None
    """Checkpoint; None for a run that stopped before it wrote one and starts again."""
    step: int
    """Optimizer step of the checkpoint."""
    config: dict[str, Any]
    """Configuration of the run, flat: ``{"model.sparsity": 0.9, …}``."""
    run_id: str | None
    """MLflow run; None if the run was not tracked."""
    version: str = __version__
    """Version of this package that wrote the checkpoint."""


class DamagedError(SettingError):
    """Error for a file that is damaged or not a checkpoint.

    Args:
        path: File.
        reason: Description of the damage.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"checkpoint {path} is damaged or not a checkpoint ({reason}): use another one, such as {PREVIOUS} of the "
            "same run"
        )


def read_origin(path: Path, weights_only: bool) -> Origin | None:
    """Read the origin from a checkpoint; tensors are not loaded.

    Args:
        path: Checkpoint.
        weights_only: Whether to accept tensors and plain values only, which cannot run code when they are loaded.

    Returns:
        Origin, or None for a checkpoint without the entry :data:`KEY`.

    Raises:
        DamagedError: If the file is damaged or not a checkpoint.
        SettingError: If the checkpoint holds other objects, or was written by a later version of this package.
    """
    if (reason := find_damage(path)) is not None:
        raise DamagedError(path, reason)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=weights_only, mmap=True)
        origin = _parse_origin(path, checkpoint)
    except pickle.UnpicklingError as error:
        raise SettingError(
            f"checkpoint {path} holds objects other than tensors and plain values, which can run code when they are "
            "loaded: set weights_only to false if you trust the file"
        ) from error
    except Exception as error:  # torch raises errors of many types for damaged files
        raise DamagedError(path, in_one_line(error)) from error
    if origin is not None and Version(origin.version) > Version(__version__):
        raise SettingError(
            f"checkpoint {path} was written by psn_lightning {origin.version}, the installed version is {__version__}: "
            "update psn_lightning"
        )
    return origin


def _parse_origin(path: Path, checkpoint: Any) -> Origin | None:
    """Parse the origin in a checkpoint whose content is not trusted.

    Raises:
        Exception: An error of any type, if the entry is malformed.
    """
    step, told = checkpoint["global_step"], checkpoint.get(KEY)
    if told is None:
        return None
    config, run_id, version = yaml.safe_load(told["config"]), told["run_id"], told.get("version", __version__)
    if not isinstance(config, dict) or not isinstance(step, int) or step < 0:
        raise ValueError(f"invalid global_step {step!r} or configuration of type {type(config).__name__}")
    if not isinstance(run_id, str | None):
        raise TypeError(f"run_id {run_id!r} is not a string")
    Version(version)
    return Origin(path, step, flatten(config) if config else {}, run_id, version)


def check_state(path: Path, checkpoint: Mapping[str, Any], goes_on: bool) -> None:
    """Check that a checkpoint has all entries that are restored.

    Args:
        path: File of the checkpoint.
        checkpoint: Content of the checkpoint.
        goes_on: Whether training is resumed, which needs more entries than evaluation.

    Raises:
        DamagedError: If an entry is missing or has the wrong type.
    """
    kinds: dict[str, type] = {"state_dict": dict}
    if goes_on:
        kinds |= {"callbacks": dict, "loops": dict, "optimizer_states": list, "lr_schedulers": list}
        kinds |= {"epoch": int, "pytorch-lightning_version": str}
    for key, kind in kinds.items():
        if not isinstance(checkpoint.get(key), kind):
            raise DamagedError(path, f"entry {key!r} is missing or not of type {kind.__name__}")
    if goes_on:
        optimizers = checkpoint["optimizer_states"]
        whole = bool(optimizers) and all(isinstance(state, dict) and "state" in state for state in optimizers)
        if not whole or "fit_loop" not in checkpoint["loops"]:
            raise DamagedError(path, "states of optimizers or of the fit loop are missing")
        try:
            Version(checkpoint["pytorch-lightning_version"])
        except InvalidVersion as error:
            raise DamagedError(path, in_one_line(error)) from error


def decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """Select the settings that influence the results of a run.

    Args:
        config: Flat configuration, see :func:`~psn_lightning.checkpoints.flat.flatten`.

    Returns:
        Settings sorted by key.
    """
    return {key: config[key] for key in sorted(config) if not any(key == f or key.startswith(f"{f}.") for f in _FREE)}


def find_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Find the differences between two flat configurations that influence the results of a run.

    Args:
        before: Configuration of the checkpoint.
        now: Present configuration.

    Returns:
        Pairs of values ``(before, now)`` by key.
    """
    before, now, missing = decisive(before), decisive(now), "(absent)"
    pairs = {key: (before.get(key, missing), now.get(key, missing)) for key in sorted({*before, *now})}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def check_same(origin: Origin, now: Mapping[str, Any], allowed: bool) -> dict[str, tuple[Any, Any]]:
    """Check a configuration against that of the run to resume.

    Args:
        origin: Origin of the run.
        now: Present configuration, flat.
        allowed: Whether the configurations may differ in settings that can change within a run.

    Returns:
        Differences, see :func:`find_differences`.

    Raises:
        SettingError: If the configurations differ and ``allowed`` is False, or differ in a setting that cannot change.
    """
    changed = find_differences(origin.config, now) if origin.config else {}
    fixed = [key for key in changed if _is_fixed(key)]
    if fixed and allowed:
        raise SettingError(
            f"{', '.join(fixed)} cannot change on resume, because network, masks and optimizer come from the "
            "checkpoint: undo the change or start a new run"
        )
    if changed and not allowed:
        listed = "; ".join(f"{key} {after!r}, formerly {before!r}" for key, (before, after) in changed.items())
        source = origin.path or f"run {origin.run_id}"
        raise SettingError(
            f"the configuration differs from that of {source}: {listed}. Undo the changes, or set "
            "allow_config_changes to true to resume as a new MLflow run"
        )
    return changed


def check_network(origin: Origin, now: Mapping[str, Any]) -> None:
    """Check that a configuration describes the network of the checkpoint that is evaluated.

    Args:
        origin: Origin of the checkpoint.
        now: Present configuration, flat.

    Raises:
        SettingError: If a setting of the network differs.
    """
    changed = find_differences(origin.config, now) if origin.config else {}
    listed = "; ".join(f"{k} {b!r}, formerly {a!r}" for k, (a, b) in changed.items() if _is_fixed(k) and k != _SEED)
    if listed:
        raise SettingError(
            f"the configuration differs from that of {origin.path}: {in_one_line(ValueError(listed))}. Undo the changes"
        )


def _is_fixed(key: str) -> bool:
    """Return whether the checkpoint determines a setting, so that a changed value would have no effect."""
    setting = key.replace("model.init_args.", "model.", 1)  # a model given by class path has its arguments there
    changeable = ("model.lr", "model.storage", "model.compile")
    own = (
        key.startswith("model.") and setting not in changeable and not setting.startswith("model.optimizer.init_args.")
    )
    return own or key == _SEED

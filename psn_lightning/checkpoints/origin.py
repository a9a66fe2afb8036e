"""Where a run that is continued comes from, and whether the configuration still fits it."""

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
from psn_lightning.checkpoints.durable import damage
from psn_lightning.checkpoints.flat import flatten
from psn_lightning.errors import SettingError, in_one_line

_SEED = "seed_everything"

KEY = "psn_lightning.origin"
"""Where a checkpoint keeps the configuration and the MLflow run that it belongs to."""

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
"""Settings (and everything below them) that change nothing about what is computed."""


@dataclass(frozen=True)
class Origin:
    """What is known of the run that is to be continued."""

    path: Path | None
    """The checkpoint; None where the run was lost before it wrote one and begins again."""
    step: int
    config: dict[str, Any]
    """Flat: ``{"model.sparsity": 0.9, …}``."""
    run_id: str | None
    """MLflow run; None where nothing was tracked."""
    version: str = __version__
    """Of this package, that wrote it."""


class DamagedError(SettingError):
    """A file that is no checkpoint, or not as it was written."""

    def __init__(self, path: Path, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"--ckpt_path {path} is no checkpoint, or damaged ({reason}): --ckpt_path last takes the newest whole one"
        )


def read_origin(path: Path, weights_only: bool) -> Origin | None:
    """Read a checkpoint's origin; its tensors stay on disk.

    Args:
        path: The checkpoint.
        weights_only: Whether to refuse everything but tensors and plain values, which cannot run code.

    Returns:
        None for a checkpoint that ``psn-train`` did not write.

    Raises:
        DamagedError: If the file is no checkpoint, or damaged.
        SettingError: If it could run code, or is of a later version.
    """
    if (reason := damage(path)) is not None:
        raise DamagedError(path, reason)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=weights_only, mmap=True)
        origin = _origin(path, checkpoint)
    except pickle.UnpicklingError as error:
        raise SettingError(
            f"--ckpt_path {path} is not read: it holds more than tensors and plain values, and could run code. If "
            "these are classes of your own and you trust it: --weights_only false"
        ) from error
    except Exception as error:  # torch raises what it happens to come across
        raise DamagedError(path, in_one_line(error)) from error
    if origin is not None and Version(origin.version) > Version(__version__):
        raise SettingError(
            f"--ckpt_path {path} was written by psn_lightning {origin.version}, this is {__version__}: update "
            "psn_lightning"
        )
    return origin


def _origin(path: Path, checkpoint: Any) -> Origin | None:
    """What a checkpoint says of its run; whatever else it holds instead, somebody may have put there.

    Raises:
        Exception: Of any kind, if it says nothing that could be.
    """
    step, told = checkpoint["global_step"], checkpoint.get(KEY)
    if told is None:
        return None
    config, run_id, version = yaml.safe_load(told["config"]), told["run_id"], told.get("version", __version__)
    if not isinstance(config, dict) or not isinstance(step, int) or step < 0:
        raise ValueError(f"step {step!r}, or its configuration, cannot be")
    if not isinstance(run_id, str | None):
        raise TypeError(f"run_id {run_id!r} is not an id")
    Version(version)
    return Origin(path, step, flatten(config) if config else {}, run_id, version)


def check_state(path: Path, checkpoint: Mapping[str, Any], goes_on: bool) -> None:
    """Refuse a checkpoint that lacks what is to be restored, or has something else in its place.

    Args:
        path: Of the checkpoint.
        checkpoint: Its content.
        goes_on: Whether it is trained on, not only looked at.

    Raises:
        DamagedError: If it is so.
    """
    kinds: dict[str, type] = {"state_dict": dict}
    if goes_on:
        kinds |= {"callbacks": dict, "loops": dict, "optimizer_states": list, "lr_schedulers": list}
        kinds |= {"epoch": int, "pytorch-lightning_version": str}
    for key, kind in kinds.items():
        if not isinstance(checkpoint.get(key), kind):
            raise DamagedError(path, f"it has no {key}")
    if goes_on:
        optimizers = checkpoint["optimizer_states"]
        whole = bool(optimizers) and all(isinstance(state, dict) and "state" in state for state in optimizers)
        if not whole or "fit_loop" not in checkpoint["loops"]:
            raise DamagedError(path, "the state of its optimizers or loops is none")
        try:
            Version(checkpoint["pytorch-lightning_version"])
        except InvalidVersion as error:
            raise DamagedError(path, in_one_line(error)) from error


def decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a flat configuration that decide what is computed."""
    return {key: config[key] for key in sorted(config) if not any(key == f or key.startswith(f"{f}.") for f in _FREE)}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings that would change what is computed: ``{key: (before, now)}``, both configurations flat."""
    before, now, missing = decisive(before), decisive(now), "(absent)"
    pairs = {key: (before.get(key, missing), now.get(key, missing)) for key in sorted({*before, *now})}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def check_same(origin: Origin, now: Mapping[str, Any], allowed: bool) -> dict[str, tuple[Any, Any]]:
    """Compare a configuration with that of the checkpoint that is to be continued.

    Args:
        origin: The checkpoint's.
        now: The present one, flat.
        allowed: Whether they may differ.

    Returns:
        What differs, see :func:`differences`.

    Raises:
        SettingError: If they differ and may not, or if they differ in what cannot change within a run.
    """
    changed = differences(origin.config, now) if origin.config else {}
    fixed = [key for key in changed if _is_fixed(key)]
    if fixed and allowed:
        raise SettingError(
            f"{', '.join(fixed)} cannot change within a run: network, masks and optimizer are the checkpoint's. "
            "Start a new run, or take these back"
        )
    if changed and not allowed:
        listed = "; ".join(f"{key}: {before!r} there, {after!r} here" for key, (before, after) in changed.items())
        source = origin.path or f"run {origin.run_id}"
        raise SettingError(
            f"the configuration contradicts {source}: {listed}. Take these back, or give --allow_config_changes true "
            "to go on as an MLflow run of its own"
        )
    return changed


def check_network(origin: Origin, now: Mapping[str, Any]) -> None:
    """Refuse a configuration of another network than the checkpoint's: what is logged would not be what is tested.

    Args:
        origin: The checkpoint's.
        now: The present configuration, flat.

    Raises:
        SettingError: If it is one.
    """
    changed = differences(origin.config, now) if origin.config else {}
    listed = "; ".join(f"{k}: {a!r} there, {b!r} here" for k, (a, b) in changed.items() if _is_fixed(k) and k != _SEED)
    if listed:
        raise SettingError(
            f"the configuration contradicts {origin.path}: {in_one_line(ValueError(listed))}. Take these back"
        )


def _is_fixed(key: str) -> bool:
    """Whether a setting is made of what the checkpoint brings: it would be ignored, not changed."""
    setting = key.replace("model.init_args.", "model.", 1)  # of a model that is named by its class path
    changeable = ("model.lr", "model.storage", "model.compile")
    own = (
        key.startswith("model.") and setting not in changeable and not setting.startswith("model.optimizer.init_args.")
    )
    return own or key == _SEED

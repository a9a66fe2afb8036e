"""Where a run that is continued comes from, and whether the configuration still fits it."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from packaging.version import Version

from psn_lightning import __version__
from psn_lightning.callbacks.durable import damage
from psn_lightning.errors import SettingError
from psn_lightning.tracking.flat import flatten

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


def read_origin(path: Path, weights_only: bool) -> Origin | None:
    """Read a checkpoint's origin; its tensors stay on disk.

    Args:
        path: The checkpoint.
        weights_only: Whether to refuse everything but tensors and plain values, which cannot run code.

    Returns:
        None for a checkpoint that ``psn-train`` did not write.

    Raises:
        SettingError: If the file is no checkpoint, damaged, or of a later version.
    """
    if (reason := damage(path)) is not None:
        raise SettingError(
            f"--ckpt_path {path} is no checkpoint, or damaged ({reason}): --ckpt_path last takes the newest whole one"
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=weights_only, mmap=True)
        origin, step = checkpoint.get(KEY), checkpoint["global_step"]
    except (RuntimeError, OSError, EOFError, KeyError, AttributeError, TypeError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:120]
        if isinstance(error, pickle.UnpicklingError):
            reason = "it holds more than tensors and plain values, and could run code"
        raise SettingError(
            f"--ckpt_path {path} cannot be read as a checkpoint ({reason}). If it holds classes of your own and you "
            "trust it: --weights_only false"
        ) from error
    if origin is None:
        return None
    version = origin.get("version", __version__)
    if Version(version) > Version(__version__):
        raise SettingError(
            f"--ckpt_path {path} was written by psn_lightning {version}, this is {__version__}: update psn_lightning"
        )
    return Origin(path, step, flatten(yaml.safe_load(origin["config"])), origin["run_id"])


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


def _is_fixed(key: str) -> bool:
    """Whether a setting is made of what the checkpoint brings: it would be ignored, not changed."""
    changeable = ("model.lr", "model.storage", "model.compile")
    own = key.startswith("model.") and key not in changeable and not key.startswith("model.optimizer.init_args.")
    return own or key == "seed_everything"

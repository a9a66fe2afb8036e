"""Differences between the configuration of a resumed run and the present one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psn_lightning.checkpoints.origin import Origin
from psn_lightning.errors import SettingError, in_one_line

_SEED = "seed_everything"
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

    A setting that one of them does not have, because the package was older, equals null.

    Args:
        before: Configuration of the checkpoint.
        now: Present configuration.

    Returns:
        Pairs of values ``(before, now)`` by key.
    """
    before, now, missing = decisive(before), decisive(now), "(absent)"
    keys = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    return {key: (before.get(key, missing), now.get(key, missing)) for key in keys}


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
    changed = _find_changes(origin, now)
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
    changed = _find_changes(origin, now)
    listed = "; ".join(f"{k} {b!r}, formerly {a!r}" for k, (a, b) in changed.items() if _is_fixed(k) and k != _SEED)
    if listed:
        raise SettingError(
            f"the configuration differs from that of {origin.path}: {in_one_line(ValueError(listed))}. Undo the changes"
        )


def _find_changes(origin: Origin, now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Find the differences from the configuration of a run; none if its checkpoint has no configuration."""
    return find_differences(origin.config, now) if origin.config else {}


def _is_fixed(key: str) -> bool:
    """Return whether the checkpoint determines a setting, so that a changed value would have no effect."""
    setting = key.replace("model.init_args.", "model.", 1)  # a model given by class path has its arguments there
    changeable = ("model.lr", "model.storage", "model.compile")
    own = (
        key.startswith("model.") and setting not in changeable and not setting.startswith("model.optimizer.init_args.")
    )
    return own or key == _SEED

"""Origin of a resumed run: what its checkpoint says of it."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from packaging.version import InvalidVersion, Version
from torch.serialization import get_unsafe_globals_in_checkpoint

from psn_lightning import __version__
from psn_lightning.checkpoints.best_and_last import PREVIOUS
from psn_lightning.checkpoints.durable import find_damage
from psn_lightning.checkpoints.flat import flatten
from psn_lightning.errors import SettingError, in_one_line

KEY = "psn_lightning.origin"
"""Entry of a checkpoint with the configuration and the MLflow run that it belongs to."""


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
    ticket: str | None = None
    """Description of a lottery ticket; None for other checkpoints."""


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
        if not _holds_objects(path):
            raise DamagedError(path, in_one_line(error)) from error
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


def read_config_text(path: Path, weights_only: bool) -> str:
    """Read the configuration of the run that wrote a checkpoint, as YAML; :func:`read_origin` has checked the file."""
    return str(torch.load(path, map_location="cpu", weights_only=weights_only, mmap=True)[KEY]["config"])


def _holds_objects(path: Path) -> bool:
    """Return whether a checkpoint names classes or functions that torch does not load on trust; none is called."""
    try:
        return bool(get_unsafe_globals_in_checkpoint(path))
    except Exception:  # torch raises errors of many types for damaged files
        return False


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
    ticket = told.get("ticket")
    if not isinstance(ticket, str | None):
        raise TypeError(f"ticket {ticket!r} is not a string")
    return Origin(path, step, flatten(config) if config else {}, run_id, version, ticket)


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

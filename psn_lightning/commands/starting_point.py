"""The checkpoint that a command starts from, and whether the configuration fits it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from torch.optim.lr_scheduler import ReduceLROnPlateau

from psn_lightning.callbacks.sparsify import sparsify_first
from psn_lightning.checkpoints.differences import check_network, check_same
from psn_lightning.checkpoints.flat import flatten
from psn_lightning.checkpoints.origin import Origin, check_state, read_origin
from psn_lightning.commands.newest_checkpoint import newest_origin
from psn_lightning.errors import SettingError, compact, in_one_line
from psn_lightning.nn import sparse_layers
from psn_lightning.task import SparseClassifier
from psn_lightning.tracking import MLflowLogger

NEWEST = ("last", "best")
"""Words for a checkpoint of the newest run, instead of a path."""


@dataclass(frozen=True)
class StartingPoint:
    """Where a command starts.

    Args:
        origin: Run that is continued or evaluated; None for a new run, or a checkpoint that ``psn-train`` did not
            write.
        changed: Settings that differ from those of the origin: name → value there and here.
    """

    origin: Origin | None
    changed: dict[str, Any]

    @classmethod
    def find(cls, command: str, config: Any, dump: Callable[[], str]) -> StartingPoint:
        """Find the checkpoint that a configuration names; ``config.ckpt_path`` becomes its path.

        Args:
            command: Subcommand: fit, validate, test or predict.
            config: Settings of the subcommand.
            dump: Returns the settings as YAML.

        Raises:
            SettingError: If the checkpoint does not exist, or the configuration contradicts it.
        """
        origin = _find_origin(command, config)
        if origin is None:
            return cls(None, {})
        now = flatten(yaml.safe_load(dump()))
        if command == "fit":
            return cls(origin, check_same(origin, now, config["allow_config_changes"]))
        check_network(origin, now)
        return cls(origin, {})

    def join_run(self, tracking: MLflowLogger) -> None:
        """Let a fit go on in the run that its checkpoint belongs to, or name that run in a new one.

        Args:
            tracking: Logger whose run has not begun.
        """
        origin, changed = self.origin, self.changed
        if origin and origin.ticket:
            tracking.add_tags({"ticket": origin.ticket})  # model.sparsity is that of the network before pruning
        if origin and origin.run_id and not changed:
            tracking.resume(origin.run_id, origin.step, origin.path)
        elif origin and changed:
            tracking.branch_off(origin.run_id, origin.step, changed)


def _find_origin(command: str, config: Any) -> Origin | None:
    path, weights_only = config["ckpt_path"], config["weights_only"]
    if path in NEWEST:
        origin = newest_origin(MLflowLogger(**config["tracking"]), path, weights_only)
        config["ckpt_path"] = str(origin.path) if origin.path else None
        if origin.path is None and command != "fit":
            raise SettingError(f"run {origin.run_id} has no checkpoint yet: {command} needs a trained network")
        return origin
    if path is None and command != "fit":
        raise SettingError(f"{command} needs a trained network: give --ckpt_path …/last.ckpt")
    if path is None:
        return None
    if not Path(path).is_file():
        raise SettingError(
            f"checkpoint not found: --ckpt_path {path}. A run keeps its own under artifacts, checkpoints; the words "
            "last and best mean those of the newest run"
        )
    return read_origin(Path(path), weights_only)


def load_weights(model: pl.LightningModule, trainer: pl.Trainer, path: str, weights_only: bool, resumes: bool) -> None:
    """Load a checkpoint's weights and masks into a model.

    Args:
        model: Model that is loaded.
        trainer: Trainer whose callback ``Sparsify``, if it has one, makes the model sparse first.
        path: Checkpoint file.
        weights_only: Whether to refuse everything but tensors and plain values.
        resumes: Whether training goes on: then the checkpoint must hold optimizers and loops as well.

    Raises:
        SettingError: If the checkpoint is incomplete, or of another network.
    """
    checkpoint = torch.load(path, map_location="cpu", weights_only=weights_only, mmap=True)
    check_state(Path(path), checkpoint, resumes)
    state_dict = checkpoint["state_dict"]
    sparsify_first(trainer, model)
    try:
        model.load_state_dict(state_dict, strict=model.strict_loading)
    except RuntimeError as error:
        masks = any(key.endswith("_mask") for key in state_dict) and not sparse_layers(model)
        remedy = ". It is of a sparse model: add the callback Sparsify, as its configuration has it" if masks else ""
        raise SettingError(
            f"the checkpoint does not fit the configured network: {in_one_line(error)}{remedy}"
        ) from error


def check_optimizer(task: SparseClassifier) -> None:
    """Make optimizer and learning rate schedule once; the Trainer makes them after the run has begun.

    Raises:
        SettingError: If they refuse their arguments.
    """
    try:
        made: Any = task.configure_optimizers()
        schedule = made["lr_scheduler"]["scheduler"] if isinstance(made, dict) else None
        if schedule is not None and not isinstance(schedule, ReduceLROnPlateau):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the optimizer's step before it is left out
                schedule.step()
    except (ValueError, TypeError, ArithmeticError) as error:
        raise SettingError(f"model.optimizer or model.lr_scheduler: {compact(error)}") from error

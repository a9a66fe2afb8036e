"""Conversion of optimizer state between storages, and proof that all processes resumed from the same one."""

from __future__ import annotations

import hashlib
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from psn_lightning.callbacks.ranks import find_unequal
from psn_lightning.errors import SettingError
from psn_lightning.nn import SparseLayer, sparse_layers
from psn_lightning.nn.states import Connections, find_storage, read_connections


class PortableMoments(pl.Callback):
    """Converts the moments in a checkpoint to the present storage of the layers.

    Moments have the layout of the parameter: dense for storage masked, block by block for storage csr,
    group by group for storage groups.
    """

    def __init__(self) -> None:
        self._checkpoint: dict[str, Any] = {}
        self._has_resumed = False

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the checkpoint until the optimizers are made."""
        self._checkpoint, self._has_resumed = checkpoint, True

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Convert the moments, after the optimizers are made and before Lightning restores their state."""
        convert_moments(self._checkpoint, pl_module, trainer.optimizers)
        self._checkpoint = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check that all processes resumed from the same checkpoint.

        Raises:
            SettingError: If they did not.
        """
        if self._has_resumed and trainer.world_size > 1:
            check_equal_states(trainer, pl_module)
        self._has_resumed = False


def check_equal_states(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    """Check that step, epoch and moments are equal on all processes, by a digest; every process has to call this.

    DDP makes the weights equal, and nothing else: with ``last.ckpt`` on a network file system some machines may see an
    older file.

    Raises:
        SettingError: If they differ.
    """
    digest = hashlib.blake2b(f"{trainer.global_step} {trainer.current_epoch}".encode(), digest_size=8)
    for optimizer in trainer.optimizers:
        for state in optimizer.state_dict()["state"].values():
            for moment in state.values():
                if isinstance(moment, Tensor):
                    digest.update(moment.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    if unequal := find_unequal(pl_module, digest.digest()):
        raise SettingError(
            f"the processes resumed from different checkpoints (digests by rank: {unequal}): a network file "
            "system may show an older file to some of them; wait, or set ckpt_path to a file that all of them have"
        )


def convert_moments(checkpoint: dict[str, Any], module: torch.nn.Module, optimizers: list[Optimizer]) -> None:
    """Convert the moments in a checkpoint to the storages of a module, in place.

    Args:
        checkpoint: Checkpoint with the entries ``state_dict`` and ``optimizer_states``.
        module: Module that the checkpoint is loaded into.
        optimizers: Optimizers of the module, in the order of ``optimizer_states``.

    Raises:
        SettingError: If the storage of a layer differs and the optimizer is Adafactor.
    """
    states = checkpoint.get("optimizer_states", [])
    layers = {id(layer.parameter): (name, layer) for name, layer in sparse_layers(module).items()} if states else {}
    for optimizer, state in zip(optimizers, states, strict=False):
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for index, entry in state["state"].items():
            if index < len(parameters) and id(parameters[index]) in layers:
                name, layer = layers[id(parameters[index])]
                was, found = find_storage(checkpoint["state_dict"], f"{name}."), None
                if was != layer.storage:
                    found = read_connections(checkpoint["state_dict"], f"{name}.", (layer.n_out, layer.n_in))
                if found is not None and isinstance(optimizer, torch.optim.Adafactor):
                    raise SettingError(
                        f"{name}: the state of Adafactor cannot be converted to storage {layer.storage}: resume with "
                        "the storage of the checkpoint"
                    )
                if found is not None:
                    entry.update({key: _convert_moment(layer, value, found) for key, value in entry.items()})


def _convert_moment(layer: SparseLayer, moment: Any, found: Connections) -> Any:
    """Convert a moment to the layout of the layer's parameter; other values are returned unchanged."""
    if not isinstance(moment, Tensor):
        return moment
    positions = torch.from_numpy(found.connectivity.keys().copy())
    if moment.shape == (layer.n_out, layer.n_in):
        return layer.expand(moment.flatten()[positions], positions)
    if moment.shape == positions.shape:
        return layer.expand(found.sort_moment(moment), positions)
    return moment

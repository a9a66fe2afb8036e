"""Conversion of optimizer state between storages."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from psn_lightning.errors import SettingError
from psn_lightning.nn import SparseLayer, sparse_layers
from psn_lightning.nn.states import read_connections


class PortableMoments(pl.Callback):
    """Converts the moments in a checkpoint to the present storage of the layers.

    Moments have the shape of the parameter: dense for storage masked, ``(n_connections,)`` for storage csr.
    """

    def __init__(self) -> None:
        self._checkpoint: dict[str, Any] = {}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the checkpoint until the optimizers are made."""
        self._checkpoint = checkpoint

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Convert the moments, after the optimizers are made and before Lightning restores their state."""
        convert_moments(self._checkpoint, pl_module, trainer.optimizers)
        self._checkpoint = {}


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
                was_csr = f"{name}.values" in checkpoint["state_dict"]
                positions = (
                    _read_positions(checkpoint["state_dict"], name, layer) if was_csr != _is_csr(layer) else None
                )
                if positions is not None and isinstance(optimizer, torch.optim.Adafactor):
                    raise SettingError(
                        f"{name}: the state of Adafactor cannot be converted to storage {layer.storage}: resume with "
                        "the storage of the checkpoint"
                    )
                if positions is not None:
                    entry.update({key: _convert_moment(layer, value, positions) for key, value in entry.items()})


def _is_csr(layer: SparseLayer) -> bool:
    return layer.storage == "csr"


def _read_positions(state_dict: dict[str, Any], name: str, layer: SparseLayer) -> Tensor | None:
    """Read the flat positions of a layer's connections from a state dict of either storage; None if it has none."""
    found = read_connections(state_dict, f"{name}.", (layer.n_out, layer.n_in))
    return None if found is None else torch.from_numpy(found.connectivity.keys().copy())


def _convert_moment(layer: SparseLayer, moment: Any, positions: Tensor) -> Any:
    """Convert a moment to the layout of the layer's parameter; other values are returned unchanged."""
    if not isinstance(moment, Tensor):
        return moment
    if layer.storage == "masked" and moment.shape == positions.shape and moment.dim() == 1:
        return layer.expand(moment, positions)
    if layer.storage == "csr" and moment.shape == (layer.n_out, layer.n_in):
        return moment.flatten()[positions]
    return moment

"""Optimizer state of a checkpoint of one storage, read into another."""

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
    """Converts the moments of a checkpoint to the storage that the layers have now.

    A checkpoint has them as the optimizer of its run did: dense for masked layers, one per connection for csr.
    """

    def __init__(self) -> None:
        self._checkpoint: dict[str, Any] = {}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep it until the optimizers exist."""
        self._checkpoint = checkpoint

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Convert; the optimizers are made, and Lightning has not restored their state yet."""
        convert_moments(self._checkpoint, pl_module, trainer.optimizers)
        self._checkpoint = {}


def convert_moments(checkpoint: dict[str, Any], module: torch.nn.Module, optimizers: list[Optimizer]) -> None:
    """Convert moments of another storage in a checkpoint, in place.

    Args:
        checkpoint: With ``state_dict`` and ``optimizer_states``.
        module: The module that the checkpoint is of.
        optimizers: In the order of ``optimizer_states``; their param groups number the parameters.
    """
    states = checkpoint.get("optimizer_states", [])
    layers = {id(layer.parameter): (name, layer) for name, layer in sparse_layers(module).items()} if states else {}
    for optimizer, state in zip(optimizers, states, strict=False):
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for index, entry in state["state"].items():
            if index < len(parameters) and id(parameters[index]) in layers:
                name, layer = layers[id(parameters[index])]
                was_csr = f"{name}.values" in checkpoint["state_dict"]
                positions = _positions(checkpoint["state_dict"], name, layer) if was_csr != _is_csr(layer) else None
                if positions is not None and isinstance(optimizer, torch.optim.Adafactor):
                    raise SettingError(
                        f"{name}: Adafactor keeps other statistics for each storage: go on with that of the checkpoint"
                    )
                if positions is not None:
                    entry.update({key: _converted(layer, value, positions) for key, value in entry.items()})


def _is_csr(layer: SparseLayer) -> bool:
    return layer.storage == "csr"


def _positions(state_dict: dict[str, Any], name: str, layer: SparseLayer) -> Tensor | None:
    """Flat positions of a layer's connections in a checkpoint of the other storage; None where it has none."""
    found = read_connections(state_dict, f"{name}.", (layer.n_out, layer.n_in))
    return None if found is None else torch.from_numpy(found.connectivity.keys().copy())


def _converted(layer: SparseLayer, moment: Any, positions: Tensor) -> Any:
    """A moment in the layer's own layout; scalars and what has it already stay as they are."""
    if not isinstance(moment, Tensor):
        return moment
    if layer.storage == "masked" and moment.shape == positions.shape and moment.dim() == 1:
        return layer.expand(moment, positions)
    if layer.storage == "csr" and moment.shape == (layer.n_out, layer.n_in):
        return moment.flatten()[positions]
    return moment

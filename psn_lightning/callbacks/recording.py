"""What the masks look like, and how long an epoch takes."""

from __future__ import annotations

import time
import weakref
from typing import Any

import lightning.pytorch as pl
import torch

from psn_lightning.callbacks.layers import layers_of, log_epoch, log_now
from psn_lightning.topology import Connectivity
from psn_lightning.topology.statistics import mean_fan_in_ccv, overlap, realised_sparsity, summarize


def connectivities(pl_module: pl.LightningModule) -> dict[str, Connectivity]:
    """The connections of each sparse layer as they are now."""
    return {name: layer.connectivity for name, layer in layers_of(pl_module).items()}


class TopologyLogger(pl.Callback):
    """Logs sparsity, fan-in figures, dead neurons and the overlap with the first topology, every epoch.

    Of any LightningModule; one without sparse layers logs nothing.
    """

    def __init__(self) -> None:
        self.initial: dict[str, Connectivity] = {}
        self._module: weakref.ref[pl.LightningModule] | None = None
        self._is_restored = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember the first topology, unless a checkpoint brought it."""
        is_another = self._module is None or self._module() is not pl_module
        if is_another and not self._is_restored:
            self.initial = connectivities(pl_module)
        self._module, self._is_restored = weakref.ref(pl_module), False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log where the run starts from."""
        if trainer.global_step == 0 and self.initial:
            log_now(trainer, self.figures(connectivities(pl_module)), step=0)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log where the epoch has led."""
        if self.initial:
            log_epoch(trainer, pl_module, self.figures(connectivities(pl_module)))

    def figures(self, layers: dict[str, Connectivity]) -> dict[str, float]:
        """The metrics of a module's sparse layers."""
        metrics = {"sparsity/realised": realised_sparsity(layers.values()), "fan_in/ccv": mean_fan_in_ccv(layers)}
        for name, connectivity in layers.items():
            figures = summarize(connectivity)
            metrics |= {
                f"sparsity/realised/{name}": figures.sparsity,
                f"fan_in/ccv/{name}": figures.fan_in_ccv,
                f"fan_in/min/{name}": float(figures.fan_in_min),
                f"fan_in/max/{name}": float(figures.fan_in_max),
                f"topology/dead_neurons/{name}": float(figures.dead_neurons),
                f"topology/overlap_with_initial/{name}": overlap(self.initial[name], connectivity),
            }
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """The first topology, so that the overlap stays right after a resume."""
        return {
            name: {"n_in": c.n_in, "indptr": torch.tensor(c.indptr), "indices": torch.tensor(c.indices)}
            for name, c in self.initial.items()
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self._is_restored = True
        self.initial = {
            name: Connectivity(c["n_in"], c["indptr"].numel() - 1, c["indptr"].numpy(), c["indices"].numpy())
            for name, c in state_dict.items()
        }


class EpochTimer(pl.Callback):
    """Logs ``time/epoch_seconds``: wall time of an epoch, its evaluation included."""

    def __init__(self) -> None:
        self._start = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop it."""
        log_epoch(trainer, pl_module, {"time/epoch_seconds": time.perf_counter() - self._start})

    def state_dict(self) -> dict[str, Any]:
        """Time that the epoch has taken so far."""
        return {"elapsed": time.perf_counter() - self._start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with an epoch that was cut."""
        self._start = time.perf_counter() - state_dict["elapsed"]


class LastEvaluation(pl.Callback):
    """Knows at which step the weights were last evaluated during a fit."""

    def __init__(self) -> None:
        self.step = -1

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the step down."""
        if not trainer.sanity_checking:
            self.step = trainer.global_step

    def state_dict(self) -> dict[str, Any]:
        """The step, for a run that is resumed at its end."""
        return {"step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self.step = state_dict["step"]

"""Logging of topology statistics, epoch times and evaluation steps."""

from __future__ import annotations

import time
import weakref
from typing import Any

import lightning.pytorch as pl
import torch

from psn_lightning.callbacks.layers import layers_of, log_epoch, log_now
from psn_lightning.topology import Connectivity
from psn_lightning.topology.scaling import coefficient_of_variation
from psn_lightning.topology.statistics import mean_fan_in_ccv, overlap, realised_sparsity, summarize


def connectivities(pl_module: pl.LightningModule) -> dict[str, Connectivity]:
    """Return the present connections of each sparse layer by name."""
    return {name: layer.connectivity for name, layer in layers_of(pl_module).items()}


class TopologyLogger(pl.Callback):
    """Logs topology statistics of a LightningModule's sparse layers at the start of the run and after every epoch.

    Over all layers: ``sparsity/realised`` and ``fan_in/ccv`` (mean over layers; CCV is the coefficient of variation of
    the fan-in: standard deviation / mean). For each layer: ``sparsity/realised/<layer>``, ``fan_in/ccv/<layer>``,
    ``fan_in/min/<layer>``, ``fan_in/max/<layer>``, ``fan_out/ccv/<layer>``, ``topology/dead_neurons/<layer>`` (neurons
    with fan-in 0), ``topology/dead_inputs/<layer>`` (inputs with fan-out 0) and
    ``topology/overlap_with_initial/<layer>``. Without sparse layers nothing is logged.
    """

    def __init__(self) -> None:
        self.initial: dict[str, Connectivity] = {}
        """Connections at the start of the run, by layer name."""
        self._module: weakref.ref[pl.LightningModule] | None = None
        self._is_restored = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the initial connections, unless they were restored from a checkpoint."""
        is_another = self._module is None or self._module() is not pl_module
        if is_another and not self._is_restored:
            self.initial = connectivities(pl_module)
        self._module, self._is_restored = weakref.ref(pl_module), False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the statistics at step 0."""
        if trainer.global_step == 0 and self.initial:
            log_now(trainer, self.figures(connectivities(pl_module)), step=0)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the statistics after an epoch."""
        if self.initial:
            log_epoch(trainer, self.figures(connectivities(pl_module)))

    def figures(self, layers: dict[str, Connectivity]) -> dict[str, float]:
        """Compute the metrics.

        Args:
            layers: Present connections by layer name.

        Returns:
            Values by metric name.
        """
        metrics = {"sparsity/realised": realised_sparsity(layers.values()), "fan_in/ccv": mean_fan_in_ccv(layers)}
        for name, connectivity in layers.items():
            figures = summarize(connectivity)
            metrics |= {
                f"sparsity/realised/{name}": figures.sparsity,
                f"fan_in/ccv/{name}": figures.fan_in_ccv,
                f"fan_in/min/{name}": float(figures.fan_in_min),
                f"fan_in/max/{name}": float(figures.fan_in_max),
                f"fan_out/ccv/{name}": coefficient_of_variation(connectivity.fan_out),
                f"topology/dead_neurons/{name}": float(figures.dead_neurons),
                f"topology/dead_inputs/{name}": float(figures.dead_inputs),
                f"topology/overlap_with_initial/{name}": overlap(self.initial[name], connectivity),
            }
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Initial connections by layer name, for the overlap after a resume."""
        return {
            name: {
                "n_in": c.n_in,
                "indptr": torch.tensor(c.indptr),
                "indices": torch.tensor(c.indices),
                **({} if c.groups is None else {"groups": torch.tensor(c.groups)}),
            }
            for name, c in self.initial.items()
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the initial connections from :meth:`state_dict`."""
        self._is_restored = True
        self.initial = {
            name: Connectivity(
                c["n_in"],
                c["indptr"].numel() - 1,
                c["indptr"].numpy(),
                c["indices"].numpy(),
                c["groups"].numpy() if "groups" in c else None,
            )
            for name, c in state_dict.items()
        }


class EpochTimer(pl.Callback):
    """Logs ``time/epoch_seconds``: wall time of an epoch in seconds, including its evaluation."""

    def __init__(self) -> None:
        self._start = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the elapsed time."""
        log_epoch(trainer, {"time/epoch_seconds": time.perf_counter() - self._start})

    def state_dict(self) -> dict[str, Any]:
        """Elapsed time of the present epoch in seconds."""
        return {"elapsed": time.perf_counter() - self._start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the elapsed time of an interrupted epoch from :meth:`state_dict`."""
        self._start = time.perf_counter() - state_dict["elapsed"]


class LastEvaluation(pl.Callback):
    """Records the optimizer step of the latest evaluation during a fit."""

    def __init__(self) -> None:
        self.step = -1
        """Optimizer step of the latest evaluation; -1 before the first."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the step, except for the sanity check."""
        if not trainer.sanity_checking:
            self.step = trainer.global_step

    def state_dict(self) -> dict[str, Any]:
        """Step of the latest evaluation, for a run that is resumed at its end."""
        return {"step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the step from :meth:`state_dict`."""
        self.step = state_dict["step"]

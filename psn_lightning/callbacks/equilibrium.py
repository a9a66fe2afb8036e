"""Measurement of the fan-in CCV at which a dynamic rule settles."""

from __future__ import annotations

import weakref
from typing import Any

import lightning.pytorch as pl

from psn_lightning.callbacks.dynamic import changes_of
from psn_lightning.callbacks.layers import layers_of, log_now
from psn_lightning.topology.equilibrium import Settlement, Trajectory, settlement
from psn_lightning.topology.scaling import coefficient_of_variation


class EquilibriumMonitor(pl.Callback):
    """Logs the fan-in CCV of each layer at every topology update, and at the end of the run whether it has settled.

    CCV is the coefficient of variation of the fan-in: standard deviation / mean. ``equilibrium/trajectory/<layer>`` is
    the CCV after an update. ``equilibrium/ccv/<layer>``, ``equilibrium/drift/<layer>`` and
    ``equilibrium/converged/<layer>`` (0 or 1) are the verdict of
    :func:`~psn_lightning.topology.equilibrium.settlement`. Without a :class:`DynamicTopology` nothing is logged.
    """

    def __init__(self) -> None:
        self._module: weakref.ref[pl.LightningModule] | None = None
        self.trajectories: dict[str, Trajectory] = {}
        """CCV after each update, by layer name."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin anew for another module than that of the last fit."""
        if self._module is not None and self._module() is not pl_module:
            self.trajectories = {}
        self._module = weakref.ref(pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record and log the CCV of the layers that were updated in this batch."""
        changes = changes_of(trainer)
        if not changes:
            return
        step, metrics = trainer.global_step - 1, {}
        layers = layers_of(pl_module)
        for name in changes:
            ccv = coefficient_of_variation(layers[name].fan_in.cpu().numpy())
            self.trajectories.setdefault(name, Trajectory()).add(step, ccv, changes[name].contested)
            metrics[f"equilibrium/trajectory/{name}"] = ccv
        log_now(trainer, metrics, step=step)

    def verdicts(self) -> dict[str, Settlement]:
        """Return whether and at which CCV each layer has settled, by layer name."""
        return {name: settlement(trajectory) for name, trajectory in self.trajectories.items()}

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the verdicts."""
        metrics = {}
        for name, verdict in self.verdicts().items():
            metrics[f"equilibrium/ccv/{name}"] = verdict.ccv
            metrics[f"equilibrium/drift/{name}"] = verdict.drift
            metrics[f"equilibrium/converged/{name}"] = float(verdict.converged)
        if metrics:
            log_now(trainer, metrics, step=trainer.global_step - 1)

    def state_dict(self) -> dict[str, Any]:
        """Trajectories by layer name."""
        return {name: vars(trajectory) for name, trajectory in self.trajectories.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the trajectories from :meth:`state_dict`."""
        self.trajectories = {name: Trajectory(**columns) for name, columns in state_dict.items()}

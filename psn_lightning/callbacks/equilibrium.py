"""Measures where a dynamic rule settles."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl

from psn_lightning.callbacks.dynamic import DynamicTopology
from psn_lightning.task import SparseClassifier
from psn_lightning.topology.equilibrium import Settlement, Trajectory, settlement
from psn_lightning.topology.fan_in import coefficient_of_variation


class EquilibriumMonitor(pl.Callback):
    """Logs each layer's fan-in CCV at every topology update, and at the end whether it has settled.

    ``equilibrium/trajectory/fcN`` is the CCV after an update; ``equilibrium/ccv/fcN`` and
    ``equilibrium/converged/fcN`` (0 or 1) are the verdict of
    :func:`psn_lightning.topology.equilibrium.settlement`, which states its rule. Does nothing in a run
    without a dynamic rule.
    """

    def __init__(self) -> None:
        self.trajectories: dict[str, Trajectory] = {}

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: SparseClassifier,  # type: ignore[override]
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Take the CCV down where the topology has just changed."""
        changes = next((c.changes for c in trainer.callbacks if isinstance(c, DynamicTopology)), {})  # type: ignore[attr-defined]
        if not changes:
            return
        step, metrics = trainer.global_step - 1, {}
        for name, layer in pl_module.network.sparse_layers().items():
            ccv = coefficient_of_variation(layer.fan_in.cpu().numpy())
            self.trajectories.setdefault(name, Trajectory()).add(step, ccv, changes[name].contested)
            metrics[f"equilibrium/trajectory/{name}"] = ccv
        if trainer.logger is not None:
            trainer.logger.log_metrics(metrics, step=step)

    def verdicts(self) -> dict[str, Settlement]:
        """Whether and where each layer has settled."""
        return {name: settlement(trajectory) for name, trajectory in self.trajectories.items()}

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the verdict."""
        if trainer.logger is None or not self.trajectories:
            return
        metrics = {}
        for name, verdict in self.verdicts().items():
            metrics[f"equilibrium/ccv/{name}"] = verdict.ccv
            metrics[f"equilibrium/drift/{name}"] = verdict.drift
            metrics[f"equilibrium/converged/{name}"] = float(verdict.converged)
        trainer.logger.log_metrics(metrics, step=trainer.global_step - 1)

    def state_dict(self) -> dict[str, Any]:
        """The trajectories so far."""
        return {name: vars(trajectory) for name, trajectory in self.trajectories.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self.trajectories = {name: Trajectory(**columns) for name, columns in state_dict.items()}

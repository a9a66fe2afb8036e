"""Top-KAST as a Lightning callback."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl

from psn_lightning.callbacks.latent import LatentWeights
from psn_lightning.callbacks.layers import log_epoch
from psn_lightning.callbacks.steps import count_steps_of_each, count_total_steps
from psn_lightning.dynamics import ConstantSchedule, TopKASTLayer, Window
from psn_lightning.errors import SettingError
from psn_lightning.nn import MaskedLayer
from psn_lightning.nn.torch_private import is_held
from psn_lightning.topology import check_sparsity


class TopKAST(LatentWeights[TopKASTLayer]):
    """Top-KAST: compute with the largest weights of each layer (A), and train these and the next ones (B).

    Source: Jayakumar et al., 2020, arXiv 2106.03517. A and B are selected anew every ``period`` steps until ``end``,
    once more there, and then stay, with B equal to A: what follows is static sparse training under the penalty. The
    paper selects in every step, and stops to explore at some point. After each epoch ``topkast/penalty`` is logged, the
    penalty of all layers together, which is part of no other loss.

    Args:
        sparsity: Sparsity of each layer, 1 − D, in [0, 1).
        backward_sparsity: Share of a layer's weights that no gradient reaches, in [0, sparsity]; the paper trains 10 to
            20 points more than it computes with.
        penalty: Factor c of the penalty c · (‖θ_A‖ + ‖θ_{B∖A}‖ / D), ≥ 0.
        period: Time between selections: optimizer steps (int) or epochs (float).
        end: End of the exploration: an optimizer step (int) or a share of the run (float).
        layers: Glob patterns of the names of the layers to train so; all sparse layers by default.

    Raises:
        SettingError: If an argument is out of range.
    """

    def __init__(
        self,
        sparsity: float = 0.9,
        backward_sparsity: float = 0.8,
        penalty: float = 1e-4,
        period: int | float = 100,
        end: int | float = 0.75,
        layers: list[str] | None = None,
    ) -> None:
        super().__init__(layers)
        check_sparsity(sparsity)
        if not 0 <= backward_sparsity <= sparsity:
            raise SettingError(
                f"backward_sparsity {backward_sparsity} is not in [0, sparsity {sparsity}]: gradients reach at least "
                "the weights that the forward pass uses"
            )
        if not 0 <= penalty < math.inf:
            raise SettingError(f"penalty {penalty} must be a number ≥ 0: 0 switches the penalty off")
        self.sparsity = sparsity
        self.backward_sparsity = backward_sparsity
        self.penalty = penalty
        self.schedule = ConstantSchedule(1.0, period, 0, end)
        self._window: Window | None = None
        self._selected = 0  # step of the latest selection

    def make_layer(self, layer: MaskedLayer) -> TopKASTLayer:
        """Make the latent weights of a layer from its weights."""
        return TopKASTLayer(layer, self.sparsity, self.backward_sparsity, self.penalty)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the steps of the selections; see :meth:`LatentWeights.on_fit_start`.

        Raises:
            SettingError: If no selection fits into the run, or as :meth:`LatentWeights.on_fit_start`.
        """
        n_steps = count_steps_of_each(trainer, pl_module, count_total_steps(trainer))
        per_epoch = trainer.num_training_batches / trainer.accumulate_grad_batches
        self._window = self.schedule.window(n_steps, per_epoch if math.isinf(per_epoch) else math.ceil(per_epoch))
        super().on_fit_start(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Select A and B anew where that is due; for the last time where the exploration ends."""
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        if not self.is_due(trainer) or any(map(is_held, trainer.optimizers)):
            return
        self._selected = _count_steps(trainer)
        for latent in self.latent.values() if self._selected >= self._end else ():
            latent.stop_exploring()
        self.refresh(trainer, pl_module)

    def is_due(self, trainer: pl.Trainer) -> bool:
        """Return whether A and B are to be selected before the next step."""
        step = _count_steps(trainer)
        if step >= self._end:
            return self._selected < self._end
        return step != self._selected and self._window is not None and self._window.is_update(step)

    @property
    def _end(self) -> int:
        """Step at which the exploration ends."""
        return 0 if self._window is None else self._window.end

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the penalty."""
        if self.latent:
            penalty = sum(float(latent.compute_penalty()) for latent in self.latent.values())
            log_epoch(trainer, {"topkast/penalty": penalty})

    def state_dict(self) -> dict[str, Any]:
        """Latent weights and masks B by layer name, and the step of the latest selection."""
        return super().state_dict() | {"selected": self._selected}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state of :meth:`state_dict` until the fit starts."""
        super().load_state_dict(state_dict)
        self._selected = state_dict["selected"]


def _count_steps(trainer: pl.Trainer) -> int:
    """Count the steps of each optimizer so far."""
    return trainer.global_step // max(1, len(trainer.optimizers))

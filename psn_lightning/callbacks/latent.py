"""Methods whose sparse weights are a function of dense latent weights, as callbacks: Top-KAST and STR."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import lightning.pytorch as pl
from torch.optim import Optimizer

from psn_lightning.callbacks.averages import follow_connections
from psn_lightning.callbacks.dynamic import DynamicTopology
from psn_lightning.callbacks.layers import log_epoch, select_layers
from psn_lightning.callbacks.pruning import Prune
from psn_lightning.callbacks.ranks import check_equal_connectivity
from psn_lightning.callbacks.sparsify import StartDense
from psn_lightning.callbacks.steps import count_steps_of_each, count_total_steps
from psn_lightning.dynamics import ConstantSchedule, Window, moments_of
from psn_lightning.dynamics.latent import LatentLayer, optimizer_group_of
from psn_lightning.dynamics.soft_threshold import SoftThresholdLayer
from psn_lightning.dynamics.topkast import TopKASTLayer
from psn_lightning.errors import SettingError
from psn_lightning.nn import MaskedLayer
from psn_lightning.nn.torch_private import handles_amp_scaling, is_held
from psn_lightning.topology import check_sparsity

Layer = TypeVar("Layer", bound=LatentLayer)


class LatentWeights(StartDense, ABC, Generic[Layer]):
    """Base class of callbacks that train latent weights, see :mod:`psn_lightning.dynamics.latent`.

    Every optimizer step acts on the latent weights. At any other time the module is an ordinary masked one with the
    effective weights: evaluations, checkpoints, averages and statistics see these. The latent weights are in the state
    of the callback; with the end of the fit they are gone. The callback changes no loss: what a method adds to it is
    added to the gradient, averaged over processes, unscaled and not yet clipped.

    Args:
        layers: Glob patterns of the names of the layers to train so; all sparse layers by default.
    """

    def __init__(self, layers: list[str] | None = None) -> None:
        super().__init__()
        self.layers = layers
        self.latent: dict[str, Layer] = {}
        """Latent weights by layer name; empty outside of a fit."""
        self._restored: Mapping[str, Any] | None = None
        self._handles: list[Any] = []

    @abstractmethod
    def make_layer(self, layer: MaskedLayer) -> Layer:
        """Make the latent weights of a layer from its weights."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check strategy, callbacks and storage, and give a dense module full masks.

        Raises:
            SettingError: If another callback changes the masks, the strategy shards weights, or a layer is csr.
        """
        super().setup(trainer, pl_module, stage)
        if stage != "fit":
            return
        for other in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(other, DynamicTopology | Prune | LatentWeights) and other is not self:
                raise SettingError(
                    f"{type(self).__name__} and {type(other).__name__} would change the same masks: keep one of these "
                    "callbacks"
                )
        for name, layer in select_layers(pl_module, self.layers).items():
            if not isinstance(layer, MaskedLayer):
                raise SettingError(
                    f"{name}: {type(self).__name__} trains dense weights, which storage {layer.storage} does not have: "
                    "use storage masked"
                )

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the latent weights, or restore them, before Lightning restores the optimizers.

        Raises:
            SettingError: If a layer is not dense at the start of the run, a checkpoint has the latent weights of other
                layers, or an optimizer unscales gradients itself.
        """
        self.release(trainer)
        restored, self._restored = self._restored, None
        for optimizer in trainer.optimizers:
            if getattr(trainer.precision_plugin, "scaler", None) is not None and handles_amp_scaling(optimizer):
                raise SettingError(
                    f"fused {type(optimizer).__name__} under 16-mixed hides the true gradient: use fused=False, or "
                    "precision bf16-mixed"
                )
            self._handles.append(optimizer.register_step_post_hook(lambda *_: self._end_step(trainer, pl_module)))
        if restored is not None and not restored["layers"]:
            return  # a checkpoint from after the fit
        layers = select_layers(pl_module, self.layers)
        if restored is not None and restored["layers"].keys() != layers.keys():
            raise SettingError(
                f"the checkpoint has latent weights of {', '.join(restored['layers'])}, not of {', '.join(layers)}: "
                "resume with the layers of the checkpoint"
            )
        for name, layer in layers.items():
            assert isinstance(layer, MaskedLayer)
            if restored is None and not layer.full:
                raise SettingError(
                    f"{type(self).__name__} starts from dense layers, but {name} has {layer.n_connections} of "
                    f"{layer.n_out * layer.n_in} connections: start at sparsity 0, without the callback Sparsify"
                )
            self.latent[name] = self.make_layer(layer)
            self._hand_over_own_parameter(self.latent[name], trainer.optimizers)
            if restored is not None:
                self.latent[name].load_state_dict(restored["layers"][name])
        if restored is None:
            self.refresh(trainer, pl_module)

    def refresh(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compute the effective weights of all layers, the same on all processes."""
        for latent in self.latent.values():
            latent.refresh([m for optimizer in trainer.optimizers for m in moments_of(latent.layer, optimizer)])
        follow_connections(trainer, pl_module)
        check_equal_connectivity(trainer, pl_module)

    @staticmethod
    def _hand_over_own_parameter(latent: Layer, optimizers: list[Optimizer]) -> None:
        """Add the parameter of the function, if it has one, to the optimizer's group that holds the weight."""
        own = latent.own_parameter
        for optimizer in optimizers:
            group = optimizer_group_of(latent.layer.parameter, optimizer)
            if own is not None and group is not None:
                group["params"].append(own)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Give the optimizer the latent weights of its layers, and the gradients to them."""
        held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        for latent in self.latent.values():
            if id(latent.layer.parameter) in held:
                latent.before_step()

    def _end_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compute the effective weights."""
        for latent in self.latent.values():
            latent.after_step()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Compute the effective weights also where the gradient scaler has skipped the step."""
        self._end_step(trainer, pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Compute the effective weights if a step was interrupted."""
        self._end_step(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave an ordinary sparse module."""
        self.release(trainer)

    def release(self, trainer: pl.Trainer) -> None:
        """End the method: the latent weights are gone, and the optimizers hold the module's parameters only."""
        for handle in self._handles:
            handle.remove()
        for latent in self.latent.values():
            latent.release()
            for optimizer in trainer.optimizers:
                group = optimizer_group_of(latent.layer.parameter, optimizer)
                if latent.own_parameter is not None and group is not None:
                    group["params"] = [p for p in group["params"] if p is not latent.own_parameter]
                    optimizer.state.pop(latent.own_parameter, None)
        self._handles, self.latent = [], {}

    def state_dict(self) -> dict[str, Any]:
        """Latent weights by layer name; none after the fit."""
        return {"layers": {name: latent.state_dict() for name, latent in self.latent.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state of :meth:`state_dict` until the fit starts."""
        self._restored = state_dict


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


class STR(LatentWeights[SoftThresholdLayer]):
    """STR: weights below a threshold that each layer learns are 0, the others are shrunk by it.

    Source: Kusupati et al., 2020, arXiv 2002.03231. The weight is sign(θ) · relu(|θ| − sigmoid(s)); s is trained by the
    optimizer, in the group that holds the layer's weight. The sparsity has no target: it emerges from ``weight_decay``
    and ``initial``, and is what ``sparsity/realised`` says. After each epoch ``str/threshold/<layer>`` is logged.

    Args:
        initial: First value of s, at which the threshold sigmoid(s) is far below the weights. The paper's −3200 is for
            SGD over 100 epochs of ImageNet; Adam moves s by about its learning rate in a step.
        weight_decay: Weight decay λ of θ and s, ≥ 0, added to the gradients as by SGD; on top of the optimizer's own.
        layers: Glob patterns of the names of the layers to train so; all sparse layers by default.

    Raises:
        SettingError: If an argument is out of range.
    """

    def __init__(self, initial: float = -8.0, weight_decay: float = 1e-3, layers: list[str] | None = None) -> None:
        super().__init__(layers)
        if not math.isfinite(initial):
            raise SettingError(f"initial {initial} must be a finite number: the threshold is sigmoid(initial) at first")
        if not 0 <= weight_decay < math.inf:
            raise SettingError(f"weight_decay {weight_decay} must be a number ≥ 0")
        self.initial = initial
        self.weight_decay = weight_decay

    def make_layer(self, layer: MaskedLayer) -> SoftThresholdLayer:
        """Make the latent weights of a layer from its weights."""
        return SoftThresholdLayer(layer, self.initial, self.weight_decay)

    def _end_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compute the effective weights; averages follow their connections, which may change in every step."""
        ends = any(latent.is_stepping for latent in self.latent.values())
        super()._end_step(trainer, pl_module)
        if ends:
            follow_connections(trainer, pl_module)  # waits for the device only where there is an average

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the thresholds."""
        thresholds = {f"str/threshold/{name}": float(latent.threshold) for name, latent in self.latent.items()}
        log_epoch(trainer, thresholds)

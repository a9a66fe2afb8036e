"""Base class of the callbacks whose sparse weights are a function of dense latent weights: Top-KAST and STR."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_warn
from torch.optim import LBFGS, Optimizer

from psn_lightning.callbacks.averages import follow_connections
from psn_lightning.callbacks.dynamic import DynamicTopology
from psn_lightning.callbacks.layers import select_layers
from psn_lightning.callbacks.pruning import Prune
from psn_lightning.callbacks.ranks import check_equal_connectivity
from psn_lightning.callbacks.sparsify import StartDense
from psn_lightning.dynamics import moments_of
from psn_lightning.dynamics.latent import LatentLayer, optimizer_group_of
from psn_lightning.errors import SettingError
from psn_lightning.nn import MaskedLayer
from psn_lightning.nn.torch_private import handles_amp_scaling

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
        self._ended = False  # whether the fit has ended, and with it the method
        self._handles: list[Any] = []

    @abstractmethod
    def make_layer(self, layer: MaskedLayer) -> Layer:
        """Make the latent weights of a layer from its weights."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check strategy, callbacks and storage, and give a dense module full masks.

        Raises:
            SettingError: If another callback changes the masks, the strategy shards weights, or a layer is not masked.
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
            if isinstance(optimizer, LBFGS):
                raise SettingError(
                    f"LBFGS takes several gradients within a step, and {type(self).__name__} needs one: use Adam or SGD"
                )
            if getattr(trainer.precision_plugin, "scaler", None) is not None and handles_amp_scaling(optimizer):
                raise SettingError(
                    f"fused {type(optimizer).__name__} under 16-mixed hides the true gradient: use fused=False, or "
                    "precision bf16-mixed"
                )
            self._handles.append(optimizer.register_step_post_hook(lambda *_: self._end_step(trainer, pl_module)))
        if restored is not None and not restored["layers"]:
            if restored["ended"]:
                self._ended = True
                return
            restored = None  # a checkpoint from before the fit, as Lightning's tuner makes one
        self._ended = False
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
                    f"{layer.n_out * layer.n_in} connections: start at sparsity 0, without the "
                    "callback Sparsify, or with a module that no fit has made sparse"
                )
            self.latent[name] = self.make_layer(layer)
            self._hand_over_own_parameter(self.latent[name], trainer.optimizers)
            if restored is not None:
                self.latent[name].load_state_dict(restored["layers"][name])
        if restored is None:
            self.refresh(trainer, pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Warn if a checkpoint from after the fit is trained on."""
        if self._ended:
            rank_zero_warn(
                f"the checkpoint is from after a fit, which has ended {type(self).__name__}: the masks stay as they "
                "are. Resume from a checkpoint within the fit to go on with the method"
            )

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
        self._ended = True

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
        """Latent weights by layer name, and whether the fit has ended; none outside of a fit."""
        return {"layers": {name: latent.state_dict() for name, latent in self.latent.items()}, "ended": self._ended}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state of :meth:`state_dict` until the fit starts."""
        self._restored = state_dict

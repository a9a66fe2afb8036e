"""Classification task: network, loss, metrics and optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from psn_lightning.callbacks.loss_log import LossLog
from psn_lightning.data import Batch
from psn_lightning.errors import SettingError
from psn_lightning.nn import (
    InitName,
    Mixture,
    MixtureLayer,
    MixtureMLP,
    SparseLayer,
    SparseMLP,
    StorageName,
    auxiliary_loss,
    mixture_layers,
    sparse_layers,
)
from psn_lightning.nn.storages import check_csr_device, check_csr_precision
from psn_lightning.topology import (
    DEGREES,
    FAMILIES,
    WIRINGS,
    AboveCeiling,
    AllocationName,
    BudgetName,
    FanIn,
    Spread,
    SpreadingName,
    Topology,
    Uniform,
    Wiring,
)

_PAPER_LR = 1e-3

# Checkpoints name these dataclasses of plain numbers, and load with weights_only nevertheless.
torch.serialization.add_safe_globals([*FAMILIES, *DEGREES, *WIRINGS, Spread, Mixture])


class SparseClassifier(pl.LightningModule):
    """:class:`SparseMLP` trained with cross entropy and, by default, Adam (section 2.7).

    The masks are constant; callbacks such as :class:`RigL` change them.

    Args:
        n_features: Number of features; the command line takes it from the data.
        n_classes: Number of classes; the command line takes it from the data.
        hidden: Widths of the hidden layers; None is [1024, 1024].
        topology: Family of the fan-in, or wiring; None is :class:`Uniform`.
        sparsity: Fraction of absent connections in the hidden layers, in [0, 1); 0 is the dense baseline.
        spreading: Inputs of a neuron: even, random or sequential; a wiring chooses them itself.
        allocation: Density per layer: uniform, er or erk.
        min_fan_in: Smallest fan-in of a neuron at the start.
        budget: Layers that the sparsity counts: the hidden ones, or the whole network with its dense output layer.
        init: Initial weights: mean_fan_in (He with the layer's mean fan-in, Eq. 9), per_neuron (He with each neuron's
            fan-in), linear (those of nn.Linear, uniform within ±1/√inputs) or isometry (nearly orthogonal). Biases are
            0. A wiring that brings weights (Orthogonal) sets those of the hidden layers.
        storage: Storage of sparse weights: masked (dense, any device), csr (active weights only, CPU), groups (active
            weights only, any device, for neurons that share their inputs: Grouped, BlockSparse) or auto: csr if the
            machine has no accelerator and the sparsity is at least 0.6.
        lr: Learning rate of Adam, the default optimizer.
        optimizer: Another optimizer, with its own learning rate; None is Adam.
        lr_scheduler: Learning rate schedule; None keeps the learning rate constant.
        lr_interval: Unit of the schedule: every epoch or every optimizer step.
        compile: Whether to compile the network with torch.compile; pays off in long runs on GPUs.
        evaluation_split: Name of the split evaluated during the fit, in metrics; the command line takes it from the
            data.
        seed: Seed of topology and weights; the command line takes it from seed_everything.
        layer_norm: Whether to normalise the hidden layers (section 2.6); csr is slower without.
        init_scale: Factor of the initial weights of the hidden layers; 1 is that of init.
        above_ceiling: Treatment of a sparsity above the ceiling of Eq. 7: refuse it, or clamp the fan-in to min_fan_in.
        mixture: Mixtures of experts in place of the hidden layers, trained with their balance losses; None for sparse
            layers. Sparsity is then 0, and settings of topology and storage have no effect.

    Raises:
        SettingError: If an argument is out of range, or the topology cannot be built.
    """

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        hidden: list[int] | None = None,
        topology: FanIn | Wiring | None = None,
        sparsity: float = 0.9,
        spreading: SpreadingName = "random",
        allocation: AllocationName = "uniform",
        min_fan_in: int = 1,
        budget: BudgetName = "hidden",
        init: InitName = "mean_fan_in",
        storage: StorageName = "masked",
        lr: float = _PAPER_LR,
        optimizer: OptimizerCallable | None = None,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_interval: Literal["epoch", "step"] = "epoch",
        compile: bool = False,
        evaluation_split: Literal["val", "test"] = "test",
        seed: int = 42,
        layer_norm: bool = True,
        init_scale: float = 1.0,
        above_ceiling: AboveCeiling = "refuse",
        mixture: Mixture | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False, ignore=["optimizer", "lr_scheduler"])
        if n_features is None or n_classes is None:
            raise SettingError(
                "the data module does not state its numbers of features and classes: give it the attributes n_features "
                "and n_classes (docs/data.md), or train a LightningModule of your own"
            )
        if not 0 < lr < float("inf"):
            raise SettingError(f"lr {lr} must be a positive number: the paper uses 0.001")
        if optimizer is not None and lr != _PAPER_LR:
            raise SettingError(
                f"lr {lr} applies to the default optimizer, Adam, only: set the lr of the optimizer instead"
            )
        if isinstance(seed, bool) or seed < 0:
            raise SettingError(f"seed {seed} must be an integer ≥ 0")
        self.lr = lr
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.lr_interval = lr_interval
        self.seed = seed
        self.evaluation_split: Literal["val", "test"] = evaluation_split
        self._loss_log = LossLog()
        sizes = [n_features, *([1024, 1024] if hidden is None else hidden), n_classes]
        self.network: SparseMLP | MixtureMLP
        if mixture is None:
            design = Topology(topology or Uniform(), sparsity, allocation, min_fan_in, budget, above_ceiling)
            self.network = SparseMLP(sizes, design, spreading, init, storage, seed, layer_norm, init_scale)
        else:
            _check_mixture(sparsity, storage)
            self.network = MixtureMLP(sizes, mixture, init, seed, layer_norm, init_scale)
        if compile:
            self.network.compile()
        splits = ("val", "test")
        self.accuracy = nn.ModuleDict({split: MulticlassAccuracy(n_classes, average="micro") for split in splits})
        self.loss = nn.ModuleDict({split: MeanMetric() for split in splits})

    def setup(self, stage: str) -> None:
        """Set the precision of the network before a checkpoint is loaded; Lightning does so later, through float32.

        Args:
            stage: Stage of the Trainer.

        Raises:
            SettingError: If the storage does not support the precision or the device.
        """
        if self.network.storage == "csr":
            check_csr_precision(self.trainer.precision)
            check_csr_device(self.trainer.strategy.root_device)
        self.trainer.precision_plugin.convert_module(self)

    def on_train_start(self) -> None:
        """Log every loss if a callback monitors it, and the first loss in any case."""
        self._loss_log.begin(self.trainer, "train/loss")

    def sparse_layers(self) -> dict[str, SparseLayer]:
        """Hidden layers by name; metrics have the same names."""
        return sparse_layers(self.network)

    def mixture_layers(self) -> dict[str, MixtureLayer]:
        """Mixtures of experts by name; metrics have the same names."""
        return mixture_layers(self.network)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape ``(batch, n_classes)``.

        Args:
            x: Features, shape ``(batch, n_features)``.
        """
        logits: Tensor = self.network(x)
        return logits

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights and masks.

        Args:
            state_dict: State dict of a network of the same shape.
            strict: Whether the names must agree.
            assign: Whether to assign the tensors instead of copying them.

        Raises:
            SettingError: If the state dict belongs to another network.
        """
        try:
            return super().load_state_dict(state_dict, strict=strict, assign=assign)
        except (
            RuntimeError,
            TypeError,
            AttributeError,
            ValueError,
        ) as error:  # ValueError: entries that are not tensors
            reason = " ".join(str(error).split())[:250]
            raise SettingError(f"the checkpoint does not fit the configured network: {reason}") from error

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Cross entropy of a batch, a scalar; with mixtures plus their balance losses."""
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        logs = self._loss_log.is_due(self.trainer, batch_idx)
        if logs:
            self.log("train/loss", loss, sync_dist=True)  # prog_bar would read it, and wait for a GPU, in every step
        if isinstance(self.network, SparseMLP):
            return loss
        balance = auxiliary_loss(self.network)
        if logs:
            self.log("train/auxiliary_loss", balance, sync_dist=True)
        return loss + balance

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Evaluate a batch during the fit: of the test set in the paper's protocol, else of the held-out rows."""
        self._evaluate(batch, self.evaluation_split)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Evaluate a batch of the test set."""
        self._evaluate(batch, "test")

    def _evaluate(self, batch: Batch, split: str) -> None:
        """Log loss and accuracy, weighted by rows: the batches of the processes may differ in size."""
        x, y = batch
        logits = self(x)
        accuracy, loss = cast(MulticlassAccuracy, self.accuracy[split]), cast(MeanMetric, self.loss[split])
        accuracy(logits, y)
        loss(F.cross_entropy(logits, y), weight=len(y))
        self.log(f"{split}/loss", loss, metric_attribute=f"loss.{split}")
        self.log(f"{split}/accuracy", accuracy, prog_bar=True, metric_attribute=f"accuracy.{split}")

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Predicted class, its probability and the label of each row, shape ``(batch,)``."""
        x, y = batch
        confidence, predicted = self(x).softmax(dim=1).max(dim=1)
        return {"predicted": predicted, "probability": confidence, "label": y}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimizer: Adam, as in the paper, or ``optimizer``; with the learning rate schedule if there is one."""
        optimizer = self.optimizer(self.parameters()) if self.optimizer else self._make_adam()
        if self.lr_scheduler is None:
            return optimizer
        scheduler = self.lr_scheduler(optimizer)
        schedule: dict[str, Any] = {"scheduler": scheduler, "interval": self.lr_interval}
        if isinstance(scheduler, ReduceLROnPlateau):
            schedule["monitor"] = getattr(scheduler, "monitor", f"{self.evaluation_split}/loss")
        return cast(OptimizerLRScheduler, {"optimizer": optimizer, "lr_scheduler": schedule})

    def _make_adam(self) -> torch.optim.Optimizer:
        """Make Adam, fused where AMP allows it.

        Under 16-mixed a fused step would unscale gradients; under AMP Lightning refuses to clip those of a fused one.
        """
        trainer = self._trainer
        precision = "" if trainer is None else str(trainer.precision)
        clips = trainer is not None and trainer.gradient_clip_val is not None
        fused = "mixed" not in precision or (precision == "bf16-mixed" and not clips)
        return torch.optim.Adam(self.parameters(), lr=self.lr, fused=fused)


def _check_mixture(sparsity: float, storage: StorageName) -> None:
    """Check that no setting asks for sparse weights, which the experts do not have.

    Raises:
        SettingError: If the sparsity is not 0, or the storage is csr or groups.
    """
    for name, value, remedy in (("sparsity", sparsity, "0"), ("storage", storage, "auto or masked")):
        if value not in {0, "auto", "masked"}:
            raise SettingError(
                f"{name} {value} is for sparse layers, which mixture replaces: set {name} to {remedy}. The callback "
                "Sparsify makes the experts sparse"
            )

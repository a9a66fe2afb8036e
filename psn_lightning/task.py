"""One classification task: the network, the loss, the metrics, the optimizer."""

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

from psn_lightning.data import Batch
from psn_lightning.errors import SettingError
from psn_lightning.nn import InitName, SparseLayer, SparseMLP, StorageName
from psn_lightning.nn.storages import check_csr_precision
from psn_lightning.topology import FAMILIES, AllocationName, BudgetName, FanIn, SpreadingName, Topology, Uniform

_PAPER_LR = 1e-3

# Plain dataclasses of numbers: checkpoints that name them still load with weights_only.
torch.serialization.add_safe_globals(list(FAMILIES))


class SparseClassifier(pl.LightningModule):
    """A :class:`SparseMLP` trained with cross entropy and, unless told otherwise, Adam (section 2.7).

    It knows nothing of masks that change: that is the callbacks' work.

    Args:
        n_features: Inputs; the command line takes it from the data.
        n_classes: Classes; the command line takes it from the data.
        hidden: Widths of the hidden layers.
        topology: Family of the fan-in; None is :class:`Uniform`.
        sparsity: Share of absent connections in the hidden layers; 0 is the dense baseline.
        spreading: Which inputs a neuron reads: even, random or sequential.
        allocation: Density per layer: uniform, er or erk.
        min_fan_in: Smallest fan-in of a neuron at the start.
        budget: Whether the sparsity counts the hidden layers or also the dense output layer (network).
        init: He initialisation with the layer's mean fan-in, or per neuron.
        storage: How sparse weights are kept: masked (dense, any device), csr (active ones only, CPU) or auto: csr
            where there is no accelerator and the sparsity is 0.6 at least.
        lr: Learning rate of the default optimizer, Adam.
        optimizer: Another optimizer, with its own learning rate; None is Adam.
        lr_scheduler: Learning rate schedule; None keeps it constant.
        lr_interval: Whether the schedule moves every epoch or every optimizer step.
        compile: Whether torch.compile fuses the network; worth it on GPUs with long runs.
        evaluation_split: Name under which evaluation during the fit is logged; the command line takes it
            from the data.
        seed: Seed of topology and weights; the command line takes it from seed_everything.
        layer_norm: Whether hidden layers are normalised (section 2.6); csr is slower without.
        init_scale: Factor of the hidden layers' first weights; 1 is Eq. 9.

    Raises:
        SettingError: If a value is out of range, or the topology cannot be built.
    """

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        hidden: list[int] | None = None,
        topology: FanIn | None = None,
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
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False, ignore=["optimizer", "lr_scheduler"])
        if n_features is None or n_classes is None:
            raise SettingError(
                "the data module does not say how many features and classes there are: give it the attributes "
                "n_features and n_classes (docs/data.md), or train a LightningModule of your own"
            )
        if not 0 < lr < float("inf"):
            raise SettingError(f"lr {lr} must be a positive number: the paper uses 0.001")
        if optimizer is not None and lr != _PAPER_LR:
            raise SettingError(f"lr {lr} is that of the default Adam: set the optimizer's own lr instead")
        if isinstance(seed, bool) or seed < 0:
            raise SettingError(f"seed {seed} must be an integer ≥ 0")
        self.lr = lr
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.lr_interval = lr_interval
        self.seed = seed
        self.evaluation_split: Literal["val", "test"] = evaluation_split
        self._reports_every_loss = self._has_reported = False
        self.network = SparseMLP(
            [n_features, *([1024, 1024] if hidden is None else hidden), n_classes],
            Topology(topology or Uniform(), sparsity, allocation, min_fan_in, budget),
            spreading,
            init,
            storage,
            seed,
            layer_norm,
            init_scale,
        )
        if compile:
            self.network.compile()
        splits = ("val", "test")
        self.accuracy = nn.ModuleDict({split: MulticlassAccuracy(n_classes, average="micro") for split in splits})
        self.loss = nn.ModuleDict({split: MeanMetric() for split in splits})

    def setup(self, stage: str) -> None:
        """Take on the precision before a checkpoint is loaded: Lightning does it after, through float32.

        Raises:
            SettingError: If the storage cannot compute with it.
        """
        if self.network.storage == "csr":
            check_csr_precision(self.trainer.precision)
        self.trainer.precision_plugin.convert_module(self)

    def on_train_start(self) -> None:
        """Report every loss to a callback that monitors it; and the first one, also after a resume."""
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        self._reports_every_loss = any(getattr(c, "monitor", None) == "train/loss" for c in callbacks)
        self._has_reported = False

    def sparse_layers(self) -> dict[str, SparseLayer]:
        """The hidden layers; callbacks log them under these names."""
        return self.network.sparse_layers()

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(batch, n_classes)`` of features ``(batch, n_features)``."""
        logits: Tensor = self.network(x)
        return logits

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights and masks.

        Raises:
            SettingError: If they are those of another network.
        """
        try:
            return super().load_state_dict(state_dict, strict=strict, assign=assign)
        except (RuntimeError, TypeError, AttributeError, ValueError) as error:  # the latter where it holds no tensors
            reason = " ".join(str(error).split())[:250]
            raise SettingError(f"the checkpoint does not fit the configured network: {reason}") from error

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Cross entropy of one batch."""
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        if self._is_reported(batch_idx):
            self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        return loss

    def _is_reported(self, batch_idx: int) -> bool:
        """Whether the loss is logged: where the Trainer hands it on, and where somebody may look at it.

        Logging costs as much as a small step does.
        """
        trainer = self.trainer
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        due = every > 0 and (trainer.global_step + 1) % every == 0
        first = batch_idx == 0 or not self._has_reported
        self._has_reported = True
        return due or first or self._reports_every_loss or trainer.should_stop or trainer.is_last_batch

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Evaluation during the fit: the test set in the paper's protocol, else the held-out rows."""
        self._evaluate(batch, self.evaluation_split)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Evaluation on the test set."""
        self._evaluate(batch, "test")

    def _evaluate(self, batch: Batch, split: str) -> None:
        """Both figures count rows, whatever share of them a process or a batch has."""
        x, y = batch
        logits = self(x)
        accuracy, loss = cast(MulticlassAccuracy, self.accuracy[split]), cast(MeanMetric, self.loss[split])
        accuracy(logits, y)
        loss(F.cross_entropy(logits, y), weight=len(y))
        self.log(f"{split}/loss", loss, metric_attribute=f"loss.{split}")
        self.log(f"{split}/accuracy", accuracy, prog_bar=True, metric_attribute=f"accuracy.{split}")

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Predicted class, its probability, and the label."""
        x, y = batch
        confidence, predicted = self(x).softmax(dim=1).max(dim=1)
        return {"predicted": predicted, "probability": confidence, "label": y}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam, as in the paper, or what was given."""
        optimizer = self.optimizer(self.parameters()) if self.optimizer else self._adam()
        if self.lr_scheduler is None:
            return optimizer
        scheduler = self.lr_scheduler(optimizer)
        schedule: dict[str, Any] = {"scheduler": scheduler, "interval": self.lr_interval}
        if isinstance(scheduler, ReduceLROnPlateau):
            schedule["monitor"] = getattr(scheduler, "monitor", f"{self.evaluation_split}/loss")
        return cast(OptimizerLRScheduler, {"optimizer": optimizer, "lr_scheduler": schedule})

    def _adam(self) -> torch.optim.Optimizer:
        """Adam in one fused pass, but under AMP: there it would unscale and could not be clipped."""
        mixed = self._trainer is not None and "mixed" in str(self._trainer.precision)
        return torch.optim.Adam(self.parameters(), lr=self.lr, fused=not mixed)

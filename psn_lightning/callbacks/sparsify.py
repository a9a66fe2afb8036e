"""Callback that makes a LightningModule sparse before its optimizers are made."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.model_helpers import is_overridden

from psn_lightning.callbacks.layers import seed_of_run
from psn_lightning.callbacks.lightning_private import get_average_model
from psn_lightning.callbacks.ranks import refuse_sharding
from psn_lightning.dynamics.mixing import keep_masks
from psn_lightning.errors import SettingError
from psn_lightning.nn import InitName, LayerSettings, SparseLayer, SparsityTable, StorageName, sparse_layers, sparsify
from psn_lightning.nn.storages import csr_computes_in
from psn_lightning.topology import AllocationName, FanIn, SpreadingName, Wiring


class Sparsify(pl.Callback):
    """Calls :func:`psn_lightning.sparsify` on the LightningModule during setup.

    The model has to be made in ``__init__`` or ``configure_model``. A resumed run takes its connections from the
    checkpoint.

    Args:
        sparsity: Share of absent connections over all selected layers, in [0, 1).
        topology: Family of the fan-in, or wiring; Uniform by default.
        allocation: Densities of the layers: uniform, er or erk (Evci et al., 2020, arXiv 1911.11134).
        include: Glob patterns of the names of the layers to make sparse; every Linear, convolution and attention
            projection by default.
        exclude: Glob patterns of the names of layers to keep dense.
        overrides: Settings (sparsity, topology, storage) by glob pattern of layer names.
        storage: Storage of the weights: masked (any device), csr (active weights only, CPU), groups (active weights
            only, any device, for neurons that share their inputs), or auto (csr for Linears for which it is faster).
        spreading: Choice of the inputs of a neuron with given fan-in: even, random or sequential; not with a wiring.
        init: Initialisation of the active weights: None keeps their values; mean_fan_in, per_neuron, linear and
            isometry draw new ones.
        min_fan_in: Smallest fan-in of a neuron.
        seed: Seed of topology and newly drawn weights; the seed of seed_everything by default.
        print_table: Whether to print the table of sparse layers.
    """

    def __init__(
        self,
        sparsity: float = 0.9,
        topology: FanIn | Wiring | None = None,
        allocation: AllocationName = "erk",
        include: list[str] | None = None,
        exclude: list[str] | None = None,
        overrides: dict[str, LayerSettings] | None = None,
        storage: StorageName = "masked",
        spreading: SpreadingName = "random",
        init: InitName | None = None,
        min_fan_in: int = 1,
        seed: int | None = None,
        print_table: bool = True,
    ) -> None:
        self._settings: Mapping[str, Any] = {
            "sparsity": sparsity,
            "topology": topology,
            "allocation": allocation,
            "include": include,
            "exclude": exclude or (),
            "overrides": overrides,
            "spreading": spreading,
            "init": init,
            "min_fan_in": min_fan_in,
        }
        self.storage: StorageName = storage
        self.seed = seed
        self.print_table = print_table
        self._layers: list[SparseLayer] = []
        self._applied: weakref.ref[pl.LightningModule] | None = None
        self.table: SparsityTable | None = None
        """Table of the layers that were made sparse; None before ``setup``."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check the strategy and make the module sparse.

        Raises:
            SettingError: If the strategy shards weights, or the module cannot be made sparse.
        """
        refuse_sharding(type(trainer.strategy).__name__)
        self.apply(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Register the gradient hooks of layers that were unfrozen since the last batch."""
        if batch_idx == 0 or not self._layers:
            self._layers = list(sparse_layers(pl_module).values())
        for layer in self._layers:
            layer.attach()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the masks under optimizers that mix weights."""
        for optimizer in trainer.optimizers:
            keep_masks(optimizer, sparse_layers(pl_module).values())

    def apply(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the module sparse, unless this callback has already done so.

        Args:
            trainer: Trainer of the run.
            pl_module: Module to change.

        Raises:
            SettingError: If the module is sparse already or cannot be made sparse, or if a callback has already copied
                the dense model.
        """
        if self._applied is not None and self._applied() is pl_module:
            return
        if is_overridden("configure_model", pl_module):
            pl_module.configure_model()  # Lightning calls it again later, so it has to be idempotent anyway
        if sparse_layers(pl_module):
            if trainer.state.fn not in (None, "fit"):
                return  # evaluation of a trained model
            raise SettingError(f"{type(pl_module).__name__} is sparse already: remove the callback Sparsify")
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if get_average_model(callback) is not None:
                raise SettingError(
                    f"{type(callback).__name__} has already copied the dense model: put {type(self).__name__} before "
                    "it in the list of callbacks"
                )
        storage = self._choose_storage(trainer)
        self.table = sparsify(pl_module, **self._settings, storage=storage, seed=seed_of_run(self.seed))
        self._applied = weakref.ref(pl_module)
        if self.print_table:
            rank_zero_info(f"\n{self.table}")

    def _choose_storage(self, trainer: pl.Trainer) -> StorageName:
        """Return the storage, with auto replaced by masked where csr does not support the trainer's settings.

        Raises:
            SettingError: If storage csr is set but does not support the trainer's device or precision.
        """
        on_cpu = trainer.strategy.root_device.type == "cpu"
        possible = on_cpu and trainer.world_size == 1 and csr_computes_in(trainer.precision)
        if self.storage == "csr" and not (on_cpu and csr_computes_in(trainer.precision)):
            raise SettingError(
                f"storage csr supports the CPU in 32 or 64 bit, not {trainer.strategy.root_device} in "
                f"{trainer.precision}: use storage masked or auto"
            )
        return self.storage if possible or self.storage != "auto" else "masked"


class StartDense(Sparsify):
    """Base class of callbacks that make a dense network sparse in the course of the run.

    A dense module gets full masks, unless another :class:`Sparsify` makes it sparse; our own model starts dense with
    ``sparsity: 0``.

    Args:
        seed: Seed of the callback's random numbers; the seed of seed_everything by default.
    """

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(0.0, allocation="uniform", seed=seed, print_table=False)

    def apply(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give a dense module full masks, unless another :class:`Sparsify` makes it sparse.

        Raises:
            SettingError: If the module cannot be made sparse.
        """
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Sparsify) and not isinstance(callback, StartDense):
                callback.apply(trainer, pl_module)
        if not sparse_layers(pl_module):
            super().apply(trainer, pl_module)


def sparsify_first(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    """Apply a :class:`Sparsify` of the trainer now, wherever it is in the list of callbacks.

    Args:
        trainer: Trainer whose callbacks are searched.
        pl_module: Module to change.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Sparsify):
            callback.apply(trainer, pl_module)

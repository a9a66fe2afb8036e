"""Makes any LightningModule sparse before its optimizers exist."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.model_helpers import is_overridden

from psn_lightning.callbacks.layers import seed_of_run
from psn_lightning.callbacks.ranks import refuse_sharding
from psn_lightning.errors import SettingError
from psn_lightning.nn import InitName, LayerSettings, SparseLayer, SparsityTable, StorageName, sparse_layers, sparsify
from psn_lightning.nn.storages import csr_computes_in
from psn_lightning.topology import AllocationName, FanIn, SpreadingName


class Sparsify(pl.Callback):
    """Calls :func:`psn_lightning.sparsify` on the LightningModule, so that a configuration alone makes it sparse.

    It works on models that are made in ``__init__`` or ``configure_model``. A resumed run gets its connections from
    the checkpoint.

    Args:
        sparsity: Share of absent connections over all selected layers, in [0, 1).
        topology: Family of the fan-in; None is :class:`Uniform`.
        allocation: Density per layer: uniform, er or erk.
        include: Glob patterns of the layers to make sparse; None: every Linear, convolution and attention projection.
        exclude: Glob patterns of layers to leave dense.
        overrides: Settings (sparsity, topology, storage) of the layers that a glob pattern matches.
        storage: masked (any device), csr (active weights only, CPU), or auto: csr for Linears where it is faster.
        spreading: Which inputs a neuron reads: even, random or sequential.
        init: None keeps the values of the weights that stay; mean_fan_in or per_neuron draw them anew.
        min_fan_in: Smallest fan-in of a neuron.
        seed: Seed of the topology; None: that of seed_everything.
        print_table: Whether to print the layers.
    """

    def __init__(
        self,
        sparsity: float = 0.9,
        topology: FanIn | None = None,
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
        """What became sparse; known once the run is set up."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Make the module sparse, once."""
        refuse_sharding(type(trainer.strategy).__name__)
        self.apply(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Mask the gradient of layers that are trained only from now on."""
        if batch_idx == 0 or not self._layers:
            self._layers = list(sparse_layers(pl_module).values())
        for layer in self._layers:
            layer.attach()

    def apply(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the module sparse, unless this has been done.

        Raises:
            SettingError: If the module is sparse already, or cannot be made so.
        """
        if self._applied is not None and self._applied() is pl_module:
            return
        if is_overridden("configure_model", pl_module):
            pl_module.configure_model()  # Lightning calls it again, later: it must do its work once anyway
        if sparse_layers(pl_module):
            if trainer.state.fn not in (None, "fit"):
                return  # a trained model that is evaluated
            raise SettingError(f"{type(pl_module).__name__} is sparse already: leave the callback Sparsify out")
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if getattr(callback, "_average_model", None) is not None:
                raise SettingError(f"{type(callback).__name__} has copied the dense model: put Sparsify before it")
        storage = self._storage(trainer)
        self.table = sparsify(pl_module, **self._settings, storage=storage, seed=seed_of_run(self.seed))
        self._applied = weakref.ref(pl_module)
        if self.print_table and trainer.state.fn == "fit":
            rank_zero_info(f"\n{self.table}")

    def _storage(self, trainer: pl.Trainer) -> StorageName:
        """The storage, with auto meaning masked where csr could not do what is asked for."""
        on_cpu = trainer.strategy.root_device.type == "cpu"
        possible = on_cpu and trainer.world_size == 1 and csr_computes_in(trainer.precision)
        if self.storage == "csr" and not (on_cpu and csr_computes_in(trainer.precision)):
            raise SettingError(
                f"storage csr computes on the CPU in 32 or 64 bit, not on {trainer.strategy.root_device} in "
                f"{trainer.precision}: use storage masked or auto"
            )
        return self.storage if possible or self.storage != "auto" else "masked"


def sparsify_first(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    """Have a :class:`Sparsify` of the trainer act now, wherever it stands in the list of callbacks."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Sparsify):
            callback.apply(trainer, pl_module)

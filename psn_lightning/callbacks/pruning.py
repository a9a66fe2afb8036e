"""Pruning by saliency as a Lightning callback: before the first step, once within the run, or several times."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from itertools import islice
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from psn_lightning.callbacks.averages import follow_connections
from psn_lightning.callbacks.layers import seed_of_run
from psn_lightning.callbacks.ranks import check_equal_connectivity, refuse_changing_counts
from psn_lightning.callbacks.sparsify import StartDense
from psn_lightning.callbacks.steps import count_steps_of_each, count_total_steps
from psn_lightning.errors import SettingError
from psn_lightning.nn import InitName, sparse_layers
from psn_lightning.nn.torch_private import is_held
from psn_lightning.pruning import Saliency, Scope, Shuffle, classify, prune
from psn_lightning.topology import check_sparsity


class Prune(StartDense):
    """Removes the connections that a saliency finds least important, at one or several points of a run.

    A dense module gets full masks first, as by :class:`Sparsify`; our own model starts dense with ``sparsity: 0``.
    Between several points the share of the connections that are left falls geometrically. A resumed run does not prune
    twice. Together with :class:`DynamicTopology` pruning makes the start that the rule goes on from. Put this callback
    before :class:`TopologyLogger`, whose overlap is then that with the pruned network.

    Args:
        saliency: Importance of a connection, such as :class:`~psn_lightning.pruning.SNIP`.
        sparsity: Share of absent connections after the last point, in [0, 1).
        at: Points of the run: optimizer step (int) or share of the run (float); 0 is before the first step.
        scope: network or layer; default: that of the saliency.
        rounds: Rounds of scoring and pruning at each point; default: that of the saliency.
        n_batches: Number of training batches that the saliency reads; default: that of the saliency.
        shuffle: Control: positions or inputs, see :func:`psn_lightning.prune`.
        redraw: Control: new weights of this kind for the same mask.
        forward: Function from module and batch to logits and labels; by default ``(module(x), y)`` of ``(x, y)``.
        seed: Seed of the batches, of random scores and controls; the seed of ``seed_everything`` by default.

    Raises:
        SettingError: If ``sparsity`` or ``at`` is out of range.
    """

    def __init__(
        self,
        saliency: Saliency,
        sparsity: float = 0.9,
        at: int | float | list[int | float] = 0,
        scope: Scope | None = None,
        rounds: int | None = None,
        n_batches: int | None = None,
        shuffle: Shuffle | None = None,
        redraw: InitName | None = None,
        forward: Callable[[nn.Module, Any], tuple[Tensor, Tensor]] | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        check_sparsity(sparsity)
        points = at if isinstance(at, list) else [at]
        if not points or any(point < 0 or (isinstance(point, float) and point >= 1) for point in points):
            raise SettingError(f"at {at}: give optimizer steps (int ≥ 0) or shares of the run (float in [0, 1))")
        self.saliency = saliency
        self.sparsity = sparsity
        self.points = points
        self.n_batches = saliency.batches if n_batches is None else n_batches
        self._pruning = {"scope": scope, "rounds": rounds, "shuffle": shuffle, "redraw": redraw}
        self._forward = forward or classify
        self._steps: list[int] = []
        self._done = 0  # points of the run that are behind it
        self._density = 1.0  # before the first of them
        self._module: weakref.ref[pl.LightningModule] | None = None
        self._is_restored = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check the strategy, and make a dense module sparse.

        Raises:
            SettingError: If the strategy shards weights, the module cannot be made sparse, or storage csr or groups
                would have to change its counts on several processes.
        """
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            refuse_changing_counts(trainer, sparse_layers(pl_module), "pruning")

    @property
    def is_at_target(self) -> bool:
        """Whether the last point is behind the run."""
        return self._done >= len(self.points)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the steps of the points, and prune if one of them is before the first step.

        Raises:
            SettingError: If the length of the run is needed and not known, or the module cannot be pruned so.
        """
        super().on_fit_start(trainer, pl_module)
        if not self._is_restored and (self._module is None or self._module() is not pl_module):
            self._done = 0
        self._module, self._is_restored = weakref.ref(pl_module), False
        n_steps = count_steps_of_each(trainer, pl_module, count_total_steps(trainer))
        if any(isinstance(point, float) for point in self.points) and math.isinf(n_steps):
            raise SettingError(f"at {self.points} has shares of a run without a finite length: give optimizer steps")
        self._steps = sorted(p if isinstance(p, int) else round(p * n_steps) for p in self.points)
        if self._done == 0 and self._steps[0] == 0:
            self._prune(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Prune if the next step is at or after a point that has not been dealt with."""
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        step = trainer.global_step // max(1, len(trainer.optimizers))
        while self._done < len(self._steps) and step >= self._steps[self._done]:
            if any(map(is_held, trainer.optimizers)):
                return  # the run has diverged, and ends soon with the network as it was before
            self._prune(trainer, pl_module)

    def _prune(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prune to the density of the present point, the same on all processes."""
        layers = sparse_layers(pl_module).values()  # all of them, as prune takes them
        positions = sum(layer.n_out * layer.n_in for layer in layers)
        if self._done == 0:
            self._density = sum(len(layer.active_positions()) for layer in layers) / positions
        self._done += 1
        share = self._done / len(self._steps)
        last = self._done == len(self._steps)
        density = self._density * ((1 - self.sparsity) / self._density) ** share
        if trainer.world_size > 1:
            for buffer in pl_module.buffers():  # running statistics are those of each process, and scores read them
                torch.distributed.broadcast(buffer, 0)
        with isolate_rng():
            prune(
                pl_module,
                self.saliency,
                self.sparsity if last else 1 - density,
                self._read_batches(trainer),
                forward=self._forward,
                optimizers=trainer.optimizers,
                seed=seed_of_run(self.seed),
                **self._pruning,  # type: ignore[arg-type]
            )
        follow_connections(trainer, pl_module)
        check_equal_connectivity(trainer, pl_module)

    def _read_batches(self, trainer: pl.Trainer) -> list[Any]:
        """Read training batches in an order of their own: that of the training does not move.

        Raises:
            SettingError: If the training loader is not a DataLoader of rows with numbers.
        """
        if self.n_batches == 0:
            return []
        trainer.fit_loop.setup_data()  # of no effect where the loaders are made already
        loader: Any = trainer.train_dataloader
        rows = getattr(loader, "dataset", None)
        if rows is None or isinstance(rows, IterableDataset):
            raise SettingError(
                f"{type(self.saliency).__name__} reads training batches, which needs a single DataLoader of a data set "
                "with __getitem__ and __len__"
            )
        parts = (loader, loader.batch_sampler, loader.sampler)
        size = next((n for part in parts if (n := getattr(part, "batch_size", None))), None)
        if size is None:
            raise SettingError("the training loader does not say its batch size: give it batch_size")
        size *= trainer.world_size  # the rows of all processes together
        order = torch.Generator().manual_seed(seed_of_run(self.seed))
        own: DataLoader[Any] = DataLoader(rows, size, shuffle=True, collate_fn=loader.collate_fn, generator=order)
        return list(islice(own, self.n_batches))

    def state_dict(self) -> dict[str, Any]:
        """Number of points that are behind the run, and the density before the first of them."""
        return {"done": self._done, "density": self._density}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of :meth:`state_dict`."""
        self._is_restored = True
        self._done, self._density = state_dict["done"], state_dict["density"]

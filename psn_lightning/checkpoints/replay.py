"""Exact resume within an epoch for any DataLoader: the order is drawn again, and used batches are skipped."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import torch

from psn_lightning.checkpoints.generators import get_generator_states, set_generator_states
from psn_lightning.checkpoints.rank_states import gather_by_rank, pop_own_state
from psn_lightning.nn.torch_private import list_leaves

_KEY = "psn_lightning.replay"
_CPU = torch.device("cpu")  # whose generators DataLoaders draw from


class ReplayOrder(pl.Callback):
    """Resumes a run within an epoch with the remaining batches of that epoch, in their order.

    A DataLoader draws its order from the global random generators when an iterator is made. Checkpoints hold their
    state at that moment. A resumed epoch restores it and skips the batches that were used before the checkpoint; they
    are loaded once more, which takes its time. Place this callback before callbacks that ask for the length of the
    run, such as :class:`RigL`, or call :meth:`attach` before the fit; :class:`GeneratorState` is needed as well.
    Loaders with a method ``load_state_dict`` are not changed: Lightning resumes them itself.
    """

    def __init__(self) -> None:
        self._restored: list[list[tuple[dict[str, Any] | None, int]]] = []
        self._trainer: weakref.ref[pl.Trainer] | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Attach the callback to the trainer of a fit, see :meth:`attach`."""
        if stage == "fit":
            self.attach(trainer)

    def attach(self, trainer: pl.Trainer) -> None:
        """Wrap the trainer's training loaders, after Lightning has added distributed samplers to them.

        Args:
            trainer: Trainer of the coming fit.
        """
        if self._trainer is not None and self._trainer() is trainer:
            return
        self._trainer = weakref.ref(trainer)
        # Lightning warns about every loader without state, but this callback makes them resumable.
        warnings.filterwarnings("ignore", message=".*your dataloader is not resumable")
        process = trainer.strategy.process_dataloader

        def wrapped(dataloader: object) -> object:
            processed = process(dataloader)
            if not trainer.training or hasattr(processed, "load_state_dict"):
                return processed
            return ReplayableLoader(processed)

        trainer.strategy.process_dataloader = wrapped  # type: ignore[method-assign]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the start states of the epoch's iterators and the numbers of used batches of all processes."""
        ends = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        own = [] if ends else [(loader.start_states, loader.n_used) for loader in _find_loaders(trainer)]
        checkpoint[_KEY] = gather_by_rank(trainer, own)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the states until the loaders are made."""
        self._restored = list(checkpoint.get(_KEY, []))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the first iterator of each loader replay that of the checkpoint."""
        own = pop_own_state(trainer, self._restored) or []
        for loader, (start_states, n_used) in zip(_find_loaders(trainer), own, strict=False):
            if n_used and start_states is not None:
                loader.replay(start_states, n_used)


def _find_loaders(trainer: pl.Trainer) -> list[ReplayableLoader]:
    """Find the wrapped loaders of this epoch, which other epochs and fits may have made anew."""
    return [leaf for leaf in list_leaves(trainer.train_dataloader) if isinstance(leaf, ReplayableLoader)]


class ReplayableLoader:
    """Wrapper of a DataLoader whose next iterator can replay an earlier one.

    Args:
        loader: Iterable of batches; the wrapper forwards all other attributes to it.
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self.start_states: dict[str, Any] | None = None
        """States of the global random generators at the start of the latest iterator."""
        self._n_given = 0
        self._replay: tuple[dict[str, Any], int] | None = None

    @property
    def n_used(self) -> int:
        """Number of used batches of the latest iterator; Lightning prefetches one batch of a loader without length."""
        return self._n_given if _has_length(self._loader) else max(0, self._n_given - 1)

    def __getattr__(self, name: str) -> Any:
        if name == "_loader":
            raise AttributeError(name)  # while a copy is made, before the attribute exists
        return getattr(self._loader, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute of the loader, such as the ``worker_init_fn`` that Lightning sets, or one of the wrapper."""
        if name in {"_loader", "start_states", "_n_given", "_replay"}:
            object.__setattr__(self, name, value)
        else:
            setattr(self._loader, name, value)

    def __len__(self) -> int:
        return len(self._loader)

    def replay(self, start_states: dict[str, Any], n_used: int) -> None:
        """Replay an iterator: the next one starts with given generator states and skips batches.

        Args:
            start_states: States of the global random generators, see :func:`get_generator_states`.
            n_used: Number of batches to skip.
        """
        self._replay = start_states, n_used

    def __iter__(self) -> Iterator[Any]:
        """Iterate over batches; starts at the first ``next``, because Lightning makes iterators before it restores."""
        if self._replay is None:
            self.start_states, self._n_given = get_generator_states(_CPU), 0
            iterator = iter(self._loader)
        else:
            (self.start_states, self._n_given), self._replay = self._replay, None
            now = get_generator_states(_CPU)
            set_generator_states(self.start_states, _CPU)
            iterator = iter(self._loader)
            for _ in range(self._n_given):
                next(iterator, None)
            set_generator_states(now, _CPU)
        for batch in iterator:
            self._n_given += 1
            yield batch


def _has_length(loader: Any) -> bool:
    """Return whether a loader has a length; loaders of an IterableDataset have none."""
    try:
        len(loader)
    except (TypeError, NotImplementedError):
        return False
    return True

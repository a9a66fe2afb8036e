"""Exact resume within an epoch for any DataLoader: the order is drawn again, and what was seen is passed over."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl

from psn_lightning.checkpoints.generators import gathered, generator_states, set_generator_states

_KEY = "psn_lightning.replay"


class ReplayOrder(pl.Callback):
    """Makes a run that is resumed within an epoch see the batches that the epoch had left, in their order.

    An iterator draws its order from the global generators when it begins. Their state then is kept in checkpoints; a
    resumed epoch begins with it, reads the batches that were trained on already without using them (which takes the
    time that loading them takes), and goes on. It has to stand before callbacks that ask for the run's length, such as
    :class:`RigL` (or be attached before the fit), and needs :class:`GeneratorState`. Loaders with a
    ``load_state_dict`` of their own are left alone.
    """

    def __init__(self) -> None:
        self._loaders: list[ReplayableLoader] = []
        self._restored: list[list[tuple[dict[str, Any] | None, int]]] = []
        self._trainer: weakref.ref[pl.Trainer] | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """See :meth:`attach`."""
        if stage == "fit":
            self.attach(trainer)

    def attach(self, trainer: pl.Trainer) -> None:
        """Have the trainer's training loaders wrapped, after Lightning has put its distributed samplers into them."""
        if self._trainer is not None and self._trainer() is trainer:
            return
        self._trainer, self._loaders = weakref.ref(trainer), []
        # Lightning cannot know that this one is.
        warnings.filterwarnings("ignore", message=".*your dataloader is not resumable")
        process = trainer.strategy.process_dataloader

        def wrapped(dataloader: object) -> object:
            processed = process(dataloader)
            if not trainer.training or hasattr(processed, "load_state_dict"):  # Lightning resumes such a loader itself
                return processed
            self._loaders.append(ReplayableLoader(processed))
            return self._loaders[-1]

        trainer.strategy.process_dataloader = wrapped  # type: ignore[method-assign]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep where the epoch's iterators began, on every process, and how many batches are behind."""
        ends = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        mine = [] if ends else [(loader.began, loader.behind) for loader in self._loaders]
        checkpoint[_KEY] = gathered(trainer, mine)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep it until the loaders exist."""
        self._restored = checkpoint.get(_KEY, [])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Have the first iterators begin where those of the checkpoint did."""
        if trainer.global_rank < len(self._restored):
            for loader, (began, behind) in zip(self._loaders, self._restored[trainer.global_rank], strict=False):
                if behind and began is not None:
                    loader.replay(began, behind)
        self._restored = []


class ReplayableLoader:
    """A DataLoader whose next iterator may begin as an earlier one did.

    Args:
        loader: Any iterable of batches; its attributes are this one's, too.
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self.began: dict[str, Any] | None = None
        """The global generators' states when the latest iterator began."""
        self._given = 0
        self._replay: tuple[dict[str, Any], int] | None = None

    @property
    def behind(self) -> int:
        """Batches of the latest iterator that were used; of a loader without length Lightning holds one in advance."""
        return self._given if _has_length(self._loader) else max(0, self._given - 1)

    def __getattr__(self, name: str) -> Any:
        if name == "_loader":
            raise AttributeError(name)  # of a copy that is being made
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return len(self._loader)

    def replay(self, began: dict[str, Any], behind: int) -> None:
        """Have the iterator whose first batch is still to be asked for begin with these states.

        Args:
            began: The generators' states.
            behind: Number of its batches to pass over.
        """
        self._replay = began, behind

    def __iter__(self) -> Iterator[Any]:
        """Begins with the first batch that is asked for: Lightning makes iterators before a checkpoint is restored."""
        if self._replay is None:
            self.began, self._given = generator_states(), 0
            iterator = iter(self._loader)
        else:
            (self.began, self._given), self._replay = self._replay, None
            now = generator_states()
            set_generator_states(self.began)
            iterator = iter(self._loader)
            for _ in range(self._given):
                next(iterator, None)
            set_generator_states(now)
        for batch in iterator:
            self._given += 1
            yield batch


def _has_length(loader: Any) -> bool:
    """Whether a loader knows its length; that of an IterableDataset does not."""
    try:
        len(loader)
    except (TypeError, NotImplementedError):
        return False
    return True

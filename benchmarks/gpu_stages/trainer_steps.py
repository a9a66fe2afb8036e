"""Steps inside the Trainer: where the host waits, what the parts cost."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from benchmarks.gpu_stages.runs import QUIET, observers
from benchmarks.gpu_stages.session import Session, matmul_precision
from psn_lightning.callbacks import MaskReapply, NumericalGuard, RigL
from psn_lightning.data import Digits
from psn_lightning.data.sampling import TensorData
from psn_lightning.task import SparseClassifier


class _Waits(pl.Callback):
    """Collects torch's warnings about operations that wait for the device, by line."""

    def __init__(self) -> None:
        self.found: Counter[tuple[str, str]] = Counter()
        self.steps: Counter[str] = Counter()
        self.kind = "start"

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        window = next(c.window for c in trainer.callbacks if isinstance(c, RigL))
        reads = batch_idx == 0 or trainer.is_last_batch or (trainer.global_step + 1) % trainer.log_every_n_steps == 0
        self.kind = "update" if window.is_update(trainer.global_step) else "report" if reads else "plain"
        self.steps[self.kind] += 1

    def show(self, message: object, category: object, filename: str, lineno: int, *_: object) -> None:
        """Take the place of ``warnings.showwarning``."""
        if "synchroniz" in str(message):
            self.found[self.kind, f"{'/'.join(Path(filename).parts[-3:])}:{lineno}"] += 1


def waits(session: Session) -> None:
    """Lines of a step at which the host waits for the device."""
    if session.device != "cuda":
        return
    watch, before = _Waits(), warnings.showwarning
    with session.tried("a run"), warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = watch.show  # type: ignore[assignment]
        torch.cuda.set_sync_debug_mode("warn")
        try:
            callbacks = [RigL(period=10, end=1000), watch, *observers()]
            trainer = pl.Trainer(
                max_epochs=3, accelerator="gpu", callbacks=callbacks, enable_checkpointing=False, **QUIET
            )
            trainer.fit(SparseClassifier(64, 10, hidden=[96, 64], sparsity=0.8), Digits(batch_size=64))
        finally:
            torch.cuda.set_sync_debug_mode("default")
            warnings.showwarning = before
    for kind in ("plain", "update"):
        steps = max(1, watch.steps[kind])
        places = {place: n for (k, place), n in watch.found.most_common() if k == kind}
        session.note(f"in a {kind} step", times=round(sum(places.values()) / steps, 2), steps=watch.steps[kind])
        for place, n in places.items():
            session.note(f"  {place}", times=round(n / steps, 2))


class Synthetic(Digits):
    """Random numbers in the shape of Fashion-MNIST."""

    title, n_features = "random numbers", 784

    def __init__(self, rows: int, on_device: bool = True) -> None:
        super().__init__(batch_size=128)
        self.rows, self._may_move = rows, on_device

    def setup(self, stage: str | None = None) -> None:
        """Draw the rows."""
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(self.rows, 784, generator=generator)
        y = torch.randint(0, 10, (self.rows,), generator=generator)
        self._sets = {
            "train": TensorData(x, y),
            "val": TensorData(x[:0], y[:0]),
            "test": TensorData(x[:2000], y[:2000]),
        }

    def _place(self, name: str) -> tuple[TensorData, bool]:
        return super()._place(name) if self._may_move else (self._sets[name], self.trainer is not None)


class _Clock(pl.Callback):
    """Microseconds of a step, from one step to another at which the device has done everything."""

    def __init__(self, session: Session, first: int, last: int) -> None:
        self.session, self.first, self.last, self.us = session, first, last, float("nan")
        self._began = 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step in (self.first, self.last):
            self.session.synchronize()
            now = time.perf_counter()
            if trainer.global_step == self.last:
                self.us = round((now - self._began) / (self.last - self.first) * 1e6, 1)
            self._began = now


class _Bar(SparseClassifier):
    """Shows the loss in the bar, which reads it from the device after every step."""

    def log(self, name: str, value: Any, **arguments: Any) -> None:
        super().log(name, value, **{**arguments, "prog_bar": True})


def fit_microseconds(
    session: Session,
    first: int,
    last: int,
    model: type[SparseClassifier] = SparseClassifier,
    without: type[pl.Callback] | tuple[type[pl.Callback], ...] = (),
    on_device: bool = True,
    precision: str = "32-true",
    tf32: bool = False,
    compile: bool = False,
) -> float:
    """Measure a step of the paper's network in the Trainer.

    Args:
        session: Call of the benchmark.
        first: Step at which the clock starts.
        last: Step at which it ends.
        model: Class of the module.
        without: Classes of the callbacks to leave out.
        on_device: Whether the rows lie on the device.
        precision: Precision of the Trainer.
        tf32: Whether float32 products may use TF32.
        compile: Whether to compile the network.
    """
    pl.seed_everything(1, verbose=False)
    clock = _Clock(session, first, last)
    every = [clock, RigL(period=5 if session.quick else 100, end=10**6), *observers()]
    torch.compiler.reset()
    with matmul_precision("high" if tf32 else "highest"):
        trainer = pl.Trainer(
            max_steps=last + 1,
            max_epochs=-1,
            precision=precision,
            accelerator=session.accelerator,
            callbacks=[callback for callback in every if not isinstance(callback, without)],
            enable_checkpointing=False,
            limit_val_batches=0,
            **QUIET,
        )
        hidden = [64, 64] if session.quick else [1024, 1024]
        trainer.fit(
            model(784, 10, hidden=hidden, sparsity=0.9, compile=compile), Synthetic(128 * (last + 5), on_device)
        )
    return clock.us


def lightning(session: Session) -> None:
    """The step inside the Trainer with everything on, and what each part of it costs."""
    first, last = (5, 15) if session.quick else (60, 360)
    cases: dict[str, dict[str, Any]] = {
        "everything, as it is": {},
        "everything, as it is (again: the noise)": {},
        "without NumericalGuard": {"without": NumericalGuard},
        "loss read for the bar in every step": {"model": _Bar},
        "rows on the host, pinned": {"on_device": False},
        "without MaskReapply": {"without": MaskReapply},
        "without RigL": {"without": RigL},
        "TF32": {"tf32": True},
        "bf16-mixed": {"precision": "bf16-mixed"},
        "16-mixed": {"precision": "16-mixed"},
    }
    if session.device == "cuda":
        cases["compiled, TF32"] = {"compile": True, "tf32": True}
    for what, settings in cases.items():
        if session.seconds_left < 40:
            return
        with session.tried(what):
            us = fit_microseconds(session, first, last, **settings)
            session.note(what, us=us, seconds_of_a_fashion_epoch=round(us * 469 / 1e6, 2))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Context without the warnings of Lightning about loaders and steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

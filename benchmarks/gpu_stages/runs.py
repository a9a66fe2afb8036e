"""Whole runs on the device against the CPU: whether they are right."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch

from benchmarks.gpu_stages.session import Session
from psn_lightning.callbacks import (
    GMP,
    SET,
    EpochTimer,
    EquilibriumMonitor,
    GradientRatio,
    MaskReapply,
    NumericalGuard,
    RigL,
    SRigL,
    TopologyLogger,
)
from psn_lightning.checkpoints import BestAndLast, GeneratorState, PortableMoments
from psn_lightning.data import Digits
from psn_lightning.paper import RigLVariant
from psn_lightning.task import SparseClassifier
from psn_lightning.topology import Bernoulli

QUIET = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
    "devices": 1,
}
_METHODS: dict[str, Callable[[], list[pl.Callback]]] = {
    "static": list,
    "RigL": lambda: [RigL(period=10, end=1000)],
    "SET": lambda: [SET(period=10, begin=0, end=1000)],
    "SRigL": lambda: [SRigL(period=10, end=1000)],
    "GMP": lambda: [GMP(period=10, final_sparsity=0.95, end=1000)],
    "RigLVariant": lambda: [
        RigLVariant(period=10, end=1000, gradient_steps=3, grown_value="initial", moments="reset", drop_scope="global")
    ],
}


def observers() -> list[pl.Callback]:
    """Make the callbacks that every run has, without checkpoints."""
    return [
        *(NumericalGuard(), MaskReapply(), GradientRatio(), TopologyLogger()),
        *(EquilibriumMonitor(), EpochTimer(), GeneratorState()),
    ]


class _Losses(pl.Callback):
    """Keeps the loss of every step on the device, and ends the run after one of them."""

    def __init__(self, last: int | None) -> None:
        self.losses: list[torch.Tensor] = []
        self.last = last

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(outputs["loss"].detach())
        trainer.should_stop = trainer.should_stop or trainer.global_step == self.last


class _Run:
    """A run on scikit-learn's digits with every callback."""

    def __init__(
        self,
        method: str,
        accelerator: str,
        folder: str,
        precision: str = "64-true",
        stop: int | None = None,
        ckpt: str | None = None,
        compile: bool = False,
        **settings: Any,
    ) -> None:
        pl.seed_everything(5, verbose=False)
        watch = _Losses(stop)
        trainer = pl.Trainer(
            max_steps=46,
            max_epochs=-1,
            precision=precision,
            accelerator=accelerator,
            callbacks=[*_METHODS[method](), *observers(), BestAndLast(), PortableMoments(), watch],
            default_root_dir=folder,
            **QUIET,
            **settings,
        )
        task = SparseClassifier(64, 10, hidden=[96, 64], topology=Bernoulli(), sparsity=0.8, compile=compile)
        trainer.fit(task, Digits(batch_size=64), ckpt_path=ckpt, weights_only=True if ckpt else None)
        self.losses = [float(loss) for loss in watch.losses]
        self.masks = task.network.connectivities()
        self.state = {key: value.detach().cpu().clone() for key, value in task.state_dict().items()}
        self.checkpoint = str(trainer.checkpoint_callback.last_model_path)

    def has_state_of(self, other: _Run) -> bool:
        """Whether all weights and masks are the same bits."""
        return all(torch.equal(value, other.state[key]) for key, value in self.state.items())

    def largest_difference(self, other: _Run) -> str:
        """Largest difference of two losses of the same step."""
        return f"{max(abs(a - b) for a, b in zip(self.losses, other.losses, strict=True)):.1e}"


def right(session: Session) -> None:
    """Every method, precision and resume on the device against the CPU; twice the same bits."""
    device = session.accelerator
    with tempfile.TemporaryDirectory() as scratch:
        for method in _METHODS:
            what = f"{method}: 64 bit, device against CPU"
            with session.tried(what):
                a, b, c = (_Run(method, kind, f"{scratch}/{i}") for i, kind in enumerate((device, "cpu", device)))
                same = a.losses == c.losses and a.has_state_of(c)
                session.note(
                    what, loss_difference=a.largest_difference(b), same_masks=a.masks == b.masks, same_twice=same
                )
            what = f"{method}: stopped at step 19 and resumed, float32"
            with session.tried(what):
                whole = _Run(method, device, f"{scratch}/3", "32-true")
                first = _Run(method, device, f"{scratch}/4", "32-true", stop=19)
                second = _Run(method, device, f"{scratch}/5", "32-true", ckpt=first.checkpoint)
                session.note(what, same_bits=whole.losses[19:] == second.losses and whole.has_state_of(second))
        for precision in ("32-true", "16-mixed", "bf16-mixed", "bf16-true"):
            with session.tried(f"RigL, {precision}"):
                run = _Run("RigL", device, f"{scratch}/6", precision)
                finite = all(bool(torch.isfinite(value.float()).all()) for value in run.state.values())
                session.note(f"RigL, {precision}", last_loss=round(run.losses[-1], 3), finite=finite)
        for what, settings in (
            ("RigL, deterministic", {"deterministic": True}),
            ("RigL, clipped and accumulated", {"gradient_clip_val": 0.5, "accumulate_grad_batches": 2}),
        ):
            with session.tried(what):
                run = _Run("RigL", device, f"{scratch}/7", "32-true", **settings)
                session.note(what, last_loss=round(run.losses[-1], 3))
            torch.use_deterministic_algorithms(False)  # Lightning leaves it on
        if session.device == "cuda":
            with session.tried("RigL, compiled"):
                plain, compiled = (
                    _Run("RigL", device, f"{scratch}/8", "32-true", compile=value) for value in (False, True)
                )
                session.note("RigL, compiled", loss_difference=plain.largest_difference(compiled))

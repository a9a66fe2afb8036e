"""Guard against divergence: a run whose loss or gradient is not finite is stopped, with what tells the cause."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

from psn_lightning.callbacks.autopsy import describe_layers, digest_batch, write_autopsy
from psn_lightning.callbacks.flags import flags_of
from psn_lightning.callbacks.gradient_check import GradientCheck
from psn_lightning.callbacks.layers import layers_of
from psn_lightning.errors import DivergedError, SettingError

_ADVICE = "Try a lower learning rate"


class NumericalGuard(pl.Callback):
    """Stops a run that diverges, and warns about dead neurons.

    On the CPU the run stops before the backward pass of a loss that is not finite. ``autopsy.ckpt`` then holds the
    states of module and optimizers before the step, and the batch; further processes write ``rank1-autopsy.ckpt`` and
    so on.

    On an accelerator reading a number waits for the device. With fused optimizers, such as the default Adam, the
    gradients are checked there, and the host asks every ``log_every_n_steps`` steps, at the end of an epoch and before
    a checkpoint is saved. Until then the optimizers leave parameters and moments as they were before the step; the
    batch is not kept. With other optimizers, and under 16-mixed, the loss is read every ``log_every_n_steps`` steps:
    the step may then lie up to that many steps back.

    Args:
        dead_neurons: Share of a layer's neurons with fan-in 0, in [0, 1], above which a warning is given, once per
            layer.

    Raises:
        SettingError: If ``dead_neurons`` is not in [0, 1].
    """

    def __init__(self, dead_neurons: float = 0.1) -> None:
        if not 0 <= dead_neurons <= 1:
            raise SettingError(f"dead_neurons {dead_neurons} is not in [0, 1]: use 1 to switch the warning off")
        self.dead_neurons = dead_neurons
        self._batch: Any = None
        self._batch_index = 0
        self._gradients: GradientCheck | None = None
        self._warned: set[str] = set()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the batch for the autopsy."""
        self._batch, self._batch_index = None if self._gradients else batch, batch_idx

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Stop all processes if the loss of one is not finite, or a gradient of an earlier step was not.

        Raises:
            DivergedError: If the run has diverged; the message names step, batch and layers.
        """
        flags = flags_of(trainer)
        if self._gradients is None:
            flags.note(~torch.isfinite(loss.detach()).all())
        if flags.is_due(trainer):
            if self._gradients is not None:
                self._check_gradients(self._gradients, trainer, pl_module)
            elif flags.exchange(trainer).diverged:
                raise self._explain_loss(trainer, pl_module, loss.item())

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Look at the gradients, on an accelerator."""
        if self._gradients is not None:
            self._gradients.note(optimizer)

    def _explain_loss(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: float) -> DivergedError:
        """Save the state and the batch of a step whose loss is not finite."""
        step, epoch = trainer.global_step, trainer.current_epoch
        at_once = trainer.strategy.root_device.type == "cpu"
        if at_once and math.isfinite(loss):
            return DivergedError(f"the loss of another process is not finite at step {step} (epoch {epoch})")
        where = "at" if at_once else f"at or up to {trainer.log_every_n_steps} steps before"  # type: ignore[attr-defined]
        path = write_autopsy(trainer, pl_module, step, self._batch, loss)
        batch = f"batch {self._batch_index}, {digest_batch(self._batch)}"
        return DivergedError(
            f"the loss is {loss} {where} step {step} (epoch {epoch}, {batch}). {describe_layers(pl_module)}. "
            f"{_ADVICE}\nModule, optimizers and batch of the step: {path}"
        )

    @staticmethod
    def _check_gradients(check: GradientCheck, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop if a gradient was not finite, and save the state; every process calls this in the same step."""
        flags = flags_of(trainer)
        flags.note(check.has_failed())
        if not flags.exchange(trainer).diverged:
            return
        step = check.failed_step()
        path = write_autopsy(trainer, pl_module, step)
        raise DivergedError(
            f"the gradient is not finite at step {step}. {describe_layers(pl_module)}. {_ADVICE}\nParameters and "
            f"moments before the step: {path}"
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Announce that this callback exchanges the flags, choose what to check, and count dead neurons."""
        flags_of(trainer).guarded = True
        self._gradients = GradientCheck(trainer) if GradientCheck.suits(trainer) else None
        self._count_dead_neurons(pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ask for the gradient of the last step, on an accelerator, and count dead neurons.

        Raises:
            DivergedError: If a gradient was not finite.
        """
        if self._gradients is not None:
            self._check_gradients(self._gradients, trainer, pl_module)
        self._count_dead_neurons(pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep a checkpoint from being saved whose last steps have changed nothing.

        Raises:
            DivergedError: If a gradient was not finite.
        """
        if self._gradients is not None:
            self._check_gradients(self._gradients, trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the optimizers step again."""
        if self._gradients is not None:
            self._gradients.release()
            self._gradients = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Let the optimizers step again."""
        self.on_train_end(trainer, pl_module)

    def _count_dead_neurons(self, pl_module: pl.LightningModule) -> None:
        """Warn about layers with many neurons of fan-in 0, once per layer."""
        for name, layer in layers_of(pl_module).items():
            dead = int((layer.fan_in == 0).sum())
            if dead > self.dead_neurons * layer.n_out and name not in self._warned:
                self._warned.add(name)
                rank_zero_warn(
                    f"{dead} of {layer.n_out} neurons in {name} have fan-in 0, more than dead_neurons "
                    f"{self.dead_neurons} allows: lower the sparsity or the drop_fraction"
                )

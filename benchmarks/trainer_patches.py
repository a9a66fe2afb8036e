"""What the changes to Lightning's loop in ``commands/trainer.py`` are worth: ``python -m benchmarks.trainer_patches``.

Median milliseconds from one step to the next, Fashion-MNIST at 98%, each change left out in turn.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest

from psn_lightning.commands import lightning_cli
from psn_lightning.commands.training import fit

CONFIG = Path(__file__).parent.parent / "conf" / "fashion_rigl.yaml"
ROUNDS, STEPS, WARM = 5, 300, 50
ARGUMENTS = [
    f"--config={CONFIG}",
    "--model.sparsity=0.98",
    "--trainer.max_epochs=1",
    f"--trainer.limit_train_batches={STEPS}",
    "--trainer.limit_val_batches=1",
]


class Clock(pl.Callback):
    """Notes when each step begins."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the time."""
        self.marks.append(time.perf_counter())


def ask_always() -> None:
    """Leave Lightning's environment variable in place."""
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"


LEFT_OUT: dict[str, dict[str, Callable[..., None]]] = {
    "nothing": {},
    "skip_empty_hooks": {"skip_empty_hooks": lambda _: None},
    "ask_for_accelerators_once": {"ask_for_accelerators_once": ask_always},
}


def measure(replaced: dict[str, Callable[..., None]]) -> float:
    """Median milliseconds of a step with some functions replaced."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        for name, function in replaced.items():
            patch.setattr(lightning_cli, name, function)
        lightning_cli.PSNCLI(["fit", *ARGUMENTS], callbacks=[clock])
    times = [after - before for before, after in zip(clock.marks[WARM:], clock.marks[WARM + 1 :], strict=False)]
    return statistics.median(times) * 1e3


def main() -> None:
    """Measure in turn, and print the medians over the rounds."""
    os.chdir(tempfile.mkdtemp())
    fit(ARGUMENTS)  # compiles, reads the data into the disk's cache
    found: dict[str, list[float]] = {name: [] for name in LEFT_OUT}
    for _ in range(ROUNDS):
        for name, replaced in LEFT_OUT.items():
            found[name].append(measure(replaced))
    for name, values in found.items():
        print(f"without {name}: {statistics.median(values):.3f} ms per step")


if __name__ == "__main__":
    main()

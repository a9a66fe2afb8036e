"""Time from the start of a sweep's worker process to its first batch: ``python -m benchmarks.trial_start``."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import psutil
import yaml

ROOT = Path(__file__).parent.parent
FILE = "TRIAL_START_FILE"
TRIALS, WORKERS = 12, 2


class FirstBatch(pl.Callback):
    """Appends the age of the process at its first batch, in seconds, to the file that the environment names."""

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Look at the first batch only."""
        if trainer.global_step == 0 and batch_idx == 0:
            with Path(os.environ[FILE]).open("a") as file:
                file.write(f"{time.time() - psutil.Process().create_time():.2f}\n")


def main() -> None:
    """Run a sweep of short trials, and print how old the workers were at their first batch."""
    sweep = {
        "name": "trial_start",
        "base": [str(ROOT / "conf" / "quickstart.yaml")],
        "space": {"seed_everything": list(range(1, TRIALS + 1))},
        "settings": {
            "trainer.max_epochs": 2,
            "trainer.callbacks": [{"class_path": "benchmarks.trial_start.FirstBatch"}],
        },
        "sampler": "grid",
        "objective": "test/accuracy",
        "workers": WORKERS,
    }
    with tempfile.TemporaryDirectory() as folder:
        path, ages = Path(folder) / "sweep.yaml", Path(folder) / "ages.txt"
        path.write_text(yaml.safe_dump(sweep))
        environment = {**os.environ, "PYTHONPATH": str(ROOT), FILE: str(ages)}
        command = [sys.executable, "-c", "from psn_lightning.cli import entry_point; entry_point()", "sweep"]
        begin = time.monotonic()
        subprocess.run([*command, "--config", str(path)], cwd=folder, env=environment, check=True, capture_output=True)
        seconds = time.monotonic() - begin
        found = sorted(map(float, ages.read_text().split()))
    print(
        f"{len(found)} trials, {WORKERS} workers, {seconds:.0f} s in all; age of a worker at its first batch: "
        f"median {statistics.median(found):.2f} s, {found[0]:.2f} to {found[-1]:.2f} s"
    )


if __name__ == "__main__":
    main()

"""A callback that counts the collective operations of each step, beside those that DDP makes for gradients in C++."""

import json
from pathlib import Path

import lightning.pytorch as pl
from torch.distributed import ProcessGroup

OPERATIONS = ("allreduce", "broadcast", "allgather", "_allgather_base", "barrier", "reduce", "gather", "scatter")


class Count(pl.Callback):
    """Writes ``collectives-<rank>.json``: operations by step in order, with the step's kind."""

    def __init__(self):
        self.calls, self.steps = [], []

    def setup(self, trainer, pl_module, stage):
        for name in OPERATIONS:
            setattr(ProcessGroup, name, self._counted(name, getattr(ProcessGroup, name)))

    def _counted(self, name, call):
        def wrapper(*arguments, **keywords):
            self.calls.append(name)
            return call(*arguments, **keywords)

        return wrapper

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        step = trainer.global_step
        reads = batch_idx == 0 or (step + 1) % trainer.log_every_n_steps == 0 or trainer.is_last_batch
        updates = any(c.window.is_update(step) for c in trainer.callbacks if getattr(c, "window", None))
        self.steps.append(["update" if updates else "report" if reads else "plain", []])
        self.calls = self.steps[-1][1]

    def on_train_end(self, trainer, pl_module):
        Path(f"collectives-{trainer.global_rank}.json").write_text(json.dumps(self.steps))

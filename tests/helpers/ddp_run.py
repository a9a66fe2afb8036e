"""Training runs on any number of processes, for tests/test_ddp.py: what each process saw goes to files.

python -m tests.helpers.ddp_run FOLDER PROCESSES
"""

import sys
from pathlib import Path

import lightning.pytorch as pl
import torch

from psn_lightning.callbacks import (
    ACDC,
    GSE,
    MEST,
    SET,
    STR,
    CHTs,
    CHTss,
    GraNet,
    MaskReapply,
    Prune,
    RigL,
    SRigL,
    TopKAST,
)
from psn_lightning.data import Digits
from psn_lightning.pruning import SNIP
from psn_lightning.task import SparseClassifier
from psn_lightning.topology import Bernoulli, Exponential, Grouped

STEPS, UPDATES = 300, 5
RUNS = {
    "RigL-masked": lambda: RigL(period=STEPS // UPDATES, end=1.0),
    "SET-masked": lambda: SET(period=STEPS // UPDATES, begin=0),
    "SRigL-masked": lambda: SRigL(period=STEPS // UPDATES, end=1.0),
    "GraNet-masked": lambda: GraNet(0.9, period=STEPS // UPDATES, begin=0),
    "ACDC-masked": lambda: ACDC(0.9, period=STEPS // UPDATES, begin=0, end=1.0),
    "MEST-masked": lambda: MEST(period=STEPS // UPDATES, begin=0),
    "CHTs-masked": lambda: CHTs(period=STEPS // UPDATES, begin=0, end=1.0),
    "CHTss-masked": lambda: CHTss(0.9, period=STEPS // UPDATES, begin=0, end=1.0),
    "TopKAST-masked": lambda: TopKAST(period=STEPS // UPDATES, end=1.0),
    "STR-masked": lambda: STR(initial=-4.0, weight_decay=0.01),
    "SNIP-masked": lambda: Prune(SNIP(), 0.9, at=[0, 0.5]),
    "RigL-csr": lambda: RigL(period=STEPS // UPDATES, end=1.0),
    "GSE-masked": lambda: GSE(period=STEPS // UPDATES, begin=0, end=1.0),
    "GSE-csr": lambda: GSE(period=STEPS // UPDATES, begin=0, end=1.0),
    "GraEst-csr": lambda: GSE(distribution="graest", period=STEPS // UPDATES, begin=0, end=1.0),
    "GraEst-masked": lambda: GSE(distribution="graest", period=STEPS // UPDATES, begin=0, end=1.0),
    "RigL-groups": lambda: RigL(period=STEPS // UPDATES, end=1.0),
    "GSE-groups": lambda: GSE(period=STEPS // UPDATES, begin=0, end=1.0),
    "CandidateRigL-csr": lambda: RigL(period=STEPS // UPDATES, end=1.0, candidates=1.0),
}
"""Rules by name and storage of a run."""


class Record(pl.Callback):
    """Loss of every step, rows of the first batches, masks after every update."""

    def __init__(self):
        self.losses, self.masks, self.rows = [], [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(pl_module.all_gather(outputs["loss"]).mean().item())
        self.rows.append(batch[0].sum(dim=1))
        if (trainer.global_step - 1) % (STEPS // UPDATES) == 0:
            self.masks.append([layer.mask.clone() for layer in pl_module.network.sparse_layers().values()])


def main(folder, processes, name):
    pl.seed_everything(3)
    record = Record()
    trainer = pl.Trainer(
        max_steps=STEPS,
        max_epochs=-1,
        precision="64-true",
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        callbacks=[RUNS[name](), MaskReapply(), record],
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    # 1422 training rows, an even number: with an odd one two processes repeat a row in every epoch.
    data = Digits(batch_size=128 // processes, val_fraction=0.01)
    sparsity = 0.0 if name in {"ACDC-masked", "TopKAST-masked", "STR-masked"} else 0.8
    storage = name.split("-")[1]
    topology = Grouped(8, Exponential(), neurons="interleaved") if storage == "groups" else Bernoulli()
    network = {"hidden": [96, 64], "topology": topology, "sparsity": sparsity, "storage": storage}
    task = SparseClassifier(64, 10, evaluation_split="val", **network)
    trainer.fit(task, data)
    metrics = {key: value.item() for key, value in trainer.callback_metrics.items()}
    saved = {"losses": record.losses, "masks": record.masks, "rows": record.rows, "metrics": metrics}
    torch.save(saved, Path(folder) / f"{name}-{processes}-{trainer.global_rank}.pt")


if __name__ == "__main__":
    for run in RUNS:
        main(sys.argv[1], int(sys.argv[2]), run)

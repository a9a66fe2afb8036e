"""Which metric decides what the best checkpoint is, of any module."""

import pytest
import torch

from psn_lightning.checkpoints import BestAndLast
from tests.helpers.models import Plain, TwoLayerTransformer, batches, trainer


class Scripted(Plain):
    """Logs given values, one for each epoch."""

    def __init__(self, values):
        super().__init__(TwoLayerTransformer())
        self.values = values

    def validation_step(self, batch, batch_idx):
        for name, values in self.values.items():
            self.log(name, torch.tensor(values[self.current_epoch]))


def best_epoch(folder, values, **arguments):
    checkpoints = BestAndLast(**arguments)
    run = trainer(
        checkpoints, max_epochs=3, limit_train_batches=1, enable_checkpointing=True, default_root_dir=folder,
        num_sanity_val_steps=0,
    )  # fmt: skip
    loader = batches("transformer", 1)
    run.fit(Scripted(values), loader, loader)
    return torch.load(checkpoints.best_model_path, weights_only=False)["epoch"], checkpoints.monitor


@pytest.mark.parametrize(
    ("values", "arguments", "expected"),
    [
        ({"val_loss": [3.0, 1.0, 2.0]}, {}, (1, "val_loss")),
        ({"val_loss": [3.0, 1.0, 2.0], "val_acc": [0.9, 0.5, 0.6]}, {}, (0, "val_acc")),
        ({"valid/error": [0.3, 0.2, 0.1], "score": [0.1, 0.3, 0.2]}, {"monitor": "score"}, (1, "score")),
        ({"score": [0.1, 0.3, 0.2]}, {"monitor": "score", "mode": "min"}, (0, "score")),
        ({"val_mse": [3.0, 1.0, 2.0]}, {}, (1, "val_mse")),
        ({"score": [0.1, 0.3, 0.2]}, {}, (2, None)),  # nothing to go by: the last
    ],
)
def test_the_best_checkpoint(values, arguments, expected, tmp_path):
    assert best_epoch(tmp_path, values, **arguments) == expected

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from psn_lightning.callbacks import GradientRatio, RigL
from psn_lightning.data import Digits
from psn_lightning.task import SparseClassifier
from psn_lightning.topology import Exponential, Uniform
from psn_lightning.topology.statistics import gradient_ratio
from tests.helpers.models import ACCELERATOR


class Last(pl.Callback):
    """The gradients and masks of the last batch, by the dense route."""

    def on_after_backward(self, trainer, pl_module):
        self.layers = {
            name: (layer.parameter.grad.clone() * layer.mask, layer.connectivity)
            for name, layer in pl_module.network.sparse_layers().items()
        }


def ratios(topology, *callbacks):
    pl.seed_everything(1)
    last = Last()
    task = SparseClassifier(64, 10, hidden=[200, 200], topology=topology, sparsity=0.7)
    trainer = pl.Trainer(
        max_epochs=1,
        callbacks=[*callbacks, last, GradientRatio()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator=ACCELERATOR,
        devices=1,
    )
    trainer.fit(task, Digits(batch_size=128))
    return {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("gradient/")}, last


@pytest.mark.parametrize("callbacks", [[], [RigL(period=11, begin=11, end=12)]])  # the last of 12 batches updates
def test_against_the_dense_gradient(callbacks):
    logged, last = ratios(Exponential(), *callbacks)
    expected = {}
    for name, (gradient, connectivity) in last.layers.items():
        expected[name], active = gradient_ratio(gradient.abs().sum(dim=1).numpy(), connectivity)
        assert logged[f"gradient/ratio/{name}"] == pytest.approx(expected[name], rel=1e-5)
        assert logged[f"gradient/ratio_active/{name}"] == pytest.approx(active, rel=1e-5)
    assert logged["gradient/ratio"] == pytest.approx(np.mean(list(expected.values())), rel=1e-5)


def test_hubs_concentrate_gradient_and_equal_neurons_do_not():
    assert ratios(Exponential())[0]["gradient/ratio"] > 2
    assert ratios(Uniform())[0]["gradient/ratio"] == pytest.approx(1, abs=0.4)


def test_a_run_that_ends_in_mid_epoch_is_measured_too():
    pl.seed_everything(1)
    task = SparseClassifier(64, 10, hidden=[20], sparsity=0.5)
    trainer = pl.Trainer(max_steps=5, callbacks=[GradientRatio()], logger=False, enable_checkpointing=False)
    trainer.fit(task, Digits(batch_size=128))
    assert trainer.callback_metrics["gradient/ratio"] > 0


def test_structural_value_is_the_fan_in_ratio():
    """With the same gradient everywhere the ratio is that of the fan-in."""
    task = SparseClassifier(784, 10, topology=Exponential())
    connectivity = task.network.connectivities()["fc1"]
    magnitude = torch.tensor(connectivity.fan_in).double().numpy()
    ratio, active = gradient_ratio(magnitude, connectivity)
    assert ratio == pytest.approx(4.5, abs=0.05)
    assert active == pytest.approx(1)

import lightning.pytorch as pl
import pytest
import torch

from psn_lightning.data import Digits
from psn_lightning.errors import SettingError
from psn_lightning.nn import Mixture
from psn_lightning.task import SparseClassifier
from psn_lightning.topology import DEGREES, FAMILIES, WIRINGS, Bernoulli, Exponential, Orthogonal, SmallWorld, Spread
from tests.helpers.models import ACCELERATOR


def test_the_network_of_the_paper():
    task = SparseClassifier(784, 10, topology=Exponential())
    assert sum(p.numel() for p in task.parameters()) == 1_867_786
    assert task(torch.randn(2, 784)).shape == (2, 10)


def test_adam_with_the_papers_learning_rate():
    optimizer = SparseClassifier(4, 2, hidden=[5], sparsity=0.5).configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.defaults["lr"] == 1e-3
    assert optimizer.defaults["fused"]


def test_no_accelerator_is_named_in_the_code():
    from pathlib import Path

    import psn_lightning

    for path in Path(psn_lightning.__file__).parent.rglob("*.py"):
        assert ".cuda()" not in path.read_text()


@pytest.mark.parametrize("made", [*FAMILIES, *DEGREES, *WIRINGS, lambda: Spread(Bernoulli())], ids=lambda f: f.__name__)
def test_every_family_and_wiring_survives_a_safe_checkpoint(made, tmp_path):
    path = tmp_path / "topology.pt"
    torch.save(made(), path)
    assert torch.load(path, weights_only=True) == made()


def test_a_checkpoint_of_a_wiring_is_loaded_again(tmp_path):
    task = SparseClassifier(64, 10, hidden=[32], topology=SmallWorld(0.3, Exponential()))
    trainer = pl.Trainer(
        max_steps=2, accelerator=ACCELERATOR, devices=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(task, Digits(batch_size=64))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded = SparseClassifier.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    assert loaded.hparams["topology"] == SmallWorld(0.3, Exponential())
    for name, value in task.state_dict().items():
        assert torch.equal(loaded.state_dict()[name].cpu(), value.cpu())


def test_an_orthogonal_network_has_its_weights_and_takes_no_other_init():
    for storage in ("masked", "csr"):
        task = SparseClassifier(64, 10, hidden=[32], topology=Orthogonal(1.0), storage=storage, init_scale=2.0)
        layer = task.sparse_layers()["fc1"]
        weight = torch.zeros(32, 64).flatten()
        weight[layer.active_positions()] = layer.active_values()
        gram = weight.view(32, 64) @ weight.view(32, 64).T
        assert torch.allclose(gram, 4 * torch.eye(32), atol=1e-5)
    with pytest.raises(SettingError, match="init per_neuron has no effect"):
        SparseClassifier(64, 10, hidden=[32], topology=Orthogonal(), init="per_neuron")


@pytest.mark.parametrize("arguments", [{"lr": 0.0}, {"lr": float("nan")}, {"seed": -1}, {"seed": True}])
def test_values_out_of_range_are_named(arguments):
    with pytest.raises(SettingError, match=r"lr|seed"):
        SparseClassifier(4, 2, hidden=[5], sparsity=0.5, **arguments)


class Losses(pl.Callback):
    def __init__(self, monitor=None):
        self.monitor, self.seen = monitor, []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append((float(outputs["loss"]), float(trainer.callback_metrics["train/loss"])))


@pytest.mark.parametrize(("monitor", "fresh"), [("train/loss", range(30)), (None, [0, 9, 19, 22, 23, 29])])
def test_the_loss_is_reported_where_somebody_looks_at_it(monitor, fresh, tmp_path):
    watch = Losses(monitor)
    trainer = pl.Trainer(
        max_steps=30, callbacks=[watch], log_every_n_steps=10, accelerator=ACCELERATOR, devices=1, logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, default_root_dir=tmp_path,
        use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(SparseClassifier(64, 10, hidden=[16]), Digits(batch_size=64))
    assert len(watch.seen) == 30  # 23 in the first epoch
    assert [i for i, (loss, reported) in enumerate(watch.seen) if loss == reported] == list(fresh)


def test_mixtures_take_the_place_of_sparse_layers():
    task = SparseClassifier(64, 10, hidden=[32, 24], sparsity=0.0, mixture=Mixture(5, 2, hidden=8))
    assert list(task.mixture_layers()) == ["fc1", "fc2"]
    assert task.sparse_layers() == {}
    again = SparseClassifier(64, 10, hidden=[32, 24], sparsity=0.0, mixture=Mixture(5, 2, hidden=8))
    assert all(torch.equal(a, b) for a, b in zip(task.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("arguments", [{"sparsity": 0.9}, {"sparsity": 0.0, "storage": "csr"}, {"sparsity": 0.01}])
def test_settings_of_sparse_layers_are_refused_with_a_mixture(arguments):
    with pytest.raises(SettingError, match=list(arguments)[-1]):
        SparseClassifier(64, 10, hidden=[32], mixture=Mixture(5, 2, hidden=8), **arguments)


def test_the_settings_of_a_mixture_survive_a_safe_checkpoint(tmp_path):
    torch.save(Mixture(7, 3), tmp_path / "mixture.pt")
    assert torch.load(tmp_path / "mixture.pt", weights_only=True) == Mixture(7, 3)

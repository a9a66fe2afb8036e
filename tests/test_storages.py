"""Training in csr is training in masked, and a checkpoint of one goes on in the other."""

import warnings

import lightning.pytorch as pl
import pytest
import torch

from psn_lightning.callbacks import GMP, SET, DynamicTopology, MaskReapply, RigL, SRigL
from psn_lightning.checkpoints import BestAndLast, PortableMoments
from psn_lightning.cli import main
from psn_lightning.data import Digits
from psn_lightning.dynamics import ConstantSchedule, RigLRule
from psn_lightning.errors import SettingError
from psn_lightning.nn import storages
from psn_lightning.task import SparseClassifier
from psn_lightning.topology import Bernoulli, Exponential, Grouped
from tests.conftest import CONF, QUIET, only_run

METHODS = {
    "RigL": lambda: RigL(period=20, end=1.0),
    "RigL-both": lambda: RigL(period=20, end=1.0, skip_step_on_update=False),
    "SET": lambda: SET(period=20, begin=0),
    "SRigL": lambda: SRigL(period=20, end=1.0),
    "GMP": lambda: GMP(period=20, final_sparsity=0.9),
    "constant": lambda: DynamicTopology(RigLRule(), ConstantSchedule(0.3, 20, 0, 1000)),  # whatever the run's length
}


class Watch(pl.Callback):
    def __init__(self):
        self.losses, self.masks = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].item())
        self.masks.append([layer.mask.clone() for layer in pl_module.network.sparse_layers().values()])


def train(storage, method, folder, max_steps=60, checkpoint=None, topology=None, **arguments):
    pl.seed_everything(4)
    watch = Watch()
    trainer = pl.Trainer(
        max_steps=max_steps,
        max_epochs=-1,
        precision="64-true",
        callbacks=[METHODS[method](), MaskReapply(), PortableMoments(), BestAndLast(), watch],
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **arguments,
    )
    task = SparseClassifier(64, 10, hidden=[96, 64], topology=topology or Bernoulli(), sparsity=0.8, storage=storage)
    trainer.fit(task, Digits(batch_size=64), ckpt_path=checkpoint, weights_only=True if checkpoint else None)
    return watch, trainer, task


ACCUMULATED = {"accumulate_grad_batches": 3, "gradient_clip_val": 0.5}  # sums dense gradients too, where a rule has any


@pytest.mark.parametrize(
    ("method", "arguments"),
    [*((method, {}) for method in METHODS), ("RigL", ACCUMULATED), ("RigL-both", ACCUMULATED), ("SET", ACCUMULATED)],
)
def test_one_seed_trains_alike(method, arguments, tmp_path):
    masked, _, _ = train("masked", method, tmp_path / "masked", **arguments)
    csr, _, task = train("csr", method, tmp_path / "csr", **arguments)
    assert task.network.storage == "csr"
    assert csr.losses == pytest.approx(masked.losses, abs=1e-6)
    for a, b in zip(csr.masks, masked.masks, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


GROUPS = Grouped(8, Exponential(), neurons="interleaved")


@pytest.mark.parametrize(("method", "arguments"), [*((method, {}) for method in METHODS), ("RigL-both", ACCUMULATED)])
def test_groups_train_as_in_the_other_storages(method, arguments, tmp_path):
    """With the same masks: rules exchange inputs of whole groups, whatever the storage."""
    masked, _, _ = train("masked", method, tmp_path / "masked", topology=GROUPS, **arguments)
    groups, _, task = train("groups", method, tmp_path / "groups", topology=GROUPS, **arguments)
    assert task.network.storage == "groups"
    assert {c.group_size for c in task.network.connectivities().values()} == {8}
    assert groups.losses == pytest.approx(masked.losses, abs=1e-6)
    for a, b in zip(groups.masks, masked.masks, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(
    "storages", [("masked", "groups"), ("groups", "masked"), ("groups", "csr"), ("csr", "groups"), ("groups", "groups")]
)
def test_a_checkpoint_of_groups_goes_on_in_any_storage(storages, tmp_path):
    check_that_a_checkpoint_goes_on(storages, tmp_path, GROUPS)


@pytest.mark.parametrize("storages", [("masked", "csr"), ("csr", "masked"), ("csr", "csr")])
def test_a_checkpoint_goes_on_in_the_other_storage(storages, tmp_path):
    check_that_a_checkpoint_goes_on(storages, tmp_path, Bernoulli())


def check_that_a_checkpoint_goes_on(storages, tmp_path, topology):
    whole, _, task = train(storages[0], "constant", tmp_path / "whole", max_steps=69, topology=topology)
    _, trainer, _ = train(storages[0], "constant", tmp_path / "first", max_steps=46, topology=topology)  # two epochs
    last = trainer.checkpoint_callback.last_model_path
    rest, _, again = train(storages[1], "constant", tmp_path / "rest", max_steps=69, checkpoint=last, topology=topology)
    assert rest.losses == pytest.approx(whole.losses[-len(rest.losses) :], abs=1e-9)
    assert again.network.connectivities() == task.network.connectivities()


def test_auto_takes_csr_where_it_wins(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert storages.resolve_storage("auto", 0.9) == "csr"
    assert storages.resolve_storage("auto", 0.3) == "masked"
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert storages.resolve_storage("auto", 0.9) == "masked"
    with pytest.raises(SettingError, match="storage 'dense'"):
        storages.resolve_storage("dense", 0.9)


def test_without_numba_it_is_masked_with_one_warning(monkeypatch):
    monkeypatch.setattr(storages, "find_spec", lambda name: None)
    with pytest.warns(UserWarning, match="numba") as caught:
        assert storages.resolve_storage("csr", 0.9) == "masked"
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert storages.resolve_storage("masked", 0.9) == "masked"


def test_the_run_says_what_it_was(client, workdir):
    arguments = ["--model.storage=csr", "--trainer.max_epochs=2"]
    assert main(["fit", "--config", str(CONF / "quickstart.yaml"), *QUIET, *arguments]) == 0
    assert only_run(client).data.tags["storage"] == "csr"


@pytest.mark.parametrize(
    ("arguments", "storage"),
    [
        ([], "csr"),
        (["--trainer.precision=bf16-true"], "masked"),
        (["--trainer.strategy=ddp", "--trainer.devices=1"], "masked"),
    ],
)
def test_auto_is_masked_where_csr_could_not_do_it(client, workdir, arguments, storage):
    assert main(["fit", "--config", str(CONF / "quickstart.yaml"), *QUIET, "--trainer.max_epochs=1", *arguments]) == 0
    assert only_run(client).data.tags["storage"] == storage


def test_csr_says_what_it_cannot_do(workdir, capsys):
    arguments = ["--model.storage=csr", "--trainer.precision=bf16-true"]
    assert main(["fit", "--config", str(CONF / "quickstart.yaml"), *QUIET, *arguments]) == 2
    assert "precision bf16-true" in capsys.readouterr().err

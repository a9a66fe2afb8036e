"""The checkpoint of one optimizer step."""

import copy

import pytest
import torch

from psn_lightning import sparsify
from psn_lightning.callbacks import STR, Prune, RigL, TopKAST
from psn_lightning.checkpoints import BestAndLast, ExactRestart, ReplayOrder, RewindPoint
from psn_lightning.errors import SettingError
from psn_lightning.pruning import Magnitude
from tests.helpers.models import Plain, TwoLayerTransformer, batches, plain, trainer


def task():
    module = plain("resnet")
    sparsify(module, 0.0)
    return module


@pytest.mark.parametrize("step", [0, 2, 3, 4, 5])
def test_it_is_written_at_its_step_and_once(step, tmp_path):
    path = tmp_path / "rewind.ckpt"
    arguments = {"max_epochs": 2, "accumulate_grad_batches": 2, "enable_checkpointing": True}
    trainer(RewindPoint(step, path), **arguments).fit(task(), batches("resnet"))  # 3 steps of 2 batches in an epoch
    saved = torch.load(path, weights_only=True)
    assert saved["global_step"] == step
    assert saved["loops"]["fit_loop"]["epoch_progress"]["total"]["processed"] == step // 3
    written = path.read_bytes()
    trainer(RewindPoint(step, path), **arguments).fit(task(), batches("resnet"))
    assert path.read_bytes() == written


def test_it_is_there_before_the_last_checkpoint_of_the_same_step(tmp_path):
    path, seen = tmp_path / "rewind.ckpt", []

    class Last(BestAndLast):
        def _save_last(self, trainer):
            seen.append((trainer.global_step, path.exists()))

    callbacks = [RewindPoint(4, path), Last(every_n_steps=1)]
    trainer(*callbacks, max_epochs=1, enable_checkpointing=True).fit(task(), batches("resnet"))
    assert [is_there for step, is_there in seen if step >= 4] == [True] * 3
    assert not any(is_there for step, is_there in seen if step < 4)


@pytest.mark.parametrize("callback", [RigL(period=2), Prune(Magnitude(), 0.5), STR(), TopKAST()])
def test_callbacks_that_change_connections_are_refused(callback, tmp_path):
    run = trainer(callback, RewindPoint(0, tmp_path / "x.ckpt"), max_epochs=1, enable_checkpointing=True)
    with pytest.raises(SettingError, match=f"{type(callback).__name__} would change connections"):
        run.fit(task() if isinstance(callback, RigL) else plain("resnet"), batches("resnet"))


def test_a_step_outside_of_the_run_is_refused(tmp_path):
    with pytest.raises(SettingError, match="rewinding to step -1: give an optimizer step"):
        RewindPoint(-1, tmp_path / "x.ckpt")
    run = trainer(RewindPoint(6, tmp_path / "x.ckpt"), max_epochs=1, enable_checkpointing=True)
    with pytest.raises(SettingError, match="rewinding to step 6: the run has 6 optimizer steps"):
        run.fit(task(), batches("resnet"))


class Plateau(Plain):
    """Learning rate that falls where the loss does not."""

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, patience=0, threshold=10.0, threshold_mode="abs"
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"}}


def plateau():
    module = Plateau(TwoLayerTransformer())
    sparsify(module, 0.0)
    return module


@pytest.mark.parametrize("step", [0, 2, 6])
def test_a_schedule_that_waits_for_a_plateau_goes_on_exactly(step, tmp_path):
    """Within the first epoch of six steps, at its ends."""
    module = plateau()
    again = copy.deepcopy(module)
    for task, checkpoint in ((module, None), (again, tmp_path / "rewind.ckpt")):
        callbacks = [ReplayOrder(), ExactRestart(), RewindPoint(step, tmp_path / "rewind.ckpt")]
        run = trainer(*callbacks, max_epochs=3, enable_checkpointing=True, num_sanity_val_steps=0)
        run.fit(task, batches("transformer"), batches("transformer", 2), ckpt_path=checkpoint)
        rate = run.optimizers[0].param_groups[0]["lr"]
        assert rate == pytest.approx(0.1 * 0.1**2)  # at every update but the first
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in module.state_dict().items())


def test_a_schedule_that_would_lose_an_update_is_refused(tmp_path):
    run = trainer(RewindPoint(2, tmp_path / "x.ckpt"), max_epochs=1, enable_checkpointing=True)
    with pytest.raises(SettingError, match="add the callback ExactRestart"):
        run.fit(plateau(), batches("transformer"))


def test_a_module_without_sparse_layers_is_refused_before_it_trains(tmp_path):
    run = trainer(RewindPoint(0, tmp_path / "x.ckpt"), max_epochs=1, enable_checkpointing=True)
    with pytest.raises(SettingError, match="Plain has no sparse layer"):
        run.fit(plain("resnet"), batches("resnet"))
    assert run.global_step == 0

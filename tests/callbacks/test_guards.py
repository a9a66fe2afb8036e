"""A loss that is no number ends the run with what one needs to know; dead neurons are told of once."""

import re
import warnings

import lightning.pytorch as pl
import pytest
import torch

from psn_lightning.callbacks import MaskReapply, NumericalGuard
from psn_lightning.cli import main
from psn_lightning.data import Digits
from psn_lightning.errors import DivergedError, SettingError
from tests.callbacks.test_dynamic import Watch, model, trainer
from tests.conftest import CONF, QUIET, only_run


class Poison(pl.Callback):
    """A batch with a feature that is not finite."""

    def __init__(self, step, value):
        self.step, self.value = step, value

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            batch[0][0, 0] = self.value


@pytest.mark.parametrize("storage", ["masked", "csr"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_step_before_the_weights_are_spoilt(storage, value, tmp_path):
    task, watch = model(storage=storage), Poison(7, value)
    run = trainer(watch, NumericalGuard(), MaskReapply(), default_root_dir=tmp_path, accelerator="cpu")
    with pytest.raises(DivergedError) as stopped:
        run.fit(task, Digits(batch_size=64))
    message = str(stopped.value)
    assert re.search(r"the loss is (nan|inf) at step 7 \(epoch 0, batch 7, sha256 [0-9a-f]{12}\)", message)
    largest = [float(layer.active_values().detach().abs().max()) for layer in task.network.sparse_layers().values()]
    for name, value in zip(("fc1", "fc2"), largest, strict=True):
        assert f"{name}: |w| ≤ {value:.3g}, 0 dead neurons" in message
    assert all(torch.isfinite(parameter).all() for parameter in task.parameters())
    autopsy = torch.load(tmp_path / "autopsy.ckpt", weights_only=True)
    assert autopsy["global_step"] == 7
    assert not torch.isfinite(autopsy["batch"][0]).all()
    again = model(storage=storage)
    again.load_state_dict(autopsy["state_dict"])
    first, second = (network.sparse_layers()["fc1"] for network in (task.network, again.network))
    assert torch.equal(second.active_values(), first.active_values())


def test_a_finite_loss_is_let_pass():
    watch = Watch()
    trainer(watch, NumericalGuard()).fit(model(), Digits(batch_size=64))
    assert len(watch.counts) == 40


def test_from_the_command_line(workdir, client, capsys):
    arguments = ["fit", "--config", str(CONF / "quickstart.yaml"), *QUIET, "--trainer.max_epochs=2"]
    assert main([*arguments, "--model.lr=1e38"]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert len(error[error.index("psn-train:") :].splitlines()) <= 3
    (path,) = re.findall(r"(\S+autopsy\.ckpt)", error)
    assert only_run(client).info.status == "FAILED"
    assert main(["test", *arguments[1:-1], f"--ckpt_path={path}"]) == 0


def dead(share):
    task = model()
    layer = task.network.sparse_layers()["fc1"]
    mask = layer.mask.clone()
    mask[: int(share * len(mask))] = False
    layer.set_mask(mask)
    return task


@pytest.mark.parametrize(("share", "limit", "told"), [(0.25, 0.1, 1), (0.25, 0.5, 0), (0.0, 0.0, 0)])
def test_dead_neurons_are_told_of_once(share, limit, told):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer(NumericalGuard(limit), max_steps=-1, max_epochs=3).fit(dead(share), Digits(batch_size=256))
    messages = [str(w.message) for w in caught if "dead_neurons" in str(w.message)]
    assert len(messages) == told
    assert all("12 of 48 neurons in fc1" in message for message in messages)


def test_a_share_that_cannot_be():
    with pytest.raises(SettingError, match=r"dead_neurons 1\.5"):
        NumericalGuard(1.5)

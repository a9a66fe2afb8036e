"""What every Trainer gets."""

import os

import lightning.pytorch as pl
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import LambdaCallback, TQDMProgressBar

from psn_lightning.callbacks import GradientRatio, LastEvaluation, MaskReapply, Progress
from psn_lightning.checkpoints import BestAndLast
from psn_lightning.cli import main
from psn_lightning.commands.exit_codes import report_error
from psn_lightning.commands.trainer import ask_for_accelerators_once, check_trainer, furnish, skip_empty_hooks
from psn_lightning.errors import SettingError
from tests.conftest import CONF


class User(pl.Callback):
    def __init__(self):
        self.calls = 0

    def on_after_backward(self, trainer, pl_module):
        self.calls += 1


def test_only_hooks_that_do_nothing_are_passed_over():
    user, masks, seen = User(), MaskReapply(), []
    by_instance = LambdaCallback(on_train_batch_end=lambda *_: seen.append(1))
    skip_empty_hooks([user, masks, by_instance])
    assert masks.on_train_batch_start is None
    assert callable(masks.on_train_batch_end)
    assert callable(masks.on_train_epoch_end)
    assert callable(MaskReapply().on_train_batch_start)
    assert by_instance.on_before_backward is None
    by_instance.on_train_batch_end()
    assert seen
    assert callable(user.on_train_batch_end)  # somebody else's, who may call it by hand


def test_the_users_choice_wins():
    bar = TQDMProgressBar()
    config, callbacks = {}, [bar]
    furnish(config, callbacks, [], LastEvaluation())
    assert not any(isinstance(callback, Progress) for callback in callbacks)
    assert any(isinstance(callback, GradientRatio) for callback in callbacks)


def test_what_is_turned_off_stays_off():
    config, callbacks = {"enable_progress_bar": False, "enable_checkpointing": False}, [BestAndLast()]
    furnish(config, callbacks, [], LastEvaluation())
    assert not any(isinstance(callback, Progress | BestAndLast) for callback in callbacks)


def test_lightnings_bare_mode_is_left_alone():
    config, callbacks = {"barebones": True}, []
    furnish(config, callbacks, [], LastEvaluation())
    assert not any(isinstance(callback, Progress) for callback in callbacks)


@pytest.mark.skipif(torch.cuda.is_available(), reason="where there is a GPU the question is answered as before")
def test_torch_does_not_look_for_a_driver_in_every_step(monkeypatch):
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # as Lightning does on import, see tests/test_public.py
    ask_for_accelerators_once()
    assert "PYTORCH_NVML_BASED_CUDA_CHECK" not in os.environ


TRAINER = {
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "gradient_clip_val": None,
    "max_epochs": 1,
    "max_steps": -1,
    "limit_train_batches": None,
    "val_check_interval": None,
    "precision": None,
    "devices": 1,
    "accelerator": "auto",
}


def test_all_gpus_are_used_only_where_their_number_is_said(four_gpus):
    check_trainer(TRAINER, True)
    check_trainer({**TRAINER, "devices": 4}, True)
    check_trainer({**TRAINER, "devices": "auto", "accelerator": "cpu"}, True)
    with pytest.raises(SettingError, match="4 devices, each with a batch of its own"):
        check_trainer({**TRAINER, "devices": "auto"}, True)


def test_one_device_is_the_default(workdir, capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(CONF / "fashion_rigl.yaml"), "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)["trainer"]["devices"] == 1


def test_half_precision_cannot_train():
    with pytest.raises(SettingError, match="bf16-true"):
        check_trainer({**TRAINER, "precision": "16-true"}, True)
    check_trainer({**TRAINER, "precision": "16-true"}, False)


def test_a_gpu_without_memory_is_two_lines(capsys):
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    assert report_error(error, debug=False) == 2
    assert "use a smaller network or batch" in capsys.readouterr().err

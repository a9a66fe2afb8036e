"""What every Trainer gets."""

import os
import subprocess
import sys

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback, TQDMProgressBar

from psn_lightning.callbacks import GradientRatio, LastEvaluation, MaskReapply, Progress
from psn_lightning.checkpoints import BestAndLast
from psn_lightning.commands.trainer import furnish, skip_empty_hooks


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
def test_torch_does_not_look_for_a_driver_in_every_step():
    code = (
        "import os, sys, lightning.pytorch; assert os.environ['PYTORCH_NVML_BASED_CUDA_CHECK'] == '1';"
        "from psn_lightning.commands.trainer import ask_for_accelerators_once as ask; ask();"
        "sys.exit('PYTORCH_NVML_BASED_CUDA_CHECK' in os.environ)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, env=os.environ).returncode == 0

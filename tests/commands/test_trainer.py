"""What every Trainer gets."""

import os
import subprocess
import sys

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import TQDMProgressBar

from psn_lightning.callbacks import BestAndLast, GradientRatio, MaskReapply, Progress
from psn_lightning.commands.trainer import NoProfiler, furnish, skip_empty_hooks


class User(pl.Callback):
    def __init__(self):
        self.calls = 0

    def on_after_backward(self, trainer, pl_module):
        self.calls += 1


def test_only_hooks_that_do_nothing_are_passed_over():
    user, masks = User(), MaskReapply()
    skip_empty_hooks([user, masks])
    assert user.on_train_batch_end is None
    assert masks.on_train_batch_start is None
    assert callable(user.on_after_backward)
    assert callable(masks.on_train_batch_end)
    assert callable(user.on_train_epoch_end)
    assert callable(User().on_train_batch_end)


def test_the_users_choice_wins():
    bar, profiler = TQDMProgressBar(), object()
    config, callbacks = {"profiler": profiler}, [bar]
    furnish(config, callbacks, [])
    assert config["profiler"] is profiler
    assert not any(isinstance(callback, Progress) for callback in callbacks)
    assert any(isinstance(callback, GradientRatio) for callback in callbacks)


def test_what_is_turned_off_stays_off():
    config, callbacks = {"enable_progress_bar": False, "enable_checkpointing": False}, [BestAndLast()]
    furnish(config, callbacks, [])
    assert not any(isinstance(callback, Progress | BestAndLast) for callback in callbacks)
    assert isinstance(config["profiler"], NoProfiler)


def test_profiling_nothing_can_be_nested():
    profiler = NoProfiler()
    with profiler.profile("a"), profiler.profile("b"), pytest.raises(ValueError, match="passes"):
        raise ValueError("passes")


@pytest.mark.skipif(torch.cuda.is_available(), reason="where there is a GPU the question is answered as before")
def test_torch_does_not_look_for_a_driver_in_every_step():
    code = (
        "import os, sys, lightning.pytorch; assert os.environ['PYTORCH_NVML_BASED_CUDA_CHECK'] == '1';"
        "from psn_lightning.commands.trainer import ask_for_accelerators_once as ask; ask();"
        "sys.exit('PYTORCH_NVML_BASED_CUDA_CHECK' in os.environ)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, env=os.environ).returncode == 0

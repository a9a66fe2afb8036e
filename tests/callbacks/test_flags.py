"""Flags on which processes agree: exact on the CPU, seldom read on an accelerator, one exchange for all."""

import os
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from psn_lightning.callbacks.flags import AgreedFlags, Flags, flags_of


def trainer(device="cpu", world_size=1, step=0, last=False, every=50):
    strategy = SimpleNamespace(root_device=torch.device(device))
    return SimpleNamespace(
        strategy=strategy, world_size=world_size, global_step=step, is_last_batch=last, log_every_n_steps=every
    )


@pytest.mark.parametrize("loss", [1.0, float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_is_flagged_once(loss):
    flags = Flags()
    flags.note(~torch.isfinite(torch.tensor(loss)))
    assert flags.exchange(trainer()) == AgreedFlags(not abs(loss) < float("inf"), False)
    assert flags.exchange(trainer()) == AgreedFlags(False, False)


def test_losses_are_collected_until_they_are_looked_at():
    flags = Flags()
    for loss in (1.0, float("nan"), 2.0):
        flags.note(~torch.isfinite(torch.tensor(loss)))
    assert flags.exchange(trainer()).diverged


def test_the_cpu_is_asked_in_every_step_an_accelerator_when_the_loss_is_logged():
    flags = Flags()
    assert all(flags.is_due(trainer(step=step)) for step in range(5))
    assert [step for step in range(100) if flags.is_due(trainer("meta", step=step))] == [49, 99]
    assert [step for step in range(100) if flags.is_due(trainer("meta", step=step, every=0))] == [49, 99]
    assert flags.is_due(trainer("meta", step=3, last=True))


def rank(rank, folder):
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    flags, seen, calls = Flags(), [], []
    real = dist.all_reduce
    dist.all_reduce = lambda *arguments, **more: (calls.append(1), real(*arguments, **more))[1]
    for broken, stop in ((False, False), (True, False), (False, True), (True, True)):
        flags.note(torch.tensor(broken and rank == 0))
        flags.stop = stop and rank == 1
        seen.append(tuple(flags.exchange(trainer(world_size=2))))
    torch.save((seen, len(calls)), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_agree_in_one_exchange(tmp_path):
    mp.start_processes(rank, (os.fspath(tmp_path),), 2, start_method="fork")
    for number in (0, 1):
        seen, calls = torch.load(tmp_path / f"{number}.pt")
        assert seen == [(False, False), (True, False), (False, True), (True, True)]
        assert calls == 4


def test_the_callbacks_of_a_trainer_share_them():
    from lightning.pytorch import Trainer

    a, b = (Trainer(logger=False, enable_checkpointing=False, accelerator="cpu") for _ in range(2))
    assert flags_of(a) is flags_of(a)
    assert flags_of(a) is not flags_of(b)

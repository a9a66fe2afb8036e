"""States by rank: gathered from every process, and each process gets its own back."""

import os
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from psn_lightning.checkpoints.rank_states import gather_by_rank, pop_own_state


def trainer(rank=0, world_size=1):
    return SimpleNamespace(global_rank=rank, world_size=world_size)


def test_a_single_process_has_a_list_of_one():
    assert gather_by_rank(trainer(), {"a": 1}) == [{"a": 1}]


@pytest.mark.parametrize(("rank", "own"), [(0, "first"), (1, "second"), (2, None)])
def test_the_own_state_is_taken_once(rank, own):
    states = ["first", "second"]
    assert pop_own_state(trainer(rank), states) == own
    assert states == []
    assert pop_own_state(trainer(rank), states) is None


def gather(rank, folder):
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(gather_by_rank(trainer(rank, 2), {"rank": rank}), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_have_the_same_list(tmp_path):
    mp.start_processes(gather, (os.fspath(tmp_path),), 2, start_method="fork")
    for rank in (0, 1):
        assert torch.load(tmp_path / f"{rank}.pt") == [{"rank": 0}, {"rank": 1}]

"""The order of the rows: by seed and epoch only, sharded, exact after a resume within an epoch."""

import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psn_lightning.data.sampling import EpochOrder, TensorData, keep_batch


def rows(n):
    return TensorData(torch.zeros(n, 1), torch.arange(n))


def order(n, world_size=1, rank=0, seen=0, epoch=0):
    return list(EpochOrder(rows(n), world_size, rank, lambda: (epoch, seen)))


def test_whole_batch_indexing_is_sample_by_sample_indexing():
    data = TensorData(torch.randn(9, 4), torch.arange(9))
    x, y = data.__getitems__([3, 1, 1])
    assert torch.equal(x, torch.stack([data[i][0] for i in (3, 1, 1)]))
    assert y.tolist() == [3, 1, 1]
    assert keep_batch((x, y)) == (x, y)


@given(st.integers(1, 200), st.integers(1, 5), st.integers(0, 3))
def test_shards_together_are_the_order_of_one_process(n, world_size, epoch):
    whole = order(n, epoch=epoch)
    assert sorted(whole) == list(range(n))
    shards = [order(n, world_size, rank, epoch=epoch) for rank in range(world_size)]
    interleaved = [row for group in zip(*shards, strict=True) for row in group]
    assert interleaved[:n] == whole
    assert len(interleaved) - n < world_size  # repeated to make the shares equal


@given(st.integers(0, 60))
def test_an_interrupted_epoch_continues_after_the_rows_seen(seen):
    assert order(50, seen=seen) == order(50)[seen:]


def test_the_progress_is_asked_for_late():
    progress = {"rows": 0}
    iterator = iter(EpochOrder(rows(50), 1, 0, lambda: (0, progress["rows"])))
    progress["rows"] = 40  # a checkpoint is restored after the iterator is made
    assert list(iterator) == order(50)[40:]


def test_outside_of_a_fit_set_epoch_decides():
    sampler = EpochOrder(rows(50), 1, 0, lambda: None)
    assert list(sampler) == order(50)
    sampler.set_epoch(3)
    assert list(sampler) == order(50, epoch=3)


def test_epochs_and_seeds_differ_and_repeat(monkeypatch):
    assert order(50) == order(50) != order(50, epoch=1)
    before = order(50)
    monkeypatch.setitem(os.environ, "PL_GLOBAL_SEED", "123")
    assert order(50) != before


@pytest.mark.parametrize("draws", [0, 3])
def test_the_global_generator_is_not_used(draws):
    torch.manual_seed(5)
    torch.rand(draws)
    assert order(50) == order(50)

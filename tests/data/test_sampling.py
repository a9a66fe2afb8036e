"""The order of the rows: by seed and epoch only, sharded, exact after a resume within an epoch."""

import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psn_lightning.data.sampling import BatchOrder, EpochOrder, TensorData, make_loader


def rows(n):
    return TensorData(torch.zeros(n, 1), torch.arange(n))


def order(n, world_size=1, rank=0, seen=0, epoch=0):
    return list(EpochOrder(rows(n), world_size, rank, lambda: (epoch, seen)))


@given(st.integers(1, 60), st.integers(1, 70), st.integers(1, 3), st.integers(0, 40))
def test_batches_are_the_order_of_the_rows_cut_in_pieces(n, batch_size, world_size, seen):
    data = TensorData(torch.arange(4 * n).view(n, 4), torch.arange(n))
    rows_of_rank = EpochOrder(data, world_size, world_size - 1, lambda: (2, seen))
    loader = make_loader(data, batch_size, rows_of_rank, pin_memory=False)
    batches = list(loader)
    assert all(len(y) for _, y in batches)
    by_index = [data[index][1].tolist() for index in BatchOrder(rows_of_rank, batch_size, torch.device("cpu"))]
    assert by_index == [y.tolist() for _, y in batches]  # as on a GPU
    expected = order(n, world_size, world_size - 1, seen, epoch=2)
    assert [row for _, y in batches for row in y.tolist()] == expected
    assert all(torch.equal(x[:, 0], 4 * y) for x, y in batches)
    assert all(len(y) == batch_size for _, y in batches[:-1])
    assert len(loader) == -(-len(order(n, world_size, world_size - 1)) // batch_size)


def test_lightning_sets_the_epoch_of_the_rows():
    rows_of_rank = EpochOrder(rows(50), 1, 0, lambda: None)
    batches = BatchOrder(rows_of_rank, 20, torch.device("cpu"))
    batches.set_epoch(3)
    assert torch.cat(list(batches)).tolist() == order(50, epoch=3)


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

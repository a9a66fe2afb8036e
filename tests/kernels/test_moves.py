"""Moves between structures, against dictionaries of Python."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.kernels import moves
from psn_lightning.kernels.moves import match_connections, take
from psn_lightning.kernels.structure import Structure

blocks = st.one_of(st.none(), st.tuples(st.integers(1, 5), st.integers(1, 5)))
densities = st.sampled_from([0.0, 0.05, 0.5, 1.0])


@settings(deadline=None)  # the first call compiles
@given(st.integers(1, 20), st.integers(1, 30), densities, densities, blocks, blocks, st.integers(0, 99))
def test_every_connection_that_stays_is_found(n_out, n_in, density, after_density, cut, after_cut, seed):
    rng = np.random.default_rng(seed)
    masks = [rng.random((n_out, n_in)) < share for share in (density, after_density)]
    before, after = (
        Structure(np.flatnonzero(mask), n_out, n_in, own) for mask, own in zip(masks, (cut, after_cut), strict=True)
    )
    places, is_new = match_connections(before, after)
    known = {int(position): place for place, position in enumerate(before.ordered_positions)}
    assert places.tolist() == [known.get(int(p), len(known)) for p in after.ordered_positions]
    assert is_new.tolist() == [int(p) not in known for p in after.positions]
    values = torch.from_numpy(rng.random(len(known)))
    for kind in (torch.float64, torch.float32, torch.bfloat16):
        own = values.to(kind)
        expected = [own[known[int(p)]].item() if int(p) in known else 0.0 for p in after.ordered_positions]
        assert take(own, places).tolist() == expected


def test_places_beyond_four_bytes(monkeypatch):
    """Where there are more connections than int32 counts, places have eight bytes."""
    before, after = (Structure(np.array(positions), 4, 5) for positions in ([1, 7, 12, 19], [0, 7, 13, 19]))
    expected, _ = match_connections(before, after)
    monkeypatch.setattr(moves, "_LARGEST_INT32", 0)
    found, _ = match_connections(before, after)
    assert found.dtype == np.int64
    assert np.array_equal(found, expected)
    assert take(torch.arange(4.0), found).tolist() == take(torch.arange(4.0), expected).tolist()


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_threads_share_the_rows(n_threads):
    rng, before_threads = np.random.default_rng(0), torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        masks = [rng.random((700, 90)) < 0.1 for _ in range(2)]
        before, after = (Structure(np.flatnonzero(mask), 700, 90, (5, 2)) for mask in masks)
        values = torch.rand(len(before.positions))
        dense = torch.zeros(700 * 90)
        dense[torch.from_numpy(before.positions)] = before.to_rows(values)
        places, _ = match_connections(before, after)
        moved = after.to_rows(take(values, places))
    finally:
        torch.set_num_threads(before_threads)
    kept = torch.from_numpy((masks[0] & masks[1]).flatten()[after.positions])
    assert torch.equal(moved, torch.where(kept, dense[torch.from_numpy(after.positions)], 0))

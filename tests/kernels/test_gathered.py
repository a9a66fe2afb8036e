"""Products at given positions against a dense matrix product."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psn_lightning.kernels import gathered
from psn_lightning.kernels.gathered import add_products_at

sizes = st.integers(1, 9)


@given(
    n_out=sizes,
    n_in=sizes,
    rows=st.integers(1, 70),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    data=st.data(),
)
def test_against_the_dense_product(n_out, n_in, rows, dtype, data):
    positions = np.array(sorted(data.draw(st.lists(st.integers(0, n_out * n_in - 1)))), np.int64)
    generator = torch.Generator().manual_seed(len(positions))
    x, g = (torch.randn(n, rows, dtype=dtype, generator=generator) for n in (n_in, n_out))
    before = torch.randn(len(positions), dtype=dtype, generator=generator)
    out = before.clone()
    add_products_at(positions, x, g, out)
    torch.testing.assert_close(out, before + (g @ x.T).flatten()[positions])


@given(rows=st.sampled_from([16, 48, 128, 256]), dtype=st.sampled_from([torch.float32, torch.float64]), data=st.data())
def test_blocks_of_what_does_not_fit_in_the_cache(rows, dtype, data):
    n_out, n_in = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    generator = torch.Generator().manual_seed(n_out * n_in)
    positions = np.flatnonzero(torch.rand(n_out * n_in, generator=generator).numpy() < data.draw(st.floats(0.5, 1)))
    x, g, before = (  # whole numbers, whose sums are exact in any order
        torch.randint(-9, 10, shape, generator=generator).to(dtype)
        for shape in ((n_in, rows), (n_out, rows), (len(positions),))
    )
    out = before.clone()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathered, "_CACHE", 0)
        patch.setattr(gathered, "_AT_ONCE", data.draw(st.sampled_from([1, 50, 10_000])))
        add_products_at(positions, x, g, out)
    assert torch.equal(out, before + (g @ x.T).flatten()[positions])


@pytest.mark.parametrize("cache", [0, 2**24])
@pytest.mark.parametrize("n_threads", [2, 3, 7])
def test_the_number_of_threads_makes_no_difference(n_threads, cache, monkeypatch):
    monkeypatch.setattr(gathered, "_CACHE", cache)
    before, x, g, positions = torch.get_num_threads(), torch.randn(50, 32), torch.randn(40, 32), np.arange(0, 2000, 3)
    found = []
    for n in (1, n_threads):
        torch.set_num_threads(n)
        try:
            found.append(torch.zeros(len(positions)))
            add_products_at(positions, x, g, found[-1])
        finally:
            torch.set_num_threads(before)
    assert torch.equal(*found)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 5, 32])
def test_a_number_that_is_not_finite_is_not_hidden(value, place):
    x, g = torch.ones(2, 33), torch.ones(3, 33)
    x[1, place] = value
    out = torch.zeros(6)
    add_products_at(np.arange(6), x, g, out)
    torch.testing.assert_close(out, (g @ x.T).flatten(), equal_nan=True)

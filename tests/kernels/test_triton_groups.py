"""Triton's kernels in Triton's interpreter, against dense products; and compiled for GPUs that are not here."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")

from benchmarks.group_kernels import KERNELS, compile_for
from tests.helpers.interpreter import interpreted


@pytest.fixture(scope="module")
def products():
    with interpreted() as module:
        yield module


@settings(max_examples=12, deadline=None)
@given(
    n_in=st.integers(1, 40),
    rows=st.integers(1, 40),
    size=st.sampled_from([1, 2, 5, 16, 17, 33, 130]),
    fan_ins=st.lists(st.integers(0, 40), min_size=1, max_size=5),
    dtype=st.sampled_from([torch.float32, torch.float16]),  # of bfloat16 the interpreter multiplies the bits
    seed=st.integers(0, 99),
)
def test_values_and_gradients(products, n_in, rows, size, fan_ins, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    chosen = [torch.randperm(n_in, generator=generator)[:k].sort().values for k in fan_ins]
    inputs, ends = torch.cat(chosen), torch.tensor([len(c) for c in chosen]).cumsum(0)
    plan = products.GroupPlan(inputs, ends, n_in, size, products.Blocks(pairs=16, rows=16))
    w, x, y = (  # small whole numbers, which every dtype and order of a sum has exactly
        torch.randint(-2, 3, shape, generator=generator).to(dtype)
        for shape in ((len(inputs), size), (n_in, rows), (len(fan_ins) * size, rows))
    )
    dense = torch.zeros(len(fan_ins), size, n_in)
    starts = [0, *ends.tolist()]
    for group, (first, last) in enumerate(itertools.pairwise(starts)):
        dense[group, :, inputs[first:last]] = w[first:last].float().T
    flat = dense.flatten(0, 1)
    assert torch.equal(plan.solve_y(w, x).float(), (flat @ x.float()).to(dtype).float())
    assert torch.equal(plan.solve_x(w, y).float(), (flat.T @ y.float()).to(dtype).float())
    full = (y.float() @ x.float().T).view(len(fan_ins), size, n_in)
    expected = [full[group][:, chosen[group]].T for group in range(len(fan_ins))]
    assert torch.equal(plan.solve_w(x, y), torch.cat(expected).to(dtype))


def test_weights_in_groups_of_no_inputs(products):
    plan = products.GroupPlan(torch.empty(0, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), 4, 16)
    w, x, y = torch.zeros(0, 16), torch.ones(4, 5), torch.ones(48, 5)
    assert plan.solve_y(w, x).eq(0).all()
    assert plan.solve_x(w, y).eq(0).all()
    assert plan.solve_w(x, y).shape == (0, 16)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("name", KERNELS)
def test_kernels_are_compiled_for_gpus_that_are_not_here(name, capability):
    found = compile_for(name, capability, "bf16", 64)
    assert found.kernel.asm["cubin"]
    assert found.uses_matrix_units == (name != "_sum_by_input")
    assert found.shared <= 96 * 2**10  # of 164 and 228 KiB: two programs at a time at least

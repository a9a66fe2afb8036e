"""Tiles of a workspace, and its check of the parameters' memory."""

import numpy as np
import pytest
import torch

from psn_lightning.kernels.structure import Structure
from psn_lightning.kernels.workspace import Stage, Workspace


@pytest.fixture
def stage():
    return Stage(Structure(np.arange(12), 3, 4))


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("n_rows", "n_threads", "width", "n_tiles", "used"),
    [
        *((0, 1, 16, 1, 1), (1, 1, 64, 1, 1), (128, 2, 64, 2, 2), (64, 2, 32, 2, 2), (40, 2, 32, 2, 2)),
        *((30, 2, 16, 2, 2), (300, 2, 64, 5, 2)),
        *((5, 8, 16, 1, 8), (40, 8, 16, 3, 6)),  # threads share a tile, as many for each
    ],
)
def test_tiles_are_wide_but_leave_no_thread_without_one_where_that_is_possible(
    n_rows, n_threads, width, n_tiles, used, stage, threads
):
    threads(n_threads)
    workspace = Workspace([stage], n_rows, torch.float64, for_backward=False)
    assert (workspace._width, workspace._n_tiles) == (width, n_tiles)
    assert workspace._n_threads == used


@pytest.mark.parametrize("needs_x", [True, False])
def test_both_passes_are_those_of_dense_matrices(stage, needs_x):
    values, bias = torch.rand(12, dtype=torch.float64), torch.rand(3, dtype=torch.float64)
    x, g = torch.rand(70, 4, dtype=torch.float64), torch.rand(70, 3, dtype=torch.float64)
    workspace = Workspace([stage], 70, torch.float64, for_backward=True)
    torch.testing.assert_close(workspace.forward(x, [values, bias]), x @ values.view(3, 4).T + bias)
    to_x, to_parameters = workspace.backward(g, [values, bias], needs_x)
    assert (to_x is not None) == needs_x
    if to_x is not None:
        torch.testing.assert_close(to_x, g @ values.view(3, 4))
    torch.testing.assert_close(to_parameters, torch.cat([(g.T @ x).flatten(), g.sum(0)]))


def test_parameters_must_stay_where_the_forward_pass_has_read_them(stage):
    values, bias = torch.rand(12), torch.rand(3)
    workspace = Workspace([stage], 5, torch.float32, for_backward=True)
    workspace.forward(torch.rand(5, 4), [values, bias])
    with pytest.raises(RuntimeError, match="weights"):
        workspace.backward(torch.rand(5, 3), [values.clone(), bias], True)

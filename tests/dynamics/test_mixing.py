"""Masks under optimizers that mix weights, in a plain loop."""

import pytest
import torch
from torch import nn

from psn_lightning import sparse_layers, sparsify
from psn_lightning.dynamics.mixing import keep_masks


@pytest.mark.parametrize("kept", [False, True])
def test_muon_fills_absent_weights_unless_the_masks_are_kept(kept):
    torch.manual_seed(0)
    model = nn.Linear(12, 8)
    sparsify(model, 0.5)
    (layer,) = sparse_layers(model).values()
    optimizer = torch.optim.Muon([model.weight], lr=0.1)
    if kept:
        keep_masks(optimizer, [layer])
    model(torch.randn(6, 12)).square().sum().backward()
    optimizer.step()
    assert bool(model.weight[~layer.mask].any()) is not kept


def test_other_optimizers_are_left_alone():
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    keep_masks(optimizer, [])
    assert not optimizer._optimizer_step_post_hooks

"""The mask of a parameter as a buffer of its module."""

import pytest
import torch
from torch import nn

from psn_lightning.nn.mask_buffers import MaskBuffers
from psn_lightning.topology import Connectivity
from tests.helpers.layers import drawn

GROUPS = [0, 1, 0, 1]


@pytest.fixture
def buffers():
    """Buffers of a layer of two groups with two neurons each, and the number of state dicts that were loaded."""
    grid = Connectivity.from_mask(drawn(6, 2, 0.5))
    loads = []
    made = MaskBuffers(nn.Linear(6, 4), "weight", Connectivity.from_grid(grid, GROUPS), lambda: loads.append(1))
    return made, loads


def test_the_count_follows_every_change(buffers):
    masks, _ = buffers
    assert masks.count() == masks.n_active == int(masks.mask.sum())
    masks.replace(torch.ones(4, 6, dtype=torch.bool))
    assert int(masks.count()) == masks.n_active == 24
    masks.assign(torch.eye(4, 6, dtype=torch.bool))
    assert int(masks.count()) == masks.n_active == 4


def test_groups_stay_where_their_neurons_still_share_inputs(buffers):
    masks, _ = buffers
    assert masks.groups.tolist() == GROUPS
    shared = torch.from_numpy(drawn(6, 2, 0.5, seed=9))[GROUPS]
    masks.replace(shared)
    assert masks.groups.tolist() == GROUPS
    shared[0, 0] ^= True
    masks.replace(shared)
    assert masks.groups is None


def test_every_module_that_holds_the_parameter_tells_of_a_load(buffers):
    masks, loads = buffers
    module, other = masks._module, nn.Linear(6, 4)
    other.weight = module.weight
    masks.share(other)
    other.load_state_dict(other.state_dict())
    module.load_state_dict(module.state_dict())
    assert len(loads) == 2
    masks.remove()
    other.load_state_dict(other.state_dict())
    assert len(loads) == 2
    assert list(module.state_dict()) == ["weight", "bias"]


def test_what_a_state_dict_does_not_mention_stays(buffers):
    masks, _ = buffers
    module, before = masks._module, masks.mask.clone()
    module.load_state_dict({"bias": torch.zeros(4)}, strict=False)
    assert masks.groups.tolist() == GROUPS
    assert torch.equal(masks.mask, before)

"""The private names of torch that the package uses still exist and mean what they meant."""

import inspect
from collections import OrderedDict

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from psn_lightning.nn.torch_private import (
    get_backward_id,
    get_ddp_ignored,
    handles_amp_scaling,
    hold_steps,
    is_held,
    list_leaves,
    set_ddp_ignored,
)


def test_the_backward_id_differs_between_passes_and_is_equal_within_one():
    seen = []
    assert get_backward_id() == -1
    for _ in range(2):
        y = 2 * torch.ones(3, requires_grad=True)
        z = 3 * y
        for tensor in (y, z):
            tensor.register_hook(lambda gradient: seen.append(get_backward_id()))
        z.sum().backward()
    assert seen[0] == seen[1] >= 0
    assert seen[2] == seen[3] >= 0
    assert seen[0] != seen[2]


@pytest.fixture
def group(tmp_path):
    dist.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_ddp_ignores_the_names_that_are_set(group):
    module = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    assert get_ddp_ignored(module) == []
    set_ddp_ignored(module, ["0.running_mean"])
    assert get_ddp_ignored(module) == ["0.running_mean"]
    broadcast = {id(buffer) for buffer in DistributedDataParallel(module).modules_buffers}
    buffers = dict(module.named_buffers())
    assert id(buffers["0.running_mean"]) not in broadcast
    assert id(buffers["0.running_var"]) in broadcast


@pytest.mark.parametrize("fused", [True, False])
def test_fused_optimizers_handle_the_scale_of_amp(fused):
    assert handles_amp_scaling(torch.optim.AdamW([torch.zeros(3, requires_grad=True)], fused=fused)) == fused


def test_a_state_that_was_not_fused_makes_the_optimizer_not_fused():
    weight = torch.zeros(3, requires_grad=True)
    fused, plain = (torch.optim.AdamW([weight], fused=value) for value in (True, False))
    fused.load_state_dict(plain.state_dict())
    assert not handles_amp_scaling(fused)


def test_a_held_optimizer_changes_nothing():
    weight = torch.ones(3, requires_grad=True)
    optimizer, flag = torch.optim.Adam([weight], fused=True), torch.zeros(())
    assert not is_held(optimizer)
    hold_steps(optimizer, flag)
    before = []
    for value in (0, 1, 0):
        flag.fill_(value)
        assert is_held(optimizer) == bool(value)
        weight.grad = torch.ones(3)
        optimizer.step()
        before.append((weight.detach().clone(), int(optimizer.state[weight]["step"])))
    (first, one), (held, still), (last, two) = before
    assert torch.equal(first, held)
    assert not torch.equal(held, last)
    assert (one, still, two) == (1, 1, 2)
    hold_steps(optimizer, None)
    assert not is_held(optimizer)


def test_leaves_come_in_order_out_of_any_nesting():
    assert list_leaves({"b": [1, (2, 3)], "a": OrderedDict(x=4)}) == [1, 2, 3, 4]
    assert list_leaves(5) == [5]


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("_save_to_state_dict", ["destination", "prefix", "keep_vars"]),
        (
            "_load_from_state_dict",
            ["state_dict", "prefix", "local_metadata", "strict", "missing_keys", "unexpected_keys", "error_msgs"],
        ),
    ],
)
def test_modules_save_and_load_through_the_methods_that_csr_overrides(method, parameters):
    assert list(inspect.signature(getattr(nn.Module, method)).parameters) == ["self", *parameters]

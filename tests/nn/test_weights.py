"""Which weights are found, under which names."""

import pytest
import torch
from torch import nn

from psn_lightning.errors import SettingError
from psn_lightning.nn import sparse_layers, sparsify
from psn_lightning.nn.masked import masked_layers_of
from psn_lightning.nn.weights import ignore_masks, select_weights, stop_ignoring_masks


def names(module, include=None, exclude=()):
    return [weight.name for weight in select_weights(module, include, list(exclude))]


def test_a_layer_that_is_the_module_itself():
    module = nn.Linear(4, 5)
    assert names(module) == ["weight"]
    sparsify(module, 0.5)
    assert list(sparse_layers(module)) == ["weight"]


def test_order_is_the_modules_whatever_the_patterns():
    module = nn.ModuleDict({name: nn.Linear(3, 3) for name in ("a", "b", "c")})
    assert names(module, ["c", "a", "*"]) == ["a", "b", "c"]
    assert names(module, ["c", "a"]) == ["a", "c"]
    assert names(module, exclude=["b"]) == ["a", "c"]


def test_a_layer_is_found_once_by_layer_and_parameter_name():
    module = nn.Sequential(nn.Linear(3, 3), nn.GRU(3, 4))
    assert names(module, ["0", "0.weight", "1.weight_*"]) == ["0", "1.weight_ih_l0", "1.weight_hh_l0"]


@pytest.mark.parametrize(
    ("module", "name", "may"),
    [
        (nn.Sequential(nn.Linear(3, 3)), "0", True),
        (nn.Linear(3, 3), "weight", False),
        (nn.Sequential(nn.Conv1d(3, 3, 1)), "0", False),
        (nn.Sequential(nn.MultiheadAttention(4, 2)), "0.out_proj", False),
        (nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8)), "0.linear1", False),
    ],
)
def test_csr_may_replace_only_linears_that_their_parent_calls(module, name, may):
    (weight,) = [weight for weight in select_weights(module, None, []) if weight.name == name]
    assert weight.may_be_replaced == may


def test_ddp_is_told_not_to_broadcast_masks():
    module = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Conv1d(4, 4, 3)))
    sparsify(module, 0.5)
    names = {"0.weight_mask", "1.0.weight_mask"}
    assert set(module._ddp_params_and_buffers_to_ignore) == names
    assert names <= {name for name, _ in module.named_buffers()}
    outer = nn.ModuleDict({"net": module})
    ignore_masks(outer)
    ignore_masks(outer)
    assert sorted(outer._ddp_params_and_buffers_to_ignore) == sorted(f"net.{name}" for name in names)
    stop_ignoring_masks(outer)
    assert outer._ddp_params_and_buffers_to_ignore == []


def test_a_weight_that_is_trained_only_later_is_hooked_then():
    module = nn.Sequential(nn.Linear(6, 6)).requires_grad_(False)
    sparsify(module, 0.5)
    module.requires_grad_(True)
    layer = sparse_layers(module)["0"]
    module(torch.randn(3, 6)).sum().backward()
    assert not module[0].weight.grad[~layer.mask].any()
    assert masked_layers_of(module[0]) == {"weight": layer}


def test_weights_without_values_are_refused():
    """Their mask would be lost when they get some."""
    with torch.device("meta"):
        module = nn.Linear(4, 5)
    with pytest.raises(SettingError, match="meta"):
        sparsify(module, 0.5)

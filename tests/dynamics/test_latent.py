"""Steps on latent weights: what comes before and after them, and copies of the layer."""

import copy
import pickle

import pytest
import torch
from torch import nn

from psn_lightning import sparse_layers, sparsify
from psn_lightning.dynamics import SoftThresholdLayer, TopKASTLayer

METHODS = {
    "topkast": lambda layer: TopKASTLayer(layer, 0.9, 0.8, 1e-3),
    "str": lambda layer: SoftThresholdLayer(layer, -3.0, 1e-3),
}


@pytest.fixture(params=METHODS)
def latent(request):
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(40, 30))
    sparsify(module, 0.0, allocation="uniform")
    latent = METHODS[request.param](sparse_layers(module)["0"])
    latent.module = module
    latent.refresh()
    return latent


def test_nothing_happens_without_a_gradient_or_twice(latent):
    weight = latent.module[0].weight
    effective, theta = weight.detach().clone(), latent.latent.clone()
    latent.before_step()
    latent.after_step()
    assert torch.equal(weight, effective)
    latent.module(torch.ones(2, 40)).sum().backward()
    latent.before_step()
    gradient = weight.grad.clone()
    latent.before_step()
    assert torch.equal(weight.grad, gradient)
    assert torch.equal(weight, theta)
    latent.after_step()  # without a step between, as where the gradient scaler skips it
    latent.after_step()
    assert torch.equal(weight, effective)
    assert torch.equal(latent.latent, theta)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_of_the_module_is_an_ordinary_sparse_one(latent, duplicate):
    copied = duplicate(latent.module)
    (layer,) = sparse_layers(copied).values()
    assert layer.trained is None
    assert torch.equal(layer.parameter, latent.module[0].weight)
    copied(torch.ones(2, 40)).sum().backward()
    assert not layer.parameter.grad[~layer.mask].any()


def test_masks_are_applied_to_weights_but_moments_stay_where_something_trains(latent):
    layer, moment = latent.layer, torch.ones(30, 40)
    effective = layer.parameter.detach().clone()
    with torch.no_grad():
        layer.parameter.fill_(1.0)
    layer.apply_mask([moment])
    assert torch.equal(layer.parameter != 0, layer.mask)
    assert torch.equal(moment != 0, layer.trained)
    assert int(layer.count_gradients()) == int(layer.trained.sum()) > layer.n_connections
    latent.refresh()
    assert torch.equal(layer.parameter, effective)

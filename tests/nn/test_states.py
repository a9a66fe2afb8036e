"""State dicts: what either storage wrote, as either reads it."""

import copy

import pytest
import torch
from torch import nn

from psn_lightning.nn import MaskedLayer, SparseMLP
from psn_lightning.topology import Bernoulli, Connectivity, Topology
from tests.helpers.layers import STORAGES, drawn, pair, random_linear

KEYS = {
    "masked": ["weight", "bias", "weight_mask"],
    "csr": ["blocks", "in_features", "values", "indptr", "indices", "bias"],
}


def loaded(state, storage, seed=4, **shape):
    linear = random_linear(seed=seed, storage=storage, **shape)
    linear.module.load_state_dict(copy.deepcopy(state))
    return linear


def as_lists(state):
    return {key: value.tolist() for key, value in state.items()}


@pytest.mark.parametrize("storage", STORAGES)
def test_a_state_dict_is_the_connections_and_their_weights(storage):
    sparse = random_linear(seed=3, storage=storage)
    state = sparse.module.state_dict()
    assert list(state) == KEYS[storage]
    other = loaded(state, storage)
    assert other.view.connectivity == sparse.view.connectivity
    assert torch.equal(other.weight, sparse.weight)


@pytest.mark.parametrize("source", [0, 1])
def test_state_dicts_interchange(source):
    linears = pair(drawn(30, 20, 0.3))
    target = pair(drawn(30, 20, 0.6, seed=5))[1 - source]
    state = linears[source].module.state_dict()
    target.module.load_state_dict(copy.deepcopy(state))
    assert target.view.connectivity == linears[source].view.connectivity
    assert torch.equal(target.view.active_values(), linears[source].view.active_values())
    assert as_lists(target.module.state_dict()) == as_lists(linears[1 - source].module.state_dict())
    back = pair(drawn(30, 20, 0.1, seed=6))[source]
    back.module.load_state_dict(target.module.state_dict())
    assert as_lists(back.module.state_dict()) == as_lists(state)


@pytest.mark.parametrize("source", STORAGES)
@pytest.mark.parametrize("target", STORAGES)
def test_networks_interchange(source, target):
    def build(storage, seed):
        return SparseMLP([12, 16, 14, 3], Topology(Bernoulli(), 0.6), storage=storage, seed=seed).double()

    network, other = build(source, 1), build(target, 2)
    other.load_state_dict(network.state_dict())
    assert other.connectivities() == network.connectivities()
    x = torch.randn(5, 12).double()
    torch.testing.assert_close(other(x), network(x))


def test_loading_leaves_the_state_dict_as_it_was():
    csr, masked = pair(drawn(30, 20, 0.3))
    for source, target in ((csr, masked), (masked, csr)):
        state = source.module.state_dict()
        before = as_lists(state)
        target.module.load_state_dict(state)
        assert as_lists(state) == before


CHANGES = [
    (lambda s: s.pop("values"), "Missing key"),
    (lambda s: s.update(indptr=s["indptr"][:-1]), "indptr of 10"),
    (lambda s: s.update(indices=s["indices"] + 100), "indices"),
    (lambda s: s.update(in_features=torch.tensor(14)), "in_features 14"),
    (lambda s: s.update(values=s["values"][:-1]), "values"),
    (lambda s: s.update(values=s["values"].long()), "values"),
]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_a_state_dict_of_csr_that_does_not_fit_is_refused(storage, change, message):
    state = random_linear(storage="csr").module.state_dict()
    change(state)
    target = random_linear(seed=9, storage=storage)
    before, weight = target.view.connectivity, target.weight.detach().clone()
    with pytest.raises(RuntimeError, match=message):
        target.module.load_state_dict(state)
    assert target.view.connectivity == before
    assert torch.equal(target.weight, weight)


MASKED_CHANGES = [
    (lambda s: s.pop("bias"), "Missing key"),
    (lambda s: s.update(weight=s["weight"][:-1]), "shape"),
    (lambda s: s.update(weight_mask=s["weight_mask"][:, 1:]), "shape"),
    (lambda s: s.update(weight_mask=s["weight_mask"][1:], weight=s["weight"][1:]), "shape"),
    (lambda s: s.update(bias=s["bias"][1:]), "shape"),
]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(("change", "message"), MASKED_CHANGES)
def test_a_state_dict_of_masked_that_does_not_fit_is_refused(storage, change, message):
    state = random_linear().module.state_dict()
    change(state)
    with pytest.raises(RuntimeError, match=message):
        loaded(state, storage, seed=9)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_mask_that_is_no_mask_is_refused(storage):
    state = random_linear().module.state_dict()
    state["weight_mask"] = state["weight_mask"].float()
    with pytest.raises(RuntimeError, match=r"torch\.float32"):
        loaded(state, storage, seed=9)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_state_dict_of_an_earlier_version_is_taken(storage):
    source = random_linear(seed=3, storage="csr")
    state = source.module.state_dict()
    del state["in_features"]
    other = loaded(state, storage)
    assert other.view.connectivity == source.view.connectivity
    assert torch.equal(other.view.active_values(), source.view.active_values())


@pytest.mark.parametrize("storage", STORAGES)
def test_weights_of_a_dense_linear_get_the_present_mask(storage):
    dense = nn.Linear(13, 11)
    sparse = random_linear(storage=storage)
    before = sparse.view.connectivity
    sparse.module.load_state_dict(dense.state_dict())
    assert sparse.view.connectivity == before
    assert torch.equal(sparse.view.active_values(), dense.weight[sparse.view.mask])
    assert torch.equal(sparse.module.bias, dense.bias)
    if storage == "masked":
        assert not sparse.weight[~sparse.view.mask].any()


def test_weights_that_stray_in_a_state_dict_are_not_taken():
    state = random_linear().module.state_dict()
    state["weight"] = state["weight"] + 1
    sparse = loaded(state, "masked")
    assert not sparse.weight[~sparse.view.mask].any()
    assert torch.equal(sparse.view.mask, state["weight_mask"])


def test_a_kernel_is_saved_and_loaded_with_its_mask():
    def convolution(seed):
        torch.manual_seed(seed)
        made = nn.Conv2d(3, 4, 3)
        return made, MaskedLayer(made, "weight", Connectivity.from_mask(drawn(27, 4, 0.3, seed)))

    (first, view), (second, other) = convolution(0), convolution(1)
    second.load_state_dict(first.state_dict())
    assert other.connectivity == view.connectivity
    assert torch.equal(second.weight, first.weight)
    dense = nn.Conv2d(3, 4, 3)
    second.load_state_dict(dense.state_dict())
    assert other.connectivity == view.connectivity
    assert torch.equal(other.active_values(), dense.weight.flatten(1)[other.mask])


def test_a_full_mask_that_is_loaded_masks_no_longer():
    state = random_linear(density=1.1).module.state_dict()
    sparse = loaded(state, "masked")
    sparse(torch.randn(4, 13)).square().sum().backward()
    assert sparse.weight.grad.all()
    sparse.module.zero_grad()
    sparse.module.load_state_dict(random_linear().module.state_dict())
    sparse(torch.randn(4, 13)).square().sum().backward()
    assert not sparse.weight.grad[~sparse.view.mask].any()

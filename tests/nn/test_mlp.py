import pytest
import torch
from torch import nn

from psn_lightning.errors import SettingError
from psn_lightning.nn import SparseLayer, SparseMLP
from psn_lightning.topology import Bernoulli, Exponential, Topology


def test_parameter_count_of_the_paper():
    network = SparseMLP([784, 1024, 1024, 10], Topology(Exponential()))
    assert sum(p.numel() for p in network.parameters()) == 1_867_786


def test_hidden_layers_sparse_output_dense(network):
    assert [type(m).__name__ for m in network] == [*["Linear", "LayerNorm", "ReLU"] * 2, "Linear"]
    assert list(network.sparse_layers()) == ["fc1", "fc2"]
    assert all(isinstance(layer, SparseLayer) for layer in network.sparse_layers().values())
    assert not any(m.bias.any() for m in network if isinstance(m, nn.Linear))
    assert network(torch.randn(5, 12)).shape == (5, 3)
    for name, layer in network.sparse_layers().items():
        linear = network.get_submodule(name)
        assert layer.parameter is linear.weight
        assert not linear.weight[~layer.mask].any()
    assert network.output.weight.all()


def test_density_one_is_an_ordinary_mlp():
    sparse = SparseMLP([12, 16, 14, 3], Topology(sparsity=0.0))
    dense = nn.Sequential(
        nn.Linear(12, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 14), nn.LayerNorm(14), nn.ReLU(), nn.Linear(14, 3)
    )
    for ours, theirs in zip(sparse, dense, strict=True):
        if hasattr(ours, "weight"):
            theirs.weight.data, theirs.bias.data = ours.weight.data.clone(), ours.bias.data.clone()
    x = torch.randn(7, 12)
    torch.testing.assert_close(sparse(x), dense(x))
    sparse(x).sum().backward()
    dense(x).sum().backward()
    torch.testing.assert_close(sparse.fc1.weight.grad, dense[0].weight.grad)


def test_seed_decides_everything():
    def build(seed):
        return SparseMLP([12, 16, 14, 3], Topology(Bernoulli(), 0.6), seed=seed).state_dict()

    first, again, other = build(5), build(5), build(6)
    assert first.keys() == again.keys()
    assert all(torch.equal(first[k], again[k]) for k in first)
    values, others = (state["fc2.weight"][state["fc2.weight_mask"]] for state in (first, other))
    assert not torch.equal(values[:10], others[:10])


def test_the_storages_begin_with_the_same_weights():
    masked, csr = (SparseMLP([12, 16, 14, 3], Topology(Bernoulli(), 0.6), storage=s) for s in ("masked", "csr"))
    assert masked.connectivities() == csr.connectivities()
    for name, layer in masked.sparse_layers().items():
        assert torch.equal(layer.active_values(), csr.sparse_layers()[name].active_values())
    assert torch.equal(masked.output.weight, csr.output.weight)


def test_unknown_storage():
    with pytest.raises(SettingError, match="storage 'coo'"):
        SparseMLP([3, 4, 2], Topology(), storage="coo")


@pytest.mark.parametrize("storage", ["masked", "csr"])
def test_without_layer_norm(storage):
    network = SparseMLP([20, 16, 8, 3], Topology(Bernoulli(), 0.7), storage=storage, layer_norm=False)
    assert not any(isinstance(module, torch.nn.LayerNorm) for module in network)
    x = torch.randn(5, 20)
    expected = x
    assert not network.fused
    for name, layer in network.sparse_layers().items():
        weight = torch.zeros(layer.mask.shape)
        weight[layer.mask] = layer.active_values()
        expected = torch.relu(expected @ weight.T + network.get_submodule(name).bias)
    assert torch.allclose(network(x), network.output(expected), atol=1e-5)


@pytest.mark.parametrize(("storage", "fused"), [("masked", False), ("csr", True)])
def test_only_csr_computes_all_layers_as_one(storage, fused):
    network = SparseMLP([20, 16, 8, 3], Topology(Bernoulli(), 0.7), storage=storage)
    assert network.storage == storage
    assert network.fused is fused


def test_the_scale_of_the_first_weights():
    arguments = {"layer_sizes": [20, 16, 3], "topology": Topology(Bernoulli(), 0.7)}
    one, double = SparseMLP(**arguments), SparseMLP(**arguments, init_scale=2.0)
    assert torch.equal(2 * one.fc1.weight, double.fc1.weight)
    assert torch.equal(one.output.weight, double.output.weight)
    with pytest.raises(SettingError, match="init_scale 0"):
        SparseMLP(**arguments, init_scale=0)

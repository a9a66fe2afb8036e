import pytest
import torch
from torch import nn

from psn_lightning.errors import SettingError
from psn_lightning.nn import Mixture, MixtureLayer, MixtureMLP, mixture_layers, sparse_layers, sparsify

SIZES = [40, 36, 32, 3]


def test_mixtures_take_the_place_of_the_hidden_layers():
    network = MixtureMLP(SIZES, Mixture(5, 2))
    assert list(dict(network.named_children())) == ["fc1", "norm1", "relu1", "fc2", "norm2", "relu2", "output"]
    assert [type(m).__name__ for m in network] == [*["MixtureLayer", "LayerNorm", "ReLU"] * 2, "Linear"]
    assert list(mixture_layers(network)) == ["fc1", "fc2"]
    assert not sparse_layers(network)
    assert network(torch.randn(7, 40)).shape == (7, 3)


def test_every_setting_reaches_the_layers():
    settings = {"experts": 6, "active": 3, "hidden": 4, "noise": False, "importance": 0.3, "load": 0.2}
    layer = MixtureMLP(SIZES, Mixture(**settings)).fc2
    assert (len(layer.experts), layer.active, layer.hidden, layer.noise) == (6, 3, 4, None)
    assert (layer.importance, layer.load) == (0.3, 0.2)
    assert Mixture().make_layer(784, 1024).extra_repr() == MixtureLayer(784, 1024).extra_repr()


def test_the_seed_decides_everything():
    first, again, other = (MixtureMLP(SIZES, Mixture(4), seed=seed).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(first[key], again[key]) for key in first)
    experts = [first[f"fc2.experts.{i}.hidden.weight"] for i in range(4)]
    assert all(not torch.equal(a, b) for i, a in enumerate(experts) for b in experts[:i])
    assert not torch.equal(first["fc2.experts.0.hidden.weight"], other["fc2.experts.0.hidden.weight"])


def test_first_weights_have_the_variance_of_their_fan_in():
    network = MixtureMLP([400, 300, 3], Mixture(2, hidden=200), init_scale=0.5, layer_norm=False)
    for linear in (module for module in network.fc1.modules() if isinstance(module, nn.Linear)):
        assert linear.weight.std().item() == pytest.approx(0.5 * (2 / linear.in_features) ** 0.5, rel=0.02)
        assert not linear.bias.any()
    assert not any(isinstance(module, nn.LayerNorm) for module in network)


def test_sparsify_takes_the_experts_and_leaves_the_gates():
    network = MixtureMLP(SIZES, Mixture(4, hidden=12))
    table = sparsify(network, 0.5, exclude=["output"])
    assert [row.name for row in table] == [
        f"fc{layer}.experts.{i}.{part}" for layer in (1, 2) for i in range(4) for part in ("hidden", "output")
    ]


@pytest.mark.parametrize("init_scale", [0, float("inf")])
def test_a_scale_that_is_no_positive_number(init_scale):
    with pytest.raises(SettingError, match="init_scale"):
        MixtureMLP(SIZES, Mixture(4), init_scale=init_scale)

"""Saliencies held to N:M and to whole units, on Linears and convolutions."""

import pytest
import torch
from torch import nn

from psn_lightning.errors import SettingError
from psn_lightning.nn import sparse_layers
from psn_lightning.pruning import SNIP, Magnitude, NMSaliency, SynFlow, UnitSaliency, prune


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def convolutions():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 1), nn.Flatten(), nn.Linear(32, 4))


@pytest.mark.parametrize("make", [mlp, convolutions])
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 2)])
def test_the_largest_weights_of_each_group_stay(make, n, m):
    model, exclude = make(), [] if make is mlp else ["2"]
    weights = {
        name: module.weight.detach().clone() for name, module in model.named_modules() if hasattr(module, "weight")
    }
    prune(model, NMSaliency(Magnitude(), n, m), 1 - n / m, exclude=exclude)
    for name, layer in sparse_layers(model).items():
        largest = weights[name].abs().reshape(-1, m).topk(n, dim=1).indices
        expected = torch.zeros(layer.n_out * layer.n_in // m, m, dtype=torch.bool).scatter_(1, largest, True)
        assert torch.equal(layer.mask.reshape(-1, m), expected)


def test_whole_neurons_and_channels_of_all_layers_are_compared_by_mean_importance():
    model, data = convolutions(), (torch.randn(8, 4, 4, 4), torch.arange(8) % 4)
    unheld, sparsity = convolutions(), 0.5
    table = {}
    prune(unheld, SNIP(), 0.0, [data], exclude=["4"])
    unheld.zero_grad()
    nn.functional.cross_entropy(unheld(data[0]), data[1]).backward()
    for name, layer in sparse_layers(unheld).items():
        scores = (layer.parameter * layer.parameter.grad).abs().detach().view(layer.n_out, -1)
        table |= {(name, i): (float(row.mean()), len(row)) for i, row in enumerate(scores)}
    target, expected = round((1 - sparsity) * sum(size for _, size in table.values())), set()
    for unit, (_, size) in sorted(table.items(), key=lambda item: -item[1][0]):
        if target < size:
            break
        expected.add(unit)
        target -= size
    prune(model, UnitSaliency(SNIP()), sparsity, [data], exclude=["4"])
    rows = {
        (name, i) for name, layer in sparse_layers(model).items() for i in range(layer.n_out) if layer.mask[i].all()
    }
    assert rows == expected
    for layer in sparse_layers(model).values():
        assert set(layer.mask.sum(dim=1).tolist()) <= {0, layer.n_in}


def test_rounds_and_scope_are_those_of_the_saliency():
    held = UnitSaliency(SynFlow(), size=9)
    assert (held.rounds, held.batches, held.scope) == (SynFlow.rounds, SynFlow.batches, SynFlow.scope)
    model = convolutions()
    prune(model, held, 0.6, [(torch.randn(2, 4, 4, 4), torch.tensor([0, 1]))], include=["0"])
    layer = sparse_layers(model)["0"]
    assert set(layer.mask.reshape(-1, 9).sum(dim=1).tolist()) == {0, 9}
    assert int(layer.mask.sum()) // 9 in (9, 10)  # 0.4 of 24 kernels, or one fewer


@pytest.mark.parametrize(
    ("saliency", "sparsity", "match"),
    [
        (NMSaliency(Magnitude(), 2, 4), 0.4, "2:4 is sparsity 0.5"),
        (NMSaliency(Magnitude(), 2, 5), 0.6, "2:5"),
        (UnitSaliency(Magnitude(), 5), 0.5, "units of 5"),
    ],
)
def test_what_does_not_fit_is_refused(saliency, sparsity, match):
    with pytest.raises(SettingError, match=match):
        prune(mlp(), saliency, sparsity)


def test_units_of_a_sparse_network_are_refused():
    model = mlp()
    prune(model, Magnitude(), 0.5)
    with pytest.raises(SettingError, match="whole units"):
        prune(model, UnitSaliency(Magnitude()), 0.7)

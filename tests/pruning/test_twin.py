"""The copy that saliencies are computed from is the network."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.utilities.compile import from_compiled

from psn_lightning import sparse_layers, sparsify
from psn_lightning.errors import SettingError
from psn_lightning.pruning import OBD, SNIP, GraSP, SynFlow, Twin, prune
from psn_lightning.pruning import twin as module_of_twin
from tests.pruning.networks import batch, conv_net, images, mlp, sparse_mlp


@pytest.mark.parametrize("storage", ["masked", "csr"])
def test_it_computes_what_the_network_computes(storage):
    network, (x, y) = sparse_mlp(storage), batch()
    twin = Twin(network)
    logits, labels = twin.logits((x, y))
    assert logits.dtype == torch.float64
    assert torch.allclose(logits.float(), network(x.float()), atol=1e-5)
    assert torch.equal(labels, y)
    for name, layer in sparse_layers(network).items():
        assert torch.equal(twin.masks[name], layer.mask)
        assert torch.equal(twin.weights[name][layer.mask].float(), layer.active_values())


def test_the_losses_of_batches_add_up_to_the_mean_over_rows():
    twin, (x, y) = Twin(sparse_mlp("masked")), batch(10)
    whole = torch.nn.functional.cross_entropy(twin.module(x), y)
    parts = list(twin.losses([(x[:3], y[:3]), (x[3:], y[3:])]))
    assert float(sum(parts)) == pytest.approx(float(whole), rel=1e-12)


def test_the_network_is_left_alone():
    module = conv_net()
    sparsify(module, 0.5, allocation="uniform")
    before = {key: value.clone() for key, value in module.state_dict().items()}
    twin = Twin(module)
    twin.restrict({name: torch.zeros_like(mask) for name, mask in twin.masks.items()})
    twin.logits(images())[0].sum().backward()
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert all(not weight.any() for weight in twin.weights.values())


@pytest.mark.parametrize(
    "given", [{"x": 1}, (torch.ones(2, 6), torch.ones(2)), (torch.ones(2, 6), torch.ones(3).long())]
)
def test_a_forward_pass_that_does_not_classify_is_named(given):
    with pytest.raises(SettingError, match=r"forward\(module, batch\)"):
        Twin(sparse_mlp("masked")).logits(given)


def test_what_has_no_sparse_layer_or_too_many_positions(monkeypatch):
    with pytest.raises(SettingError, match="no sparse layer"):
        Twin(mlp())
    monkeypatch.setattr(module_of_twin, "_LARGEST", 10)
    with pytest.raises(SettingError, match="more than 10"):
        Twin(sparse_mlp("masked"))


class Compiled(pl.LightningModule):
    """Lightning's module whose forward pass is compiled: a copy of it has the compiled methods of the original."""

    def __init__(self):
        super().__init__()
        self.net = mlp((6, 5, 3), norm=False).float()

    def forward(self, x):
        return self.net(x)


@pytest.mark.parametrize("saliency", [SNIP(), GraSP(), SynFlow(), OBD()], ids=lambda saliency: type(saliency).__name__)
def test_a_compiled_module_has_the_scores_of_the_plain_one(saliency):
    plain, compiled = Compiled(), Compiled()
    for module in (plain, compiled):
        sparsify(module, 0.0)
    compiled = from_compiled(torch.compile(compiled, backend="eager"))
    x, y = batch()
    for module in (plain, compiled):
        prune(module, saliency, 0.5, [(x.float(), y)])
    for ours, theirs in zip(sparse_layers(compiled).values(), sparse_layers(plain).values(), strict=True):
        assert torch.equal(ours.mask, theirs.mask)
    torch._dynamo.reset()


def test_a_forward_function_that_calls_another_module_is_refused():
    network = sparse_mlp("masked")
    with pytest.raises(SettingError, match="call the module that it is given"):
        prune(network, SNIP(), 0.9, [batch()], forward=lambda _, data: (network(data[0].float()), data[1]))

"""Saliencies against slow and obvious computations, and laws that no code of ours is part of."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from psn_lightning import sparsify
from psn_lightning.errors import SettingError
from psn_lightning.pruning import SNIP, GraSP, Magnitude, RandomScores, Twin
from tests.pruning.networks import batch, conv_net, images, mlp

GENERATOR = torch.Generator()


def twin_of(module):
    sparsify(module, 0.0, allocation="uniform")
    return Twin(module)


def loss_of(module, batches, temperature=1.0):
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return F.cross_entropy(module(x) / temperature, y)


def test_random_scores_follow_the_generator_and_magnitudes_the_weights():
    twin = twin_of(mlp())
    first, second = (RandomScores().scores(twin, [], torch.Generator().manual_seed(s)) for s in (1, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = RandomScores().scores(twin, [], torch.Generator().manual_seed(2))
    assert not torch.equal(first["0"], other["0"])
    assert torch.equal(Magnitude().scores(twin, [], GENERATOR)["0"], twin.weights["0"].detach().abs())


@pytest.mark.parametrize(("make", "data"), [(mlp, batch), (conv_net, images)])
def test_snip_is_the_derivative_by_a_factor_of_the_weight(make, data):
    """Central differences, over two batches of different length."""
    twin, batches = twin_of(make()), [data(), data(5, seed=2)]
    scores = SNIP().scores(twin, batches, GENERATOR)
    picks = torch.Generator().manual_seed(3)
    for name, weight in twin.weights.items():
        for index in torch.randint(weight.numel(), (10,), generator=picks):
            value = weight.data.view(-1)[index].clone()
            found = []
            for factor in (1 + 1e-6, 1 - 1e-6):
                weight.data.view(-1)[index] = factor * value
                found.append(float(loss_of(twin.module, batches)))
            weight.data.view(-1)[index] = value
            expected = abs(found[0] - found[1]) / 2e-6
            assert float(scores[name].reshape(-1)[index]) == pytest.approx(expected, rel=1e-4, abs=1e-9)


def signed_snip(twin, batches):
    """SNIP's scores with the signs of w ∂L/∂w."""
    scores = SNIP().scores(twin, batches, GENERATOR)
    gradients = torch.autograd.grad(loss_of(twin.module, batches), list(twin.weights.values()))
    return {
        name: scores[name] * (weight * gradient).detach().sign().flatten(1)
        for (name, weight), gradient in zip(twin.weights.items(), gradients, strict=True)
    }


def test_snip_obeys_eulers_law_of_scale_free_layers():
    """A factor of a layer before LayerNorm changes nothing."""
    twin, batches = twin_of(mlp(eps=0.0, bias=False)), [batch()]
    scores = signed_snip(twin, batches)
    for name in ("0", "3"):
        assert scores[name].abs().sum() > 1e-3
        assert float(scores[name].sum()) == pytest.approx(0, abs=1e-12)


def test_snip_obeys_eulers_law_of_homogeneous_networks():
    """Without norms and biases the signed sum is the same for every layer, and into a unit as out of it."""
    twin, batches = twin_of(mlp(norm=False, bias=False)), [batch()]
    scores = signed_snip(twin, batches)
    sums = [float(layer.sum()) for layer in scores.values()]
    assert abs(sums[0]) > 1e-3
    assert sums == pytest.approx([sums[0]] * 3, abs=1e-12)
    for before, after in (("0", "2"), ("2", "4")):
        assert torch.allclose(scores[before].sum(dim=1), scores[after].sum(dim=0), atol=1e-12)


@pytest.mark.parametrize("temperature", [200.0, 1.0])
def test_grasp_is_the_product_of_weight_hessian_and_gradient(temperature):
    twin, batches = twin_of(mlp((4, 5, 4, 3))), [batch(4, 4), batch(3, 4, seed=2)]
    scores = GraSP(temperature).scores(twin, batches, GENERATOR)
    parameters = dict(twin.module.named_parameters())
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))

    def loss(*values):
        out = torch.func.functional_call(twin.module, dict(zip(parameters, values, strict=True)), x)
        return F.cross_entropy(out / temperature, y)

    values = tuple(p.detach() for p in parameters.values())
    sizes = [value.numel() for value in values]
    blocks = torch.autograd.functional.hessian(loss, values)
    hessian = torch.cat(
        [torch.cat([b.reshape(n, -1) for b in row], dim=1) for row, n in zip(blocks, sizes, strict=True)]
    )
    gradient = torch.cat([g.flatten() for g in torch.func.grad(loss, argnums=tuple(range(len(values))))(*values)])
    products = dict(zip(parameters, (hessian @ gradient).split(sizes), strict=True))
    for name, weight in twin.weights.items():
        expected = weight.detach() * products[f"{name}.weight"].view_as(weight)
        assert torch.allclose(scores[name], expected, rtol=1e-9, atol=1e-16)


def test_grasp_of_a_scale_free_layer_sums_to_its_squared_gradient():
    """Its own law: S = −w Hg, and Hθ_l = −g_l where LayerNorm follows."""
    twin, batches = twin_of(mlp(eps=0.0, bias=False)), [batch()]
    scores = GraSP(1.0).scores(twin, batches, GENERATOR)
    gradients = torch.autograd.grad(loss_of(twin.module, batches), list(twin.weights.values()))
    for name, gradient in list(zip(twin.weights, gradients, strict=True))[:2]:
        assert float(-scores[name].sum()) == pytest.approx(float((gradient**2).sum()), rel=1e-9)


def test_grasp_says_how_the_gradients_norm_changes_when_a_weight_shrinks():
    twin, batches = twin_of(conv_net()), [images()]
    scores = GraSP(1.0).scores(twin, batches, GENERATOR)
    parameters = list(twin.module.parameters())

    def squared_norm():
        return float(sum((g**2).sum() for g in torch.autograd.grad(loss_of(twin.module, batches), parameters)))

    for name, weight in twin.weights.items():
        value = weight.data.view(-1)[1].clone()
        found = []
        for factor in (1 + 1e-5, 1 - 1e-5):
            weight.data.view(-1)[1] = factor * value
            found.append(squared_norm())
        weight.data.view(-1)[1] = value
        expected = (found[0] - found[1]) / 2e-5
        assert 2 * float(scores[name].reshape(-1)[1]) == pytest.approx(expected, rel=1e-3, abs=1e-8), name


@pytest.mark.parametrize("saliency", [SNIP(), GraSP()])
def test_a_missing_batch_is_named(saliency):
    with pytest.raises(SettingError, match=type(saliency).__name__):
        saliency.scores(twin_of(mlp()), [], GENERATOR)


def test_a_temperature_of_0():
    with pytest.raises(SettingError, match="temperature 0"):
        GraSP(0)


def test_a_layer_that_is_not_used_scores_nothing():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(6, 3), nn.Linear(6, 3)

        def forward(self, x):
            return self.used(x)

    scores = SNIP().scores(twin_of(Unused().double()), [batch()], GENERATOR)
    assert scores["used"].any()
    assert not scores["unused"].any()

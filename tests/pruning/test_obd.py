"""Optimal brain damage against Hessians and explicit loops."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from psn_lightning import sparsify
from psn_lightning.pruning import OBD, Magnitude, Twin
from psn_lightning.pruning.obd import gauss_newton_diagonal
from tests.pruning.networks import batch, conv_net, images, mlp

GENERATOR = torch.Generator()


def twin_of(module):
    sparsify(module, 0.0, allocation="uniform")
    return Twin(module)


def test_without_norms_it_is_the_diagonal_of_the_hessian():
    twin, (x, y) = twin_of(mlp((4, 5, 3), norm=False)), batch(9, 4)
    found = gauss_newton_diagonal(twin, [(x[:4], y[:4]), (x[4:], y[4:])])
    loss = F.cross_entropy(twin.module(x), y)
    for name, weight in twin.weights.items():
        (gradient,) = torch.autograd.grad(loss, weight, create_graph=True)
        entries = enumerate(gradient.flatten())
        rows = [torch.autograd.grad(g, weight, retain_graph=True)[0].flatten()[i] for i, g in entries]
        assert torch.allclose(found[name].flatten(), torch.stack(rows), atol=1e-12)


def by_loops(twin, batches):
    """Sum over rows and classes, one gradient at a time."""
    total = {name: torch.zeros_like(weight) for name, weight in twin.weights.items()}
    n = 0
    for x, _ in batches:
        for row in x:
            log_p = twin.module(row[None]).flatten(0, -2).log_softmax(dim=1)
            n += len(log_p)  # one, but for sequences
            for value in log_p.flatten():
                gradients = torch.autograd.grad(value, list(twin.weights.values()), retain_graph=True)
                for sum_, gradient in zip(total.values(), gradients, strict=True):
                    sum_ += value.detach().exp() * gradient**2
    return {name: sum_ / n for name, sum_ in total.items()}


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.head(self.second(self.first(x).relu()))


def tied():
    torch.manual_seed(0)
    return Tied().double()


class UsedTwice(nn.Module):
    """A layer whose weight is used beside it as well."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(F.linear(self.first(x).relu(), self.first.weight.T))


def used_twice():
    torch.manual_seed(0)
    return UsedTwice().double()


class FlatTokens(nn.Module):
    """Tokens as rows of a Linear, mixed after it: one logit row for each."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        tokens = x.reshape(len(x), 2, 3).repeat(1, 1, 2)
        h = self.first(tokens.reshape(-1, 6)).relu().view(len(x), 2, 6)
        return self.head((h + h.flip(1)).reshape(-1, 6)).view(len(x), 2, 3)


def test_rows_of_logits_that_depend_on_each_other_are_seen():
    torch.manual_seed(0)
    twin, (x, y) = twin_of(FlatTokens().double()), batch(4)
    batches = [(x, y[:, None].expand(-1, 2))]
    found = gauss_newton_diagonal(twin, batches)
    assert all(torch.allclose(found[name], expected) for name, expected in by_loops(twin, batches).items())


@pytest.mark.parametrize(("make", "data"), [(mlp, batch), (conv_net, images), (tied, batch), (used_twice, batch)])
def test_by_products_or_row_by_row_it_is_the_sum_over_rows_and_classes(make, data):
    twin, batches = twin_of(make()), [data(), data(2, seed=4)]
    found = gauss_newton_diagonal(twin, batches)
    for name, expected in by_loops(twin, batches).items():
        assert expected.any()
        assert torch.allclose(found[name], expected, rtol=1e-9, atol=1e-14)


def test_it_removes_what_costs_less_than_the_smallest_weights():
    module, (x, y) = mlp((6, 20, 3), norm=False), batch(200)
    y = (x[:, :3] + 0.3 * x[:, 3:]).argmax(dim=1)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        F.cross_entropy(module(x), y).backward()
        optimizer.step()
    twin = twin_of(module)
    lost = {}
    for saliency in (OBD(), Magnitude()):
        scores = saliency.scores(twin, [(x, y)], GENERATOR)["0"]
        kept = scores >= scores.flatten().sort().values[scores.numel() // 2]
        with torch.no_grad():
            whole = twin.weights["0"].clone()
            twin.weights["0"] *= kept
            lost[type(saliency)] = float(F.cross_entropy(twin.module(x), y))
            twin.weights["0"].copy_(whole)
    assert lost[OBD] < lost[Magnitude]

"""RigL against its definition written out on a convolution, and against another package."""

import numpy as np
import pytest
import torch
from torch import nn

from psn_lightning.dynamics import CosineSchedule, RigLRule, TopologyUpdater, update_layer
from psn_lightning.nn import sparse_layers, sparsify

STEPS, PERIOD = 7, 2


class SlowConvolution:
    """A convolution with stride 1, the loss ½ Σ (y − target)², SGD, and RigL: loops and sorted Python lists.

    Args:
        weight: Shape ``(out, in, height, width)``, 0 where no connection is.
        mask: Boolean, same shape.
    """

    def __init__(self, weight, mask):
        self.weight, self.mask = weight.copy(), mask.copy()

    def gradient(self, x, target):
        """dL/dw[o, i, a, b] = Σ over images and places of (y − target)[n, o, p, q] · x[n, i, p + a, q + b]."""
        n_out, n_in, height, width = self.weight.shape
        rows, columns = x.shape[2] - height + 1, x.shape[3] - width + 1
        gradient = np.zeros_like(self.weight)
        for n in range(len(x)):
            for p in range(rows):
                for q in range(columns):
                    patch = x[n, :, p : p + height, q : q + width]
                    for o in range(n_out):
                        error = (self.weight[o] * patch).sum() - target[n, o, p, q]
                        for i in range(n_in):
                            gradient[o, i] += error * patch[i]
        return gradient

    def step(self, gradient, lr):
        self.weight -= lr * np.where(self.mask, gradient, 0)

    def update(self, gradient, fraction):
        """Keep the largest weights, grow the largest gradients among all the rest; ties go to the lower position."""
        weights, gradients = self.weight.flatten().tolist(), gradient.flatten().tolist()
        active = [i for i, on in enumerate(self.mask.flatten().tolist()) if on]
        n = int(fraction * len(active))
        kept = sorted(active, key=lambda i: (-abs(weights[i]), i))[: len(active) - n]
        free = sorted(set(range(len(weights))) - set(kept), key=lambda i: (-abs(gradients[i]), i))
        before = self.mask.copy()
        self.mask = np.zeros(len(weights), dtype=bool)
        self.mask[kept + free[:n]] = True
        self.mask = self.mask.reshape(before.shape)
        self.weight[~(self.mask & before)] = 0


@pytest.mark.parametrize("seed", range(4))
def test_rigl_on_a_convolution_position_by_position(seed):
    """Whole numbers in float64: sums are exact, and ties are everywhere."""
    rng = np.random.default_rng(seed)
    module = nn.Sequential(nn.Conv2d(3, 5, 3, bias=False)).double()
    with torch.no_grad():
        module[0].weight.copy_(torch.from_numpy(rng.integers(-2, 3, (5, 3, 3, 3)).astype(float)))
    sparsify(module, 0.6, seed=seed)
    layer = sparse_layers(module)["0"]
    slow = SlowConvolution(module[0].weight.detach().numpy(), layer.mask.view(5, 3, 3, 3).numpy())
    optimizer = torch.optim.SGD(module.parameters(), lr=2**-7)
    schedule = CosineSchedule(0.5, PERIOD, 0, STEPS)
    updater = TopologyUpdater({"conv": layer}, RigLRule(), schedule, optimizer)
    ties = 0
    for step in range(STEPS):
        x = rng.integers(-1, 2, (2, 3, 5, 5)).astype(float)
        target = rng.integers(-2, 3, (2, 5, 3, 3)).astype(float)
        optimizer.zero_grad()
        (0.5 * (module(torch.from_numpy(x)) - torch.from_numpy(target)).square().sum()).backward()
        gradient = slow.gradient(x, target)
        if updater.is_due:
            assert np.array_equal(layer.dense_gradient().view(5, 3, 3, 3).numpy(), gradient)
            ties += gradient.size - len(np.unique(abs(gradient)))
            slow.update(gradient, updater.describe_update().fraction)
        else:
            slow.step(gradient, 2**-7)
        updater.before_step()
        optimizer.step()
        assert np.array_equal(layer.mask.view(5, 3, 3, 3).numpy(), slow.mask), step
        assert np.array_equal(module[0].weight.detach().numpy(), slow.weight), step
    assert ties > 50


class Norm(nn.Module):
    """Without a parameter named weight, which rigl-torch would make sparse."""

    def forward(self, x):
        return nn.functional.layer_norm(x, x.shape[1:])


def test_one_update_is_that_of_rigl_torch():
    """Its first layer is always dense."""
    scheduler_class = pytest.importorskip("rigl_torch.RigL").RigLScheduler
    torch.manual_seed(4)
    theirs = nn.Sequential(nn.Linear(12, 12), Norm(), nn.ReLU(), nn.Linear(12, 40), Norm(), nn.ReLU(), nn.Linear(40, 9))
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
    scheduler = scheduler_class(
        theirs, optimizer, dense_allocation=0.3, T_end=100, delta=5, alpha=0.4, ignore_linear_layers=False
    )
    ours = nn.Sequential(nn.Linear(12, 12), Norm(), nn.ReLU(), nn.Linear(12, 40), Norm(), nn.ReLU(), nn.Linear(40, 9))
    sparsify(ours, 0.5, exclude=["0"])
    layers = sparse_layers(ours)
    for layer, mask in zip(layers.values(), scheduler.backward_masks[1:], strict=True):
        layer.set_mask(mask)
    own = torch.optim.SGD(ours.parameters(), lr=0.1, momentum=0.9)
    with torch.no_grad():
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            a.copy_(b)
    for step in range(1, 6):
        x, y = torch.randn(32, 12), torch.randint(9, (32,))
        for layer in layers.values():
            layer.record_dense_gradient = step == 5
        for network, its in ((theirs, optimizer), (ours, own)):
            its.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
        if step < 5:
            assert scheduler()
            optimizer.step()
            own.step()
    assert not scheduler()  # it updates
    for layer in layers.values():
        update_layer(layer, RigLRule(), scheduler.cosine_annealing(), own, torch.Generator())
    for layer, mask in zip(layers.values(), scheduler.backward_masks[1:], strict=True):
        assert torch.equal(layer.mask, mask)
        assert not torch.equal(layer.mask, torch.ones_like(mask))
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)

"""Small networks and batches for saliencies."""

from itertools import pairwise

import torch
from torch import nn

from psn_lightning import SparseMLP, Topology, Uniform


def mlp(sizes=(6, 5, 4, 3), norm=True, bias=True, eps=1e-5, seed=0):
    """A dense MLP in float64 whose output layer is the module of the last number."""
    torch.manual_seed(seed)
    modules = []
    for n_in, n_out in pairwise(sizes[:-1]):
        modules.append(nn.Linear(n_in, n_out, bias=bias))
        if norm:
            modules.append(nn.LayerNorm(n_out, eps=eps))
        modules.append(nn.ReLU())
    return nn.Sequential(*modules, nn.Linear(sizes[-2], sizes[-1], bias=bias)).double()


def batch(n=7, n_in=6, n_classes=3, seed=1):
    """Features and labels."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, n_in, generator=generator, dtype=torch.float64)
    return x, torch.randint(n_classes, (n,), generator=generator)


class ConvNet(nn.Module):
    """A convolution, attention over its positions, a head."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 2, stride=2)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        tokens = torch.relu(self.conv(x)).flatten(2).transpose(1, 2)
        return self.head((tokens + self.attention(tokens, tokens, tokens)[0]).mean(dim=1))


def conv_net(seed=0):
    torch.manual_seed(seed)
    return ConvNet().double()


def images(n=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 1, 4, 4, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (n,), generator=generator)


def sparse_mlp(storage, sparsity=0.5, **arguments):
    """A network of the package, the same for every storage."""
    return SparseMLP([6, 8, 5, 3], Topology(Uniform(), sparsity), "random", storage=storage, seed=3, **arguments)

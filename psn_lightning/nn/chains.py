"""Sparse layers that feed each other directly."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import nn

from psn_lightning.nn.layer import SparseLayer


def find_chains(module: nn.Module, layers: Mapping[str, SparseLayer]) -> list[list[str]]:
    """Find sparse layers that follow each other in an ``nn.Sequential``, with nothing between that mixes neurons.

    Activations, norms, pooling and flattening may stand between; other weights may not, nor a block with a forward
    method of its own, nor a convolution with groups, whose neurons do not read all channels.

    Args:
        module: Any module.
        layers: Sparse layers of the module by name.

    Returns:
        Names of the layers of each chain, first to last; chains of at least two layers.
    """
    names = {id(layer.parameter): name for name, layer in layers.items()}
    chains: list[list[str]] = []
    for owner in module.modules():
        if isinstance(owner, nn.Sequential):
            chains.append([])
            for child in owner:
                own = [names[id(parameter)] for parameter in child.parameters() if id(parameter) in names]
                n_weights = sum(parameter.dim() > 1 or id(parameter) in names for parameter in child.parameters())
                if n_weights > len(own) or len(own) > 1 or not all(map(partial(_is_plain, names), child.modules())):
                    chains.append([])  # another weight, or a block with an order or connections of its own
                else:
                    chains[-1] += own
    return [chain for chain in chains if len(chain) > 1]


def _is_plain(names: Mapping[int, str], part: nn.Module) -> bool:
    """Return whether the sparse weight in a module reads all its inputs, and nothing goes past it.

    Args:
        names: Names of the sparse layers by the identity of their parameter.
        part: Module.
    """
    if not any(id(parameter) in names for parameter in part.parameters()):
        return True
    if any(id(parameter) in names for parameter in part.parameters(recurse=False)):
        return not (isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d) and part.groups > 1)
    return isinstance(part, nn.Sequential)

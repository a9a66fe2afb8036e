"""Sparse layers in a state dict: their connections are read and replaced without a module, in any storage."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psn_lightning.errors import SettingError
from psn_lightning.nn.layer import StorageKind
from psn_lightning.nn.states import BLOCKS, GROUPS, find_storage, make_active_state, read_connections
from psn_lightning.topology import Connectivity

_MASK, _GROUPS, _INDPTR = "_mask", "_groups", "indptr"


@dataclass(frozen=True)
class StoredLayer:
    """Connections of a sparse layer in a state dict."""

    name: str
    """Name of the layer, as in :func:`psn_lightning.sparse_layers`."""
    storage: StorageKind
    """Storage of the entries."""
    key: str
    """Key of the weights: of the dense parameter (masked), or the prefix of all entries (csr, groups)."""
    shape: tuple[int, int]
    """Numbers of neurons and of inputs, ``(n_out, n_in)``."""
    positions: Tensor
    """Flat positions ``neuron * n_in + input`` of the connections, ascending, int64, shape ``(n_connections,)``."""
    values: Tensor
    """Weights in the order of the positions, same shape."""

    def values_at(self, positions: Tensor) -> Tensor:
        """Weights of some of the connections.

        Args:
            positions: Flat positions, ascending, int64, shape ``(n,)``.

        Raises:
            SettingError: If a position is not connected.
        """
        if not bool(torch.isin(positions, self.positions).all()):
            raise SettingError(
                f"{self.name}: connections are needed that one of the checkpoints does not have. Only pruning may "
                "change the connections between two levels: leave rules such as RigL out, and start from full masks"
            )
        return self.values[torch.searchsorted(self.positions, positions)]


def read_layers(state_dict: Mapping[str, Any]) -> dict[str, StoredLayer]:
    """Read the sparse layers of a state dict.

    Args:
        state_dict: State dict of a module.

    Returns:
        Layers by name, in the order of the state dict; empty for a dense module.
    """
    layers = {}
    for key, entry in state_dict.items():
        layer = None
        if key.endswith(_MASK) and isinstance(entry, Tensor) and entry.dtype == torch.bool:
            layer = _read_masked(state_dict, key)
        elif key.rpartition(".")[2] == _INDPTR:
            layer = _read_active(state_dict, key.removesuffix(_INDPTR))
        if layer is not None:
            layers[layer.name] = layer
    return layers


def _read_masked(state_dict: Mapping[str, Any], mask_key: str) -> StoredLayer | None:
    key, mask = mask_key.removesuffix(_MASK), state_dict[mask_key]
    weight = state_dict.get(key)
    if not isinstance(weight, Tensor) or weight.shape != mask.shape or weight.dim() < 2:
        return None  # a mask of the user's own
    module, _, parameter = key.rpartition(".")
    name = module if module and parameter == "weight" else key
    positions = mask.flatten().nonzero().squeeze(1)
    return StoredLayer(name, "masked", key, (len(mask), mask[0].numel()), positions, weight.detach()[mask])


def _read_active(state_dict: Mapping[str, Any], prefix: str) -> StoredLayer | None:
    n_in = state_dict.get(f"{prefix}in_features")
    if n_in is None:
        return None
    shape = state_dict[prefix + _INDPTR].numel() - 1, int(n_in)
    found = read_connections(state_dict, prefix, shape)
    if found is None:
        return None
    positions = torch.from_numpy(found.connectivity.keys().copy())
    storage = find_storage(state_dict, prefix)
    return StoredLayer(prefix.removesuffix("."), storage, prefix, shape, positions, found.values.detach())


def write_connections(
    state_dict: MutableMapping[str, Any], layer: StoredLayer, positions: Tensor, values: Tensor
) -> None:
    """Replace the connections of a layer in a state dict, in place.

    Groups of neurons are left out: those of the model are taken when it is loaded, if they fit.

    Args:
        state_dict: State dict that ``layer`` was read from.
        layer: Layer to write.
        positions: Flat positions of the new connections, ascending, int64, shape ``(n,)``.
        values: Their weights, shape ``(n,)``.
    """
    if layer.storage != "masked":
        n_out, n_in = layer.shape
        neurons, inputs = np.divmod(positions.numpy(), n_in)
        connectivity = Connectivity.from_fan_in(n_in, np.bincount(neurons, minlength=n_out), inputs)
        state_dict.pop(layer.key + BLOCKS, None)  # chosen anew: they fit the number of connections before
        state_dict.pop(layer.key + GROUPS, None)
        state_dict.update({layer.key + name: entry for name, entry in make_active_state(connectivity, values).items()})
        return
    state_dict.pop(layer.key + _GROUPS, None)
    weight, mask = state_dict[layer.key], state_dict[layer.key + _MASK]
    mask.copy_(mask.new_zeros(mask.numel()).index_fill_(0, positions, True).view(mask.shape))
    with torch.no_grad():  # in place: a tied weight has several keys and one tensor
        weight.zero_()
        weight[mask] = values

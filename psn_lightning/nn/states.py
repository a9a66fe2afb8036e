"""Conversion of state dicts between storages.

Storage masked saves ``weight`` (dense) and ``weight_mask``; storage csr saves ``values`` (in the order of the flat
positions), ``indptr``, ``indices``, ``in_features`` and ``blocks``: the numbers of blocks of neurons and of inputs,
which determine the order of its parameter and of the optimizer's moments. Storage groups saves the same, but for
``blocks``. Where neurons share their inputs in groups, masked saves the group of each in ``weight_groups``, the others
in ``groups``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from psn_lightning.nn.layer import StorageKind
from psn_lightning.nn.sharing import shares_mask
from psn_lightning.topology import Connectivity

_CSR = ("values", "indptr", "indices")
IN_FEATURES, BLOCKS, GROUPS = "in_features", "blocks", "groups"
ACTIVE_ENTRIES = (*_CSR, IN_FEATURES, BLOCKS, GROUPS)
"""Names of the entries of a layer in storage csr or groups, but for its bias."""


class Connections(NamedTuple):
    """Connections of a layer and their weights."""

    connectivity: Connectivity
    values: Tensor
    blocks: tuple[int, int] | None = None

    def sort_moment(self, moment: Tensor) -> Tensor:
        """Sort a moment of storage csr or groups by the positions of the connections.

        Args:
            moment: One number for each connection in the order of the parameter, shape ``(n_connections,)``.
        """
        n_out, n_in, groups = self.connectivity.n_out, self.connectivity.n_in, self.connectivity.groups
        n_out_blocks, n_in_blocks = self.blocks or (1, 1)
        neurons, inputs = np.divmod(self.connectivity.keys(), n_in)
        # Block b of n begins with item b * size // n; an item lies in the last block that begins at or before it.
        of_neurons = ((neurons + 1) * n_out_blocks - 1) // n_out
        of_inputs = ((inputs + 1) * n_in_blocks - 1) // n_in
        keys = (inputs, neurons, of_inputs, of_neurons)
        if groups is not None and self.blocks is None:  # storage groups
            keys = (neurons, inputs, groups[neurons], of_neurons)
        order = torch.from_numpy(np.lexsort(keys))
        return torch.empty_like(moment).index_copy_(0, order.to(moment.device), moment)


def make_active_state(
    connectivity: Connectivity, values: Tensor, blocks: tuple[int, int] | None = None
) -> dict[str, Tensor]:
    """Make the state dict of a layer in storage csr or groups, with keys without prefix.

    Args:
        connectivity: Connections.
        values: Their weights in the order of the positions, shape ``(n_connections,)``.
        blocks: Numbers of blocks of neurons and of inputs of storage csr; chosen when the state is loaded if None.
    """
    groups = {} if connectivity.groups is None else {GROUPS: torch.tensor(connectivity.groups)}
    return ({} if blocks is None else {BLOCKS: torch.tensor(blocks)}) | {
        IN_FEATURES: torch.tensor(connectivity.n_in),
        "values": values,
        "indptr": torch.tensor(connectivity.indptr),
        "indices": torch.tensor(connectivity.indices),
        **groups,
    }


def find_storage(state_dict: Mapping[str, Any], prefix: str) -> StorageKind:
    """Find the storage that the entries of a layer have.

    Args:
        state_dict: State dict of the whole module.
        prefix: Prefix of the layer's keys.
    """
    if f"{prefix}values" not in state_dict:
        return "masked"
    return "groups" if prefix + GROUPS in state_dict and prefix + BLOCKS not in state_dict else "csr"


def keep_groups(connectivity: Connectivity, groups: Tensor | None) -> Connectivity:
    """Give connections without groups those that a layer has, if their neurons share inputs accordingly.

    Args:
        connectivity: Connections, for example of a state dict of a dense or an older model.
        groups: Group of each neuron; None for none.
    """
    if connectivity.groups is not None or groups is None:
        return connectivity
    try:
        return connectivity.with_groups(groups.cpu().numpy())
    except ValueError:
        return connectivity


def read_connections(state_dict: Mapping[str, Any], prefix: str, shape: tuple[int, int]) -> Connections | None:
    """Read the connections of a layer from a state dict of any storage.

    Args:
        state_dict: State dict of the whole module.
        prefix: Prefix of the layer's keys, for example ``network.fc1.``.
        shape: Shape of the layer, ``(n_out, n_in)``.

    Returns:
        Connections and weights, or None if the state dict has no sparse layer with this prefix.

    Raises:
        ValueError: If the entries do not fit the layer or each other.
    """
    if all(prefix + key in state_dict for key in _CSR):
        return _read_active_state(state_dict, prefix, shape)
    if f"{prefix}weight" in state_dict and f"{prefix}weight_mask" in state_dict:
        weight, mask = (torch.as_tensor(state_dict[prefix + key]) for key in ("weight", "weight_mask"))
        if weight.shape != shape or mask.shape != shape or mask.dtype != torch.bool:
            raise ValueError(
                f"weight of shape {tuple(weight.shape)} with a {mask.dtype} mask of shape {tuple(mask.shape)}, "
                f"expected {shape} for both and a boolean mask"
            )
        groups = _read_groups(state_dict, f"{prefix}weight_groups")
        return Connections(Connectivity.from_mask(mask.cpu().numpy()).with_groups(groups), weight[mask])
    return None


def _read_groups(state_dict: Mapping[str, Any], key: str) -> NDArray[np.int64] | None:
    """Read the group of each neuron; None if the state dict has none."""
    return None if key not in state_dict else torch.as_tensor(state_dict[key]).cpu().numpy().astype(np.int64)


def _read_active_state(state_dict: Mapping[str, Any], prefix: str, shape: tuple[int, int]) -> Connections:
    n_out, n_in = shape
    values, indptr, indices = (torch.as_tensor(state_dict[prefix + key]) for key in _CSR)
    inputs = int(state_dict.get(prefix + IN_FEATURES, n_in))
    if inputs != n_in:
        raise ValueError(f"in_features {inputs}, expected {n_in}")
    if values.shape != indices.shape or not values.dtype.is_floating_point:
        raise ValueError(
            f"values of shape {tuple(values.shape)} and {values.dtype}, expected floating-point numbers of shape "
            f"{tuple(indices.shape)}, one for each of indices"
        )
    if indptr.numel() != n_out + 1:
        raise ValueError(f"indptr of {indptr.numel() - 1} neurons, expected {n_out}")
    blocks = tuple(torch.as_tensor(state_dict.get(prefix + BLOCKS, ())).flatten().tolist())
    if blocks and (len(blocks) != 2 or min(blocks) < 1 or blocks[0] > max(1, n_out) or blocks[1] > max(1, n_in)):
        raise ValueError(f"blocks {list(blocks)}, expected two positive numbers of at most {shape}")
    try:
        groups = _read_groups(state_dict, prefix + GROUPS)
        connectivity = Connectivity(n_in, n_out, indptr.cpu().numpy(), indices.cpu().numpy(), groups)
        return Connections(connectivity, values, (blocks[0], blocks[1]) if blocks else None)
    except TypeError as error:
        raise ValueError(error) from error


def convert_to_masked(
    state_dict: dict[str, Any], prefix: str, name: str, mask: Tensor, groups: Tensor | None = None
) -> None:
    """Convert the entries of a layer in a state dict to storage masked, in place.

    Args:
        state_dict: State dict of any storage, or of a dense model, whose weights get the present mask.
        prefix: Prefix of the module's keys.
        name: Name of the parameter in the module.
        mask: Present mask, in the shape of the weight.
        groups: Present group of each neuron, which masks without groups get if they fit.

    Raises:
        ValueError: If the entries do not fit the layer or each other.
    """
    weight_key, mask_key, groups_key = f"{prefix}{name}", f"{prefix}{name}_mask", f"{prefix}{name}_groups"
    if name == "weight" and mask.dim() == 2 and prefix + "values" in state_dict:
        found = read_connections(state_dict, prefix, (mask.shape[0], mask.shape[1]))
        if found is None:
            return
        for key in ACTIVE_ENTRIES:
            state_dict.pop(prefix + key, None)
        if found.connectivity.groups is not None:
            state_dict[groups_key] = torch.tensor(found.connectivity.groups)
        dense = found.values.new_zeros(mask.shape)
        new = torch.from_numpy(found.connectivity.mask())
        dense[new.to(dense.device)] = found.values
        state_dict[weight_key], state_dict[mask_key] = dense, new
    elif weight_key in state_dict:
        weight = state_dict[weight_key]
        new = state_dict.setdefault(mask_key, mask.clone())
        if isinstance(weight, Tensor) and isinstance(new, Tensor) and weight.shape == new.shape == mask.shape:
            if new.dtype != torch.bool:
                raise ValueError(f"{mask_key} has dtype {new.dtype}, expected a boolean mask")
            state_dict[weight_key] = weight.detach().masked_fill(~new.to(weight.device), 0)
    if groups is not None and groups_key not in state_dict and mask_key in state_dict:
        new = torch.as_tensor(state_dict[mask_key])
        fits = new.shape == mask.shape and shares_mask(new, groups.to(new.device))
        if fits:
            state_dict[groups_key] = groups

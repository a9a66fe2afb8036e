"""Conversion of state dicts between storages.

Storage masked saves ``weight`` (dense) and ``weight_mask``; storage csr saves ``values`` (in the order of the flat
positions), ``indptr``, ``indices``, ``in_features`` and ``blocks``: the numbers of blocks of neurons and of inputs,
which determine the order of its parameter and of the optimizer's moments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from psn_lightning.topology import Connectivity

_CSR = ("values", "indptr", "indices")
IN_FEATURES, BLOCKS = "in_features", "blocks"
CSR_ENTRIES = (*_CSR, IN_FEATURES, BLOCKS)
"""Names of the entries of a layer in storage csr, but for its bias."""


class Connections(NamedTuple):
    """Connections of a layer and their weights."""

    connectivity: Connectivity
    values: Tensor
    blocks: tuple[int, int] | None = None

    def sort_moment(self, moment: Tensor) -> Tensor:
        """Sort a moment of storage csr by the positions of the connections.

        Args:
            moment: One number for each connection in the order of the parameter, shape ``(n_connections,)``.
        """
        n_out, n_in = self.connectivity.n_out, self.connectivity.n_in
        n_out_blocks, n_in_blocks = self.blocks or (1, 1)
        neurons, inputs = np.divmod(self.connectivity.keys(), n_in)
        # Block b of n begins with item b * size // n; an item lies in the last block that begins at or before it.
        of_neurons = ((neurons + 1) * n_out_blocks - 1) // n_out
        of_inputs = ((inputs + 1) * n_in_blocks - 1) // n_in
        order = torch.from_numpy(np.lexsort((inputs, neurons, of_inputs, of_neurons)))
        return torch.empty_like(moment).index_copy_(0, order.to(moment.device), moment)


def make_csr_state(
    connectivity: Connectivity, values: Tensor, blocks: tuple[int, int] | None = None
) -> dict[str, Tensor]:
    """Make the state dict of a layer in storage csr, with keys without prefix.

    Args:
        connectivity: Connections.
        values: Their weights in the order of the positions, shape ``(n_connections,)``.
        blocks: Numbers of blocks of neurons and of inputs; chosen when the state is loaded if None.
    """
    return ({} if blocks is None else {BLOCKS: torch.tensor(blocks)}) | {
        IN_FEATURES: torch.tensor(connectivity.n_in),
        "values": values,
        "indptr": torch.tensor(connectivity.indptr),
        "indices": torch.tensor(connectivity.indices),
    }


def read_connections(state_dict: Mapping[str, Any], prefix: str, shape: tuple[int, int]) -> Connections | None:
    """Read the connections of a layer from a state dict of either storage.

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
        return _read_csr_state(state_dict, prefix, shape)
    if f"{prefix}weight" in state_dict and f"{prefix}weight_mask" in state_dict:
        weight, mask = (torch.as_tensor(state_dict[prefix + key]) for key in ("weight", "weight_mask"))
        if weight.shape != shape or mask.shape != shape or mask.dtype != torch.bool:
            raise ValueError(
                f"weight of shape {tuple(weight.shape)} with a {mask.dtype} mask of shape {tuple(mask.shape)}, "
                f"expected {shape} for both and a boolean mask"
            )
        return Connections(Connectivity.from_mask(mask.cpu().numpy()), weight[mask])
    return None


def _read_csr_state(state_dict: Mapping[str, Any], prefix: str, shape: tuple[int, int]) -> Connections:
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
        connectivity = Connectivity(n_in, n_out, indptr.cpu().numpy(), indices.cpu().numpy())
        return Connections(connectivity, values, (blocks[0], blocks[1]) if blocks else None)
    except TypeError as error:
        raise ValueError(error) from error


def convert_to_masked(state_dict: dict[str, Any], prefix: str, name: str, mask: Tensor) -> None:
    """Convert the entries of a layer in a state dict to storage masked, in place.

    Args:
        state_dict: State dict of storage csr or masked, or of a dense model, whose weights get the present mask.
        prefix: Prefix of the module's keys.
        name: Name of the parameter in the module.
        mask: Present mask, in the shape of the weight.

    Raises:
        ValueError: If the entries do not fit the layer or each other.
    """
    weight_key, mask_key = f"{prefix}{name}", f"{prefix}{name}_mask"
    if name == "weight" and mask.dim() == 2 and prefix + "values" in state_dict:
        found = read_connections(state_dict, prefix, (mask.shape[0], mask.shape[1]))
        if found is None:
            return
        for key in CSR_ENTRIES:
            state_dict.pop(prefix + key, None)
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
